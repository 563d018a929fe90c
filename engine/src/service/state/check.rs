//! Whether the state is whole: asked of SQLite at each start, before anything is read or written.
//!
//! SQLite has no checksums. What it does check is that tables, indexes and values are what they must be: a byte that flips in what holds them together is found, one
//! that flips in a text or a number is not. No record depends on either; so a damaged state is refused, and a copy put back.

use rusqlite::{Connection, ErrorCode};

use super::{STATE_FAILED, failed};
use crate::error::{Error, ErrorKind, Result};

/// Up to this size each entry of an index is looked up in its table, too, in bytes: a fraction of a second. Above, a file of gigabytes would hold up the start for minutes.
const WHOLE_BYTES_MAX: i64 = 64 << 20;

/// Up to this size the file is read once, in bytes: seconds. Above, a start could take longer than whoever waits for it has patience.
const QUICK_BYTES_MAX: i64 = 1 << 30;

/// Fails unless SQLite finds nothing wrong with the state. One that is too large to be read at each start is met as it is.
///
/// # Errors
/// `C0601`.
pub(super) fn whole(db: &Connection) -> Result<()> {
    let number = |pragma: &str| db.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let bytes = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
    let Some(pragma) = check_for(bytes) else {
        tracing::info!(bytes, "the service's state is too large to be checked at each start");
        return Ok(());
    };
    match look(db, pragma) {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(damaged(found)),
        Err(e) => Err(failed(e)),
    }
}

/// The check of a file of this size.
fn check_for(bytes: i64) -> Option<&'static str> {
    let whole = (bytes <= WHOLE_BYTES_MAX).then_some("PRAGMA integrity_check(1)");
    whole.or((bytes <= QUICK_BYTES_MAX).then_some("PRAGMA quick_check(1)"))
}

/// What a check says first: `ok`, or what is wrong.
pub(super) fn look(db: &Connection, pragma: &str) -> rusqlite::Result<String> {
    db.query_row(pragma, [], |row| row.get(0))
}

