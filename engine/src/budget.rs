//! What each pipeline holds of the memory that they have in common, counted.
//!
//! Place in the flow: below the [blocks](crate::blocks), encoders and parts, which reserve what they hold. A pipeline that is alone has all of its memory to
//! itself; several get theirs from one [`SharedMemory`](crate::memory::SharedMemory).
//!
//! Guarantees:
//! - The sum of all reservations is what the pipelines hold. Memory for new records is *asked for* ([`MemoryBudget::try_reserve`]) and may be refused:
//!   that is the only place where the engine stops reading. Memory for what records already taken turn into (compressed pages, row-group columns) is
//!   *charged* and may overdraw, by no more than the blocks that are being encoded at that moment, because a block's own reservation is given back after.
//! - A budget that holds no more than its *floor* is not refused, whatever the others hold: floors are set apart when budgets are made.
//! - What a budget holds beyond its fair share was, when it got it, no more than what it left free. So one whose store has stalled leaves the others
//!   about half of the memory, however long nobody else has asked.
//!
//! Not done here: making anybody give memory back. That is what [`memory`](crate::memory) and [`pressure`](crate::pressure) are for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What budgets have in common. Each counts with what it holds, or with its floor if that is more.
#[derive(Debug)]
pub struct CommonMemory {
    limit: usize,
    claimed: AtomicUsize,
    /// The part of it that no budget can take from another: floors, and what is set aside.
    fixed: AtomicUsize,
    members: AtomicUsize,
    /// What somebody waits for who is not a member yet: members take no more that would leave less.
    wanted: AtomicUsize,
}

