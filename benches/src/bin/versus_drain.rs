//! `versus_drain -b HOST:PORT --to URL [--topic T] [--bytes N] [--mib N] [--codec C] [--rounds N]`: the engine's CPU time on a real topic
//! and store, beside the bare drain's, in turn. The topic is filled if it does not exist (name it to use one again).
//! Store credentials come by the usual variables. The engine's binary is `CATCHMENT_BIN` or `catchment` beside this one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use catchment_benches::{cost, drain};
use catchment_loadtest::fill;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, brokers, topic] = &arguments[..]
        && verb == "drain"
    {
        println!("{:?}", drain::drain(brokers, topic));
        return;
    }
    let options: HashMap<&str, &str> = arguments.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let get = |name: &str, default: &str| options.get(name).copied().unwrap_or(default).to_owned();
    let (brokers, to) = (get("-b", "127.0.0.1:9092"), get("--to", ""));
    assert!(!to.is_empty(), "name a store with --to");
    let number = |name: &str, default: &str| get(name, default).parse::<u64>().expect("a number");
    let (bytes, mib, rounds) = (number("--bytes", "1024"), number("--mib", "2048"), number("--rounds", "3"));
    let topic = options.get("--topic").map_or_else(
        || {
            let topic = format!("bench-{bytes}-{}", std::process::id());
            let records = fill(&brokers, &topic, usize::try_from(bytes).expect("a size"), mib, &get("--codec", "none"));
            println!("filled {topic} with {records} records");
            topic
        },
        |topic| (*topic).to_owned(),
    );
    let gib = mib as f64 / 1024.0;
    println!("round  engine CPU-s/GiB  drain CPU-s/GiB  ratio  engine peak MiB  drain peak MiB");
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let bare =
            cost::run(Command::new(std::env::current_exe().expect("a path")).args(["drain", &brokers, &topic]).stdout(Stdio::null()));
        let engine = cost::run(&mut engine(&brokers, &topic, &to, round));
        let ratio = engine.cpu_s / bare.cpu_s;
        ratios.push(ratio);
        println!(
            "{round:5}  {:16.2}  {:15.2}  {ratio:5.2}  {:15.0}  {:14.0}",
            engine.cpu_s / gib,
            bare.cpu_s / gib,
            engine.peak_mib,
            bare.peak_mib
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2} (from {:.2} to {:.2})", ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1]);
}

fn engine(brokers: &str, topic: &str, to: &str, round: u64) -> Command {
    let beside = std::env::current_exe().expect("a path").with_file_name("catchment");
    let binary = std::env::var_os("CATCHMENT_BIN").map_or(beside, PathBuf::from);
    let mut command = Command::new(binary);
    let rule = format!("bench-{}-{round}", std::process::id());
    // Each round is a rule of its own and goes to a directory of its own.
    command.args(["backup", topic, "-b", brokers, "--rule", &rule, "--to", &format!("{}/{rule}/", to.trim_end_matches('/'))]);
    command.args(["--window", "24h", "--until-end", "-q"]).stdout(Stdio::null());
    command
}
