//! Who is logged in: sessions in memory, each with a secret of its own for forms.
//!
//! A session ends when it was not used for some hours, after a day at the latest, with the process, with the token that opened it, or when somebody logs out. Bounded: of very many the one
//! that was unused for longest goes. A cookie holds its id alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::service::tokens::{Holder, secret};

/// The cookie that holds a session's id.
const COOKIE_NAME: &str = "catchment_session";

/// How long a session lasts that is not used.
const IDLE_MAX: Duration = Duration::from_secs(8 * 3_600);

/// How long one lasts at most.
const AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Sessions at a time.
const SESSIONS_MAX: usize = 256;

/// All sessions of the service.
pub struct Sessions {
    open: Mutex<BTreeMap<String, Entry>>,
    /// Rises whenever one is taken away.
    gone: watch::Sender<u64>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { open: Mutex::default(), gone: watch::Sender::new(0) }
    }
}

impl std::fmt::Debug for Sessions {
    /// Without the ids: whoever has one is logged in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("open", &self.open().len()).finish()
    }
}

struct Entry {
    csrf: String,
    holder: Holder,
    over_tls: bool,
    opened: Instant,
    used: Instant,
}

impl Entry {
    fn lives(&self, now: Instant) -> bool {
        now < self.used + IDLE_MAX && now < self.opened + AGE_MAX
    }
}

/// A session that lives.
#[derive(Clone)]
pub(super) struct Session {
    /// What the cookie holds.
    pub(super) id: String,
    /// What each form holds.
    pub(super) csrf: String,
    /// Whose token has opened it.
    pub(super) holder: Holder,
    /// Whether it was opened over TLS.
    pub(super) over_tls: bool,
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one.
    ///
    /// # Errors
    /// If the system has no chance to give.
    pub(super) fn begin(&self, holder: Holder, over_tls: bool) -> std::io::Result<Session> {
        let (session, now) = (Session { id: secret()?, csrf: secret()?, holder, over_tls }, clock::now());
        let mut open = self.open();
        open.retain(|_, entry| entry.lives(now));
        if open.len() >= SESSIONS_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| id.clone())
        {
            open.remove(&oldest);
            self.gone.send_modify(|n| *n += 1);
        }
        let (csrf, holder) = (session.csrf.clone(), session.holder.clone());
        open.insert(session.id.clone(), Entry { csrf, holder, over_tls, opened: now, used: now });
        Ok(session)
    }

    /// The one that a call's cookie names, which counts as used.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<Session> {
        let (id, now) = (cookie(headers, COOKIE_NAME)?, clock::now());
        let mut open = self.open();
        let entry = open.get_mut(id).filter(|entry| entry.lives(now))?;
        entry.used = now;
        Some(Session { id: id.to_owned(), csrf: entry.csrf.clone(), holder: entry.holder.clone(), over_tls: entry.over_tls })
    }

    /// Ends those of holders that are not to be kept.
    pub(in crate::service) fn keep(&self, is_kept: impl Fn(&Holder) -> bool) {
        self.open().retain(|_, entry| is_kept(&entry.holder));
        self.gone.send_modify(|gone| *gone += 1);
    }

    /// Ends one.
    pub(super) fn end(&self, id: &str) {
        self.open().remove(id);
        self.gone.send_modify(|n| *n += 1);
    }

    /// Waits for the end of one, however it comes: what goes on for as long as somebody is logged in ends with it.
    pub(super) async fn ended(self: Arc<Self>, id: String) {
        let mut gone = self.gone.subscribe();
        loop {
            gone.mark_unchanged();
            let end = self.open().get(&id).map(|entry| (entry.used + IDLE_MAX).min(entry.opened + AGE_MAX));
            match end.filter(|end| *end > clock::now()) {
                // It may be used meanwhile, and end later.
                Some(end) => {
                    let _ = tokio::time::timeout_at(end, gone.changed()).await;
                }
                None => return,
            }
        }
    }
}

