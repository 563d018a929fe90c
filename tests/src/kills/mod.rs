//! Instances that are killed or frozen in every phase of a window, while records arrive: nothing is lost, stored twice or
//! altered, and no object changes once it is visible.
//!
//! Real Kafka, the real binary, and the harness's S3 service as a process of its own, so that its objects, its request log and
//! every version of every key outlive the kills, and so that a request whose client is dead still takes effect, late. Two
//! instances of one rule; a producer that never stops, with transactions of which every other one is aborted. Each strike
//! aims at a phase of one lane: the lane's requests are delayed until it is there, its owner gets SIGKILL, and what was hit is
//! read from the state right after. Now and then an instance is asked to leave instead, and comes back. A run fails unless it has hit
//! each of its phases as often as its plan says, and unless an instance that is gone or asleep had its lanes taken over by the other one.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`plan`] | what a run is like |
//! | `bed` | the rule, its instances, and what is done to them |
//! | [`sleep`] | how an instance is caught in its sleep |
//! | `producing` | the producer |
//! | `comparison` | what is stored in the end |

mod bed;
mod comparison;
pub mod plan;
mod producing;
pub mod sleep;

use std::io::Write;
use std::time::{Duration, Instant};

use bed::Bed;
use plan::Plan;
use producing::Producing;
use sleep::{LATE_MS, Sleep};

use crate::phases::Hits;

/// How long an instance may take to stop, one that is just starting too.
const STOP: Duration = Duration::from_secs(60);

const PREFIX: &str = "kills/";

/// SIGKILLs of a run, at least.
const KILLS_MIN: u32 = 25;

/// Hits that each phase needs in a run.
const HITS_MIN: u32 = 3;

/// Aimed kills after which a run gives up: its phases cannot be hit.
const STRIKES_MAX: u32 = 60;

/// Misses one after the other after which a run gives up.
const MISSES_MAX: u32 = 12;

/// Two instances, aimed SIGKILLs and more beside them, then the comparison.
///
/// # Panics
/// If anything is lost, stored twice or altered, or the run does not meet what it is for.
pub fn survives_kills(plan: Plan, s3server: &str) {
    let began = Instant::now();
    let mut bed = Bed::new(plan, s3server);
    let producer = Producing::start(&bed);
    bed.start_all();
    let (mut hits, mut kills, mut misses, mut turn, mut leaves) = (Hits::default(), 0, 0, 0, 0);
    let phases = plan.phases();
    let rare = |hits: &Hits| phases.iter().copied().min_by_key(|p| hits.of(*p)).expect("there are phases");
    while kills < KILLS_MIN || hits.of(rare(&hits)) < HITS_MIN {
        assert!(misses < MISSES_MAX && hits.total() < STRIKES_MAX, "the phases cannot be hit; {misses} misses\n{hits}{}", bed.stderrs());
        let lane = turn % plan.partitions();
        turn += 1;
        let phase = rare(&hits);
        // Short and long delays: a late request takes effect before the window's recovery looks, and after.
        let Some(hit) = bed.strike(phase, lane, if turn % 2 == 0 { 1500 } else { 4000 }) else {
            misses += 1;
            continue;
        };
        misses = 0;
        hits.add(phase, hit);
        println!("{}: {:.1?}: aimed at {phase} of lane {lane}, hit {hit}", plan.name, began.elapsed());
        kills += 1;
        match turn % 8 {
            // The other one too: nobody is left.
            1 => {
                for n in 0..bed.instances.len() {
                    if bed.instances[n].is_some() {
                        bed.kill(n);
                        kills += 1;
                    }
                }
            }
            // Away for longer than its session: the other one takes its lanes over, and gives some back later.
            4 => {
                let heir = bed.instances.iter().position(Option::is_some).expect("one instance was not killed");
                bed.await_takeover(heir, lane, 1);
            }
            // The same by SIGTERM, once both run again.
            6 | 7 if leaves * 16 < turn => {
                bed.start_all();
                bed.leave_and_rejoin(lane);
                leaves += 1;
            }
            _ => {}
        }
        bed.start_all();
    }
    assert!(leaves > 0, "in {turn} turns nobody was asked to leave");
    let struck = began.elapsed();
    let figures = bed.finish(producer);
    report(&format!(
        "{}: {kills} SIGKILLs and {leaves} SIGTERMs in {struck:.0?}; {figures:?}; 0 lost, 0 duplicated, 0 altered; took {:.0?}\n{hits}",
        plan.name,
        began.elapsed()
    ));
}

/// Two instances, one of which sleeps past its session in each of these ways while the other finishes its windows, and wakes.
///
/// # Panics
/// As [`survives_kills`].
pub fn survives_sleepers(plan: Plan, sleeps: &[Sleep], s3server: &str) {
    let began = Instant::now();
    let mut bed = Bed::new(plan, s3server);
    let producer = Producing::start(&bed);
    bed.start_all();
    for (n, sleep) in sleeps.iter().copied().enumerate() {
        let lane = i32::try_from(n).expect("a count fits") % plan.partitions();
        let caught = (0..12).find_map(|_| bed.freeze(sleep, lane));
        let (sleeper, note) = caught.unwrap_or_else(|| panic!("no instance could be caught {sleep:?}{}", bed.stderrs()));
        let slept = Instant::now();
        // The frozen window, and a further one.
        bed.await_takeover(1 - sleeper, lane, 2);
        if matches!(sleep, Sleep::UnderWay) {
            std::thread::sleep(Duration::from_millis(LATE_MS + 1000).saturating_sub(slept.elapsed()));
        }
        let slept = slept.elapsed();
        bed.instance(sleeper).thaw();
        // It finds that it is no member any more and joins anew: then it has lanes again.
        bed.await_some(&format!("lane of the sleeper of {sleep:?}, which woke"), |bed| bed.owners().into_values().find(|o| *o == sleeper));
        println!("{}: {sleep:?} for {slept:.1?} at {note:?}", plan.name);
    }
    let figures = bed.finish(producer);
    report(&format!("{}: {figures:?}; 0 lost, 0 duplicated, 0 altered; took {:.0?}", plan.name, began.elapsed()));
}

/// Says how often each phase was hit: what a passing test prints is swallowed, what it writes is not.
fn report(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").expect("stderr can be written");
}
