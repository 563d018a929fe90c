//! Seats: who gets one, what it may fetch, who gives way.

use super::*;

const MIB: u64 = 1 << 20;

fn house() -> Arc<SharedMemory> {
    SharedMemory::new(256 * MIB)
}

fn seated(house: &Arc<SharedMemory>, used: usize, window: u64) -> (Arc<Seat>, crate::budget::Reservation) {
    let seat = house.join(u64::MAX / 2).expect("room");
    seat.seat_consumers(1);
    seat.board().show(0, window);
    let held = seat.budget().charge(used);
    (seat, held)
}

fn fetch(seat: &Seat) -> u64 {
    *seat.fetch_bytes().borrow()
}

#[test]
fn seats_are_given_until_the_budget_is_full_and_again_when_one_is_left() {
    let house = house();
    let mut departures = house.departures();
    let mut seats: Vec<_> = std::iter::from_fn(|| house.join(256 * MIB).ok()).collect();
    assert!(seats.len() > 20, "{}", seats.len());
    let refused = house.join(256 * MIB).unwrap_err();
    assert_eq!((refused.code, refused.kind), (codes::NO_ROOM, ErrorKind::Retryable));
    assert!(!departures.has_changed().unwrap());
    drop(seats.pop());
    assert!(departures.has_changed().unwrap());
    departures.mark_unchanged();
    let last = house.join(256 * MIB).expect("room again");
    assert_eq!(last.sharers(), seats.len() + 1);
    let all: u64 = seats.iter().map(|seat| fetch(seat) + limits::RULE_BYTES_MIN as u64 + limits::RULE_BYTES_FIXED).sum();
    assert!(all < 256 * MIB, "{} MiB", all / MIB);
    drop((seats, last));
    assert!(house.books().places.is_empty() && house.books().drawn == 0);
    assert!(house.common.try_set_aside(usize::try_from(limits::pipeline_bytes(256 * MIB)).unwrap()), "all of it is there again");
}

#[test]
fn partitions_for_which_there_is_no_room_are_refused_and_change_nothing() {
    let house = house();
    let seats: Vec<_> = std::iter::from_fn(|| house.join(256 * MIB).ok()).collect();
    let drawn = house.books().drawn;
    assert_eq!(seats[0].set_partitions(100).unwrap_err().code, codes::NO_ROOM);
    assert_eq!((house.books().drawn, seats[0].place.partitions()), (drawn, 1));
    seats[0].set_partitions(1).unwrap();
}

#[test]
fn fetches_follow_those_that_are_there_by_their_partitions() {
    let house = house();
    let first = house.join(256 * MIB).unwrap();
    let alone = fetch(&first);
    assert!(alone > 20 * MIB && alone <= limits::fetch_bytes(256 * MIB), "{alone}");
    let second = house.join(256 * MIB).unwrap();
    second.set_partitions(6).unwrap();
    assert!(fetch(&first) < alone / 4 && fetch(&second) > 3 * fetch(&first), "{} and {}", fetch(&first), fetch(&second));
    drop(second);
    assert_eq!(fetch(&first), alone);
    let bounded = house.join(96 * MIB).unwrap();
    assert!(fetch(&bounded) <= limits::fetch_bytes(96 * MIB));
}

#[test]
fn more_rules_seldom_change_what_the_others_fetch() {
    let house = SharedMemory::new(1024 * MIB);
    let first = house.join(1024 * MIB).unwrap();
    let mut shares = first.fetch_bytes();
    let mut changes = 0;
    let _others: Vec<_> = (0..99)
        .map(|_| {
            let seat = house.join(1024 * MIB).unwrap();
            seat.set_partitions(2).unwrap();
            changes += u32::from(shares.has_changed().unwrap());
            shares.mark_unchanged();
            seat
        })
        .collect();
    assert!(changes <= 10, "{changes} other clients");
}

