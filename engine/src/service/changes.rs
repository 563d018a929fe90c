//! Changes of rules, whoever asks for them: the API, a file, the console.
//!
//! Place in the flow: checks a change by making the plan of it, has the [state](super::state) write it down, and has the [supervisor](super::supervisor)
//! make it so. What is refused changes nothing; what was written down is made so although whoever asked has gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::definition::{self, Difference, Kind};
use super::observer::Status;
use super::state::{Edit, Origin, State, StoredRule, Wanted, check_origin};
use super::supervisor::Supervisor;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Accept, BackupPlan, Config, Destination, LayoutSettings};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::runtime;
use crate::store::key::TopicName;

/// Another rule writes one of the topics into the same directory.
pub const DIRECTORY_TAKEN: Code = Code(615);

/// Another rule reads in this consumer group.
pub const GROUP_TAKEN: Code = Code(621);

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct By {
    /// The name of a token, or of a file.
    pub who: String,
    /// Where whoever asks may change rules.
    pub origin: Origin,
}

/// What becomes of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Create,
    /// It gets a new version.
    Edit,
    /// It is forgotten.
    Delete,
    /// Nothing.
    Keep,
}

/// What becomes of a rule when a set of rules is applied.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Change {
    /// The rule.
    pub rule: String,
    /// What becomes of it.
    pub action: Action,
    /// What an edit changes.
    pub differences: Vec<Difference>,
}

/// The wall clock, ms since 1970.
pub fn now_ms() -> i64 {
    SystemClock::new().wall_ms()
}

impl Supervisor {
    /// Creates a rule and runs it.
    ///
    /// # Errors
    /// Every problem of the body; `C0601`, `C0603`, `C0615`.
    pub async fn create(self: &Arc<Self>, name: &str, body: &str, by: &By) -> Result<StoredRule, Vec<Error>> {
        let alone = self.writing().await;
        let config = self.config().await?;
        let plans = self.plans_of(&config, self.rules().await?.iter());
        let (body, _) = self.checked(&config, &plans, name, body)?;
        let rule = self.write_new(name, body, by).await?;
        drop(alone);
        self.apply(name, Vec::new(), false).await?;
        Ok(rule)
    }

    async fn write_new(&self, name: &str, body: String, by: &By) -> Result<StoredRule, Vec<Error>> {
        let (new, by, needs) = (name.to_owned(), by.clone(), self.needs_of(&body));
        Ok(self.state().ask(move |state| state.create_naming(&new, &body, &needs, by.origin, &by.who, now_ms())).await?)
    }

    /// Gives a rule a new version, from which on windows are written. The open ones finish under the old one.
    ///
    /// # Errors
    /// Every problem of the body; `C0106` for another group or cluster; `C0601`, `C0602`, `C0604`, `C0614`, `C0615`.
    pub async fn edit(self: &Arc<Self>, name: &str, version: Option<i64>, body: &str, by: &By) -> Result<StoredRule, Vec<Error>> {
        let alone = self.writing().await;
        let before = self.rule(name).await?;
        let config = self.config().await?;
        let plans = self.plans_of(&config, self.rules().await?.iter());
        let (body, plan) = self.checked(&config, &plans, name, body)?;
        self.check_edit(&config, &before, &plan)?;
        let rule = self.write_edit(&config, name, version, body, by).await?;
        drop(alone);
        self.apply(name, Vec::new(), false).await?;
        Ok(rule)
    }

    /// Refuses an edit that would read on elsewhere. What a body names that is not there any more is not known.
    fn check_edit(&self, config: &Config, before: &StoredRule, after: &BackupPlan) -> Result<()> {
        match self.plan_in(config, &before.name, &before.body, Vec::new()) {
            Ok(before) => definition::check_edit(&before, after),
            Err(_) => Ok(()),
        }
    }

