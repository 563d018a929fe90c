//! Shares, floors and overdrafts, by example and by chance.

use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;

#[test]
fn a_reservation_is_refused_when_it_does_not_fit_and_returned_when_dropped() {
    let budget = MemoryBudget::new(100);
    let first = budget.try_reserve(60).expect("fits");
    assert!(budget.try_reserve(41).is_none());
    let overdraft = budget.charge(70);
    assert_eq!((budget.used(), budget.is_overdrawn()), (130, true));
    drop((first, overdraft));
    assert_eq!(budget.used(), 0);
    assert_eq!(budget.record_bytes_max(), 100, "one that is alone may take all of it");
}

#[test]
fn one_that_hoards_leaves_the_others_about_half_and_their_floors() {
    let common = CommonMemory::new(100 * MIB);
    let [hoarder, other] = [(); 2].map(|()| common.try_join(2 * MIB, usize::MAX).expect("room"));
    let hoard: Vec<_> = std::iter::from_fn(|| hoarder.try_reserve(MIB)).collect();
    // Two thirds of the memory: a third is its share with one more, and half of the rest.
    assert_eq!(hoarder.used() / MIB, 65);
    assert!(hoarder.is_over_share() && !hoarder.is_overdrawn());
    let held: Vec<_> = std::iter::from_fn(|| other.try_reserve(MIB)).collect();
    assert_eq!(other.used() / MIB, 34, "its share");
    let late = common.try_join(2 * MIB, usize::MAX);
    assert!(late.is_none(), "not even the floor is left");
    drop(hoard);
    let late = common.try_join(2 * MIB, usize::MAX).expect("room again");
    assert!(late.try_reserve(10 * MIB).is_some());
    drop((held, late, hoarder, other));
    assert_eq!((common.claimed.load(Ordering::Relaxed), common.members.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_floor_is_there_although_others_are_overdrawn() {
    let common = CommonMemory::new(10 * MIB);
    let [large, small] = [(); 2].map(|()| common.try_join(2 * MIB, usize::MAX).expect("room"));
    let _encoded = large.charge(20 * MIB);
    assert!(large.is_overdrawn() && large.try_reserve(1).is_none());
    assert!(!small.is_overdrawn());
    let held = small.try_reserve(2 * MIB).expect("its floor");
    assert!(small.try_reserve(1).is_none());
    drop(held);
}

#[test]
fn nobody_takes_more_than_it_was_allowed() {
    let common = CommonMemory::new(100 * MIB);
    let budget = common.try_join(2 * MIB, 10 * MIB).expect("room");
    assert!(budget.try_reserve(10 * MIB + 1).is_none());
    assert!(budget.try_reserve(10 * MIB).is_some());
    assert_eq!((budget.limit(), budget.record_bytes_max()), (10 * MIB, 10 * MIB));
}

#[test]
fn what_is_set_aside_is_nobodys() {
    let common = CommonMemory::new(10 * MIB);
    assert!(common.try_set_aside(9 * MIB) && !common.try_set_aside(2 * MIB));
    assert!(common.try_join(2 * MIB, usize::MAX).is_none());
    common.give_back(9 * MIB);
    assert!(common.try_join(2 * MIB, usize::MAX).is_some());
}

#[test]
fn threads_that_reserve_and_give_back_leave_nothing_behind() {
    let common = CommonMemory::new(8 * MIB);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let budget = common.try_join(MIB, usize::MAX).expect("room");
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(n);
                let mut held = Vec::new();
                for _ in 0..20_000 {
                    match random.u8(..4) {
                        0 => held.extend(budget.try_reserve(random.usize(..MIB))),
                        1 => held.push(budget.charge(random.usize(..MIB / 8))),
                        2 if !held.is_empty() => drop(held.swap_remove(random.usize(..held.len()))),
                        _ => held.iter_mut().take(1).for_each(|r| r.set(random.usize(..MIB))),
                    }
                    held.truncate(8);
                }
            });
        }
    });
    assert_eq!(common.claimed.load(Ordering::Relaxed), 0);
}

#[derive(Clone, Debug)]
enum Act {
    Reserve(usize, usize),
    Charge(usize, usize),
    GiveBack(usize),
    Join,
    Leave(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..8_usize, 0..3_000_usize).prop_map(|(who, bytes)| Act::Reserve(who, bytes)),
        1 => (0..8_usize, 0..300_usize).prop_map(|(who, bytes)| Act::Charge(who, bytes)),
        4 => (0..64_usize).prop_map(Act::GiveBack),
        1 => Just(Act::Join),
        1 => (0..8_usize).prop_map(Act::Leave),
    ]
}

