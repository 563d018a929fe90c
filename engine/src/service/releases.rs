//! When what a deleted rule had is given up, and what is written down of it.
//!
//! Place in the flow: [`deletion`](super::deletion) knows how it is done; the [supervisor](super::supervisor) asks for it once a rule is forgotten and its run has
//! ended, and again for what is still recorded when a process starts.
//!
//! Guarantees: what is to be given up stands in the [state](super::state) from the deletion on until it was tried to the end, so neither a stop nor a crash forgets
//! it. The end of the process waits for none of it. A rule that has the group by now is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::changes::{GROUP_TAKEN, now_ms};
use super::deletion::{Deleted, Kept, give_up, release};
use super::state::{STATE_FAILED, State, StoredRelease};
use super::supervisor::Supervisor;
use crate::config::{BackupPlan, Destination};
use crate::error::{Code, Error, ErrorKind, Result, codes};
use crate::runtime;

/// How often, and how many times, a group that has members is tried again: longer than sessions last.
const RETRY: (Duration, u32) = (Duration::from_secs(10), 12);

/// The service ends before a deleted rule has given up what it had.
pub const RELEASE_INTERRUPTED: Code = Code(625);

impl Supervisor {
    /// Gives up what a rule had that was deleted, and writes down what became of it. Nobody may begin a rule of this name meanwhile: the caller has its turn.
    pub(super) async fn release(self: &Arc<Self>, gone: &StoredRelease, plan: Result<BackupPlan, Vec<Error>>) -> Deleted {
        let left = match &plan {
            Ok(plan) => self.left_places(gone, plan).await,
            Err(_) => Vec::new(),
        };
        let (deleted, again) = tokio::select! {
            released = release(&gone.rule, plan, left) => released,
            () = self.ended() => return interrupted(&gone.rule),
        };
        self.note_release(&gone.who, &deleted).await;
        let Some(kept) = again else {
            self.forget_release(gone).await;
            return deleted;
        };
        let (this, gone) = (Arc::clone(self), gone.clone());
        tokio::spawn(async move {
            tokio::select! {
                is_over = this.release_group_later(kept, &gone) => if is_over { this.forget_release(&gone).await },
                () = this.ended() => {}
            }
        });
        deleted
    }

    /// The places that a rule wrote to before it moved to the last one, each once; or why one is not known any more.
    async fn left_places(&self, gone: &StoredRelease, plan: &BackupPlan) -> Vec<Result<Destination>> {
        let mut known: Vec<String> = runtime::destination_hash(&plan.to).into_iter().collect();
        let mut left = Vec::new();
        for (body, version) in gone.earlier.iter().zip(1..) {
            let place = match self.plan(&gone.rule, body, Vec::new()).await {
                Ok(BackupPlan { to, .. }) => runtime::destination_hash(&to).map(|hash| (hash, Ok(to))),
                Err(errors) => errors.into_iter().next().map_or_else(|| Err(gone_place()), Err),
            };
            // By what went wrong, each once, too.
            let (mark, place) = place.unwrap_or_else(|why| (why.to_string(), Err(why.with("version", version))));
            if !known.contains(&mark) {
                known.push(mark);
                left.push(place);
            }
        }
        left
    }

    /// Goes on with what the process before this one has not given up. Nobody can begin a rule of these names before: their turns are taken when this returns.
    ///
    /// # Errors
    /// `C0601`.
    pub(super) async fn resume_releases(self: &Arc<Self>) -> Result<()> {
        let mut by_name: BTreeMap<String, Vec<StoredRelease>> = BTreeMap::new();
        for gone in self.state().ask(State::releases).await? {
            by_name.entry(gone.rule.clone()).or_default().push(gone);
        }
        for (name, all) in by_name {
            let (_, turn) = self.take_turn(&name).await;
            let this = Arc::clone(self);
            tokio::spawn(async move {
                for gone in &all {
                    this.resume(gone).await;
                }
                this.forget_unused(&name, &turn);
            });
        }
        Ok(())
    }

    async fn resume(self: &Arc<Self>, gone: &StoredRelease) {
        let plan = self.plan(&gone.rule, &gone.body, Vec::new()).await;
        match (self.is_free(&gone.rule, plan.as_ref().ok()).await, plan) {
            (Ok(false), _) => {
                let taken = Error::new(GROUP_TAKEN, ErrorKind::Invalid, "another rule has its name or its consumer group by now");
                self.note_release(&gone.who, &Deleted::with_all_left(&gone.rule, &taken)).await;
                self.forget_release(gone).await;
            }
            (Err(why), _) => put_off(gone, Some(&why)),
            (Ok(true), Err(errors)) if errors.iter().any(may_pass) => put_off(gone, errors.first()),
            (Ok(true), plan) => {
                let deleted = self.release(gone, plan).await;
                tracing::info!(rule = gone.rule, "went on with a deletion: {} things could not be given up", deleted.left_behind.len());
            }
        }
    }