    async fn write_edit(&self, config: &Config, name: &str, version: Option<i64>, body: String, by: &By) -> Result<StoredRule, Vec<Error>> {
        let before = self.rule(name).await?;
        let to = |body: &str| self.plan_in(config, name, body, Vec::new()).ok().map(|plan| plan.to);
        let (from, to, needs) = (to(&before.body), to(&body), self.needs_of(&body));
        let (edited, by) = (name.to_owned(), by.clone());
        let rule = self.state().ask(move |state| {
            let leaves = from.zip(to).and_then(|(from, to)| left(&from, &to)).map(|hash| (before.version, hash));
            state.edit_to(&edited, &Edit { version, body: &body, leaves, needs }, by.origin, &by.who, now_ms())
        });
        Ok(rule.await?)
    }

    /// The connections and stores that a body names and no file defines: those that may be gone when it is written down.
    fn needs_of(&self, body: &str) -> Vec<(Kind, String)> {
        let base = self.base();
        let of_no_file = |kind: Kind| {
            let name = kind.names_in(body)?;
            let of_file = match kind {
                Kind::Kafka => base.kafka.contains_key(&name),
                Kind::Store => base.stores.contains_key(&name),
            };
            (!of_file).then_some((kind, name))
        };
        [Kind::Kafka, Kind::Store].into_iter().filter_map(of_no_file).collect()
    }

    /// Gives a rule the body of an earlier version again, as a new one.
    ///
    /// # Errors
    /// As [`edit`](Self::edit); `C0613`.
    pub async fn roll_back(self: &Arc<Self>, name: &str, version: i64, by: &By) -> Result<StoredRule, Vec<Error>> {
        self.rule(name).await?;
        let of = name.to_owned();
        let earlier = self.state().ask(move |state| state.version(&of, version)).await?;
        self.edit(name, None, &earlier.body, by).await
    }

    /// Creates a rule with the body of another one and some keys given anew.
    ///
    /// # Errors
    /// As [`create`](Self::create); `C0602`.
    pub async fn clone_rule(self: &Arc<Self>, name: &str, new: &str, over: Value, by: &By) -> Result<StoredRule, Vec<Error>> {
        let model = self.rule(name).await?;
        // Two rules in one group would share the partitions between them.
        let own = serde_json::json!({ "group": null, "instance_id": null });
        let body = definition::merged(&definition::merged(&model.body, own)?, over)?;
        self.create(new, &body, by).await
    }

    /// Says whether a rule should run. Resumed, one that has failed starts again, and so does one whose lanes ask, with the operator's answers. The audit keeps
    /// both; that one was resumed which runs as it should changes nothing.
    ///
    /// # Errors
    /// `C0601`, `C0602`.
    pub async fn want(self: &Arc<Self>, name: &str, wanted: Wanted, accept: Vec<Accept>, by: &By) -> Result<StoredRule> {
        let is_resumed = wanted == Wanted::Running;
        let is_unwell = |status: Option<Status>| is_resumed && status.is_none_or(|status| !status.is_well());
        // A pause of a paused one changes nothing; one that does not run as it should is started again.
        let anew = is_unwell(self.own_status(name)) || (is_resumed && !accept.is_empty());
        let (of, who, is_mended) = (name.to_owned(), by.who.clone(), is_unwell(self.status(name)));
        let answers: Vec<String> = accept.iter().map(ToString::to_string).collect();
        let rule = self.state().ask(move |state| state.want(&of, wanted, &answers, is_mended, &who, now_ms())).await?;
        if is_resumed {
            self.ask_workers(name, false, &accept).await?;
        }
        self.apply(name, accept, anew).await?;
        Ok(rule)
    }

    /// Closes a rule's open windows now: it ends with them closed, and goes on behind them.
    ///
    /// # Errors
    /// `C0601`, `C0602`.
    pub async fn seal(self: &Arc<Self>, name: &str, by: &By) -> Result<StoredRule> {
        let rule = self.rule(name).await?;
        let (of, who) = (name.to_owned(), by.who.clone());
        self.state().ask(move |state| state.note(&who, "seal", Some(&of), None, now_ms())).await?;
        self.ask_workers(name, true, &[]).await?;
        self.apply(name, Vec::new(), true).await?;
        Ok(rule)
    }

