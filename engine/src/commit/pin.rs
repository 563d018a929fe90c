//! Step 3 for one sealed segment: the group accepts its intent, before anything of it may become visible.
//!
//! Place in the flow: called by [`publish`](super::publish), which goes on only after this has returned. Guarantee: what is pinned is the range, the
//! missing ranges, the key and the encoding that the object will have; an intent that the group has is never replaced by another one of its start.

use super::driver::{Exit, Lane};
use crate::crash::{self, Point};
use crate::decision::is_young;
use crate::error::{Error, ErrorKind, codes};
use crate::intent::{CommitNote, Intent, VERSION};
use crate::limits::{INTENT_BYTES_MAX, PIN_AGE_MAX};
use crate::sabotage::{Switch, removes};
use crate::segment::SealedSegment;
use crate::source::CommitError;

impl Lane {
    /// Step 3, unless the group has this very intent.
    pub(super) async fn pin_segment(&mut self, intent: &mut Intent, sealed: &SealedSegment, pinned: bool) -> Result<(), Exit> {
        crash::point(if pinned { Point::BeforeRepublish } else { Point::BeforePin });
        // Less than was pinned is published by the lane's owner alone: a zombie may have read the intent, too, while the owner has it all.
        let is_less = intent.missing != sealed.tail.missing;
        intent.missing.clone_from(&sealed.tail.missing);
        if (!pinned || is_less || intent.upload.is_some()) && !removes(Switch::Pin) {
            intent.at = self.env.clock.wall_ms();
            self.pin(intent).await?;
            crash::point(Point::AfterPin);
        }
        if !pinned {
            // The intent has them now, and the object will.
            self.pinned_missing = std::mem::take(&mut self.pending);
        }
        Ok(())
    }

    pub(super) fn new_intent(&self, sealed: &SealedSegment, object_key: &str) -> Intent {
        Intent {
            v: VERSION,
            start: sealed.proof.range.start,
            end: sealed.proof.range.end,
            missing: sealed.tail.missing.clone(),
            key: object_key.to_owned(),
            enc: sealed.proof.encoding.clone(),
            t: self.claim.topic_hash.clone(),
            d: self.env.rule.destination_hash.clone(),
            at: self.env.clock.wall_ms(),
            nonce: format!("{:08x}", (self.env.clock.random() * f64::from(u32::MAX)) as u32),
            last: None,
            pending: Vec::new(),
            end_last: sealed.tail.last.known(),
            upload: None,
        }
    }

    /// Step 3. A note too large for the broker is sent again without the upload, which then cannot be finished by others.
    pub(super) async fn pin(&mut self, intent: &Intent) -> Result<(), Exit> {
        let intent = Intent { last: self.last.before(self.position), ..intent.clone() };
        let note = CommitNote::Intent(Box::new(intent.clone()));
        let fits = note.print().len() <= INTENT_BYTES_MAX;
        if fits || intent.upload.is_none() {
            match self.try_commit(&note).await? {
                Ok(()) => {
                    self.accepted(&intent);
                    return Ok(());
                }
                Err(CommitError::MetadataTooLarge) if intent.upload.is_some() => {}
                Err(e) => {
                    return Err(Error::new(codes::COMMIT_REFUSED, ErrorKind::Denied, "the group coordinator refuses the pin")
                        .because(e)
                        .help("grant READ on the group and raise offset.metadata.max.bytes to 4096 if it was lowered, then start again")
                        .into());
                }
            }
        }
        let bare = Intent { upload: None, ..intent };
        self.commit(&CommitNote::Intent(Box::new(bare.clone()))).await?;
        self.accepted(&bare);
        Ok(())
    }

    fn accepted(&mut self, intent: &Intent) {
        self.untidied = None;
        self.pinned_at = Some(self.env.clock.steady());
        self.sights.pinned(intent);
    }

    /// Pins an intent again unless this process has just pinned it. Who was frozen may have lost the lane since; others have waited for the
    /// requests of that pin, and gone on without them. Sent now, they would write over what came after.
    pub(super) async fn renew_pin(&mut self, intent: &mut Intent) -> Result<(), Exit> {
        if self.is_young(intent) || removes(Switch::OldPin) {
            return Ok(());
        }
        intent.at = self.env.clock.wall_ms();
        self.pin(intent).await
    }

    /// Whether a pin is so young that nobody can have given its requests up. A clock that was set back says nothing of that, nor does a monotonic
    /// one that stood still while the machine slept: both must say so.
    fn is_young(&self, intent: &Intent) -> bool {
        let since_accepted = self.pinned_at.map(|at| self.env.clock.steady().saturating_sub(at));
        since_accepted.is_some_and(|since| is_young(intent.at, self.env.clock.wall_ms(), since, PIN_AGE_MAX))
    }
}