    async fn note_release(&self, who: &str, deleted: &Deleted) {
        let (who, rule) = (who.to_owned(), deleted.rule.clone());
        let detail = serde_json::to_string(deleted).unwrap_or_default();
        if let Err(e) = self.state().ask(move |state| state.note(&who, "release", Some(&rule), Some(&detail), now_ms())).await {
            tracing::warn!(error = %e, "what a deleted rule has given up could not be written down");
        }
    }

    async fn forget_release(&self, gone: &StoredRelease) {
        let StoredRelease { rule, created_ms, .. } = gone.clone();
        if let Err(e) = self.state().ask(move |state| state.released(&rule, created_ms)).await {
            tracing::warn!(error = %e, "that a deleted rule has given up what it had could not be written down: the next start tries it again");
        }
    }

    /// Tries a group again whose last member's session has not ended yet, unless a rule reads in it by now. False: it is not known at the end whether one does.
    async fn release_group_later(self: &Arc<Self>, kept: Kept, gone: &StoredRelease) -> bool {
        let plan = &kept.plan;
        let mut last = None;
        for _ in 0..RETRY.1 {
            tokio::time::sleep(RETRY.0).await;
            let (_slot, turn) = self.take_turn(&plan.rule).await;
            let is_free = self.is_free(&plan.rule, Some(plan)).await;
            let mut deleted = Deleted { rule: plan.rule.clone(), ..Deleted::default() };
            let again = match &is_free {
                Ok(true) => give_up(&mut deleted, &kept).await,
                Ok(false) => false,
                Err(_) => true,
            };
            // Nobody's, unless a rule runs in it: it was made to keep others from beginning.
            self.forget_unused(&plan.rule, &turn);
            last = match is_free {
                Ok(true) => Some(deleted),
                Ok(false) => return true,
                Err(_) => None,
            };
            if !again {
                break;
            }
        }
        let Some(deleted) = last else { return false };
        // Nobody tries any more. What is still in the way says what can be done.
        self.note_release(&gone.who, &deleted).await;
        true
    }

    /// Whether there is no rule of the name of one that was deleted, and none that reads in its group.
    ///
    /// # Errors
    /// `C0601`.
    async fn is_free(&self, name: &str, gone: Option<&BackupPlan>) -> Result<bool> {
        let (config, rules) = (self.config().await?, self.state().ask(State::rules).await?);
        let is_new = rules.iter().any(|rule| rule.name == name);
        let reads_there = |plan: &BackupPlan| gone.is_some_and(|gone| plan.group == gone.group && plan.kafka.brokers == gone.kafka.brokers);
        Ok(!is_new && !self.plans_of(&config, rules.iter()).values().any(reads_there))
    }
}

fn gone_place() -> Error {
    Error::new(codes::CONFIG_NAME, ErrorKind::NotFound, "where the rule has written is not known any more")
}

/// Whether a plan may be made again at another start: the rule had one, so what is named and missing was taken out of the config.
fn may_pass(why: &Error) -> bool {
    matches!(why.code, codes::CONFIG_NAME | codes::CONFIG_MISSING | STATE_FAILED)
}

/// It stays written down.
fn put_off(gone: &StoredRelease, why: Option<&Error>) {
    let why = why.map(ToString::to_string).unwrap_or_default();
    tracing::warn!(rule = gone.rule, why, "what a deleted rule had cannot be given up now: the next start tries it again");
}

