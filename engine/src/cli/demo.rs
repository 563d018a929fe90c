//! `catchment demo`: the whole job in half a minute, without a broker, a cloud or a config.
//!
//! A broker inside this process takes live records; a worker, which is a process of its own, backs them up into a local
//! directory. When a window of the worker is pinned and not yet published, the demo kills it with SIGKILL, starts another one, and in the
//! end verifies that every record is there exactly once.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::backup::{BackupArgs, run_with_store};
use super::held::HeldStore;
use super::progress::Manner;
use super::{Outcome, verify};
use crate::clock::{Clock, SystemClock};
use crate::config::Span;
use crate::error::{Error, ErrorKind, Result, codes};
use crate::source::kafka::practice::PracticeBroker;
use crate::store::url::of_path;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;

/// Length of a window. Short, so that some are seen.
const WINDOW: &str = "2s";

/// Records a second. Enough to look alive; the practice broker keeps only a few megabytes.
const RATE: u64 = 2_000;

/// How often records are sent and the worker is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long the worker may take to pin a window, or to finish, before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Flags of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Where the objects go; without it a new directory below the system's temporary one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// How long records are produced
    #[arg(long, value_name = "DUR", default_value = "12s")]
    pub duration: Span,
    /// Do not kill the worker half-way
    #[arg(long)]
    pub no_kill: bool,
}

/// Flags of the demo's worker: those of `backup`, and when to hold.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    #[command(flatten)]
    backup: BackupArgs,
    /// Publish some windows, then make this file and hold the next one between its pin and its publishing
    #[arg(long, value_name = "FILE")]
    hold: Option<PathBuf>,
}

/// Runs the demo.
pub(super) fn main(args: DemoArgs) -> Outcome {
    let made = Directory::make(args.dir.clone())?;
    let outcome = Demo::start(&args, made.path()).and_then(|demo| demo.play(&args));
    if outcome.is_ok() {
        made.keep();
    }
    outcome
}

/// Runs the demo's worker.
pub(super) fn worker(args: WorkerArgs, manner: Manner) -> Outcome {
    let plan = args.backup.into_plan()?;
    run_with_store(plan, manner, move |store| match args.hold {
        Some(file) => Arc::new(HeldStore::new(store, file)),
        None => store,
    })
}

