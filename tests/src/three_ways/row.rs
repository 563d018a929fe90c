//! What a row of the [table](super::table) holds.

/// An action.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name.
    pub action: &'static str,
    /// What stands before it.
    pub before: Before,
    /// The text of `{file}`.
    pub file: &'static str,
    /// `catchment rule ...`, or `catchment token ...`
    pub command: &'static [&'static str],
    /// Method and path, and the body if it has one.
    pub call: (&'static str, &'static str),
    /// The same in the console.
    pub console: Console,
    /// Of a list that is answered, only the element of this name; empty: all of it.
    pub only: &'static str,
    /// What must come to the same.
    pub after: &'static [Check],
}

/// What stands before an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A new rule.
    Rule,
    /// A new rule that is paused.
    Paused,
    /// A new rule in its second version.
    Edited,
    /// A new rule that has read every record into a window that stays open.
    Open,
    /// A new rule that has stored every record.
    Stored,
    /// A new connection.
    Source,
    /// A new store.
    Store,
    /// A new further token.
    Token,
    /// What is there already, of this name, and is only looked at; the rule if the name is empty.
    Standing(&'static str),
}

/// An action in the console.
#[derive(Clone, Copy, Debug)]
pub enum Console {
    /// A form with these fields, which leads to another page.
    Form(&'static str, &'static [(&'static str, &'static str)]),
    /// A form with these fields, whose page shows for each thing that the API answers this text.
    Asks(&'static str, &'static [(&'static str, &'static str)], &'static str),
    /// A form with these fields, whose own page says what came of it.
    Says(&'static str, &'static [(&'static str, &'static str)]),
    /// A page that shows for each thing that the API answers this text.
    Shows(&'static str, &'static str),
    /// The same answer at another address.
    Same(&'static str),
    /// It has no such thing, for this reason.
    None(&'static str),
}

/// What must come to the same.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// What was answered, but for these keys.
    Answer(&'static [&'static str]),
    /// The rule in this state, its versions, its audit.
    Rule(&'static str),
    /// The same of the rule's copy.
    Copy,
    /// That there is no rule, and the audit of the one that was.
    NoRule,
    /// The ranges of the rule's windows, and why they were closed.
    Windows,
    /// What the verification found.
    Verified,
    /// The connection or store at this path, and the audit of its name.
    Connection(&'static str),
    /// Whether there is a further token of this name, and the audit of it.
    Token,
    /// That the audit has this action.
    Noted(&'static str),
}

/// A row without a file.
pub(super) const fn row(
    action: &'static str,
    before: Before,
    command: &'static [&'static str],
    call: (&'static str, &'static str),
    console: Console,
    after: &'static [Check],
) -> Row {
    Row { action, before, file: "", command, call, console, only: "", after }
}

impl Row {
    pub(super) const fn with_file(self, file: &'static str) -> Self {
        Self { file, ..self }
    }

    pub(super) const fn only(self, only: &'static str) -> Self {
        Self { only, ..self }
    }
}
