//! The engine's CPU time on a real topic and store, beside the bare drain's and the floor's, in turn; verified after each round.
//!
//! `versus_drain -b HOST:PORT --to URL [--topic T] [--bytes N] [--mib N] [--codec C] [--format parquet|raw] [--rounds N]`. The topic is filled if it
//! is not named (name it to use one again). Store credentials and endpoint come by the usual variables. The engine's binary is
//! `CATCHMENT_BIN` or `catchment` beside this one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use catchment_benches::cost::{self, Cost};
use catchment_benches::drain;
use catchment_benches::floor::Floor;
use catchment_loadtest::fill;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is measured.
struct Bench {
    brokers: String,
    to: String,
    topic: String,
    format: String,
    bytes: usize,
    gib: f64,
}

/// What one round cost.
struct Round {
    engine: Cost,
    drain: Cost,
    floor_s_per_gib: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, brokers, topic] = &arguments[..]
        && verb == "drain"
    {
        println!("{}", drain::drain(brokers, topic).records);
        return;
    }
    let options: HashMap<&str, &str> = arguments.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let get = |name: &str, default: &str| options.get(name).copied().unwrap_or(default).to_owned();
    let number = |name: &str, default: &str| get(name, default).parse::<u64>().expect("a number");
    let (bytes, mib, rounds) = (number("--bytes", "1024"), number("--mib", "2048"), number("--rounds", "3"));
    let (brokers, bytes) = (get("-b", "127.0.0.1:9092"), usize::try_from(bytes).expect("a size"));
    let topic = options.get("--topic").map_or_else(
        || {
            let topic = format!("bench-{bytes}-{}", std::process::id());
            let records = fill(&brokers, &topic, bytes, mib, &get("--codec", "none"));
            println!("filled {topic} with {records} records");
            topic
        },
        |topic| (*topic).to_owned(),
    );
    let bench = Bench { brokers, to: get("--to", ""), topic, format: get("--format", "parquet"), bytes, gib: mib as f64 / 1024.0 };
    assert!(!bench.to.is_empty(), "name a store with --to");
    bench.print((1..=rounds).map(|round| bench.round(round)));
}

impl Bench {
    fn print(&self, rounds: impl Iterator<Item = Round>) {
        println!("CPU-s/GiB   engine  drain  floor  engine/drain  engine/floor  engine peak MiB  drain peak MiB");
        let (mut to_drain, mut to_floor) = (Vec::new(), Vec::new());
        for Round { engine, drain, floor_s_per_gib: floor } in rounds {
            let (e, d) = (engine.cpu_s / self.gib, drain.cpu_s / self.gib);
            to_drain.push(e / d);
            to_floor.push(e / floor);
            println!(
                "{:>9} {e:8.2} {d:6.2} {floor:6.2} {:13.2} {:13.2} {:16.0} {:15.0}",
                self.format,
                e / d,
                e / floor,
                engine.peak_mib,
                drain.peak_mib
            );
        }
        for (what, mut ratios) in [("drain", to_drain), ("floor", to_floor)] {
            ratios.sort_by(f64::total_cmp);
            println!("median of engine/{what} {:.2}, from {:.2} to {:.2}", ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1]);
        }
    }

    /// Each round is a rule of its own and goes to a directory of its own.
    fn round(&self, round: u64) -> Round {
        let rule = format!("bench-{}-{round}", std::process::id());
        let to = format!("{}/{rule}/", self.to.trim_end_matches('/'));
        let (engine, _) = cost::run(catchment().args(self.backup(&rule, &to)));
        let (drain, drained) =
            cost::run(Command::new(std::env::current_exe().expect("a path")).args(["drain", &self.brokers, &self.topic]));
        let floor_s_per_gib = Floor::new(self.bytes, self.format == "parquet").cpu_s_per_gib();
        self.verify(&to, drained.trim());
        Round { engine, drain, floor_s_per_gib }
    }

    fn backup<'a>(&'a self, rule: &'a str, to: &'a str) -> Vec<&'a str> {
        let source = ["backup", &self.topic, "-b", &self.brokers, "--rule", rule];
        let target = ["--to", to, "--format", &self.format, "--window", "24h", "--until-end", "-q"];
        let codec: &[&str] = if self.format == "raw" { &["--codec", "none", "--framing", "len32"] } else { &[] };
        [&source[..], &target[..], codec].concat()
    }

    /// No figure counts whose output was not read back.
    fn verify(&self, to: &str, records: &str) {
        let (_, report) = cost::run(catchment().args(["verify", to, "--json"]));
        let report: serde_json::Value = serde_json::from_str(&report).expect("verify prints JSON");
        assert_eq!(report["records"].to_string(), records, "every record of the topic is stored: {report}");
        assert_eq!((&report["damage"], &report["gaps"]), (&serde_json::json!([]), &serde_json::json!([])), "{report}");
    }
}

fn catchment() -> Command {
    let beside = std::env::current_exe().expect("a path").with_file_name("catchment");
    Command::new(std::env::var_os("CATCHMENT_BIN").map_or(beside, PathBuf::from))
}
