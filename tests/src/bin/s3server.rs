//! The S3 service of the tests as a process of its own: serves until it is killed.
//!
//! Prints its address when it listens. `GET /_log` dumps requests and versions as JSON; `POST /_faults` takes
//! `{"rules": [...], "denied": bool, "rate": bytes_per_second, "backdate_uploads_ms": n}`.

use std::time::Duration;

use catchment::store::GuardClass;
use catchment_tests::s3::{Config, FaultRule, Op, Personality, S3Server};

const USAGE: &str = "s3server [--personality aws|cos|minio] [--class-put A|B|C] [--class-complete A|B|C] [--port N] [--bucket NAME]
         [--delay OP=MS]... [--delay-after OP=MS]... [--race-window-ms N] [--rate BYTES_PER_SECOND]";

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("s3server: {message}\nusage: {USAGE}");
            std::process::ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    let (config, rules, rate) = parse(std::env::args().skip(1))?;
    let server = S3Server::start(config).await.map_err(|e| e.to_string())?;
    server.state().set_fault_rules(rules);
    server.state().set_rate(rate);
    println!("listening on http://{}", server.address());
    std::future::pending::<()>().await;
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Config, Vec<FaultRule>, u64), String> {
    let mut config = Config::new(Personality::Aws);
    let (mut rules, mut rate, mut bucket) = (Vec::new(), 0, None);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--personality" => {
                let personality = match value.as_str() {
                    "aws" => Personality::Aws,
                    "cos" => Personality::Cos,
                    "minio" => Personality::Minio,
                    _ => return Err(format!("unknown personality {value:?}")),
                };
                config = Config { guards: config.guards, port: config.port, race_window: config.race_window, ..Config::new(personality) };
            }
            "--class-put" => config.guards.put = class(&value)?,
            "--class-complete" => config.guards.complete = class(&value)?,
            "--port" => config.port = number(&value)?,
            "--bucket" => bucket = Some(value),
            "--delay" => rules.push(delay(&value, |rule, ms| rule.before_ms = ms)?),
            "--delay-after" => rules.push(delay(&value, |rule, ms| rule.after_ms = ms)?),
            "--race-window-ms" => config.race_window = Duration::from_millis(number(&value)?),
            "--rate" => rate = number(&value)?,
            _ => return Err(format!("unknown argument {flag}")),
        }
    }
    config.bucket = bucket.unwrap_or(config.bucket);
    Ok((config, rules, rate))
}

fn class(text: &str) -> Result<GuardClass, String> {
    match text {
        "A" => Ok(GuardClass::A),
        "B" => Ok(GuardClass::B),
        "C" => Ok(GuardClass::C),
        _ => Err(format!("unknown class {text:?}")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number that fits"))
}

fn delay(text: &str, set: impl Fn(&mut FaultRule, u64)) -> Result<FaultRule, String> {
    let (op, ms) = text.split_once('=').ok_or_else(|| format!("{text:?} is not OP=MS"))?;
    let op: Op = serde_json::from_value(op.into()).map_err(|_| format!("unknown operation {op:?}"))?;
    let mut rule = FaultRule { op: Some(op), ..FaultRule::default() };
    set(&mut rule, number(ms)?);
    Ok(rule)
}
