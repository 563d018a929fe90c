//! Who may come in: whoever shows the token of the state directory's file, or one of the further tokens that were made by name.
//!
//! Place in the flow: asked by the [API](super::api) and by the login of the [console](super::console). A further token is `ct_NAME_` and 256 bits of chance;
//! it is said once, when it is made, and the [state](super::state) keeps its hash (argon2id) alone.
//!
//! A hash costs some 20 ms and 19 MiB, so it is asked once for each token and process: after that the SHA-256 of the token is known, which decides about right
//! and wrong alike. The name in the token says which hash to ask, so a wrong one asks one at most. Hashes are asked two at a time, on threads that may wait; of
//! callers that wait for it there is a bound.
//!
//! Guarantees: a token that was removed is not known any more when its removal is answered, whatever was on its way. No token and no hash is ever shown.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::changes::{By, now_ms};
use super::state::{Origin, State, StoredToken};
use crate::config::{NAME_PATTERN, is_name};
use crate::error::{Code, Error, ErrorKind, Result, codes};

/// The token cannot be read or made.
pub const TOKEN_FAILED: Code = Code(605);
/// Others can read the file with the token.
pub const TOKEN_READABLE: Code = Code(653);

/// Bytes of chance in a token.
const TOKEN_BYTES: usize = 32;
/// Bytes of a hash's salt.
const SALT_BYTES: usize = 16;

/// What a further token begins with, so that one in the wrong place is found.
const PREFIX: &str = "ct_";

/// Hashes that are asked at a time, and callers that may wait for it.
const HASHES_AT_ONCE: usize = 2;
const WAITING_MAX: usize = 64;

/// The bits of a file's mode by which others than its owner and its group reach it.
const OTHERS: u32 = 0o007;

fn chance<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut chance = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut chance)?;
    Ok(chance)
}