#[test]
fn one_that_starves_in_its_share_is_helped_by_whoever_holds_most() {
    let house = house();
    let (large, _held) = seated(&house, 60 << 20, 5);
    let (small, _little) = seated(&house, 1 << 20, 9);
    let (of_large, of_small) = (large.pressed(), small.pressed());
    small.press();
    assert_eq!([&of_large, &of_small].map(|pressed| pressed.count()), [1, 0]);
    assert!(small.close_largest());
    assert_eq!([&large, &small].map(|seat| seat.board().take_request(0)), [true, false]);
    // What waits for the store is not helped by more that does.
    let _waiting = large.budget().wait_for_store(50 << 20);
    assert!(small.close_largest());
    assert_eq!([&large, &small].map(|seat| seat.board().take_request(0)), [false, true]);
}

#[test]
fn one_that_starves_beyond_its_share_helps_itself() {
    let house = house();
    let (large, _held) = seated(&house, 100 << 20, 5);
    let (larger, _more) = seated(&house, 110 << 20, 9);
    let (of_large, of_larger) = (large.pressed(), larger.pressed());
    large.press();
    assert!(large.close_largest());
    assert_eq!([&of_large, &of_larger].map(|pressed| pressed.count()), [1, 0]);
    assert_eq!([&large, &larger].map(|seat| seat.board().take_request(0)), [true, false]);
}

#[test]
fn one_that_is_alone_presses_itself_and_waits_for_its_store() {
    let seat = Seat::alone(100, 7);
    seat.seat_consumers(1);
    seat.board().show(0, 10);
    let pressed = seat.pressed();
    seat.press();
    let waiting = seat.budget().wait_for_store(26);
    assert!(!seat.close_largest() && !seat.board().take_request(0), "a quarter of its memory waits");
    drop(waiting);
    assert!(seat.close_largest() && seat.board().take_request(0));
    assert_eq!((pressed.count(), fetch(&seat), seat.sharers()), (1, 7, 1));
    seat.set_partitions(1_000).unwrap();
}

#[test]
fn what_becomes_free_is_kept_for_whoever_waits_for_a_seat() {
    let house = house();
    let mut seats: Vec<_> = std::iter::from_fn(|| house.join(256 * MIB).ok()).collect();
    let waits = house.wait_for_seat();
    drop(seats.pop());
    let greedy = seats[0].budget();
    let held: Vec<_> = std::iter::from_fn(|| greedy.try_reserve(64 << 10)).collect();
    assert!(greedy.used() >= greedy.floor(), "its floor is never refused");
    let joined = house.join(256 * MIB).expect("it was kept");
    drop(waits);
    drop(joined);
    assert!(greedy.try_reserve(64 << 10).is_some(), "nobody waits any more");
    drop(held);
}

#[test]
fn partitions_that_come_later_are_counted() {
    let house = house();
    let seat = house.join(256 * MIB).unwrap();
    let before = house.books().drawn;
    seat.grow_to(5).unwrap();
    let grown = house.books().drawn;
    assert_eq!((seat.place.partitions(), grown - before), (5, limits::fetch_bytes_min(5) - limits::fetch_bytes_min(1)));
    seat.grow_to(3).unwrap();
    assert_eq!((seat.place.partitions(), house.books().drawn), (5, grown), "they may come back");
}

#[test]
fn a_byte_more_or_less_makes_no_client_come_and_go() {
    for step in [FETCH_STEP_MIN, 2 * FETCH_STEP_MIN, MIB, 16 * MIB] {
        let (mut now, mut changes) = (dealt(0, step), 0);
        for spare in [step - 1, step].into_iter().cycle().take(20) {
            let next = dealt(now, spare);
            changes += u32::from(next != now);
            now = next;
        }
        assert!(changes <= 1, "{changes} changes about {step}");
        assert!(dealt(now, 4 * step) > now, "several times as much is worth another client");
    }
}
