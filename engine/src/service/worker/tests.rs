//! A worker against a server in the same process, whose answers get lost.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::super::changes::By;
use super::super::observer::RuleState;
use super::super::state::{Entry, LogLine, Wanted};
use super::*;
use crate::config::Config;
use crate::error::{Error, codes};

const FILE: &str = "[kafka.k]\nbrokers = [\"127.0.0.1:1\"]\n[store.s]\nurl = \"file:///nowhere/\"\n";

/// A server that works, but for the next few answers.
#[derive(Clone, Debug)]
struct Direct {
    server: Arc<Supervisor>,
    /// Answers that get lost: what was asked is done.
    lost: Arc<AtomicUsize>,
    /// Set while calls do not even arrive.
    away: Arc<AtomicUsize>,
}

impl Direct {
    fn fails(counter: &AtomicUsize) -> Result<()> {
        match counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) {
            Ok(_) => Err(Error::new(codes::PART_ENDED, ErrorKind::Unreachable, "no answer")),
            Err(_) => Ok(()),
        }
    }
}

impl Server for Direct {
    async fn meet(&self, worker: &str, contact: &Contact) -> Result<Orders> {
        Self::fails(&self.away)?;
        let orders = self.server.meet(worker, contact.clone()).await?;
        Self::fails(&self.lost)?;
        Ok(orders)
    }

    async fn report(&self, worker: &str, delivery: &Delivery) -> Result<Delivered> {
        Self::fails(&self.away)?;
        let delivered = self.server.take_reports(worker, delivery.clone()).await?;
        Self::fails(&self.lost)?;
        Ok(delivered)
    }
}

struct Scene {
    dir: tempfile::TempDir,
    link: Direct,
    worker: Worker<Direct>,
}

fn supervisor(state: State, base: Config) -> Arc<Supervisor> {
    Supervisor::new(Arc::new(state), base, "128MiB".parse().unwrap()).unwrap()
}

fn by() -> By {
    By { who: "me".to_owned(), origin: Origin::Api }
}

/// A worker whose rules are kept and not run.
fn worker_in(dir: &tempfile::TempDir, link: &Direct, name: &str) -> Worker<Direct> {
    let supervisor = supervisor(State::open_of_worker(&dir.path().join(format!("{name}.db"))).unwrap(), Config::default());
    let state = Arc::clone(supervisor.state());
    Worker::new(name.to_owned(), state, supervisor, link.clone()).unwrap()
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let server = supervisor(State::open(&dir.path().join("state.db")).unwrap(), Config::parse(FILE, "test").unwrap());
    let link = Direct { server, lost: Arc::default(), away: Arc::default() };
    let worker = worker_in(&dir, &link, "one");
    Scene { dir, link, worker }
}

impl Scene {
    async fn create(&self, name: &str) {
        let body = json!({ "source": { "topics": [name] } }).to_string();
        self.link.server.create(name, &body, &by()).await.unwrap();
    }

    fn known(&self) -> BTreeMap<String, Taken> {
        self.worker.state.taken().unwrap()
    }

    fn report(&self, texts: std::ops::Range<i64>) {
        let line = |n: i64| {
            let text = n.to_string();
            Entry::Line(
                "a".into(),
                LogLine { id: 0, at_ms: 1, level: "info".into(), topic: None, partition: None, code: None, text, worker: None },
            )
        };
        self.worker.state.write(&texts.map(line).collect::<Vec<_>>()).unwrap();
    }

    fn logged(&self) -> Vec<i64> {
        let lines = self.link.server.state().log("a", Some(0), 10_000).unwrap();
        lines.into_iter().filter(|line| line.worker.as_deref() == Some("one")).map(|line| line.text.parse().unwrap()).collect()
    }
}

fn change(rule: &str) -> Change {
    Change { rule: rule.to_owned(), anew: false, resumed: false, accept: Vec::new() }
}

#[tokio::test]
async fn what_the_server_keeps_is_what_a_worker_knows() {
    let mut scene = scene();
    scene.create("a").await;
    scene.create("b").await;
    assert_eq!(scene.worker.join().await.unwrap(), [change("a"), change("b")]);
    assert_eq!(scene.worker.ask().await.unwrap(), [], "nothing has changed");
    let plan = scene.worker.supervisor.plan_of_rule("a").await.unwrap();
    assert_eq!((plan.kafka.brokers, plan.to.store.url.as_str()), (vec!["127.0.0.1:1".to_owned()], "file:///nowhere/"));
    scene.link.server.want("a", Wanted::Paused, Vec::new(), &by()).await.unwrap();
    scene.link.server.remove("b", Origin::Api, "me", 1).await.unwrap();
    assert_eq!(scene.worker.ask().await.unwrap(), [change("b"), change("a")]);
    assert_eq!(scene.known().into_values().map(|taken| taken.rule.runs()).collect::<Vec<_>>(), [Wanted::Paused]);
    let edited = json!({ "source": { "topics": ["a"] }, "to": { "prefix": "elsewhere/" } }).to_string();
    scene.link.server.edit("a", None, &edited, &by()).await.unwrap();
    scene.worker.ask().await.unwrap();
    let known = scene.known().remove("a").unwrap();
    assert_eq!((known.rule.version, known.moved_from.len()), (2, 1));
}

