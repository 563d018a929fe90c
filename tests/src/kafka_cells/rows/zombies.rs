//! K18: members that do not know that they are none any more. What they still commit must be refused, and seen to be.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::members::{Member, slow};
use crate::broker::cluster::{Cluster, code};
use crate::broker::faults::{Act, Fault, When, is_pin};
use crate::broker::groups::{Group, RefusedCommit};
use crate::kafka_cells::bench::{Bench, GROUP, Run, Settings, TOPIC};
use crate::kafka_cells::{Cells, Check};

/// The static name of the zombie.
const ZOMBIE: &str = "member-1";

/// The static name of whoever takes its partitions over.
const HEIR: &str = "member-2";

/// The session of a zombie that has joined again.
const SESSION: Duration = Duration::from_millis(1_500);

pub(super) fn list(cells: &mut Cells) {
    expired(cells);
    late(cells);
    replaced(cells);
    unheard(cells);
}

/// A member that says nothing for a minute, and does not think that this ends its session.
fn mute(bench: &Bench) -> Settings {
    let mut settings = Member::Static.settings(bench, ZOMBIE);
    settings.properties.insert("heartbeat.interval.ms", "60000".to_owned());
    settings.properties.insert("session.timeout.ms", "60000".to_owned());
    settings
}

/// Waits until a commit of the zombie was refused with this error; `pins`: one that pins a window.
async fn await_refusal(bench: &mut Bench, error: i16, pins: bool) -> Check {
    let is_it = move |c: &mut Cluster| {
        let of_zombie = |r: &&RefusedCommit| r.member.starts_with(ZOMBIE) && r.error == error;
        c.groups.group(GROUP).refused.iter().filter(of_zombie).any(|r| !pins || is_pin(&r.metadata))
    };
    bench.await_state("a commit of the zombie refused", is_it).await?;
    bench.saw("the zombie's commit was refused", true)
}

/// The coordinator gives the zombie up, whatever that one believes, and soon again whenever it is back: it says nothing still.
fn give_up(bench: &Bench) {
    bench.group(|group| group.end_session(ZOMBIE));
    bench.script(|c| c.groups.session_max = Some(SESSION));
}

/// Starts the heir once the coordinator has lost the zombie, and waits until it is alone in the group.
async fn take_over(bench: &mut Bench) -> Result<Run, String> {
    bench.await_state("the session's end", |c| c.groups.group(GROUP).members.is_empty()).await?;
    let heir = bench.start_as(&Member::Static.settings(bench, HEIR))?;
    let is_alone = |c: &mut Cluster| {
        let group = c.groups.group(GROUP);
        group.is_stable() && group.members.values().all(|m| m.instance.as_deref() == Some(HEIR))
    };
    bench.await_state("the heir at work", is_alone).await?;
    Ok(heir)
}

/// What comes later must come through the heir alone.
async fn goes_on(bench: &mut Bench, zombie: Run, heir: Run) -> Check {
    zombie.stop().await?;
    let partitions = bench.script(|c| c.topics[TOPIC].partitions.len());
    (0..partitions).for_each(|partition| bench.fill(partition, 60));
    bench.await_committed().await?;
    heir.stop().await?;
    bench.compare().await
}

/// The session is over, and another one has taken over.
fn expired(cells: &mut Cells) {
    cells.add(
        "K18",
        "k18.zombie.reads-on",
        "a member that was silent for longer than its session reads on and pins what its heir reads too: its pin is refused",
        |bench| {
            Box::pin(async move {
                slow(bench, 2);
                bench.settings.until_end = false;
                let zombie = bench.start_as(&mute(bench))?;
                bench.await_committed().await?;
                give_up(bench);
                let heir = take_over(bench).await?;
                (0..2).for_each(|partition| bench.fill(partition, 150));
                await_refusal(bench, code::UNKNOWN_MEMBER_ID, true).await?;
                bench.await_committed().await?;
                goes_on(bench, zombie, heir).await
            })
        },
    );
    cells.add(
        "K18",
        "k18.zombie.publishes-late",
        "a silent member publishes a window when its heir has taken over: the same object, and its next commit is refused",
        |bench| {
            Box::pin(async move {
                slow(bench, 2);
                bench.settings.until_end = false;
                bench.store.hold(true);
                let zombie = bench.start_as(&mute(bench))?;
                bench.await_pin().await?;
                give_up(bench);
                let heir = take_over(bench).await?;
                bench.store.hold(false);
                await_refusal(bench, code::UNKNOWN_MEMBER_ID, false).await?;
                bench.await_committed().await?;
                goes_on(bench, zombie, heir).await
            })
        },
    );
}