    /// What becomes of each rule of `wanted`, and with `prune` of those of the same origin that are not in it.
    ///
    /// # Errors
    /// Every problem of every body, with its rule; `C0601`.
    pub async fn changes(self: &Arc<Self>, wanted: &BTreeMap<String, String>, prune: bool, by: &By) -> Result<Vec<Change>, Vec<Error>> {
        let config = self.config().await?;
        let standing: BTreeMap<String, StoredRule> = self.rules().await?.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        let gone: Vec<&StoredRule> =
            standing.values().filter(|rule| prune && rule.origin == by.origin && !wanted.contains_key(&rule.name)).collect();
        let mut plans = self.plans_of(&config, standing.values().filter(|rule| gone.iter().all(|gone| gone.name != rule.name)));
        let (mut changes, mut problems) = (Vec::new(), Vec::new());
        for (name, body) in wanted {
            match self.change_of(&config, &mut plans, (name, body), standing.get(name), by) {
                Ok(change) => changes.push(change),
                Err(found) => problems.extend(found.into_iter().map(|e| e.with("rule", name))),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        changes.extend(gone.into_iter().map(|rule| Change { rule: rule.name.clone(), action: Action::Delete, differences: Vec::new() }));
        Ok(changes)
    }

    /// Leaves the new plan among `plans`, so that rules that are applied together are held against each other, too.
    fn change_of(
        &self,
        config: &Config,
        plans: &mut BTreeMap<String, BackupPlan>,
        (name, body): (&str, &str),
        standing: Option<&StoredRule>,
        by: &By,
    ) -> Result<Change, Vec<Error>> {
        let (body, plan) = self.checked(config, plans, name, body)?;
        if let Some(standing) = standing {
            check_origin(standing, by.origin)?;
            self.check_edit(config, standing, &plan)?;
        }
        plans.insert(name.to_owned(), plan);
        let differences = definition::differences(standing.map_or("{}", |standing| &standing.body), &body);
        let action = match standing {
            None => Action::Create,
            Some(standing) if differences.is_empty() && standing.origin == by.origin => Action::Keep,
            Some(_) => Action::Edit,
        };
        Ok(Change { rule: name.to_owned(), action, differences })
    }

    /// Makes the rules what `wanted` says. What was planned is done rule by rule: a refusal in between leaves those before it done.
    ///
    /// # Errors
    /// As [`changes`](Self::changes), then nothing is done; and as the single changes.
    pub async fn make_so(self: &Arc<Self>, wanted: &BTreeMap<String, String>, prune: bool, by: &By) -> Result<Vec<Change>, Vec<Error>> {
        let alone = self.writing().await;
        let (changes, config) = (self.changes(wanted, prune, by).await?, self.config().await?);
        let (mut written, mut problems) = (Vec::new(), Vec::new());
        for change in &changes {
            if let Err(found) = self.write_down(&config, change, wanted.get(&change.rule), by).await {
                problems.extend(found);
                break;
            }
            written.push(change);
        }
        // From here on it takes as long as a rule takes to end. What is written down is made so, whatever becomes of another one.
        drop(alone);
        for change in written {
            let done = match change.action {
                Action::Create | Action::Edit => self.apply(&change.rule, Vec::new(), false).await,
                Action::Delete => self.remove(&change.rule, by.origin, &by.who, now_ms()).await.map(drop),
                Action::Keep => Ok(()),
            };
            problems.extend(done.err());
        }
        if problems.is_empty() { Ok(changes) } else { Err(problems) }
    }

    async fn write_down(&self, config: &Config, change: &Change, body: Option<&String>, by: &By) -> Result<(), Vec<Error>> {
        match (change.action, body) {
            (Action::Create, Some(body)) => self.write_new(&change.rule, definition::resolved(config, body)?, by).await.map(drop),
            (Action::Edit, Some(body)) => {
                self.write_edit(config, &change.rule, None, definition::resolved(config, body)?, by).await.map(drop)
            }
            (Action::Delete | Action::Keep | Action::Create | Action::Edit, _) => Ok(()),
        }
    }

    /// A body as it is kept, and its plan, after a look at what other rules write.
    fn checked(
        &self,
        config: &Config,
        plans: &BTreeMap<String, BackupPlan>,
        name: &str,
        body: &str,
    ) -> Result<(String, BackupPlan), Vec<Error>> {
        let body = definition::resolved(config, body)?;
        let plan = self.plan_in(config, name, &body, Vec::new())?;
        for (_, other) in plans.iter().filter(|(other, _)| *other != name) {
            check_directories(&plan, other)?;
            check_groups(&plan, other)?;
        }
        Ok((body, plan))
    }

    /// The plans of rules as they stand. One that cannot be made any more does not run, and is left out.
    pub(super) fn plans_of<'a>(&self, config: &Config, rules: impl Iterator<Item = &'a StoredRule>) -> BTreeMap<String, BackupPlan> {
        rules.filter_map(|rule| Some((rule.name.clone(), self.plan_in(config, &rule.name, &rule.body, Vec::new()).ok()?))).collect()
    }

    /// Makes the rules of files what the files say, each as far as it can be: one that is refused stays as it is, and is named. With `complete`, those that
    /// no file has any more become orphans.
    pub async fn follow_files(self: &Arc<Self>, rules: &BTreeMap<String, String>, complete: bool, by: &By) -> Vec<Error> {
        let mut problems = Vec::new();
        for (name, body) in rules {
            let made = match self.rule(name).await {
                Ok(standing) if standing.body == *body && standing.origin == by.origin => continue,
                Ok(_) => self.edit(name, None, body, by).await.map(drop),
                Err(_) => self.create(name, body, by).await.map(drop),
            };
            problems.extend(made.err().into_iter().flatten().map(|e| e.with("rule", name)));
        }
        let gone = self.rules().await.unwrap_or_default().into_iter().filter(|rule| complete && rule.origin == by.origin);
        for rule in gone.filter(|rule| !rules.contains_key(&rule.name)) {
            problems.extend(self.orphan(&rule.name, by).await.err());
        }
        problems
    }

    async fn orphan(self: &Arc<Self>, name: &str, by: &By) -> Result<()> {
        let (of, who) = (name.to_owned(), by.who.clone());
        self.state().ask(move |state| state.orphan(&of, &who, now_ms())).await?;
        self.apply(name, Vec::new(), false).await
    }

    pub(super) async fn rule(&self, name: &str) -> Result<StoredRule> {
        let name = name.to_owned();
        self.state().ask(move |state| state.rule(&name)).await
    }

    pub(super) async fn rules(&self) -> Result<Vec<StoredRule>> {
        self.state().ask(State::rules).await
    }
}

/// Refuses a rule that reads in another one's group: the two would share the partitions between them.
fn check_groups(plan: &BackupPlan, other: &BackupPlan) -> Result<()> {
    if plan.group != other.group || plan.kafka.brokers != other.kafka.brokers {
        return Ok(());
    }
    Err(Error::new(GROUP_TAKEN, ErrorKind::Invalid, "another rule has this consumer group")
        .with("group", &plan.group)
        .with("owner", &other.rule)
        .help("leave the group out, and the rule gets one of its own"))
}

/// The hash of `from`, if it is another destination than `to`. One that cannot be named now is not left on purpose: lanes that stand there ask.
fn left(from: &Destination, to: &Destination) -> Option<String> {
    let from = runtime::destination_hash(from).ok()?;
    (runtime::destination_hash(to).ok()? != from).then_some(from)
}

/// Refuses a rule that writes a topic where another one does, however the place and the layout are spelt. Topics that expressions of both rules match are claimed when they
/// are met, and refused then.
fn check_directories(plan: &BackupPlan, other: &BackupPlan) -> Result<()> {
    let (mine, theirs) = (directories(plan, other), directories(other, plan));
    let is_taken = |directory: &str| {
        // A prefix of one may stand in the template of the other. Only then is it asked what the places really are.
        let alike: Vec<&str> = theirs.iter().map(|(_, theirs)| theirs.as_str()).filter(|theirs| are_alike(theirs, directory)).collect();
        let place = (!alike.is_empty()).then(|| path_in(&plan.to, directory));
        place.is_some_and(|place| alike.iter().any(|theirs| path_in(&other.to, theirs) == place))
    };
    let Some((topic, _)) = mine.into_iter().find(|(_, directory)| is_taken(directory)) else { return Ok(()) };
    Err(Error::new(DIRECTORY_TAKEN, ErrorKind::Invalid, "another rule writes this topic into the same directory")
        .with("topic", topic)
        .with("owner", &other.rule)
        .help("give this rule another prefix, or edit that one"))
}

/// The topics of a plan that `other` may write, too, each with its directory below the plan's prefix: those of both, and all where a layout names the directory.
fn directories<'a>(plan: &'a BackupPlan, other: &'a BackupPlan) -> Vec<(&'a str, String)> {
    let is_fixed = |plan: &BackupPlan| matches!(plan.to.layout, LayoutSettings::Tencent { topic_id: Some(_), .. });
    let any = is_fixed(plan) || is_fixed(other);
    let topics = plan.topics.iter().chain(&other.topics).filter(|topic| !topic.starts_with('^'));
    let both = topics.filter(|topic| reads(plan, topic) && (any || reads(other, topic)));
    let Some(layout) = both.clone().next().and_then(|_| plan.to.layout.to_layout().ok()) else { return Vec::new() };
    both.map(|topic| (topic.as_str(), layout.topic_directory(&TopicName::new(topic)))).collect()
}

