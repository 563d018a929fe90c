//! One memory for all pipelines of a process: who has a place in it, and who must give way when it runs short.
//!
//! Place in the flow: made once, with the process. A pipeline takes a [`Seat`] before it connects and has it until it has ended. The seat is where its stages
//! find their budget, their blocks, and whom to ask when they starve; and where its fetch clients learn how much they may hold.
//!
//! Guarantees:
//! - All seats together keep to what [`limits`] makes of the process's budget: a seat for which not even its floor, its threads and its
//!   smallest fetches are there is refused (C0643).
//! - A pipeline that starves in its own share is helped by the one that holds most; one that starves beyond it helps itself.
//! - What fetches may hold follows those that are there, by their partitions, in steps: another share means another client for a pipeline.
//! - A seat that is given up leaves nothing behind.
//!
//! Not done here: counting ([`budget`](crate::budget)), and choosing a window within a pipeline ([`pressure`](crate::pressure)).

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::watch;

use crate::blocks::{BlockPool, FreeBlocks};
use crate::budget::{CommonMemory, MemoryBudget};
use crate::error::{Error, ErrorKind, Result, codes};
use crate::limits;
use crate::pressure::{PressureBoard, PressureCalls};

/// The smallest part of the fetches' memory that is dealt out beyond what each partition needs, in bytes. Less would make clients come and go for nothing.
const FETCH_STEP_MIN: u64 = 64 << 10;

/// The memory of a process.
#[derive(Debug)]
pub struct SharedMemory {
    common: Arc<CommonMemory>,
    free: Arc<FreeBlocks>,
    shares: limits::SharedBytes,
    books: Mutex<Books>,
    left: watch::Sender<u64>,
}

/// Who is there.
#[derive(Debug, Default)]
struct Books {
    places: Vec<Arc<Place>>,
    /// Bytes that threads and the smallest fetches of all of them take.
    drawn: u64,
    /// Bytes that each partition may fetch ahead beyond its smallest fetch.
    each: u64,
    /// How many wait for a seat.
    waiting: usize,
}

/// What others see of a seat.
#[derive(Debug)]
struct Place {
    budget: Weak<MemoryBudget>,
    is_alone: bool,
    partitions: AtomicU32,
    fetch: watch::Sender<u64>,
    fetch_max: u64,
    pressed: Arc<PressureCalls>,
    board: OnceLock<PressureBoard>,
}

impl Place {
    fn new(budget: &Arc<MemoryBudget>, is_alone: bool, fetch: u64) -> Arc<Self> {
        Arc::new(Self {
            budget: Arc::downgrade(budget),
            is_alone,
            partitions: AtomicU32::new(1),
            fetch: watch::Sender::new(fetch),
            fetch_max: fetch,
            pressed: Arc::default(),
            board: OnceLock::new(),
        })
    }

    fn partitions(&self) -> u32 {
        self.partitions.load(Ordering::Relaxed)
    }

    fn used(&self) -> usize {
        self.budget.upgrade().map_or(0, |budget| budget.used())
    }

    /// Has the largest window closed. Not if the store is what is waited for: then memory comes back by itself, or closing brings none. False if nothing
    /// came of it.
    fn close_largest(&self) -> bool {
        let (Some(budget), Some(board)) = (self.budget.upgrade(), self.board.get()) else { return false };
        let whole = if self.is_alone { budget.limit() } else { budget.used() };
        budget.waiting() <= whole / 4 && board.ask_largest()
    }
}

impl SharedMemory {
    /// For a process with this budget, in bytes.
    pub fn new(budget: u64) -> Arc<Self> {
        let shares = limits::SharedBytes::of(budget);
        let common = CommonMemory::new(usize::try_from(shares.pipelines).unwrap_or(usize::MAX));
        let free = FreeBlocks::of(&common);
        Arc::new(Self { common, free, shares, books: Mutex::default(), left: watch::Sender::new(0) })
    }

    /// A place for a pipeline that takes no more than it would with a budget of `most` bytes for itself.
    ///
    /// # Errors
    /// `C0643` if there is no room for it now.
    pub fn join(self: &Arc<Self>, most: u64) -> Result<Arc<Seat>> {
        self.try_join(most).or_else(|_| {
            self.make_room();
            self.try_join(most)
        })
    }

    /// What nobody uses goes, and who holds most lets go of what it can: whoever waits for a place has nothing to press with.
    fn make_room(&self) {
        self.free.clear();
        if let Some(place) = self.by_use().first() {
            place.pressed.call();
        }
        // One whose store is away cannot help; the next one can.
        let _helps = self.by_use().iter().any(|place| place.close_largest());
    }

