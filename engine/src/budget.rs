//! The memory budget and the block pool.
//!
//! Guarantee: the sum of all reservations is what the pipeline holds. Memory for new records is *asked for*
//! ([`MemoryBudget::try_reserve`]) and may be refused: that is the only place where the engine stops reading. Memory for
//! what records already taken turn into (compressed pages, row-group columns) is *charged* and may overdraw, by no more
//! than the blocks that are being encoded at that moment, because a block's own reservation is given back after.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use catchment_formats::{Block, ValueLayout};

/// Bytes of memory, counted.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), waiting: AtomicUsize::new(0) })
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of sealed segments that wait for the store.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts `bytes` as waiting for the store until the guard is dropped. They are reserved elsewhere.
    pub fn wait_for_store(self: &Arc<Self>, bytes: usize) -> Waiting {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        Waiting { budget: Arc::clone(self), bytes }
    }

    /// Reserves `bytes` if they fit.
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.limit))
            .ok()
            .map(|_| Reservation { budget: Arc::clone(self), bytes })
    }

    /// Whether charges have taken it past its limit.
    pub fn is_overdrawn(&self) -> bool {
        self.used() > self.limit
    }

    /// Reserves `bytes` whether they fit or not.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Reservation {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Reservation { budget: Arc::clone(self), bytes }
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
        if bytes >= self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What a new block reserves before its first record; its true size is settled as it fills.
const BLOCK_BYTES_FIRST: usize = 64 << 10;

/// Free blocks kept for reuse. Enough for every thread to have one in its hands and one queued; more only holds memory.
const BLOCKS_FREE_MAX: usize = 16;

/// A free block larger than this held an unusually large record and is not kept.
const BLOCK_BYTES_KEPT_MAX: usize = 4 << 20;

/// Blocks that are used again, so that their pages are touched for the first time only once.
#[derive(Debug)]
pub struct BlockPool {
    budget: Arc<MemoryBudget>,
    free: Mutex<Vec<(Block, Reservation)>>,
}

