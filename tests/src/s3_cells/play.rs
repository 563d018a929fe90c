//! One cell from an empty bucket to the verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use catchment::store::open::OpenOptions;
use catchment::store::{RequestObserver, StoreErrorKind};

use super::cell::Cell;
use super::instance::{End, Instance, Notes};
use super::judge::{Verdict, judge};
use super::scene::{APPENDED, Prelude, Scene, TOPIC};
use super::script::Script;
use crate::gate::Gate;
use crate::generate::Rng;
use crate::s3::{Config, S3Server};
use crate::scripted::clock::FastClock;
use crate::scripted::cluster::ScriptedCluster;
use crate::scripted::group::ScriptedGroup;
use crate::scripted::order::Order;

/// How much faster than in life the engine's own waits pass: seconds become milliseconds.
const CLOCK_FACTOR: u32 = 200;

/// How long a request may go without an answer where the client is to give it up. Real time, since it passes on a socket.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// The same in all other cells: there a request that is given up would be another trouble than the cell's, and a machine that has too much to do would
/// bring it about.
const PATIENCE_ELSEWHERE: Duration = Duration::from_secs(20);

/// How long a cell may take before it counts as stuck.
const CELL_LIMIT: Duration = Duration::from_secs(60);

/// How often a process that stopped is started again. Once must do; one more shows how it goes on.
const STARTS_MAX: usize = 3;

/// Uploads of a dead process are made this much older, beyond the age at which rule R7 takes them for dead.
const ORPHAN_AGE: Duration = Duration::from_secs(3 * 3600);

/// Everything that a cell consists of.
pub(super) struct World {
    pub(super) cell: Cell,
    pub(super) scene: Scene,
    pub(super) server: S3Server,
    pub(super) url: String,
    pub(super) options: OpenOptions,
    pub(super) cluster: Arc<ScriptedCluster>,
    pub(super) group: Arc<ScriptedGroup>,
    pub(super) clock: Arc<FastClock>,
    pub(super) notes: Arc<Notes>,
    pub(super) script: Arc<Script>,
    given_up: Arc<GivenUp>,
}

/// Counts requests of one operation that had no answer in time, or one that made the client ask again.
#[derive(Debug)]
struct GivenUp {
    op: String,
    times: AtomicU64,
}

impl GivenUp {
    fn note(&self, op: &str, is_given_up: bool) {
        self.times.fetch_add(u64::from(is_given_up && op == self.op), Ordering::SeqCst);
    }
}

impl RequestObserver for GivenUp {
    fn request(&self, op: &'static str, code: u16, _: Duration) {
        self.note(op, code == 0);
    }

    fn retry(&self, op: &'static str, _: StoreErrorKind) {
        self.note(op, true);
    }
}

/// What came of a cell.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) verdict: Verdict,
    /// How often the trouble was met.
    pub(super) fired: u64,
    /// How often it was to be met.
    pub(super) due: u64,
    /// How often a client gave up or repeated a request of the operation; none if it need not.
    pub(super) felt: Option<u64>,
    /// Why processes stopped before the end, one by one.
    pub(super) stops: Vec<String>,
    pub(super) elapsed: Duration,
    /// What happened, in the order of the answers; for who looks into a cell.
    pub(super) trace: Vec<String>,
}

/// How lanes tell that they have panicked. One begins again then, and what it stores is right all the same.
const PANICKED: &str = " Panicked(";

/// Plays a cell with the data of `seed`.
///
/// # Errors
/// What kept it from coming to an end.
pub(super) async fn play(cell: Cell, seed: u64) -> Result<Played, String> {
    let began = Instant::now();
    let world = World::new(cell, seed).await?;
    let played = tokio::time::timeout(CELL_LIMIT, world.run()).await;
    world.script.release();
    let ended = match played {
        Ok(ended) => ended,
        Err(_) => Err(format!("not through after {CELL_LIMIT:?}")),
    };
    let stops = ended.map_err(|why| format!("{why}\n{}", world.trace().join("\n")))?;
    world.server.state().quiet().await;
    let mut verdict = judge(&world);
    let trace = world.trace();
    verdict.violations.extend(trace.iter().filter(|line| line.contains(PANICKED)).cloned());
    let (fired, due) = (world.script.fired(), world.script.due());
    let felt = world.script.is_to_be_felt().then(|| world.given_up.times.load(Ordering::SeqCst));
    Ok(Played { verdict, fired, due, felt, stops, elapsed: began.elapsed(), trace })
}