    /// Until this is dropped, what becomes free is kept for somebody who waits for a seat: those that have one would take it again at once.
    pub fn wait_for_seat(self: &Arc<Self>) -> WaitsForSeat {
        self.count_waiting(|waiting| waiting + 1);
        WaitsForSeat(Arc::clone(self))
    }

    fn count_waiting(&self, count: impl Fn(usize) -> usize) {
        let mut books = self.books();
        books.waiting = count(books.waiting);
        // One at a time: where there is room for one, it takes its seat.
        let least = limits::RULE_BYTES_MIN + usize::try_from(self.cost(1)).unwrap_or_default();
        self.common.keep_free(if books.waiting > 0 { least } else { 0 });
    }

    fn try_join(self: &Arc<Self>, most: u64) -> Result<Arc<Seat>> {
        let mut books = self.books();
        if !self.redraw(&mut books, 0, self.cost(1)) {
            return Err(no_room());
        }
        let bytes_max = usize::try_from(limits::pipeline_bytes(most)).unwrap_or(usize::MAX);
        let Some(budget) = self.common.try_join(limits::RULE_BYTES_MIN, bytes_max) else {
            self.redraw(&mut books, self.cost(1), 0);
            return Err(no_room());
        };
        let place = Place::new(&budget, false, limits::fetch_bytes(most));
        books.places.push(Arc::clone(&place));
        self.share_out(&mut books);
        let pool = BlockPool::sharing(Arc::clone(&budget), Arc::clone(&self.free));
        Ok(Arc::new(Seat { place, budget, pool, house: Some(Arc::clone(self)) }))
    }

    /// Rises whenever a seat is given up.
    pub fn departures(&self) -> watch::Receiver<u64> {
        self.left.subscribe()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a pipeline takes beside its budget.
    fn cost(&self, partitions: u32) -> u64 {
        limits::RULE_BYTES_FIXED + limits::fetch_bytes_min(partitions).min(self.shares.fetch)
    }

    /// Draws `more` in place of `less`: from what is kept for that, and then from what pipelines have in common. False if that is not there.
    fn redraw(&self, books: &mut Books, less: u64, more: u64) -> bool {
        let drawn = books.drawn - less + more;
        let beyond = |drawn: u64| usize::try_from(drawn.saturating_sub(self.shares.aside)).unwrap_or(usize::MAX);
        let (before, after) = (beyond(books.drawn), beyond(drawn));
        if after > before && !self.common.try_set_aside(after - before) {
            return false;
        }
        self.common.give_back(before.saturating_sub(after));
        books.drawn = drawn;
        true
    }

    /// Tells each how much it may fetch ahead.
    fn share_out(&self, books: &mut Books) {
        let partitions: u64 = books.places.iter().map(|place| u64::from(place.partitions())).sum();
        let kept = books.drawn.max(self.shares.aside - self.shares.fetch);
        let spare = self.shares.aside.saturating_sub(kept).checked_div(partitions).unwrap_or_default();
        books.each = dealt(books.each, spare);
        for place in &books.places {
            let count = place.partitions();
            let bytes = (limits::fetch_bytes_least(count) + books.each * u64::from(count)).min(place.fetch_max);
            place.fetch.send_if_modified(|now| std::mem::replace(now, bytes) != bytes);
        }
    }

    /// Those that hold most come first.
    fn by_use(&self) -> Vec<Arc<Place>> {
        let mut places = self.books().places.clone();
        places.sort_by_cached_key(|place| Reverse(place.used()));
        places
    }

    fn leave(&self, place: &Arc<Place>) {
        let mut books = self.books();
        books.places.retain(|other| !Arc::ptr_eq(other, place));
        self.redraw(&mut books, self.cost(place.partitions()), 0);
        self.share_out(&mut books);
        drop(books);
        self.left.send_modify(|n| *n += 1);
    }
}

/// Somebody waits for a seat, until this is dropped.
#[derive(Debug)]
pub struct WaitsForSeat(Arc<SharedMemory>);

impl Drop for WaitsForSeat {
    fn drop(&mut self) {
        self.0.count_waiting(|waiting| waiting.saturating_sub(1));
    }
}

/// What each partition has in place of `now` if there is `spare` for it. Seldom another amount: with less than is there for the next to come, and more only
/// when it is several times as much.
fn dealt(now: u64, spare: u64) -> u64 {
    let fitting = if spare < FETCH_STEP_MIN { 0 } else { 1 << spare.ilog2() };
    match now {
        // A step down leaves at least a quarter of what there was spare for, so that the way back is twice as long.
        _ if spare / 8 >= now.max(FETCH_STEP_MIN / 4) => fitting,
        _ if spare < now => fitting / 2,
        _ => now,
    }
}

fn no_room() -> Error {
    Error::new(codes::NO_ROOM, ErrorKind::Retryable, "the memory budget has no room for another rule")
        .help("it starts when another rule ends; pause one, or start the service with a larger --budget")
}

/// A pipeline's place in the memory, for as long as it is held.
#[derive(Debug)]
pub struct Seat {
    place: Arc<Place>,
    budget: Arc<MemoryBudget>,
    pool: Arc<BlockPool>,
    /// None for one that is alone.
    house: Option<Arc<SharedMemory>>,
}

impl Seat {
    /// For the only pipeline of a process, with `bytes` for blocks, encoders and parts and `fetch` bytes for what is fetched ahead.
    pub fn alone(bytes: usize, fetch: u64) -> Arc<Self> {
        let budget = MemoryBudget::new(bytes);
        let pool = BlockPool::new(Arc::clone(&budget));
        Arc::new(Self { place: Place::new(&budget, true, fetch), budget, pool, house: None })
    }

