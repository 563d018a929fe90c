//! Rule R2: before the first pin of an assignment, nothing must be stored behind the group's offset.
//!
//! An offset that somebody has set back, or that the group has lost in part, would have its records stored once more. The key that is about to be pinned
//! tells, where it would be the same key again; where the format or the layout was edited since, the lane's anchor does, which is up to an hour old.

use super::driver::{Exit, Lane};
use super::proof;
use super::publish::taken;
use crate::crash::{self, Point};
use crate::sabotage::{Switch, removes};
use crate::source::LastRead;

impl Lane {
    /// Goes on behind what is stored, if the group does not know of it.
    pub(super) async fn check_first_key(&mut self, object_key: &str) -> Result<(), Exit> {
        if self.first_key_checked || removes(Switch::FirstLook) {
            return Ok(());
        }
        crash::point(Point::BeforeFirstLook);
        let found = self.until_answered("HeadObject", || proof::look_whole(&*self.env.store, &self.env.rule.layout, object_key)).await?;
        let Some((_, stored)) = found else {
            if self.anchored_end().await? > self.start {
                self.go_behind_stored(self.start).await?;
            }
            crash::point(Point::AfterFirstLook);
            self.first_key_checked = true;
            return self.abort_stale_uploads(object_key, None).await;
        };
        let Some(stored) = stored.filter(|p| p.lane.is_same_lane(&self.id) && p.range.start == self.start && p.range.end > self.start)
        else {
            return Err(taken(object_key, "the object belongs to another lane, or does not say whose it is").into());
        };
        self.stands(object_key, stored.range.end);
        self.go_behind_stored(stored.range.start).await
    }

    /// The group's offset may have gone back to `from`. Whatever follows it is stored too; to find that out object by object would read each of
    /// them from Kafka first.
    async fn go_behind_stored(&mut self, from: i64) -> Result<(), Exit> {
        let end = self.walk(self.start).await?;
        if end == from {
            // Nothing is stored there any more, whatever the anchor says.
            self.anchored = Some(from);
            return Ok(());
        }
        self.env.metrics.group_regressions.inc();
        tracing::error!(from, end, "the group's offset had gone back behind stored objects");
        (self.position, self.start, self.last) = (end, end, LastRead::unknown(end));
        self.untidied = Some(self.env.clock.steady());
        self.tidy().await?;
        Err(Exit::Restart(format!("the group's offset had gone back; [{from}, {end}) is stored already")))
    }
}
