//! Inputs of forms as data, so that each has its label, its hint and its problem tied to it in the same way.

/// What an input takes.
#[derive(Clone, Debug)]
pub(super) enum InputKind {
    Text,
    /// Never filled in again: what was typed is not sent back.
    Secret,
    Area,
    /// Values with their texts. A text that is its value is a name, of no language.
    Select(Vec<(String, String)>),
}

/// One input.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) hint: &'static str,
    pub(super) problem: Option<String>,
    pub(super) kind: InputKind,
    pub(super) required: bool,
}

/// Inputs that a form shows only to whoever opens them.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    /// Whether it is open already, since what it holds is not what one would expect.
    pub(super) open: bool,
    pub(super) inputs: Vec<Input>,
}

impl Input {
    pub(super) fn new(id: &'static str, label: &'static str, kind: InputKind) -> Self {
        Self { id, label, value: String::new(), hint: "", problem: None, kind, required: false }
    }

    pub(super) fn text(id: &'static str, label: &'static str, value: &str) -> Self {
        Self { value: value.to_owned(), ..Self::new(id, label, InputKind::Text) }
    }

    pub(super) fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    pub(super) fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// A choice among names. A value that is none of them any more stays the one that is chosen: a form that is sent back unchanged changes nothing.
    pub(super) fn names<'a>(id: &'static str, label: &'static str, value: &str, names: impl Iterator<Item = &'a String>) -> Self {
        let mut options: Vec<(String, String)> = names.map(|name| (name.clone(), name.clone())).collect();
        if !value.is_empty() && options.iter().all(|(name, _)| name != value) {
            options.insert(0, (value.to_owned(), value.to_owned()));
        }
        Self { value: value.to_owned(), ..Self::new(id, label, InputKind::Select(options)) }
    }

    /// A choice among words that have texts.
    pub(super) fn words(id: &'static str, label: &'static str, value: &str, words: &[(&str, &str)]) -> Self {
        let options = words.iter().map(|(word, text)| ((*word).to_owned(), (*text).to_owned())).collect();
        Self { value: value.to_owned(), ..Self::new(id, label, InputKind::Select(options)) }
    }

    /// The ids of what describes it.
    pub(super) fn described_by(&self) -> Option<String> {
        let problem = self.problem.as_ref().map(|_| format!("{}-problem", self.id));
        let hint = (!self.hint.is_empty()).then(|| format!("{}-hint", self.id));
        let ids: Vec<String> = problem.into_iter().chain(hint).collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_gone_stays_chosen() {
        let names = ["k".to_owned(), "other".to_owned()];
        let options = |value: &str| match Input::names("source", "Source", value, names.iter()).kind {
            InputKind::Select(options) => options.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert_eq!(options("gone"), ["gone", "k", "other"], "a browser would choose the first one otherwise");
        assert_eq!(options("other"), ["k", "other"]);
        assert_eq!(options(""), ["k", "other"]);
    }
}
