//! Crash points in a build that has them: what the environment asks for, and the signals.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Point;

/// The variable that arms a point.
const VARIABLE: &str = "CATCHMENT_CRASH";

/// The longest time from the moment before a request to the signal: a request on a loopback socket is sent, done and answered within about half of it.
const SOON_MAX: Duration = Duration::from_millis(4);

/// What the environment asks for.
#[derive(Debug)]
struct Order {
    point: Point,
    passage: u32,
    signal: Signal,
}

/// Marks a place: the signal comes here, if it is this place's turn.
pub fn point(point: Point) {
    if let Some(signal) = turn(point) {
        send(signal);
    }
}

/// Marks the moment before a request: the signal comes within the next milliseconds.
#[expect(clippy::disallowed_methods, reason = "the real clock's milliseconds: a process that is killed has no other")]
pub fn soon(point: Point) {
    let Some(signal) = turn(point) else { return };
    let pause = SOON_MAX.mul_f64(fastrand::f64());
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        send(signal);
    });
}

fn turn(point: Point) -> Option<Signal> {
    static ORDER: OnceLock<Option<Order>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let order = ORDER.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| parse(&text)));
    let order = order.as_ref().filter(|order| order.point == point)?;
    (PASSED.fetch_add(1, Ordering::SeqCst) + 1 == order.passage).then_some(order.signal)
}

/// A signal to this process. After SIGKILL not one more instruction of it matters; after SIGSTOP it goes on when it is woken.
fn send(signal: Signal) {
    kill(Pid::this(), signal).expect("a process may signal itself");
    if signal == Signal::SIGKILL {
        loop {
            std::thread::park();
        }
    }
}

/// A text that arms nothing must not look like a run that survived: it ends the process.
fn parse(text: &str) -> Order {
    let mut words = text.split(':');
    let name = words.next().unwrap_or_default();
    let point = Point::ALL.iter().copied().find(|p| p.name() == name);
    let passage = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    let signal = match words.next() {
        None => Some(Signal::SIGKILL),
        Some("stop") => Some(Signal::SIGSTOP),
        Some(_) => None,
    };
    if let (Some(point), Some(passage), Some(signal), None) = (point, passage, signal, words.next()) {
        return Order { point, passage, signal };
    }
    eprintln!("{VARIABLE}={text}: write it as POINT:N or POINT:N:stop, with one of these points:");
    Point::ALL.iter().for_each(|point| eprintln!("{}", point.name()));
    std::process::exit(2)
}
