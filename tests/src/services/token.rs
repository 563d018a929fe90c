//! A token endpoint for OAUTHBEARER: OAuth 2.0 client credentials, unsecured JWTs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running endpoint. Ends when dropped.
#[derive(Debug)]
pub struct TokenEndpoint {
    child: Child,
    url: String,
    _dir: TempDir,
}

impl TokenEndpoint {
    /// The client id and secret that get a token; any other pair is answered 401.
    pub const ACCOUNT: (&'static str, &'static str) = ("catchment", "catchment-secret");

    /// An endpoint whose tokens live for `lifetime_seconds`; below zero they are born expired.
    ///
    /// # Panics
    /// If it does not serve within 10 s.
    pub fn start(lifetime_seconds: i64) -> Self {
        let dir = super::server_dir("token-");
        let address_file = dir.path().join("address");
        let child = Command::new("python3")
            .arg(super::scripts().join("token.py"))
            .arg("--address-file")
            .arg(&address_file)
            .arg(format!("--lifetime={lifetime_seconds}"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run python3: {e}"));
        let mut endpoint = Self { child, url: String::new(), _dir: dir };
        endpoint.url = format!("http://{}/token", endpoint.wait_for_address(&address_file));
        endpoint
    }

    fn wait_for_address(&mut self, file: &Path) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match std::fs::read_to_string(file) {
                Ok(address) => return address,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Err(e) => panic!("the token endpoint does not serve: {e}"),
            }
        }
    }

    /// Asks for a token with this secret and returns the answer's status and its body, a JSON object.
    pub fn request(&self, secret: &str) -> std::io::Result<(u16, serde_json::Value)> {
        let address = self.url.trim_start_matches("http://").trim_end_matches("/token");
        let form = format!("grant_type=client_credentials&client_id={}&client_secret={secret}", Self::ACCOUNT.0);
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "POST /token HTTP/1.0\r\nContent-Length: {}\r\n\r\n{form}", form.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
        let body = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?.1;
        Ok((status, serde_json::from_str(body)?))
    }

    /// Where to POST for a token.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