const LIMIT: usize = 10_000;
const FLOOR: usize = 500;

proptest! {
    #[test]
    fn floors_are_served_hoarders_are_not_and_nothing_is_lost(acts in prop::collection::vec(act(), 1..200)) {
        let common = CommonMemory::new(LIMIT);
        let mut budgets: Vec<Arc<MemoryBudget>> = common.try_join(FLOOR, usize::MAX).into_iter().collect();
        // Whose, what, and how much of it was charged.
        let mut held: Vec<(Arc<MemoryBudget>, Reservation, usize)> = Vec::new();
        for act in acts {
            match act {
                Act::Reserve(who, bytes) if !budgets.is_empty() => {
                    let budget = Arc::clone(&budgets[who % budgets.len()]);
                    let (before, share) = (budget.used(), common.share());
                    match budget.try_reserve(bytes) {
                        Some(reservation) => {
                            let left = LIMIT.saturating_sub(common.claimed.load(Ordering::Relaxed));
                            prop_assert!(before + bytes <= FLOOR || (before + bytes).saturating_sub(share) <= left || bytes == 0);
                            held.push((budget, reservation, 0));
                        }
                        None => prop_assert!(before + bytes > FLOOR, "refused below its floor"),
                    }
                }
                Act::Charge(who, bytes) if !budgets.is_empty() => {
                    let budget = Arc::clone(&budgets[who % budgets.len()]);
                    let reservation = budget.charge(bytes);
                    held.push((budget, reservation, bytes));
                }
                Act::GiveBack(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                Act::Join => budgets.extend(common.try_join(FLOOR, usize::MAX)),
                Act::Leave(who) if !budgets.is_empty() => {
                    let gone = budgets.swap_remove(who % budgets.len());
                    held.retain(|(whose, ..)| !Arc::ptr_eq(whose, &gone));
                }
                _ => {}
            }
            let charged: usize = held.iter().map(|(.., charged)| charged).sum();
            let sum: usize = budgets.iter().map(|budget| budget.used()).sum();
            let claimed: usize = budgets.iter().map(|budget| budget.used().max(FLOOR)).sum();
            prop_assert!(sum <= LIMIT + charged, "{sum} bytes, {charged} of them charged");
            prop_assert_eq!(common.claimed.load(Ordering::Relaxed), claimed);
            prop_assert_eq!(common.members.load(Ordering::Relaxed), budgets.len());
        }
        drop((budgets, held));
        prop_assert_eq!((common.claimed.load(Ordering::Relaxed), common.fixed.load(Ordering::Relaxed)), (0, 0));
    }
}

#[test]
fn how_large_a_record_may_be_depends_on_neighbours_and_its_greatest_size_does_not() {
    let common = CommonMemory::new(100 * MIB);
    let budget = common.try_join(2 * MIB, usize::MAX).expect("room");
    let (alone, ever) = (budget.record_bytes_max(), budget.record_bytes_ever());
    assert_eq!((alone, ever), (75 * MIB, 75 * MIB));
    assert!(budget.try_reserve(ever).is_some() && budget.try_reserve(ever + MIB).is_none());
    let neighbours: Vec<_> = (0..20).map(|_| common.try_join(2 * MIB, usize::MAX).expect("room")).collect();
    assert!(budget.record_bytes_max() < ever && budget.record_bytes_ever() == ever);
    assert_eq!(budget.fair_bytes(), 100 * MIB / 22, "its part of the pool, not all of it");
    drop(neighbours);
    assert_eq!(budget.record_bytes_max(), ever);
    let sole = MemoryBudget::new(100);
    assert_eq!((sole.record_bytes_ever(), sole.fair_bytes()), (100, 100));
}

#[test]
fn what_can_never_become_free_is_not_kept_for_anybody() {
    let common = CommonMemory::new(20 * MIB);
    let budgets: Vec<_> = (0..4).map(|_| common.try_join(3 * MIB, usize::MAX).expect("room")).collect();
    common.keep_free(6 * MIB);
    assert!(budgets[0].try_reserve(6 * MIB).is_none(), "8 MiB are left, and 6 of them are waited for");
    common.keep_free(9 * MIB);
    assert!(budgets[0].try_reserve(6 * MIB).is_some(), "nobody will ever have 9 MiB beside four floors of 3");
}
