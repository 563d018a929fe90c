//! A lane's OffsetCommits: steps 3 and 6 of the protocol as seen from the group, by rule A1.
//!
//! Guarantee: a commit is repeated while its fate is unknown and never sent for a lane that does not live; the first one of an assignment is read
//! back.

use std::time::Duration;

use super::driver::{Exit, Lane};
use crate::clock::Backoff;
use crate::crash::{self, Point};
use crate::error::{Code, Error, ErrorKind, codes};
use crate::intent::{CommitNote, Tidy, VERSION};
use crate::sabotage::{Switch, removes};
use crate::source::{CommitError, Committed};

impl Lane {
    /// How long the group has not known what is durable.
    pub(super) fn untidied_for(&self) -> Duration {
        self.untidied.map_or(Duration::ZERO, |since| self.env.clock.steady().saturating_sub(since))
    }

    /// Step 6: the group learns what is durable.
    pub(super) async fn tidy(&mut self) -> Result<(), Exit> {
        if self.untidied.is_some() {
            let note = CommitNote::Tidy(self.tidy_note());
            self.commit(&note).await?;
            self.untidied = None;
            self.env.progress.note(&self.lease.tp, self.position);
        }
        Ok(())
    }

    pub(super) fn tidy_note(&self) -> Tidy {
        let (t, d) = (self.claim.topic_hash.clone(), self.env.rule.destination_hash.clone());
        Tidy { v: VERSION, t, d, start: self.start, missing: self.pending.clone(), last: self.last.before(self.position) }
    }

    /// One OffsetCommit of P with `note`, by rule A1, repeated while its fate is unknown.
    pub(super) async fn commit(&mut self, note: &CommitNote) -> Result<(), Exit> {
        match self.try_commit(note).await? {
            Ok(()) => Ok(()),
            Err(CommitError::MetadataTooLarge) => Err(refused("the broker's offset.metadata.max.bytes is too small for an intent").into()),
            Err(e) => Err(refused(&e.to_string()).into()),
        }
    }

    /// As [`commit`](Self::commit), but answers a refusal that the caller may be able to mend.
    pub(super) async fn try_commit(&mut self, note: &CommitNote) -> Result<Result<(), CommitError>, Exit> {
        let position = if removes(Switch::OffsetBehind) { (self.position - 1).max(0) } else { self.position };
        let commit = Committed { offset: position, leader_epoch: self.last.epoch_at(self.position), metadata: note.print() };
        let is_pin = matches!(note, CommitNote::Intent(_));
        // Once more if it is not there: a process that was frozen in between may have lost the lane, and its next owner has committed. Then it is refused.
        for _ in 0..2 {
            if let Err(e) = self.send_commit(&commit, is_pin).await? {
                return Ok(Err(e));
            }
            if self.read_back || self.is_kept(&commit).await? {
                self.read_back = true;
                return Ok(Ok(()));
            }
        }
        Err(not_kept().into())
    }

    /// Sends a commit until the coordinator has answered it.
    async fn send_commit(&mut self, commit: &Committed, is_pin: bool) -> Result<Result<(), CommitError>, Exit> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            if is_pin {
                crash::soon(Point::PinSent);
            }
            match self.env.group.commit(&self.lease, commit.clone()).await {
                Ok(()) => break,
                Err(CommitError::LaneDead) => return Err(Exit::Dead),
                Err(CommitError::StaleMember(why)) => return Err(Exit::Restart(format!("the group refused the commit: {why}"))),
                Err(CommitError::RebalanceInProgress | CommitError::Unknown(_)) => {
                    self.env.metrics.commit_retries.inc();
                    backoff.wait(&*self.env.clock).await;
                }
                Err(CommitError::InstanceFenced) => return Err(fenced().into()),
                Err(e @ (CommitError::MetadataTooLarge | CommitError::Refused(_))) => return Ok(Err(e)),
            }
        }
        self.committed_at = self.env.clock.steady();
        Ok(Ok(()))
    }

    /// Whether the group has this very commit. The first one is read back: a broker or proxy might drop the metadata, and then nothing here would hold.
    async fn is_kept(&self, commit: &Committed) -> Result<bool, Exit> {
        let stored = self.env.group.fetch(&self.lease.tp).await?;
        Ok(stored.is_some_and(|s| s.offset == commit.offset && s.metadata == commit.metadata))
    }
}

fn not_kept() -> Error {
    Error::new(Code(402), ErrorKind::Invalid, "the broker does not keep the metadata of committed offsets")
        .help("exactly-once needs offset metadata; check proxies between here and the broker")
}

fn refused(cause: &str) -> Error {
    Error::new(codes::COMMIT_REFUSED, ErrorKind::Denied, "the group coordinator refuses the commit")
        .because(cause)
        .help("grant READ on the group and raise offset.metadata.max.bytes to 4096 if it was lowered, then start again")
}

fn fenced() -> Error {
    Error::new(codes::MEMBER_FENCED, ErrorKind::Fenced, "another process has this member's group.instance.id")
        .help("stop the other process, or give this one its own --instance-id")
}
