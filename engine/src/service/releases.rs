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
use super::deletion::{Deleted, give_up, release};
use super::state::{State, StoredRelease};
use super::supervisor::Supervisor;
use crate::config::BackupPlan;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::source::kafka::KafkaCluster;

/// How often, and how many times, a group that has members is tried again: longer than sessions last.
const RETRY: (Duration, u32) = (Duration::from_secs(10), 12);

/// The service ends before a deleted rule has given up what it had.
pub const RELEASE_INTERRUPTED: Code = Code(625);

impl Supervisor {
    /// Gives up what a rule had that was deleted, and writes down what became of it. Nobody may begin a rule of this name meanwhile: the caller has its turn.
    pub(super) async fn release(self: &Arc<Self>, gone: &StoredRelease, plan: Result<BackupPlan, Vec<Error>>) -> Deleted {
        let (deleted, again) = tokio::select! {
            released = release(&gone.rule, plan) => released,
            () = self.ended() => return interrupted(&gone.rule),
        };
        self.note_release(&gone.who, &deleted).await;
        let Some((cluster, plan)) = again else {
            self.forget_release(gone).await;
            return deleted;
        };
        let (this, gone) = (Arc::clone(self), gone.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = this.release_group_later(cluster, plan, &gone) => this.forget_release(&gone).await,
                () = this.ended() => {}
            }
        });
        deleted
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
                let _turn = turn;
                for gone in &all {
                    this.resume(gone).await;
                }
            });
        }
        Ok(())
    }

    async fn resume(self: &Arc<Self>, gone: &StoredRelease) {
        let plan = self.plan(&gone.rule, &gone.body, Vec::new()).await;
        let (is_free, is_new) = self.is_free(&gone.rule, plan.as_ref().ok()).await;
        if is_free {
            let deleted = self.release(gone, plan).await;
            tracing::info!(rule = gone.rule, "went on with a deletion: {} things could not be given up", deleted.left_behind.len());
        } else {
            let mut deleted = Deleted::of(&gone.rule);
            let taken = Error::new(GROUP_TAKEN, ErrorKind::Invalid, "another rule has its name or its consumer group by now");
            deleted.left("its consumer group and the owner records beside its objects", &taken);
            self.note_release(&gone.who, &deleted).await;
            self.forget_release(gone).await;
        }
        if !is_new {
            self.forget_slot(&gone.rule);
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

    /// Tries a group again whose last member's session has not ended yet, unless a rule reads in it by now.
    async fn release_group_later(self: &Arc<Self>, cluster: Arc<KafkaCluster>, plan: BackupPlan, gone: &StoredRelease) {
        let mut deleted = Deleted::default();
        for _ in 0..RETRY.1 {
            tokio::time::sleep(RETRY.0).await;
            let (_slot, _turn) = self.take_turn(&plan.rule).await;
            let (is_free, is_new) = self.is_free(&plan.rule, Some(&plan)).await;
            deleted = Deleted { rule: plan.rule.clone(), ..Deleted::default() };
            let again = is_free && give_up(&mut deleted, &cluster, &plan).await;
            if !is_new {
                // Nobody's: it was made to keep others from beginning.
                self.forget_slot(&plan.rule);
            }
            if !is_free {
                return;
            }
            if !again {
                break;
            }
        }
        // Nobody tries any more. What is still in the way says what can be done.
        self.note_release(&gone.who, &deleted).await;
    }

    /// Whether no rule reads in the group of a rule that was deleted; and whether there is a rule of its name.
    async fn is_free(&self, name: &str, gone: Option<&BackupPlan>) -> (bool, bool) {
        let (Ok(config), Ok(rules)) = (self.config().await, self.state().ask(State::rules).await) else { return (false, true) };
        let is_new = rules.iter().any(|rule| rule.name == name);
        let reads_there = |plan: &BackupPlan| gone.is_some_and(|gone| plan.group == gone.group && plan.kafka.brokers == gone.kafka.brokers);
        let is_free = !is_new && !self.plans_of(&config, rules.iter()).values().any(reads_there);
        (is_free, is_new)
    }
}

/// What whoever has deleted a rule is told when the service ends meanwhile.
fn interrupted(rule: &str) -> Deleted {
    let mut deleted = Deleted::of(rule);
    let why = Error::new(RELEASE_INTERRUPTED, ErrorKind::Retryable, "the service ends").help("its next start goes on with it");
    deleted.left("its consumer group and the owner records beside its objects", &why);
    deleted
}

#[cfg(test)]
mod tests {
    use super::super::state::Origin;
    use super::*;
    use crate::config::Config;

    /// A deletion that waits for a broker which takes connections and never answers.
    async fn begin_to_delete(supervisor: &Arc<Supervisor>) -> tokio::task::JoinHandle<Result<Deleted>> {
        let body = r#"{"source":{"kafka":"k","topics":["t"]},"to":{"store":"s"}}"#.to_owned();
        supervisor.state().ask(move |state| state.create("a", &body, Origin::Api, "me", 1)).await.unwrap();
        let this = Arc::clone(supervisor);
        let deletion = tokio::spawn(async move { this.remove("a", Origin::Api, "me", 2).await });
        while supervisor.state().ask(State::releases).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It is forgotten; now its server is asked.
        tokio::time::sleep(Duration::from_millis(50)).await;
        deletion
    }

    fn supervisor(state: &Arc<State>, config: &str) -> Arc<Supervisor> {
        Supervisor::new(Arc::clone(state), Config::parse(config, "test").unwrap(), "128MiB".parse().unwrap()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_waits_for_no_server_and_the_next_start_goes_on_with_the_deletion() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let config = format!("[kafka.k]\nbrokers = [\"{address}\"]\n[store.s]\nurl = \"file:///nowhere/\"\n");
        let first = supervisor(&state, &config);
        first.start().await.unwrap();
        let deletion = begin_to_delete(&first).await;
        let began = crate::clock::now();
        first.stop().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let told = deletion.await.unwrap().unwrap();
        assert!(told.left_behind[0].why.contains(&RELEASE_INTERRUPTED.to_string()), "{told:?}");
        assert_eq!(state.releases().unwrap().len(), 1, "it is remembered");

        // Where it has read is not known there, so it cannot be given up, and that is written down.
        let second = supervisor(&state, "");
        second.start().await.unwrap();
        // Its place is the last that goes.
        while !state.releases().unwrap().is_empty() || second.status("a").is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let audited = state.audited(Some("a"), i64::MAX, 10).unwrap();
        assert_eq!((audited[0].action.as_str(), audited[0].who.as_str()), ("release", "me"), "{audited:?}");
        second.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rule_that_has_the_name_by_now_keeps_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        for created_ms in [1, 3] {
            state.create("a", "{}", Origin::Api, "me", created_ms).unwrap();
            if created_ms == 1 {
                state.delete("a", Origin::Api, "me", 2).unwrap();
            }
        }
        let supervisor = supervisor(&state, "");
        supervisor.start().await.unwrap();
        while !state.releases().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let audited = state.audited(Some("a"), i64::MAX, 1).unwrap();
        assert!(audited[0].detail.as_ref().is_some_and(|detail| detail.contains(&GROUP_TAKEN.to_string())), "{audited:?}");
        assert!(supervisor.status("a").is_some(), "the new one is there");
        supervisor.stop().await;
    }
}