#[tokio::test]
async fn a_seal_and_an_answer_are_heard_once_by_each_worker() {
    let mut scene = scene();
    scene.create("a").await;
    scene.link.server.seal("a", &by()).await.unwrap();
    assert_eq!(scene.worker.join().await.unwrap(), [change("a")], "that was before its time");
    scene.link.server.seal("a", &by()).await.unwrap();
    assert_eq!(scene.worker.ask().await.unwrap(), [Change { anew: true, ..change("a") }]);
    assert_eq!(scene.worker.ask().await.unwrap(), []);
    scene.link.server.want("a", Wanted::Running, vec![Accept::Truncation], &by()).await.unwrap();
    let answered = Change { resumed: true, accept: vec![Accept::Truncation], ..change("a") };
    assert_eq!(scene.worker.ask().await.unwrap(), [answered]);
    assert_eq!(scene.worker.ask().await.unwrap(), []);
}

#[tokio::test]
async fn of_two_requests_between_two_contacts_neither_hides_the_other() {
    let mut scene = scene();
    scene.create("a").await;
    scene.worker.join().await.unwrap();
    scene.link.server.seal("a", &by()).await.unwrap();
    scene.link.server.want("a", Wanted::Running, vec![Accept::Truncation], &by()).await.unwrap();
    scene.link.server.seal("a", &by()).await.unwrap();
    let both = Change { anew: true, resumed: true, accept: vec![Accept::Truncation], ..change("a") };
    assert_eq!(scene.worker.ask().await.unwrap(), [both]);
    assert_eq!(scene.worker.ask().await.unwrap(), []);
}

#[tokio::test]
async fn another_rule_of_a_name_is_another_rule() {
    let mut scene = scene();
    scene.create("a").await;
    scene.worker.join().await.unwrap();
    let mut order =
        scene.link.server.meet("two", Contact { id: "2".into(), revision: None, rules: BTreeMap::new() }).await.unwrap().set.unwrap();
    order.rules[0].created_ms += 1;
    assert_eq!(changes(&scene.known(), &order.rules), [Change { anew: true, ..change("a") }]);
}

#[tokio::test]
async fn each_report_is_delivered_once_and_in_order_over_lost_answers_and_a_server_that_is_away() {
    let mut scene = scene();
    scene.create("a").await;
    scene.worker.join().await.unwrap();
    scene.report(0..700);
    scene.link.lost.store(3, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(scene.worker.deliver().await.is_err());
    }
    scene.link.away.store(1, Ordering::Relaxed);
    scene.report(700..1_200);
    assert!(scene.worker.deliver().await.is_err());
    scene.worker.deliver().await.unwrap();
    assert_eq!(scene.logged(), (0..1_200).collect::<Vec<_>>());
    assert_eq!(scene.worker.state.undelivered(usize::MAX, 1).unwrap(), []);
}

#[tokio::test]
async fn a_worker_that_restarts_while_the_server_is_away_knows_its_rules_and_what_it_has_to_report() {
    let mut scene = scene();
    scene.create("a").await;
    scene.worker.join().await.unwrap();
    scene.report(0..3);
    let id = scene.worker.id.clone();
    // The state is one process's at a time: the first worker must be gone, with its journal's thread.
    let gone = Arc::downgrade(&scene.worker.state);
    let Scene { dir, link, worker } = scene;
    drop(worker);
    for _ in 0..500 {
        if gone.strong_count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let worker = worker_in(&dir, &link, "one");
    let mut scene = Scene { dir, link, worker };
    scene.link.away.store(1, Ordering::Relaxed);
    assert_eq!(scene.worker.join().await.unwrap(), [], "the server is away");
    assert_eq!((scene.worker.id.as_str(), scene.known().len()), (id.as_str(), 1));
    scene.worker.ask().await.unwrap();
    scene.worker.deliver().await.unwrap();
    assert_eq!(scene.logged(), [0, 1, 2]);
}

#[tokio::test]
async fn two_workers_of_one_name_are_told_apart() {
    let mut scene = scene();
    scene.worker.join().await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut second = worker_in(&other, &scene.link, "one");
    assert_eq!(second.join().await.unwrap_err().code, super::super::workers::WORKER_NAME_TAKEN);
}

#[test]
fn what_is_said_fits_into_a_call() {
    let status = |n: usize| {
        let mut status = Status::new(RuleState::Failed, 1);
        (status.reason, status.help) = (Some("x".repeat(REASON_MAX + n % 2)), Some("y".repeat(500)));
        (format!("rule-{n}"), status)
    };
    let said = said((0..1_000).map(status).collect(), 1);
    assert_eq!(said["rule-1"].reason.as_deref(), Some("see its log"), "it is too long");
    assert!(said["rule-0"].reason.as_ref().is_some_and(|reason| reason.len() == REASON_MAX));
    let bytes = serde_json::to_string(&said).unwrap().len();
    assert!(bytes < 1 << 20, "{bytes} bytes");
}
