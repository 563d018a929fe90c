//! A story without chance: the group's offset goes back behind stored objects while the format of the rule is edited, so that no key tells. Told by a test,
//! and by an engine without the first look.

use catchment::store::GuardClass;
use catchment_formats::{Codec, Encoding, Format, Framing};

use super::directed::Directed;
use super::on_simulated_time;
use super::plan::Plan;

/// Records of the story; five make an object.
const RECORDS: i64 = 40;

/// What is wrong in the end.
///
/// # Panics
/// If there is no runtime to be had, or the backup before the edit is not as it should be.
pub fn run() -> Vec<String> {
    on_simulated_time(story())
}

async fn story() -> Vec<String> {
    let mut directed = Directed::new(GuardClass::A, RECORDS / 2);
    directed.start().await;
    directed.pass(30).await;
    directed.stop().await;
    let behind_first = directed.group.accepted().into_iter().find(|accepted| accepted.commit.offset == 5);
    directed.group.set_committed(&directed.tp(), behind_first.expect("a commit behind the first window").commit);
    let raw = Encoding { format: Format::Raw(Framing::Len32), codec: Codec::None };
    let mut directed = directed.edited(Plan { encoding: raw, ..Directed::plan() });
    directed.append(RECORDS / 2);
    directed.start().await;
    directed.pass(300).await;
    findings(&directed).await
}

async fn findings(directed: &Directed) -> Vec<String> {
    let ranges: Vec<_> = directed.objects().await.iter().map(|(_, proof)| proof.range).collect();
    let times = |offset: i64| ranges.iter().filter(|range| (range.start..range.end).contains(&offset)).count();
    let wrong = (0..RECORDS).map(|offset| (offset, times(offset))).filter(|(_, times)| *times != 1);
    let mut findings: Vec<String> = wrong.map(|(offset, times)| format!("offset {offset} is stored {times} times")).collect();
    if directed.committed() != RECORDS {
        findings.push(format!("the group has committed {} of {RECORDS}", directed.committed()));
    }
    findings
}