/// Whether a plan reads a topic, by its name or by an expression.
fn reads(plan: &BackupPlan, topic: &str) -> bool {
    plan.topics.iter().any(|of| match of.strip_prefix('^') {
        Some(_) => regex::Regex::new(of).is_ok_and(|of| of.is_match(topic)),
        None => of == topic,
    })
}

/// Whether two directories can be one below two prefixes.
fn are_alike(one: &str, other: &str) -> bool {
    one.ends_with(other) || other.ends_with(one)
}

/// A directory of a destination as a text that is equal for equal ones.
fn path_in(to: &Destination, directory: &str) -> String {
    format!("{}/{directory}", runtime::place_of(to).trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::super::observer::RuleState;
    use super::*;
    use crate::config::RunOptions;

    fn plan(name: &str, body: &Value) -> BackupPlan {
        let base = Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///x/\"\n", "base").unwrap();
        definition::plan(&base, name, &body.to_string(), "128MiB".parse().unwrap(), RunOptions::default()).unwrap()
    }

    #[test]
    fn two_rules_never_share_a_topics_directory_or_a_group() {
        let of = |name: &str, topics: &[&str], prefix: &str| {
            plan(name, &serde_json::json!({ "source": { "topics": topics }, "to": { "prefix": prefix } }))
        };
        let standing = of("a", &["orders", "clicks"], "x/");
        let code = |plan: &BackupPlan| check_directories(plan, &standing).err().map(|e| e.code);
        assert_eq!(code(&of("b", &["clicks"], "x")), Some(DIRECTORY_TAKEN), "a prefix is the same with and without its slash");
        assert_eq!(code(&of("b", &["clicks"], "y/")), None);
        assert_eq!(code(&of("b", &["views"], "x/")), None);
        assert_eq!(code(&of("b", &["^cl.*"], "x/")), Some(DIRECTORY_TAKEN), "the expression matches a topic that the other one names");
        assert_eq!(code(&of("b", &["^v.*"], "x/")), None, "not known before it is met");
        let elsewhere = definition::plan(
            &Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///./x//x\"\n", "base").unwrap(),
            "b",
            &serde_json::json!({ "source": { "topics": ["clicks"] } }).to_string(),
            "128MiB".parse().unwrap(),
            RunOptions::default(),
        );
        assert_eq!(code(&elsewhere.unwrap()), Some(DIRECTORY_TAKEN), "another spelling of the same directory");
        let below = |name: &str, to: Value| plan(name, &serde_json::json!({ "source": { "topics": ["clicks"] }, "to": to }));
        let template = |text: &str| below("b", serde_json::json!({ "path": text }));
        assert_eq!(
            code(&template("x/{topic}/p{partition}")),
            Some(DIRECTORY_TAKEN),
            "the prefix of one stands in the template of the other"
        );
        assert_eq!(code(&template("y/{topic}/p{partition}")), None);
        assert_eq!(code(&below("b", serde_json::json!({ "prefix": "x/", "layout": "confluent" }))), None, "a directory of its own");
        let grouped = |group: &str| plan("b", &serde_json::json!({ "source": { "topics": ["t"] }, "group": group }));
        assert_eq!(check_groups(&grouped("catchment-a"), &standing).unwrap_err().code, GROUP_TAKEN);
        check_groups(&grouped("another"), &standing).unwrap();
    }

    #[tokio::test]
    async fn of_two_changes_at_once_that_would_share_a_directory_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.db")).unwrap();
        let base = Config::parse("[kafka.k]\nbrokers = [\"h:1\"]\n[store.s]\nurl = \"file:///x/\"\n", "base").unwrap();
        let service = Supervisor::new(Arc::new(state), base, "128MiB".parse().unwrap()).unwrap();
        let by = By { who: "me".to_owned(), origin: Origin::Api };
        let body = |prefix: &str| serde_json::json!({ "source": { "topics": ["t"] }, "to": { "prefix": prefix } }).to_string();
        let (shared, own) = (body("shared/"), body("own/"));
        let (one, other) = tokio::join!(service.create("one", &shared, &by), service.create("other", &shared, &by));
        let refused: Vec<_> = [one, other].into_iter().filter_map(Result::err).map(|problems| problems[0].code).collect();
        assert_eq!(refused, [DIRECTORY_TAKEN]);
        service.create("third", &own, &by).await.unwrap();
        let (edited, set) = (body("place/"), BTreeMap::from([("fourth".to_owned(), body("place/"))]));
        let (edit, applied) = tokio::join!(service.edit("third", None, &edited, &by), service.make_so(&set, false, &by));
        assert!(edit.is_ok() != applied.is_ok(), "{edit:?} {applied:?}");
    }

    #[tokio::test]
    async fn a_resumption_without_an_answer_stands_in_the_audit_if_the_rule_did_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.db")).unwrap());
        let service = Supervisor::new(Arc::clone(&state), Config::default(), "128MiB".parse().unwrap()).unwrap();
        let by = By { who: "me".to_owned(), origin: Origin::Api };
        // What it names is not there.
        state.create("r", r#"{"source":{"kafka":"gone","topics":["t"]},"to":{"store":"gone"}}"#, Origin::Api, "you", 1).unwrap();
        service.start().await.unwrap();
        assert!(service.status("r").is_some_and(|status| status.state == RuleState::Failed));
        let said = || {
            let audited = state.audited(Some("r"), i64::MAX, 9).unwrap();
            audited.into_iter().map(|entry| (entry.who, entry.action, entry.detail)).collect::<Vec<_>>()
        };
        service.want("r", Wanted::Running, Vec::new(), &by).await.unwrap();
        assert_eq!(said()[0], ("me".to_owned(), "resume".to_owned(), None));
        service.want("r", Wanted::Paused, Vec::new(), &by).await.unwrap();
        service.want("r", Wanted::Paused, Vec::new(), &by).await.unwrap();
        let actions: Vec<String> = said().into_iter().map(|(_, action, _)| action).collect();
        assert_eq!(actions, ["pause", "resume", "create"], "a pause of a paused one is no change");
        service.stop().await;
    }

    #[test]
    fn an_edit_leaves_a_destination_only_if_it_writes_elsewhere() {
        let of = |prefix: &str, layout: &str| {
            plan("a", &serde_json::json!({ "source": { "topics": ["t"] }, "to": { "prefix": prefix, "layout": layout } })).to
        };
        let hash = |to: &Destination| runtime::destination_hash(to).unwrap();
        let (one, other) = (of("x/", "hive"), of("y/", "hive"));
        assert_eq!(left(&one, &one), None);
        assert_eq!(left(&one, &other), Some(hash(&one)));
        assert_eq!(left(&one, &of("x/", "confluent")), Some(hash(&one)), "a layout is a destination, too");
    }
}
