//! The metadata string of a committed offset: anybody may have committed it.

use catchment::intent::CommitNote;

/// A note that parses prints and parses again to itself.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(note) = CommitNote::parse(text) else { return };
    assert_eq!(CommitNote::parse(&note.print()), Ok(note), "printed and read again");
}