/// What whoever has deleted a rule is told when the service ends meanwhile.
fn interrupted(rule: &str) -> Deleted {
    let why = Error::new(RELEASE_INTERRUPTED, ErrorKind::Retryable, "the service ends").help("its next start goes on with it");
    Deleted::with_all_left(rule, &why)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::Runtime;
    use tokio::task::JoinHandle;

    use super::super::state::Origin;
    use super::*;
    use crate::config::Config;

    const BODY: &str = r#"{"source":{"kafka":"k","topics":["t"]},"to":{"store":"s"}}"#;

    /// A runtime that does not wait at its end for a first contact with a silent server, which nothing can interrupt.
    struct Impatient(Option<Runtime>);

    impl Impatient {
        fn run(test: impl Future<Output = ()>) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let this = Self(Some(runtime));
            this.0.as_ref().unwrap().block_on(test);
        }
    }

    impl Drop for Impatient {
        fn drop(&mut self) {
            self.0.take().unwrap().shutdown_background();
        }
    }

    /// Waits until something is so.
    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let began = crate::clock::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A deletion that waits for a broker which takes connections and never answers; and its connection.
    async fn begin_to_delete(supervisor: &Arc<Supervisor>, silent: &TcpListener) -> (JoinHandle<Result<Deleted>>, TcpStream) {
        supervisor.state().create("a", BODY, Origin::Api, "me", 1).unwrap();
        let this = Arc::clone(supervisor);
        let deletion = tokio::spawn(async move { this.remove("a", Origin::Api, "me", 2).await });
        until("it is forgotten", || !supervisor.state().releases().unwrap().is_empty()).await;
        let (asked, _) = tokio::time::timeout(Duration::from_secs(30), silent.accept()).await.expect("its server is asked").unwrap();
        (deletion, asked)
    }

    fn supervisor(state: &Arc<State>, config: &str) -> Arc<Supervisor> {
        Supervisor::new(Arc::clone(state), Config::parse(config, "test").unwrap(), "128MiB".parse().unwrap()).unwrap()
    }

    /// A state in a directory, in which one rule was deleted.
    fn with_a_deletion() -> (tempfile::TempDir, Arc<State>) {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        state.create("a", BODY, Origin::Api, "me", 1).unwrap();
        state.delete("a", Origin::Api, "me", 2).unwrap();
        (dir, state)
    }

    /// What was done last with the rule.
    fn last_action(state: &State) -> (String, String) {
        let audited = state.audited(Some("a"), i64::MAX, 1).unwrap().remove(0);
        (audited.action, audited.who)
    }

    /// A connection that can be named, and by which nothing can be reached.
    const USELESS: &str = "[kafka.k]\nbrokers = [\"h:1\"]\nproperties = { \"group.id\" = \"x\" }\n[store.s]\nurl = \"file:///nowhere/\"\n";

    #[test]
    fn a_stop_waits_for_no_server_and_the_next_start_goes_on_with_the_deletion() {
        Impatient::run(async {
            let dir = tempfile::tempdir().unwrap();
            let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
            let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = silent.local_addr().unwrap();
            let config = format!("[kafka.k]\nbrokers = [\"{address}\"]\n[store.s]\nurl = \"file:///nowhere/\"\n");
            let first = supervisor(&state, &config);
            first.start().await.unwrap();
            let (deletion, _asked) = begin_to_delete(&first, &silent).await;
            let began = crate::clock::now();
            first.stop().await;
            assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
            let told = deletion.await.unwrap().unwrap();
            assert!(told.left_behind[0].why.contains(&RELEASE_INTERRUPTED.to_string()), "{told:?}");
            assert_eq!(state.releases().unwrap().len(), 1, "it is remembered");

            // It cannot be given up there, and that is written down.
            let second = supervisor(&state, USELESS);
            second.start().await.unwrap();
            // Its place is the last that goes.
            until("it is tried to the end", || state.releases().unwrap().is_empty() && second.status("a").is_none()).await;
            assert_eq!(last_action(&state), ("release".to_owned(), "me".to_owned()));
            second.stop().await;
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rule_that_has_the_name_by_now_keeps_its_group() {
        let (_dir, state) = with_a_deletion();
        state.create("a", "{}", Origin::Api, "me", 3).unwrap();
        let supervisor = supervisor(&state, "");
        supervisor.start().await.unwrap();
        until("it is forgotten", || state.releases().unwrap().is_empty()).await;
        let audited = state.audited(Some("a"), i64::MAX, 1).unwrap();
        assert!(audited[0].detail.as_ref().is_some_and(|detail| detail.contains(&GROUP_TAKEN.to_string())), "{audited:?}");
        assert!(supervisor.status("a").is_some(), "the new one is there");
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_deletion_waits_for_its_connection_to_be_there_again() {
        let (_dir, state) = with_a_deletion();
        for config in ["", "[kafka.k]\nbrokers = [\"h:1\"]\n"] {
            let supervisor = supervisor(&state, config);
            supervisor.resume_releases().await.unwrap();
            until("no place is left", || supervisor.status("a").is_none()).await;
            assert_eq!(state.releases().unwrap().len(), 1, "{config}");
            assert_eq!(last_action(&state).0, "delete", "{config}");
        }
        let supervisor = supervisor(&state, USELESS);
        supervisor.resume_releases().await.unwrap();
        until("it is tried to the end", || state.releases().unwrap().is_empty() && supervisor.status("a").is_none()).await;
        assert_eq!(last_action(&state).0, "release");
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_read_is_no_rule_of_that_name() {
        let (_dir, state) = with_a_deletion();
        let supervisor = supervisor(&state, USELESS);
        // Once the connections that were created cannot be read, once the rules.
        for table in ["connection", "rule"] {
            state.rename_table(table, "hidden");
            supervisor.resume_releases().await.unwrap();
            until("no place is left", || supervisor.status("a").is_none()).await;
            assert_eq!(state.releases().unwrap().len(), 1, "{table}");
            assert_eq!(last_action(&state).0, "delete", "{table}");
            state.rename_table("hidden", table);
        }
    }
}