/// Text that nobody can guess.
pub(in crate::service) fn secret() -> std::io::Result<String> {
    Ok(chance::<TOKEN_BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The token of a file. Its `Debug` does not show it.
struct FileToken(String);

impl FileToken {
    /// Reads the token of a file, which is made if it is not there; only its owner may read it.
    fn of_file(file: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::new(TOKEN_FAILED, ErrorKind::Invalid, "the token cannot be read or made")
                .with("file", file.display())
                .because(e)
                .help("check the permissions of the directory given by --state")
        };
        match std::fs::read_to_string(file) {
            Ok(text) if !text.trim().is_empty() => {
                check_mode(file, std::fs::metadata(file).map_err(failed)?.permissions().mode())?;
                return Ok(Self(text.trim().to_owned()));
            }
            Ok(_) => return Err(failed(std::io::Error::other("it is empty"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let token = secret().map_err(failed)?;
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        made.and_then(|mut file| writeln!(file, "{token}").and_then(|()| file.sync_all())).map_err(failed)?;
        Ok(Self(token))
    }

    /// Whether this is it. Takes as long for any text of its length.
    fn is(&self, text: &str) -> bool {
        let difference = self.0.bytes().zip(text.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        text.len() == self.0.len() && difference == 0
    }
}

fn check_mode(file: &Path, mode: u32) -> Result<()> {
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(Error::new(TOKEN_READABLE, ErrorKind::Denied, "others can read the file with the token")
        .with("file", file.display())
        .with("mode", format_args!("{:04o}", mode & 0o7777))
        .help("whoever has read it has all rights here: delete the file for a new token, or `chmod 600` it if nobody can have"))
}

/// Whose token was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Of whoever can read the file `token`.
    File,
    /// Of the further token with this name, and this number, which no later one of the same name has.
    Named(String, i64),
}

impl Holder {
    /// For the audit, by way of the API.
    pub(in crate::service) fn by_api(&self) -> By {
        self.by("token", "api")
    }

    /// For the audit, by way of the console. What is created there is changed through the API as well, so it is of the same origin.
    pub(in crate::service) fn by_console(&self) -> By {
        self.by("console", "console")
    }

    fn by(&self, of_file: &str, way: &str) -> By {
        let who = match self {
            Self::File => of_file.to_owned(),
            Self::Named(name, _) => format!("{way}:{name}"),
        };
        By { who, origin: Origin::Api }
    }
}

/// What became of a token that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum Verdict {
    Right(Holder),
    Wrong,
    /// Too many wait for theirs to be looked at.
    Busy,
}

/// A further token.
struct Named {
    id: i64,
    hash: String,
    /// SHA-256 of the token, once it was shown. A digest of 256 bits of chance says nothing of them.
    known: Option<[u8; 32]>,
}

/// All tokens of the service.
pub struct Tokens {
    file: FileToken,
    named: Mutex<BTreeMap<String, Named>>,
    /// Held while one is made or removed, so that state and memory go together.
    changing: tokio::sync::Mutex<()>,
    waiting: Semaphore,
    hashing: Arc<Semaphore>,
}

impl std::fmt::Debug for Tokens {
    /// Without tokens and hashes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("named", &self.named().len()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// The token of a file, which is made if it is not there, and the further ones of the state.
    ///
    /// # Errors
    /// `C0601`, `C0605`, `C0653`.
    pub fn of(file: &Path, state: &State) -> Result<Self> {
        let of = |token: StoredToken| (token.name, Named { id: token.id, hash: token.hash, known: None });
        Ok(Self {
            file: FileToken::of_file(file)?,
            named: Mutex::new(state.tokens()?.into_iter().map(of).collect()),
            changing: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            hashing: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
        })
    }

    fn named(&self) -> MutexGuard<'_, BTreeMap<String, Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose token this is, also around spaces, as far as it is known without asking a hash: never slow.
    pub(in crate::service) fn known(&self, text: &str) -> Option<Holder> {
        let text = text.trim();
        if self.file.is(text) {
            return Some(Holder::File);
        }
        let name = name_of(text)?;
        let named = self.named();
        let entry = named.get(name)?;
        (entry.known? == digest(text)).then(|| Holder::Named(name.to_owned(), entry.id))
    }

    /// Whose token this is, by its hash if it was not shown before.
    pub(in crate::service) async fn verdict(&self, text: &str) -> Verdict {
        let text = text.trim();
        if let Some(holder) = self.known(text) {
            return Verdict::Right(holder);
        }
        let Some(name) = name_of(text) else { return Verdict::Wrong };
        // One that is known is another one than this.
        if self.named().get(name).is_none_or(|entry| entry.known.is_some()) {
            return Verdict::Wrong;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Verdict::Busy };
        let Ok(turn) = Arc::clone(&self.hashing).acquire_owned().await else { return Verdict::Busy };
        // Somebody may have shown it meanwhile.
        if let Some(holder) = self.known(text) {
            return Verdict::Right(holder);
        }
        let asked = self.named().get(name).filter(|entry| entry.known.is_none()).map(|entry| (entry.id, entry.hash.clone()));
        let Some((id, hash)) = asked else { return Verdict::Wrong };
        let shown = text.to_owned();
        let is_right = tokio::task::spawn_blocking(move || {
            // Until the end, although the caller hangs up.
            let _turn = turn;
            is_of(&hash, &shown)
        });
        if !is_right.await.unwrap_or(false) {
            return Verdict::Wrong;
        }
        match self.named().get_mut(name).filter(|entry| entry.id == id) {
            Some(entry) => {
                entry.known = Some(digest(text));
                Verdict::Right(Holder::Named(name.to_owned(), id))
            }
            None => Verdict::Wrong, // removed meanwhile
        }
    }

    /// Whether a token is still there.
    pub(in crate::service) fn holds(&self, holder: &Holder) -> bool {
        match holder {
            Holder::File => true,
            Holder::Named(name, id) => self.named().get(name).is_some_and(|entry| entry.id == *id),
        }
    }

    /// Makes a further token. Returns its text, which is kept nowhere.
    ///
    /// # Errors
    /// `C0601`, `C0605`, `C0654`; `C0105` for what cannot be a name.
    pub(in crate::service) async fn add(&self, state: &Arc<State>, name: &str, who: &str) -> Result<String> {
        let _alone = self.changing.lock().await;
        let (name, who) = (name.to_owned(), who.to_owned());
        let (text, stored) = state.ask(move |state| make(state, &name, &who)).await?;
        let known = Some(digest(&text));
        self.named().insert(stored.name, Named { id: stored.id, hash: stored.hash, known });
        Ok(text)
    }

    /// Forgets a further token. Whoever shows it is refused from now on.
    ///
    /// # Errors
    /// `C0601`, `C0655`.
    pub(in crate::service) async fn remove(&self, state: &Arc<State>, name: &str, who: &str) -> Result<()> {
        let _alone = self.changing.lock().await;
        let (of, who) = (name.to_owned(), who.to_owned());
        state.ask(move |state| state.remove_token(&of, &who, now_ms())).await?;
        self.named().remove(name);
        Ok(())
    }
}

/// Makes a further token in a state that no service has open, or in the service that has. Slow.
///
/// # Errors
/// `C0601`, `C0605`, `C0654`; `C0105` for what cannot be a name.
pub fn make(state: &State, name: &str, who: &str) -> Result<(String, StoredToken)> {
    if !is_name(name) {
        return Err(Error::new(codes::CONFIG_VALUE, ErrorKind::Invalid, format!("the name {name:?} does not match {NAME_PATTERN}"))
            .help("use lower-case letters, digits, dots, dashes and underscores"));
    }
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(TOKEN_FAILED, ErrorKind::Retryable, "the token cannot be made").because(why).help("try again")
    };
    let text = format!("{PREFIX}{name}_{}", secret().map_err(|e| failed(&e))?);
    let salt = chance::<SALT_BYTES>().map_err(|e| failed(&e))?;
    let hash: PasswordHash = Argon2::default().hash_password_with_salt(text.as_bytes(), &salt).map_err(|e| failed(&e))?;
    let stored = state.add_token(name, &hash.to_string(), who, now_ms())?;
    Ok((text, stored))
}

/// Whether a text is the one that was hashed. Slow.
fn is_of(hash: &str, text: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(text.as_bytes(), &hash).is_ok())
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The name in a further token's text.
fn name_of(text: &str) -> Option<&str> {
    let (name, chance) = text.strip_prefix(PREFIX)?.rsplit_once('_')?;
    (chance.len() == 2 * TOKEN_BYTES && is_name(name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::state::{TOKEN_EXISTS, TOKEN_UNKNOWN};
    use super::*;

    fn tokens() -> (tempfile::TempDir, Arc<State>, Tokens) {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        let tokens = Tokens::of(&dir.path().join("token"), &state).unwrap();
        (dir, state, tokens)
    }

    #[test]
    fn a_token_is_made_once_and_is_its_owners() {
        let (dir, state, tokens) = tokens();
        let file = dir.path().join("token");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let made = std::fs::read_to_string(&file).unwrap();
        assert_eq!(made.trim().len(), 2 * TOKEN_BYTES);
        assert_eq!(tokens.known(&made), Some(Holder::File));
        assert_eq!(Tokens::of(&file, &state).unwrap().known(&made), Some(Holder::File), "it stays");
        for wrong in ["", &made.trim()[1..], &"0".repeat(2 * TOKEN_BYTES)] {
            assert_eq!(tokens.known(wrong), None);
        }
        assert!(!format!("{tokens:?}").contains(made.trim()));
    }

    #[test]
    fn an_empty_token_is_refused() {
        let (dir, state, _) = tokens();
        let file = dir.path().join("empty");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(Tokens::of(&file, &state).unwrap_err().code, TOKEN_FAILED);
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let (dir, state, _) = tokens();
        let file = dir.path().join("token");
        for (mode, is_refused) in [(0o644, true), (0o604, true), (0o602, true), (0o640, false), (0o600, false), (0o400, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = Tokens::of(&file, &state).map(drop);
            assert_eq!(found.err().map(|e| e.code), is_refused.then_some(TOKEN_READABLE), "{mode:o}");
        }
    }

    #[tokio::test]
    async fn a_further_token_is_known_by_its_hash_and_its_digest_until_it_is_removed() {
        let (dir, state, tokens) = tokens();
        let text = tokens.add(&state, "ci_1", "me").await.unwrap();
        let chance = text.strip_prefix("ct_ci_1_").unwrap();
        assert!(chance.len() == 64 && chance.bytes().all(|b| b.is_ascii_hexdigit()), "{}", chance.len());
        let holder = tokens.known(&format!(" {text}\n")).expect("known since it was made");
        assert_eq!((holder.by_api().who.as_str(), holder.by_console().who.as_str()), ("api:ci_1", "console:ci_1"));
        assert_eq!(tokens.add(&state, "ci_1", "me").await.unwrap_err().code, TOKEN_EXISTS);
        assert_eq!(tokens.add(&state, "CI", "me").await.unwrap_err().code, codes::CONFIG_VALUE);
        let kept = state.tokens().unwrap();
        assert!(kept[0].hash.starts_with("$argon2id$v=19$") && !kept[0].hash.contains(chance));

        let after = Tokens::of(&dir.path().join("token"), &state).unwrap();
        assert_eq!(after.known(&text), None, "a process that was just started has its hash alone");
        assert_eq!(after.verdict(&text.replace(chance, &"0".repeat(64))).await, Verdict::Wrong);
        assert_eq!(after.verdict(&text).await, Verdict::Right(holder.clone()));
        assert_eq!(after.known(&text), Some(holder.clone()), "and asks it once");

        after.remove(&state, "ci_1", "me").await.unwrap();
        assert_eq!((after.known(&text), after.verdict(&text).await, after.holds(&holder)), (None, Verdict::Wrong, false));
        assert_eq!(after.remove(&state, "ci_1", "me").await.unwrap_err().code, TOKEN_UNKNOWN);
        let again = after.add(&state, "ci_1", "me").await.unwrap();
        assert!(after.known(&again).is_some_and(|new| new != holder) && !after.holds(&holder), "the same name is another token");
    }

    /// With every turn taken, whoever asks a hash does not come to an end: what comes to one has asked none.
    #[tokio::test(start_paused = true)]
    async fn a_wrong_token_asks_one_hash_at_most_and_none_of_one_that_is_known() {
        let (_dir, state, tokens) = tokens();
        let text = tokens.add(&state, "a", "me").await.unwrap();
        let wrong = format!("ct_a_{}", "0".repeat(64));
        let turns = Arc::clone(&tokens.hashing).acquire_many_owned(HASHES_AT_ONCE as u32).await.unwrap();
        for shown in ["x", "ct_", "ct_a_", "ct_none_0", &wrong.replace("_a_", "_none_"), &wrong] {
            assert_eq!(tokens.verdict(shown).await, Verdict::Wrong, "{shown}");
        }
        assert!(matches!(tokens.verdict(&text).await, Verdict::Right(_)));
        // As after a restart.
        if let Some(entry) = tokens.named().get_mut("a") {
            entry.known = None;
        }
        let waits = tokio::time::timeout(std::time::Duration::from_secs(60), tokens.verdict(&wrong)).await;
        assert!(waits.is_err(), "its hash is asked, when it is its turn");
        let places = tokens.waiting.try_acquire_many(WAITING_MAX as u32).unwrap();
        assert_eq!(tokens.verdict(&wrong).await, Verdict::Busy);
        drop((turns, places));
    }

    #[tokio::test]
    async fn a_token_that_is_removed_while_its_hash_is_asked_does_not_come_in() {
        let (dir, state, tokens) = tokens();
        let text = tokens.add(&state, "a", "me").await.unwrap();
        let after = Arc::new(Tokens::of(&dir.path().join("token"), &state).unwrap());
        let asking = {
            let after = Arc::clone(&after);
            tokio::spawn(async move { after.verdict(&text).await })
        };
        // There is one thread here: now the hash is being asked, and what comes of it is not looked at before the next await.
        tokio::task::yield_now().await;
        after.named().remove("a");
        assert_eq!(asking.await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_token_that_is_removed_while_it_waits_for_its_turn_does_not_come_in() {
        let (dir, state, tokens) = tokens();
        let text = tokens.add(&state, "a", "me").await.unwrap();
        let after = Arc::new(Tokens::of(&dir.path().join("token"), &state).unwrap());
        let turns = Arc::clone(&after.hashing).acquire_many_owned(HASHES_AT_ONCE as u32).await.unwrap();
        let asking = {
            let after = Arc::clone(&after);
            tokio::spawn(async move { after.verdict(&text).await })
        };
        tokio::task::yield_now().await;
        after.remove(&state, "a", "me").await.unwrap();
        drop(turns);
        assert_eq!(asking.await.unwrap(), Verdict::Wrong);
    }
}
