//! A topic that was deleted and created again: what its old lane leaves to the new one.
//!
//! Place in the flow: the end of rule R1, once the claim has settled that the new incarnation was accepted. Guarantee: what the old lane had
//! pinned or was to list is an object of its directory, or is listed by the new lane's first object, as long as the group has the old lane's
//! note: Kafka drops a group's offsets of a topic with the topic, and what was pinned then is known to nobody. Both only if a PUT of a process
//! that died lands after this has looked: nobody waits an hour for that before the new topic is backed up.

use catchment_formats::{GapCause, LaneId, Missing};

use super::driver::{Exit, Lane};
use crate::decision::Finding;
use crate::error::{Error, ErrorKind, codes};
use crate::intent::{CommitNote, Intent, is_same_topic};
use crate::sights::Sights;

impl Lane {
    /// What the lane of a topic that is gone leaves to this one: the first object lists what no object of the old lane will. A window that was
    /// pinned stands, or its upload is whole, or its records are lost. The position is the old lane's until then, for a pin that is repeated.
    pub(super) async fn settle_old_incarnation(&mut self, position: i64, note: CommitNote) -> Result<(), Exit> {
        self.position = position;
        let mut lost = note.pending().to_vec();
        if let CommitNote::Intent(intent) = note {
            let range = Missing(position, intent.end, GapCause::TopicRecreated);
            let before: Vec<Missing> = intent.missing_before(position).collect();
            if !self.old_window_stands(*intent).await? {
                lost.extend(before);
                lost.push(range);
            }
        }
        // A window may be pinned that ends where the position stands: nothing of it is lost.
        for Missing(from, to, _) in lost.into_iter().filter(|lost| lost.0 < lost.1) {
            let gap = Missing(from, to, GapCause::TopicRecreated);
            self.pending.push(gap);
            self.tell_gap(gap);
        }
        // What was pinned for the old log says nothing of the same offsets of this one.
        self.sights = Sights::default();
        Ok(())
    }

    /// Whether the window that was pinned for a topic that is gone is an object, or its upload lacked only its Complete.
    async fn old_window_stands(&mut self, mut intent: Intent) -> Result<bool, Exit> {
        match self.find(&intent).await? {
            Finding::Absent => {}
            Finding::Ours | Finding::OtherEnd(_) => return Ok(true),
            Finding::Foreign(_) => return Ok(false),
        }
        let Some(upload) = intent.upload.clone() else { return Ok(false) };
        if self.has_proof_without_reading(&intent, &upload).await? && self.complete_upload(&mut intent, &upload).await?.is_some() {
            return Ok(true);
        }
        // What is listed as missing from here on is not to be completed; unless the lane is another's by now, whose upload it is.
        self.give_up(&intent, &upload).await?;
        Ok(false)
    }

    /// The lane that an intent was pinned for. Of an earlier incarnation of the topic only a hash is known; its key is in a directory of its own.
    pub(super) fn lane_of(&self, intent: &Intent) -> LaneId {
        let mut lane = self.id.clone();
        if !is_same_topic(&intent.t, &lane.topic_id) {
            lane.topic_id = "0".into();
        }
        lane
    }

    pub(super) fn topic_recreated(&self) -> Error {
        Error::new(codes::TOPIC_RECREATED, ErrorKind::Asks, "the topic was deleted and created again")
            .with("topic_id", &self.claim.topic_id)
            .help("to back up the new topic beside the old one, start once with --accept topic-recreated")
    }
}