/// The demo's directory: removed again if the demo was given none and did not get to its end.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn make(wanted: Option<PathBuf>) -> Result<Self> {
        let temporary = wanted.is_none();
        let path = wanted.unwrap_or_else(|| std::env::temp_dir().join(format!("catchment-demo-{}", std::process::id())));
        let failed = |e| {
            Error::new(codes::DEMO, ErrorKind::Invalid, "the demo's directory cannot be made")
                .with("dir", path.display())
                .because(e)
                .help("name another one: catchment demo --dir DIR")
        };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        Ok(Self { path, temporary })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn keep(mut self) {
        self.temporary = false;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing depends on it being gone.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A worker process; ends with the demo.
struct Worker(Child);

impl Worker {
    fn end(mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        self.0.wait().map_err(worker_failed)?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Demo {
    broker: PracticeBroker,
    clock: SystemClock,
    data: PathBuf,
    hold: PathBuf,
    interrupted: Arc<std::sync::atomic::AtomicBool>,
}

impl Demo {
    fn start(args: &DemoArgs, dir: &Path) -> std::result::Result<Self, Vec<Error>> {
        let broker = PracticeBroker::start(TOPIC, PARTITIONS)?;
        say(&format!(
            "a practice broker runs at {}; {RATE} records a second go into the topic {TOPIC} for {}",
            broker.address(),
            args.duration
        ));
        let interrupted = Arc::default();
        watch_interrupt(&interrupted)?;
        Ok(Self { broker, clock: SystemClock::new(), data: dir.join("backup"), hold: dir.join("held"), interrupted })
    }

    fn play(mut self, args: &DemoArgs) -> Outcome {
        let began = self.clock.steady();
        let mut worker = self.start_worker(!args.no_kill, false)?;
        let mut killed = args.no_kill;
        while self.clock.steady().saturating_sub(began) < args.duration.to_duration() || !killed {
            if self.clock.steady().saturating_sub(began) > args.duration.to_duration() + PATIENCE {
                return Err(gave_up("no window was pinned in time").into());
            }
            if !killed && self.hold.exists() {
                say("a window is pinned in the consumer group and not published yet: SIGKILL to the worker, now");
                drop(worker);
                let _ = std::fs::remove_file(&self.hold);
                say("a new worker takes over: it finds the pin, and finishes exactly that window first");
                worker = self.start_worker(false, false)?;
                killed = true;
            }
            self.broker.send(RATE * u64::try_from(TICK.as_millis()).unwrap_or(1) / 1000, self.clock.wall_ms())?;
            self.pause()?;
        }
        self.broker.flush()?;
        worker.end()?;
        self.finish()?;
        self.verify()
    }

    fn pause(&self) -> Result<()> {
        std::thread::park_timeout(TICK);
        if self.interrupted.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::new(codes::DEMO, ErrorKind::Retryable, "interrupted; everything was cleaned up"));
        }
        Ok(())
    }

    fn start_worker(&self, hold: bool, until_end: bool) -> Result<Worker> {
        let program = std::env::current_exe().map_err(worker_failed)?;
        let mut command = Command::new(program);
        command.args(["demo-worker", TOPIC, "--rule", "demo", "--window", WINDOW, "--brokers", &self.broker.address()]);
        command.args(["--to", &of_path(&self.data)]);
        command.args(["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500", "--color", "never", "-q"]);
        if hold {
            command.arg("--hold").arg(&self.hold);
        }
        if until_end {
            command.arg("--until-end");
        }
        Ok(Worker(command.stdin(Stdio::null()).spawn().map_err(worker_failed)?))
    }

    /// A last worker that ends by itself once everything is committed.
    fn finish(&self) -> Result<()> {
        let mut worker = self.start_worker(false, true)?;
        let began = self.clock.steady();
        let status = loop {
            if let Some(status) = worker.0.try_wait().map_err(worker_failed)? {
                break status;
            }
            if self.clock.steady().saturating_sub(began) > PATIENCE {
                return Err(gave_up("the backup did not reach its end in time"));
            }
            self.pause()?;
        };
        if status.success() { Ok(()) } else { Err(gave_up(&format!("the last worker ended with {status}"))) }
    }

    fn verify(&self) -> Outcome {
        let url = of_path(&self.data);
        say(&format!("{} records were sent; reading everything back and comparing it with the broker:", self.broker.sent()));
        let report = verify::run(&verify::VerifyArgs::of(&url, &self.broker.address()))?;
        let code = verify::verdict(&report)?;
        if report.records != self.broker.sent() {
            return Err(gave_up(&format!("{} records are stored", report.records)).into());
        }
        if code == ExitCode::SUCCESS {
            say("query it, if you have DuckDB:");
            println!(
                "  duckdb -c \"select kafka_partition, count(*), min(kafka_offset), max(kafka_offset) from read_parquet('{}/{TOPIC}/**/*.parquet') group by all order by 1\"",
                self.data.display()
            );
        }
        Ok(code)
    }
}

/// Sets the flag at the first SIGINT or SIGTERM: the demo then ends by its own hand, and with it its worker and its directory.
fn watch_interrupt(flag: &Arc<std::sync::atomic::AtomicBool>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| Error::new(codes::DEMO, ErrorKind::Retryable, "signals cannot be handled").because(e);
    let flag = Arc::clone(flag);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut term, mut int) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?)
    };
    let watcher = std::thread::Builder::new().name("interrupt".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
    watcher.map(drop).map_err(failed)
}

fn say(text: &str) {
    eprintln!("demo: {text}");
}

fn worker_failed(e: std::io::Error) -> Error {
    Error::new(codes::DEMO, ErrorKind::Retryable, "the demo's worker cannot be run").because(e)
}

fn gave_up(why: &str) -> Error {
    Error::new(codes::DEMO, ErrorKind::Retryable, "the demo did not get to its end").because(why).help("run it again with -v")
}