impl CommonMemory {
    /// So many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Self { limit, claimed: zero(), fixed: zero(), members: zero(), wanted: zero() })
    }

    /// A budget that always has `floor` bytes and never takes more than `most`; none if not even the floor is left. Dropping it, and all
    /// reservations, gives everything back.
    pub fn try_join(self: &Arc<Self>, floor: usize, most: usize) -> Option<Arc<MemoryBudget>> {
        self.try_set_aside(floor).then(|| {
            self.members.fetch_add(1, Ordering::Relaxed);
            Arc::new(MemoryBudget::of(Arc::clone(self), floor, most.clamp(floor, self.limit.max(floor)), true))
        })
    }

    /// An account for what is nobody's: without a floor, and not a member.
    pub(crate) fn account(self: &Arc<Self>) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget::of(Arc::clone(self), 0, self.limit, false))
    }

    /// Takes bytes out of what budgets can have. False if they are not there.
    pub fn try_set_aside(&self, bytes: usize) -> bool {
        let is_there = self.try_claim(bytes, |_| true);
        if is_there {
            self.fixed.fetch_add(bytes, Ordering::Relaxed);
        }
        is_there
    }

    /// Keeps so much of what becomes free for whoever waits to become a member; 0 once nobody does.
    pub fn keep_free(&self, bytes: usize) {
        self.wanted.store(bytes, Ordering::Relaxed);
    }

    /// What is kept free now: nothing, if so much can never become free.
    fn kept_free(&self) -> usize {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let ever = self.limit.saturating_sub(self.fixed.load(Ordering::Relaxed));
        if wanted <= ever { wanted } else { 0 }
    }

    /// Gives back what was set aside.
    pub fn give_back(&self, bytes: usize) {
        self.fixed.fetch_sub(bytes, Ordering::Relaxed);
        self.release(bytes);
    }

    /// What each would have if one more were there: so even one that is alone leaves something for the next.
    fn share(&self) -> usize {
        self.limit / (self.members.load(Ordering::Relaxed) + 1)
    }

    /// Claims bytes if they fit, and if `is_fair` says so of what would be left.
    fn try_claim(&self, bytes: usize, is_fair: impl Fn(usize) -> bool) -> bool {
        let claim = |claimed: usize| {
            let sum = claimed.checked_add(bytes)?;
            self.limit.checked_sub(sum).is_some_and(&is_fair).then_some(sum)
        };
        self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok()
    }

    fn claim(&self, bytes: usize) {
        if bytes > 0 {
            self.claimed.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.claimed.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn is_overdrawn(&self) -> bool {
        self.claimed.load(Ordering::Relaxed) > self.limit
    }
}

/// What one pipeline holds. Up to its floor this is one atomic number; what is beyond is counted in common too.
#[derive(Debug)]
pub struct MemoryBudget {
    common: Arc<CommonMemory>,
    floor: usize,
    limit: usize,
    is_member: bool,
    used: AtomicUsize,
    waiting: AtomicUsize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes that nobody else has a part in.
    pub fn new(limit: usize) -> Arc<Self> {
        CommonMemory::new(limit).try_join(limit, limit).expect("all of it is there")
    }

    fn of(common: Arc<CommonMemory>, floor: usize, limit: usize, is_member: bool) -> Self {
        Self { common, floor, limit, is_member, used: AtomicUsize::new(0), waiting: AtomicUsize::new(0) }
    }

    /// The most that it may take, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What it is never refused, in bytes.
    pub fn floor(&self) -> usize {
        self.floor
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of sealed segments that wait for the store.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether it holds more than would be its part if all wanted all that they can get.
    pub fn is_over_share(&self) -> bool {
        self.used() > self.floor.max(self.common.share())
    }

    /// The largest record that it could take if the others held no more than their floors, in bytes.
    pub fn record_bytes_max(&self) -> usize {
        let others = self.common.fixed.load(Ordering::Relaxed).saturating_sub(self.floor);
        let fair = (self.common.limit.saturating_sub(others) + self.common.share()) / 2;
        fair.clamp(self.floor, self.limit)
    }

    /// The same if there were no others: a record that is larger is never taken.
    pub fn record_bytes_ever(&self) -> usize {
        let alone = self.common.limit - self.common.limit / 4;
        alone.clamp(self.floor, self.limit)
    }

    /// What it can count on however much the others want, in bytes. It may hold more as long as they do not.
    pub fn fair_bytes(&self) -> usize {
        self.common.share().clamp(self.floor, self.limit)
    }

    /// Counts `bytes` as waiting for the store until the guard is dropped. They are reserved elsewhere.
    pub fn wait_for_store(self: &Arc<Self>, bytes: usize) -> Waiting {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        Waiting { budget: Arc::clone(self), bytes }
    }

    /// Reserves `bytes` if they fit, and if that leaves the others enough.
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let mut used = self.used();
        loop {
            let sum = used.checked_add(bytes).filter(|sum| *sum <= self.limit)?;
            let more = self.beyond_floor(sum) - self.beyond_floor(used);
            if more > 0 && !self.common.try_claim(more, |left| self.is_fair(sum, left)) {
                return None;
            }
            match self.used.compare_exchange_weak(used, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Reservation { budget: Arc::clone(self), bytes }),
                Err(now) => {
                    self.common.release(more);
                    used = now;
                }
            }
        }
    }

    /// Whether this budget may hold so much when so much is left for all: beyond its share no more than that, and nothing of what others wait for.
    fn is_fair(&self, used: usize, left: usize) -> bool {
        left >= self.common.kept_free() && used.saturating_sub(self.common.share()) <= left
    }

    /// Whether charges have taken it past its limit, or all together past what there is and it is one of those who hold more than their floor.
    pub fn is_overdrawn(&self) -> bool {
        let used = self.used();
        used > self.limit || (used > self.floor && self.common.is_overdrawn())
    }

    /// Reserves `bytes` whether they fit or not.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Reservation {
        self.grow(bytes);
        Reservation { budget: Arc::clone(self), bytes }
    }

    fn beyond_floor(&self, used: usize) -> usize {
        used.saturating_sub(self.floor)
    }

    fn grow(&self, bytes: usize) {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.common.claim(self.beyond_floor(before + bytes) - self.beyond_floor(before));
    }

    fn shrink(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.common.release(self.beyond_floor(before) - self.beyond_floor(before - bytes));
    }
}

impl Drop for MemoryBudget {
    /// Every reservation keeps its budget, so nothing is held any more.
    fn drop(&mut self) {
        if self.is_member {
            self.common.members.fetch_sub(1, Ordering::Relaxed);
            self.common.give_back(self.floor);
        }
    }
}

/// Bytes of a sealed segment, counted while it waits for the store.
#[derive(Debug)]
pub struct Waiting {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.budget.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes taken from a budget; dropping gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the reservation `bytes` large, whether they fit or not.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.grow(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.budget.shrink(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// The same bytes in another budget, if it may have them.
    pub(crate) fn try_moved_to(self, budget: &Arc<MemoryBudget>) -> Option<Self> {
        if Arc::ptr_eq(&self.budget, budget) {
            return Some(self);
        }
        let bytes = self.bytes;
        drop(self);
        budget.try_reserve(bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests;
