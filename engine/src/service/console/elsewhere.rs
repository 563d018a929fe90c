//! The same by other means: each page says what to type, and what to call.

use super::context::Page;

/// Titles and texts.
pub(super) type Elsewhere = Vec<(&'static str, String)>;

/// A `catchment rule` command, and a call of the API with an optional body.
pub(super) fn of(p: &Page, command: &[&str], method: &str, path: &str, body: Option<&str>) -> Elsewhere {
    by(p, "rule", command, method, path, body)
}

/// The same by another verb.
pub(super) fn by(p: &Page, verb: &str, command: &[&str], method: &str, path: &str, body: Option<&str>) -> Elsewhere {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    vec![(p.t.as_command, format!("catchment {verb} {}", words.join(" "))), (p.t.as_call, call(&p.origin, method, path, body))]
}

/// A call by curl; the token stands in a variable, so that it is not in a history of commands.
fn call(origin: &str, method: &str, path: &str, body: Option<&str>) -> String {
    let verb = if method == "GET" { String::new() } else { format!(" -X {method}") };
    let body = body.map(|body| format!(" \\\n  --data {}", quoted(body))).unwrap_or_default();
    format!("curl{verb} -H \"Authorization: Bearer $CATCHMENT_TOKEN\" {}{body}", quoted(&format!("{origin}/api/v1{path}")))
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&b));
    if is_plain && !word.is_empty() { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_call_as_it_is_meant() {
        assert_eq!(call("http://h:1", "GET", "/rules", None), "curl -H \"Authorization: Bearer $CATCHMENT_TOKEN\" http://h:1/api/v1/rules");
        assert!(call("http://h:1", "POST", "/rules", Some("{\"a\":\"it's\"}")).ends_with("--data '{\"a\":\"it'\\''s\"}'"));
    }
}
