//! One page of the counters of several pipelines: what a service shows.
//!
//! Place in the flow: behind [`Metrics::text`](super::Metrics::text), whose texts it joins. A family may stand on a page once only, so samples are
//! gathered by family, and each gets a label that says whose it is. It reads no other text than what the `prometheus-client` crate writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A page in the making.
#[derive(Debug, Default)]
pub struct Page {
    families: BTreeMap<String, Family>,
}

/// One metric with all its samples.
#[derive(Debug, Default)]
struct Family {
    /// Help, type and unit.
    head: String,
    samples: String,
}

impl Page {
    /// Adds all families of a text, with one more label on each sample if one is given.
    pub fn add(&mut self, text: &str, label: Option<(&str, &str)>) {
        let label = label.map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        let (mut family, mut is_new) = (None, false);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# HELP ").and_then(|rest| rest.split(' ').next()) {
                is_new = !self.families.contains_key(name);
                family = Some(self.families.entry(name.to_owned()).or_default());
            }
            let Some(family) = family.as_mut().filter(|_| line != "# EOF") else { continue };
            if !line.starts_with('#') {
                family.samples.push_str(&labelled(line, label.as_deref()));
                family.samples.push('\n');
            } else if is_new {
                family.head.push_str(line);
                family.head.push('\n');
            }
        }
    }

    /// The page's text, of the type [`CONTENT_TYPE`](super::CONTENT_TYPE).
    pub fn finish(self) -> String {
        let mut text = String::new();
        for family in self.families.into_values().filter(|family| !family.samples.is_empty()) {
            let _ = write!(text, "{}{}", family.head, family.samples);
        }
        text.push_str("# EOF\n");
        text
    }
}

/// A sample with a label before its own ones.
fn labelled(sample: &str, label: Option<&str>) -> String {
    let Some(label) = label else { return sample.to_owned() };
    // A name holds neither; a value of a label may hold both.
    let Some(end) = sample.find(['{', ' ']) else { return sample.to_owned() };
    let (name, rest) = sample.split_at(end);
    match rest.strip_prefix('{') {
        Some(labels) => format!("{name}{{{label},{labels}"),
        None => format!("{name}{{{label}}}{rest}"),
    }
}

/// A value as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "# HELP a_x Help.\n# TYPE a_x counter\na_x_total{op=\"Put {1}\"} 3\n# HELP a_y More.\n# TYPE a_y gauge\na_y 1.5\n# EOF\n";
    const TWO: &str = "# HELP a_y More.\n# TYPE a_y gauge\na_y 2.5\n# HELP a_z None.\n# TYPE a_z gauge\n";

    #[test]
    fn each_family_stands_once_with_the_samples_of_all() {
        let mut page = Page::default();
        page.add(ONE, Some(("rule", "first")));
        page.add(TWO, Some(("rule", "a \"b\" \\")));
        page.add("# HELP a_build Process.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n", None);
        let expected = "# HELP a_build Process.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n\
            # HELP a_x Help.\n# TYPE a_x counter\na_x_total{rule=\"first\",op=\"Put {1}\"} 3\n\
            # HELP a_y More.\n# TYPE a_y gauge\na_y{rule=\"first\"} 1.5\na_y{rule=\"a \\\"b\\\" \\\\\"} 2.5\n# EOF\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn a_page_of_nothing_has_an_end() {
        assert_eq!(Page::default().finish(), "# EOF\n");
    }
}
