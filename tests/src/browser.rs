//! A headless Chromium, driven through ChromeDriver by the WebDriver protocol: what tests of the console look with.
//!
//! One browser is one profile that nobody else uses. Elements are waited for, since pages come from a server. Both programs end with the value, and a test
//! fails where they are missing: it says what to install.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long an element or a page may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key under which WebDriver holds an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Flags without which Chromium speaks to hosts of its maker, or wants a screen.
const FLAGS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1280,900",
];

/// How a browser differs from the usual one.
#[derive(Clone, Copy, Debug)]
pub struct BrowserOptions {
    /// What it asks pages to be in: `en`, `zh-CN`.
    pub language: &'static str,
    /// Whether pages may run scripts.
    pub scripts: bool,
}

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// What the driver says; it would end at a closed pipe.
    _said: BufReader<ChildStdout>,
    _profile: tempfile::TempDir,
}

/// An element of the page that is shown.
#[derive(Clone, Debug)]
pub struct Element(String);

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// If Chromium or ChromeDriver is missing or does not start.
    pub fn start(options: BrowserOptions) -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("chromedriver cannot be started ({e}): install chromium and chromium-driver (scripts/test does)"));
        let mut said = BufReader::new(driver.stdout.take().expect("a pipe"));
        let lines = said.by_ref().lines().map_while(Result::ok);
        let port = lines
            .filter_map(|line| line.rsplit_once("successfully on port ").map(|(_, rest)| rest.trim_end_matches('.').to_owned()))
            .next();
        let port = port.and_then(|port| port.parse().ok()).expect("chromedriver says its port");
        let mut browser = Self { driver, port, session: String::new(), _said: said, _profile: profile };
        let mut args: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        args.push(format!("--user-data-dir={}", browser._profile.path().display()));
        args.push(format!("--accept-lang={}", options.language));
        let scripts = if options.scripts { 1 } else { 2 };
        let prefs = json!({ "profile.managed_default_content_settings.javascript": scripts, "intl.accept_languages": options.language });
        let chrome = json!({ "args": args, "prefs": prefs });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "timeouts": { "script": 120_000 }, "goog:chromeOptions": chrome } } });
        let begun = browser.call("POST", "/session", &wanted);
        browser.session = begun["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// A WebDriver call; what it gives.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|why| panic!("{method} {path}: {why}"))
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE * 2)).map_err(|e| e.to_string())?;
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(|e| e.to_string())?;
        let text = body_of(stream).map_err(|e| e.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        let value = answer["value"].take();
        if value["error"].is_string() { Err(format!("{}: {}", value["error"], value["message"])) } else { Ok(value) }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn get(&self, path: &str) -> Value {
        self.call("GET", &format!("/session/{}{path}", self.session), &Value::Null)
    }

    /// Opens an address.
    pub fn open(&self, address: &str) {
        self.post("/url", &json!({ "url": address }));
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    /// The page's address.
    pub fn address(&self) -> String {
        self.get("/url").as_str().expect("an address").to_owned()
    }

    /// The page's markup.
    pub fn source(&self) -> String {
        self.get("/source").as_str().expect("markup").to_owned()
    }

    /// The elements that a selector of CSS names, now.
    pub fn all(&self, selector: &str) -> Vec<Element> {
        let found = self.post("/elements", &json!({ "using": "css selector", "value": selector }));
        found.as_array().expect("a list").iter().map(|e| Element(e[ELEMENT].as_str().expect("an id").to_owned())).collect()
    }

    /// Whether there is such an element now.
    pub fn has(&self, selector: &str) -> bool {
        !self.all(selector).is_empty()
    }

    /// The first such element, once there is one.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn find(&self, selector: &str) -> Element {
        let began = Instant::now();
        loop {
            if let Some(found) = self.all(selector).into_iter().next() {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "no {selector} at {}: {}", self.address(), self.source());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks something of an element; again if the page has gone on between finding and asking.
    #[track_caller]
    fn ask(&self, selector: &str, method: &str, what: &str, body: &Value) -> Value {
        let began = Instant::now();
        loop {
            let Element(id) = self.find(selector);
            match self.try_call(method, &format!("/session/{}/element/{id}{what}", self.session), body) {
                Ok(value) => return value,
                Err(why) if why.contains("stale element") && began.elapsed() < PATIENCE => {}
                Err(why) => panic!("{selector}{what}: {why}"),
            }
        }
    }

    /// Presses an element that leads to another page, and waits until this one has gone.
    ///
    /// # Panics
    /// If it stays.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let (Element(page), began) = (self.find("html"), Instant::now());
        self.tick(selector);
        let stays = || self.try_call("GET", &format!("/session/{}/element/{page}/name", self.session), &Value::Null).is_ok();
        while stays() {
            assert!(began.elapsed() < PATIENCE, "{selector} leads nowhere: {}", self.source());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses an element that changes something on the page.
    #[track_caller]
    pub fn tick(&self, selector: &str) {
        self.ask(selector, "POST", "/click", &json!({}));
    }

    /// Puts a text into an input in the place of what is there.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        self.ask(selector, "POST", "/clear", &json!({}));
        self.ask(selector, "POST", "/value", &json!({ "text": text }));
    }

    /// Presses keys where the focus is.
    pub fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key.to_string() }), json!({ "type": "keyUp", "value": key.to_string() })])
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// What an element shows.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.ask(selector, "GET", "/text", &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// An element's attribute or property.
    #[track_caller]
    pub fn attribute(&self, selector: &str, name: &str) -> String {
        self.ask(selector, "GET", &format!("/attribute/{name}"), &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// What a script gives.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script hands to its last argument.
    pub fn run_until_done(&self, script: &str) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Whether the page should be dark, and how wide it is. From then on nothing moves: colours that are on their way to others would be judged as they are.
    pub fn look(&self, dark: bool, width: u32, height: u32) {
        let scheme = if dark { "dark" } else { "light" };
        let still = json!({ "name": "prefers-reduced-motion", "value": "reduce" });
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }, still] });
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": media }));
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics }));
    }

    /// The window as a PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        decoded(self.get("/screenshot").as_str().expect("a picture"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes Chromium; the driver would leave it behind.
        let _ = self.try_call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// An answer's body. ChromeDriver leaves the connection open, so its length counts.
fn body_of(stream: TcpStream) -> std::io::Result<String> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Base64, as WebDriver sends pictures.
fn decoded(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|b| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decoded("Y2F0Y2htZW50"), b"catchment");
        assert_eq!(decoded("YQ=="), b"a");
    }
}