impl World {
    pub(super) async fn new(cell: Cell, seed: u64) -> Result<Self, String> {
        let seed = Rng::of(seed, &cell.to_string(), 0, 0).next_u64();
        let (scene, order) = (Scene::of(&cell), Order::default());
        let server = S3Server::start(config(cell, &order)).await.map_err(|e| format!("no server: {e}"))?;
        let cluster = Arc::new(ScriptedCluster::new(seed));
        cluster.create(TOPIC, i32::try_from(APPENDED.len()).expect("few partitions"), &scene.shape);
        let script = Script::install(&cell, &scene, server.state());
        let mut options = server.options();
        let patience = if script.is_to_be_felt() { PATIENCE } else { PATIENCE_ELSEWHERE };
        (options.request_timeout, options.complete_timeout) = (patience, patience);
        (options.retry.pause_first, options.retry.pause_max) = (Duration::from_millis(1), Duration::from_millis(4));
        let given_up = Arc::new(GivenUp { op: format!("{:?}", cell.op), times: AtomicU64::new(0) });
        options.observer = Some(Arc::clone(&given_up) as Arc<dyn RequestObserver>);
        let world = Self {
            cell,
            scene,
            url: server.url("backup/", ""),
            server,
            options,
            cluster,
            group: ScriptedGroup::new(order),
            clock: Arc::new(FastClock::new(CLOCK_FACTOR, seed)),
            notes: Arc::default(),
            script,
            given_up,
        };
        world.append();
        Ok(world)
    }

    fn append(&self) {
        for (tp, offsets) in self.cluster.partitions(TOPIC).iter().zip(APPENDED) {
            self.cluster.change(tp, |log| log.append(offsets));
        }
    }

    /// Runs processes until one reaches the end. Returns why others stopped before.
    pub(super) async fn run(&self) -> Result<Vec<String>, String> {
        self.prelude().await?;
        self.script.arm();
        let mut stops = Vec::new();
        for _ in 0..STARTS_MAX {
            let (instance, end) = self.process(&Gate::default()).await?;
            match end {
                End::Reached => {
                    instance.stop().await;
                    return Ok(stops);
                }
                End::Stopped(error) => stops.push(error.to_string()),
                End::Dying => return Err("a process died that was not to".to_owned()),
            }
            instance.stop().await;
        }
        Err(format!("stopped {STARTS_MAX} times: {stops:?}"))
    }

    async fn process(&self, dying: &Gate) -> Result<(Instance, End), String> {
        let mut instance = Instance::start(self).await.map_err(|e| format!("no start: {e}"))?;
        let end = instance.run(dying).await;
        Ok((instance, end))
    }

    async fn prelude(&self) -> Result<(), String> {
        let unexpected = |end: &End| Err(format!("the first process ended otherwise: {end:?}"));
        match self.scene.prelude {
            Prelude::None => return Ok(()),
            Prelude::DiesAt(..) => match self.process(&self.script.dying).await? {
                (instance, End::Dying) => {
                    instance.kill();
                    self.outlast_the_dead().await;
                }
                (_, end) => return unexpected(&end),
            },
            Prelude::Finishes { ends } => match self.process(&Gate::default()).await? {
                (instance, End::Reached) if ends => instance.stop().await,
                (instance, End::Reached) => instance.kill(),
                (_, end) => return unexpected(&end),
            },
        }
        if matches!(self.scene.prelude, Prelude::Finishes { .. }) {
            self.group.forget_offsets();
            self.append();
        }
        self.server.state().backdate_uploads(ORPHAN_AGE);
        Ok(())
    }

    /// What the dead process had sent takes effect, but for the requests at which it died.
    async fn outlast_the_dead(&self) {
        while self.server.state().in_progress() > self.script.held() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Requests, commits and what lanes said.
    fn trace(&self) -> Vec<String> {
        let requests = self.server.state().log().into_iter().map(|r| {
            let (part, upload) = (r.part.map_or_else(String::new, |n| format!(" part {n}")), r.upload.unwrap_or_default());
            format!("{:>6} ms {:?} {}{part} {upload} -> {}", r.begun_ms, r.op, r.key, r.status)
        });
        let commits = self
            .group
            .accepted()
            .into_iter()
            .map(|a| format!("commit by {} of {} at {}: {}", a.member, a.tp, a.commit.offset, a.commit.metadata));
        requests.chain(commits).chain(self.notes.take()).collect()
    }
}

fn config(cell: Cell, order: &Order) -> Config {
    let class = cell.service.class();
    let config = Config::new(cell.service.personality()).guards(class, class);
    let short = Duration::from_millis(4);
    Config { part_bytes_min: Some(1), race_window: short, complete_delay: short, order: order.clone(), ..config }
}