impl BlockPool {
    /// A pool that reserves from `budget`.
    pub fn new(budget: Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self { budget, free: Mutex::new(Vec::new()) })
    }

    /// The budget.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// A block for one more record of `record_bytes`, if the budget has room.
    pub fn take(self: &Arc<Self>, layout: ValueLayout, record_bytes: usize) -> Option<PooledBlock> {
        if self.budget.is_overdrawn() {
            // A free block would be at hand, but what its records turn into would not fit: not before the store has taken something.
            return None;
        }
        let recycled = self.free().pop();
        let (mut block, mut reservation) = match recycled {
            Some(pair) => pair,
            None => (Block::new(layout), self.budget.try_reserve(BLOCK_BYTES_FIRST)?),
        };
        if record_bytes > reservation.bytes() {
            let Some(more) = self.budget.try_reserve(record_bytes - reservation.bytes()) else {
                self.give_back(block, reservation);
                return None;
            };
            let bytes = reservation.bytes() + more.bytes();
            drop(more);
            reservation.set(bytes);
        }
        block.reset(layout);
        Some(PooledBlock { inner: Some((block, reservation)), pool: Arc::clone(self) })
    }

    /// Gives the memory of all free blocks back to the budget.
    pub fn shrink(&self) {
        self.free().clear();
    }

    fn give_back(&self, block: Block, reservation: Reservation) {
        let mut free = self.free();
        if free.len() < BLOCKS_FREE_MAX && block.capacity_bytes() <= BLOCK_BYTES_KEPT_MAX {
            free.push((block, reservation));
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<(Block, Reservation)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block on loan; dropping returns it.
#[derive(Debug)]
pub struct PooledBlock {
    inner: Option<(Block, Reservation)>,
    pool: Arc<BlockPool>,
}

impl PooledBlock {
    /// Settles the reservation with the memory that the block really holds.
    pub fn settle(&mut self) {
        if let Some((block, reservation)) = &mut self.inner {
            reservation.set(block.capacity_bytes().max(BLOCK_BYTES_FIRST));
        }
    }

    /// Whether a record of `bytes` can be added now. Only a record larger than the block's usual room asks the budget.
    pub fn admits(&mut self, bytes: usize) -> bool {
        const USUAL: usize = 1 << 20;
        if bytes <= USUAL {
            return true;
        }
        let Some((block, reservation)) = &mut self.inner else { return false };
        let held = block.values().len() + block.keys().len() + block.headers().len();
        // What is reserved already counts: a record that takes all that there is would wait for ever otherwise.
        let room = reservation.bytes().saturating_sub(held);
        if bytes <= room {
            return true;
        }
        match self.pool.budget.try_reserve(bytes - room) {
            Some(more) => {
                let sum = reservation.bytes() + more.bytes();
                drop(more);
                reservation.set(sum);
                true
            }
            None => false,
        }
    }
}

impl std::ops::Deref for PooledBlock {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.inner.as_ref().expect("a block is on loan until it is dropped").0
    }
}

impl std::ops::DerefMut for PooledBlock {
    fn deref_mut(&mut self) -> &mut Block {
        &mut self.inner.as_mut().expect("a block is on loan until it is dropped").0
    }
}

impl Drop for PooledBlock {
    fn drop(&mut self) {
        if let Some((block, mut reservation)) = self.inner.take() {
            reservation.set(block.capacity_bytes().max(BLOCK_BYTES_FIRST));
            self.pool.give_back(block, reservation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_refused_when_it_does_not_fit_and_returned_when_dropped() {
        let budget = MemoryBudget::new(100);
        let first = budget.try_reserve(60).expect("fits");
        assert!(budget.try_reserve(41).is_none());
        let overdraft = budget.charge(70);
        assert_eq!(budget.used(), 130);
        drop((first, overdraft));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn no_block_is_handed_out_while_the_budget_is_overdrawn() {
        let budget = MemoryBudget::new(1 << 20);
        let pool = BlockPool::new(Arc::clone(&budget));
        drop(pool.take(ValueLayout::Plain, 10).expect("room"));
        let encoded = budget.charge(1 << 20);
        assert!(pool.take(ValueLayout::Plain, 10).is_none(), "also not one that lies free");
        drop(encoded);
        assert!(pool.take(ValueLayout::Plain, 10).is_some());
    }

    #[test]
    fn a_record_that_takes_all_that_there_is_gets_it() {
        let budget = MemoryBudget::new(8 << 20);
        let pool = BlockPool::new(Arc::clone(&budget));
        let mut fresh = pool.take(ValueLayout::Plain, 8 << 20).expect("all of it");
        assert!(fresh.admits(8 << 20), "what was reserved for it is not asked for again");
        drop(fresh);
        pool.shrink();
        let mut at_hand = pool.take(ValueLayout::Plain, 10).expect("room");
        assert!(at_hand.admits(8 << 20), "nor is what the block at hand holds");
        assert!(!at_hand.admits((8 << 20) + 1));
    }

    #[test]
    fn free_blocks_count_until_the_pool_shrinks() {
        let budget = MemoryBudget::new(1 << 20);
        let pool = BlockPool::new(Arc::clone(&budget));
        drop(pool.take(ValueLayout::Plain, 10).expect("room"));
        assert!(budget.used() > 0);
        pool.shrink();
        assert_eq!(budget.used(), 0);
        assert!(pool.take(ValueLayout::Plain, 2 << 20).is_none(), "a record larger than the budget's rest is refused");
        drop(pool.take(ValueLayout::Plain, 10).expect("room"));
        let _parts = budget.charge(1 << 20);
        assert!(pool.take(ValueLayout::Plain, 10).is_none(), "above the limit not even a free block is given out");
    }
}
