//! Foreign text, made safe for a terminal or a page: what comes from Kafka, a store or a file must not steer whoever looks at it.

/// As [`printable`], in one line: a newline in a key must not begin a line of our own.
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// Text without control characters (newlines stay), bidirectional overrides and other invisible steering.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c == '\n' || !(c.is_control() || steers) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}