/// Whether SQLite says of a file that it is damaged or none of its own.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The state is not what a service has written.
pub(super) fn damaged(why: impl std::fmt::Display) -> Error {
    Error::new(STATE_FAILED, ErrorKind::Corrupt, "the service's state is damaged").because(why).help(
        "put a copy back: `catchment serve --restore FILE`; without one, move the file away and create the rules again, which go on where their groups stand. A \
         worker's file can be moved away: its server tells it the rules again",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Entry, Grave, Origin, Report, State, StoredConnection, StoredGap, StoredVerification, StoredWindow, line, window};
    use super::*;

    /// Damaged files that are tried.
    const SEEDS: u64 = 300;

    /// Windows of the state: enough for tables and indexes of several levels.
    const WINDOWS: i64 = 400;

    #[test]
    fn a_larger_state_is_looked_at_less_closely() {
        let sizes = [0, WHOLE_BYTES_MAX, WHOLE_BYTES_MAX + 1, QUICK_BYTES_MAX, QUICK_BYTES_MAX + 1, i64::MAX];
        let (whole, quick) = (Some("PRAGMA integrity_check(1)"), Some("PRAGMA quick_check(1)"));
        assert_eq!(sizes.map(check_for), [whole, whole, quick, quick, None, None]);
    }

    /// A state with something in every table that a service reads.
    fn written(file: &Path) -> Vec<u8> {
        let state = State::open(file).unwrap();
        let rules = ["a", "b", "c"];
        for rule in rules {
            state.create(rule, r#"{"source":{"topics":["t"]}}"#, Origin::Api, "me", 1).unwrap();
            state.edit(rule, Some(1), r#"{"source":{"topics":["u"]}}"#, Origin::Api, "me", 2).unwrap();
            state.put_verification(rule, &StoredVerification::queued(3)).unwrap();
            state.request_anew(rule, true, &["t/0".to_owned()], 1).unwrap();
        }
        let window = |n: i64| StoredWindow { start: n, end: n + 1, key: format!("t/dt=2026-11-29/{n}.parquet"), ..window() };
        let windows = (0..WINDOWS).map(|n| Entry::Window(rules[(n % 3) as usize].into(), window(n)));
        let gap = StoredGap { topic: "t".into(), partition: 0, start: 1, end: 4, cause: "retention".into(), at_ms: 5 };
        let lines = (0..WINDOWS / 4).map(|n| line(&"a line of the log ".repeat((n % 40) as usize)));
        state.write(&windows.chain(lines).chain([Entry::Gap("a".into(), gap)]).collect::<Vec<_>>()).unwrap();
        state.put_connection(&StoredConnection { kind: "store".into(), name: "s".into(), body: "{}".into(), version: 1 }, "me", 1).unwrap();
        state.add_token("t", "$h", "me", 6).unwrap();
        state.meet_worker("id", "one", 7).unwrap();
        drop(state);
        std::fs::read(file).unwrap()
    }

    /// Reads everything; the errors, of which none may be a panic.
    fn read_all(state: &State) -> Vec<Error> {
        let all = i64::MAX;
        let rules = state.rules();
        let mut found = vec![state.connections().err(), state.tokens().err(), state.workers().err(), state.requests(1).err()];
        found.extend([state.audited(None, all, 100_000).err(), state.taken().err(), state.all_left_destinations().err()]);
        found.extend([state.undelivered(1 << 20, 1_000).err(), state.identity().err()]);
        for rule in ["a", "b", "c"] {
            found.extend([state.rule(rule).err(), state.versions(rule).err(), state.version(rule, 1).err(), state.gaps(rule).err()]);
            found.extend([state.windows(rule, all, 100_000).err(), state.log(rule, Some(0), 100_000).err()]);
            found.extend([state.log_page(rule, all, Grave::Info, "", 100_000).err(), state.verification(rule).err()]);
        }
        found.extend(rules.iter().flatten().map(|rule| state.left_destinations(rule).err()));
        found.into_iter().flatten().chain(rules.err()).collect()
    }

    /// Changes what a service changes in its day.
    fn change_all(state: &State) -> Vec<Error> {
        let report = Report { number: 1, rule: "a".into(), created_ms: None, window: None, gap: None, line: None };
        let changes = [
            state.edit("a", None, r#"{"source":{"topics":["v"]}}"#, Origin::Api, "me", 8).err(),
            state.meet_worker("id", "one", 9).err(),
            state.take_reports("id", "one", &[report], 10).err(),
            state.write(&[line("another")]).err(),
            state.prune("a").err(),
            state.delete("b", Origin::Api, "me", 11).err(),
        ];
        changes.into_iter().flatten().collect()
    }

    /// Row P8. What is refused names the way back; what is opened is read and changed without a panic, and SQLite itself calls none of it damaged any more.
    #[test]
    fn flipped_bytes_of_a_state_are_refused_or_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let good = written(&dir.path().join("good.db"));
        let (mut refused, mut opened, mut unreadable) = (0, 0, 0);
        for seed in 0..SEEDS {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..=8) {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            }
            let file = dir.path().join(format!("{seed}.db"));
            std::fs::write(&file, &bytes).unwrap();
            match State::open(&file) {
                Err(e) => {
                    assert_eq!(e.code, STATE_FAILED, "seed {seed}: {e}");
                    refused += usize::from(e.kind == ErrorKind::Corrupt && e.help.is_some_and(|help| help.contains("--restore")));
                }
                Ok(state) => {
                    opened += 1;
                    let errors = read_all(&state);
                    let harm = errors.iter().find(|e| e.kind == ErrorKind::Corrupt);
                    assert!(harm.is_none(), "seed {seed}: opened, and damaged: {harm:?}");
                    unreadable += usize::from(!errors.is_empty());
                    let harm = change_all(&state).into_iter().find(|e| e.kind == ErrorKind::Corrupt);
                    assert!(harm.is_none(), "seed {seed}: opened, and damaged: {harm:?}");
                }
            }
            let _ = std::fs::remove_file(&file);
        }
        println!(
            "{SEEDS} damaged states of {} bytes: {refused} refused as damaged, {opened} opened, {unreadable} of them not read",
            good.len()
        );
        assert!(refused > SEEDS as usize / 10 && opened > 0, "{refused} refused, {opened} opened");
    }

    /// A number that no check finds is one of any size.
    #[test]
    fn numbers_of_any_size_do_not_end_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.db");
        drop(written(&file));
        let db = Connection::open(&file).unwrap();
        db.execute_batch(&format!(
            "UPDATE worker SET seen_ms = {least}, lost = {most}, delivered = {least}; UPDATE rule_version SET version = {most} WHERE rule = 'a' AND version = 2;
             UPDATE rule SET version = {most}, created_ms = {least} WHERE name = 'a'; UPDATE request SET number = {most}",
            least = i64::MIN,
            most = i64::MAX
        ))
        .unwrap();
        drop(db);
        let state = State::open(&file).unwrap();
        assert!(read_all(&state).is_empty());
        assert!(change_all(&state).iter().all(|e| e.code == STATE_FAILED), "only what has no number left is refused");
        assert!(state.request_anew("a", true, &[], 1).err().is_none_or(|e| e.code == STATE_FAILED));
    }

    #[test]
    fn what_is_no_database_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.db");
        std::fs::write(&file, [7; 8_192]).unwrap();
        assert_eq!(State::open(&file).unwrap_err().kind, ErrorKind::Corrupt);
        assert_eq!(State::open_if_free(&file).unwrap_err().kind, ErrorKind::Corrupt);
    }
}