/// A pin is on its way while its sender is given up and another member takes over; then it arrives.
fn late(cells: &mut Cells) {
    for (id, is_open, meanwhile) in [
        ("k18.zombie.pin-arrives-late", false, "its heir has stored everything"),
        ("k18.zombie.pin-arrives-late.open", true, "its heir has pinned that window, too, and not stored it"),
    ] {
        let what = format!("a pin arrives when its sender has been given up and {meanwhile}: refused, and its sender publishes nothing");
        cells.add("K18", id, what, move |bench| {
            Box::pin(async move {
                slow(bench, 1);
                be_patient(bench);
                // Whatever the zombie would publish is seen here, and does not cover what the heir stores.
                let way = bench.own_way();
                way.hold(true);
                bench.fault(Fault::once(When::Pin, Act::Hold));
                bench.event(When::Pin, |c| c.groups.group(GROUP).expel_all());
                let zombie = bench.start_with(&Member::Static.settings(bench, ZOMBIE), Arc::clone(&way))?;
                bench.await_faults().await?;
                bench.store.hold(is_open);
                let heir = take_over(bench).await?;
                match is_open {
                    true => bench.await_pin().await?,
                    false => bench.await_committed().await?,
                }
                arrives(bench).await?;
                bench.store.hold(false);
                bench.await_committed().await?;
                goes_on(bench, zombie, heir).await?;
                bench.saw("the zombie published nothing", way.refused() == 0)?;
                let accepted = bench.group(is_refused_pin_accepted);
                bench.saw("its pin was never accepted", !accepted)
            })
        });
    }
}

/// What was held reaches the coordinator. Its sender learns by the answer that it is no member, and asks in vain to be one again, so that no right to
/// publish comes to it in another way.
async fn arrives(bench: &mut Bench) -> Check {
    let is_answered = bench.group(|group| group.refused.iter().any(|r| r.member.starts_with(ZOMBIE)));
    bench.saw("the pin was on its way until now", !is_answered)?;
    bench.fault(Fault::always(When::Member(ApiKey::JoinGroup, ZOMBIE), Act::Code(code::COORDINATOR_NOT_AVAILABLE)));
    bench.script(Cluster::let_go);
    await_refusal(bench, code::UNKNOWN_MEMBER_ID, true).await?;
    bench.await_faults().await
}

/// No client gives anything up while a request is held, or since the machine is busy: what happens to a member is the script's to say.
fn be_patient(bench: &mut Bench) {
    bench.settings.until_end = false;
    for name in ["socket.timeout.ms", "session.timeout.ms"] {
        bench.settings.properties.insert(name, "300000".to_owned());
    }
}

/// Whether a pin of the zombie that was refused once, word for word, was accepted at another time.
fn is_refused_pin_accepted(group: &mut Group) -> bool {
    let of_zombie = |r: &&RefusedCommit| r.member.starts_with(ZOMBIE) && is_pin(&r.metadata);
    let refused: Vec<&str> = group.refused.iter().filter(of_zombie).map(|r| r.metadata.as_str()).collect();
    group.offsets.accepted().iter().any(|accepted| refused.contains(&accepted.commit.metadata.as_str()))
}

/// A static member's name joins again and keeps its place: no rebalance, so nobody is told that it has lost anything.
fn replaced(cells: &mut Cells) {
    cells.add(
        "K18",
        "k18.static-rejoins.unrevoked",
        "a second process takes a static member's place without a rebalance or a revoke: the first one's pin is refused, C0205",
        |bench| {
            Box::pin(async move {
                slow(bench, 2);
                bench.settings.until_end = false;
                let zombie = bench.start_as(&mute(bench))?;
                bench.await_committed().await?;
                let before = bench.group(|g| g.generation);
                let mut successor = Member::Static.settings(bench, ZOMBIE);
                successor.properties.insert("session.timeout.ms", "60000".to_owned());
                let second = bench.start_as(&successor)?;
                bench.await_state("the second one in the first one's place", |c| c.groups.group(GROUP).returned > 0).await?;
                (0..2).for_each(|partition| bench.fill(partition, 150));
                zombie.must_fail(205).await?;
                await_refusal(bench, code::FENCED_INSTANCE_ID, true).await?;
                bench.await_committed().await?;
                let after = bench.group(|g| g.generation);
                bench.saw("there was no rebalance", after == before)?;
                second.stop().await?;
                bench.compare().await
            })
        },
    );
}

/// Heartbeats that do not arrive: the member itself learns that its session is over.
fn unheard(cells: &mut Cells) {
    for (id, act) in [("silent", Act::Silence), ("cut", Act::Cut)] {
        let what = "a member's heartbeats do not arrive for longer than its session; another takes over; it comes back, nothing twice";
        cells.add("K18", format!("k18.unheard.{id}"), what, move |bench| {
            let act = act.clone();
            Box::pin(async move {
                slow(bench, 2);
                bench.settings.properties.insert("session.timeout.ms", "2000".to_owned());
                bench.settings.until_end = false;
                let first = bench.start_as(&Member::Static.settings(bench, ZOMBIE))?;
                bench.await_pin().await?;
                bench.fault(Fault::always(When::Member(ApiKey::Heartbeat, ZOMBIE), act.clone()));
                // Joins may not come at all; heartbeats do.
                bench.script(|c| c.add_fault(Fault::always(When::Member(ApiKey::JoinGroup, ZOMBIE), act)));
                let heir = take_over(bench).await?;
                (0..2).for_each(|partition| bench.fill(partition, 150));
                bench.await_committed().await?;
                bench.script(|c| c.end_faults());
                (0..2).for_each(|partition| bench.fill(partition, 60));
                bench.await_committed().await?;
                heir.stop().await?;
                first.stop().await?;
                bench.compare().await
            })
        });
    }
}
