//! Blocks that are used again, and what they reserve.
//!
//! Place in the flow: a reader takes a block for each open window, fills it, and sends it to its builder, which gives it back. Guarantee: a block
//! that is out counts for the pipeline that has it, one that lies free for all of them. Pipelines that share their memory share the free blocks too:
//! what one has touched for the first time, another one need not.
//!
//! Not done here: what is refused, to whom and why, is the [budget](crate::budget)'s.

use std::sync::{Arc, Mutex, PoisonError};

use catchment_formats::{Block, ValueLayout};

use crate::budget::{CommonMemory, MemoryBudget, Reservation};

/// What a new block reserves before its first record; its true size is settled as it fills.
const BLOCK_BYTES_FIRST: usize = 64 << 10;

/// Free blocks kept for reuse. Enough for every thread to have one in its hands and one queued; more only holds memory.
const BLOCKS_FREE_MAX: usize = 16;

/// A free block larger than this held an unusually large record and is not kept.
const BLOCK_BYTES_KEPT_MAX: usize = 4 << 20;

/// Blocks that lie free, and who counts them.
#[derive(Debug)]
pub struct FreeBlocks {
    account: Arc<MemoryBudget>,
    blocks: Mutex<Vec<(Block, Reservation)>>,
}

impl FreeBlocks {
    /// For pipelines whose budgets have this in common.
    pub fn of(common: &Arc<CommonMemory>) -> Arc<Self> {
        Self::counted_by(common.account())
    }

    fn counted_by(account: Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self { account, blocks: Mutex::default() })
    }

    fn put(&self, block: Block, reservation: Reservation) {
        let mut blocks = self.locked();
        if blocks.len() < BLOCKS_FREE_MAX
            && block.capacity_bytes() <= BLOCK_BYTES_KEPT_MAX
            && let Some(reservation) = reservation.try_moved_to(&self.account)
        {
            blocks.push((block, reservation));
        }
    }

    /// Gives the memory of all of them back.
    pub fn clear(&self) {
        self.locked().clear();
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<(Block, Reservation)>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pipeline's way to blocks, so that their pages are touched for the first time only once.
#[derive(Debug)]
pub struct BlockPool {
    budget: Arc<MemoryBudget>,
    free: Arc<FreeBlocks>,
}

impl BlockPool {
    /// A pool of its own that reserves from `budget`.
    pub fn new(budget: Arc<MemoryBudget>) -> Arc<Self> {
        let free = FreeBlocks::counted_by(Arc::clone(&budget));
        Self::sharing(budget, free)
    }

    /// A pool that reserves from `budget` and shares the free blocks with others.
    pub fn sharing(budget: Arc<MemoryBudget>, free: Arc<FreeBlocks>) -> Arc<Self> {
        Arc::new(Self { budget, free })
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
        let (mut block, mut reservation) = match self.recycled() {
            Some(pair) => pair,
            None => (Block::new(layout), self.budget.try_reserve(BLOCK_BYTES_FIRST)?),
        };
        if record_bytes > reservation.bytes() {
            let Some(more) = self.budget.try_reserve(record_bytes - reservation.bytes()) else {
                self.free.put(block, reservation);
                return None;
            };
            let bytes = reservation.bytes() + more.bytes();
            drop(more);
            reservation.set(bytes);
        }
        block.reset(layout);
        Some(PooledBlock { inner: Some((block, reservation)), pool: Arc::clone(self) })
    }

    /// A free block, unless it is too large for this budget: then it is nobody's any more.
    fn recycled(&self) -> Option<(Block, Reservation)> {
        let (block, reservation) = self.free.locked().pop()?;
        Some((block, reservation.try_moved_to(&self.budget)?))
    }

    /// Gives the memory of all free blocks back to the budget.
    pub fn shrink(&self) {
        self.free.clear();
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
            self.pool.free.put(block, reservation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_free_block_counts_for_nobody_and_goes_to_whoever_has_room_for_it() {
        let common = CommonMemory::new(8 << 20);
        let free = FreeBlocks::of(&common);
        let pool = || BlockPool::sharing(common.try_join(1 << 20, usize::MAX).expect("room"), Arc::clone(&free));
        let (first, second) = (pool(), pool());
        drop(first.take(ValueLayout::Plain, 10).expect("room"));
        assert_eq!((first.budget().used(), free.account.used()), (0, BLOCK_BYTES_FIRST));
        let taken = second.take(ValueLayout::Plain, 10).expect("room");
        assert_eq!((second.budget().used(), free.account.used()), (BLOCK_BYTES_FIRST, 0));
        drop(taken);
        let _hoard = first.budget().charge(8 << 20);
        assert!(first.take(ValueLayout::Plain, 10).is_none());
        assert!(second.take(ValueLayout::Plain, 10).is_some(), "its floor is untouched");
    }
}