    /// For the only pipeline of a process with this budget, in bytes.
    pub fn of_budget(budget: u64) -> Arc<Self> {
        Self::alone(usize::try_from(limits::pipeline_bytes(budget)).unwrap_or(usize::MAX), limits::fetch_bytes(budget))
    }

    /// What it holds.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Where its blocks come from.
    pub fn pool(&self) -> &Arc<BlockPool> {
        &self.pool
    }

    /// Whether the process has no other pipeline, and never will.
    pub fn is_alone(&self) -> bool {
        self.house.is_none()
    }

    /// How many pipelines share the memory; 1 for one that is alone.
    pub fn sharers(&self) -> usize {
        self.house.as_ref().map_or(1, |house| house.books().places.len().max(1))
    }

    /// Bytes that may be fetched ahead; changes as others come and go.
    pub fn fetch_bytes(&self) -> watch::Receiver<u64> {
        self.place.fetch.subscribe()
    }

    /// So many partitions are read.
    ///
    /// # Errors
    /// `C0643` if there is no room for them now.
    pub fn set_partitions(&self, partitions: u32) -> Result<()> {
        let (Some(house), partitions) = (&self.house, partitions.max(1)) else { return Ok(()) };
        let (before, after) = (house.cost(self.place.partitions()), house.cost(partitions));
        let mut books = house.books();
        if !house.redraw(&mut books, before, after) {
            house.free.clear();
            if !house.redraw(&mut books, before, after) {
                return Err(no_room());
            }
        }
        self.place.partitions.store(partitions, Ordering::Relaxed);
        house.share_out(&mut books);
        Ok(())
    }

    /// More partitions are read than when it began: those of topics that came later count as well. What was taken for more is kept.
    ///
    /// # Errors
    /// As [`set_partitions`](Self::set_partitions).
    pub fn grow_to(&self, partitions: u32) -> Result<()> {
        if partitions > self.place.partitions() { self.set_partitions(partitions) } else { Ok(()) }
    }

    /// Makes the board on which `consumers` show their largest windows.
    pub fn seat_consumers(&self, consumers: usize) {
        let fresh = self.place.board.set(PressureBoard::new(consumers));
        assert!(fresh.is_ok(), "a seat is for one pipeline");
    }

    /// The consumers' board.
    pub fn board(&self) -> &PressureBoard {
        self.place.board.get().expect("a pipeline seats its consumers before it starts them")
    }

    /// Calls to let go of what this pipeline can.
    pub fn pressed(&self) -> &Arc<PressureCalls> {
        &self.place.pressed
    }

    /// A consumer starves: free blocks go, and whoever should give way begins uploads early.
    pub fn press(&self) {
        self.pool.shrink();
        let press = |place: &Place| place.pressed.call();
        match self.helpers() {
            None => press(&self.place),
            Some(house) => house.by_use().first().into_iter().for_each(|place| press(place)),
        }
    }

    /// A consumer has starved for long: a window is closed early, the largest one of whoever should give way. False if there is none, or if only stores can
    /// help.
    pub fn close_largest(&self) -> bool {
        match self.helpers() {
            None => self.place.close_largest(),
            Some(house) => house.by_use().iter().any(|place| place.close_largest()),
        }
    }

    /// Who can help; none if this pipeline should help itself.
    fn helpers(&self) -> Option<&Arc<SharedMemory>> {
        self.house.as_ref().filter(|_| !self.budget.is_over_share())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(house) = &self.house {
            house.leave(&self.place);
        }
    }
}

#[cfg(test)]
mod tests;