/// A cookie's value.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find_map(|(found, value)| (found == name).then_some(value))
}

/// The header that gives a session's id to a browser; over TLS it is never sent without.
pub(super) fn set_cookie(id: &str, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={id}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

/// The header that takes it away.
pub(super) fn clear_cookie() -> String {
    format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(id: &str) -> HeaderMap {
        [(COOKIE, format!("a=b; {COOKIE_NAME}={id}; c=d").parse().unwrap())].into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_unused_or_old_or_by_a_word() {
        let sessions = Sessions::default();
        let (one, other) = (sessions.begin(Holder::File, false).unwrap(), sessions.begin(Holder::File, false).unwrap());
        assert!(one.id != other.id && one.csrf != other.csrf && one.id != one.csrf);
        assert_eq!(sessions.of(&shown(&one.id)).map(|found| found.csrf), Some(one.csrf.clone()));
        assert!(sessions.of(&shown("")).is_none() && sessions.of(&shown(&one.csrf)).is_none() && sessions.of(&HeaderMap::new()).is_none());
        sessions.end(&other.id);
        assert!(sessions.of(&shown(&other.id)).is_none());
        for _ in 0..4 {
            tokio::time::advance(IDLE_MAX - Duration::from_secs(1)).await;
            let lives = sessions.of(&shown(&one.id)).is_some();
            assert_eq!(lives, clock::now() < sessions.open().get(&one.id).map_or(clock::now(), |entry| entry.opened + AGE_MAX));
        }
        assert!(sessions.of(&shown(&one.id)).is_none(), "a day is over");
        let idle = sessions.begin(Holder::File, false).unwrap();
        tokio::time::advance(IDLE_MAX).await;
        assert!(sessions.of(&shown(&idle.id)).is_none());
    }

    #[test]
    fn a_session_ends_with_its_token() {
        let sessions = Sessions::default();
        let [one, other] = ["one", "other"].map(|name| sessions.begin(Holder::Named(name.into(), 1), false).unwrap());
        sessions.keep(|holder| *holder == other.holder);
        assert!(sessions.of(&shown(&one.id)).is_none() && sessions.of(&shown(&other.id)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_end_of_a_session_is_told_of_each_kind() {
        let sessions = Arc::new(Sessions::default());
        let mut by_word = Box::pin(Arc::clone(&sessions).ended(sessions.begin(Holder::File, false).unwrap().id));
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut by_word).await.is_err(), "it lives");
        let other = sessions.begin(Holder::File, false).unwrap();
        sessions.end(&other.id);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut by_word).await.is_err(), "another one has ended");
        tokio::time::timeout(IDLE_MAX, by_word).await.expect("nobody has used it");
        let one = sessions.begin(Holder::File, false).unwrap();
        let by_word = Arc::clone(&sessions).ended(one.id.clone());
        sessions.end(&one.id);
        tokio::time::timeout(Duration::from_secs(1), by_word).await.expect("it was ended");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_bounded_and_not_shown() {
        let sessions = Sessions::default();
        let first = sessions.begin(Holder::File, false).unwrap();
        for _ in 0..SESSIONS_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.begin(Holder::File, false).unwrap();
        }
        assert_eq!(sessions.open().len(), SESSIONS_MAX);
        assert!(sessions.of(&shown(&first.id)).is_none(), "the one that was unused for longest");
        assert_eq!(format!("{sessions:?}"), format!("Sessions {{ open: {SESSIONS_MAX} }}"));
    }

    #[test]
    fn a_cookie_is_for_this_service_alone_and_no_script() {
        assert_eq!(set_cookie("x", false), "catchment_session=x; Path=/; HttpOnly; SameSite=Strict");
        assert!(set_cookie("x", true).ends_with("; Secure"));
        assert!(clear_cookie().contains("Max-Age=0"));
    }
}
