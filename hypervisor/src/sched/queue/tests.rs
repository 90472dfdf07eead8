//! Turns as they would be on one CPU.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const SLICE: u64 = 1000;

fn queue(shares: &[(u32, u8)]) -> RunQueue<usize> {
    let mut queue = RunQueue::new(SLICE);
    for (n, (weight, priority)) in shares.iter().enumerate() {
        queue.arrive(Moving::new(n, Share::new(*weight, *priority)));
        queue.wake(n, 0);
    }
    queue
}

/// Runs whoever is next for as long as it may, at most `most`.
fn run(queue: &mut RunQueue<usize>, now: &mut u64, most: u64) -> usize {
    let (index, _) = queue.take_next(*now, |_| true).expect("somebody is ready");
    let end = queue.turn_end().unwrap_or(now.saturating_add(most));
    let ticks = most.min(end.saturating_sub(*now));
    *now += ticks;
    queue.put_back(index, *now, ticks, false);
    *queue.get(index).expect("it is there")
}

/// Returns how long each has run after `total` ticks.
fn shares(queue: &mut RunQueue<usize>, total: u64, most: u64) -> Vec<u64> {
    let mut had = vec![0; 4];
    let mut now = 0;
    while now < total {
        let before = now;
        let who = run(queue, &mut now, most);
        had[who] += now - before;
    }
    had
}

#[test]
fn turns_go_round() {
    let mut queue = queue(&[(100, 0); 3]);
    let mut now = 0;
    for turn in 0..9 {
        assert_eq!(run(&mut queue, &mut now, u64::MAX), turn % 3);
        assert_eq!(now, (turn as u64 + 1) * SLICE);
    }
}

#[test]
fn time_is_shared_by_weight() {
    for most in [1, 37, SLICE, u64::MAX] {
        let mut queue = queue(&[(100, 0), (300, 0), (100, 0)]);
        let had = shares(&mut queue, 500_000, most);
        for (had, fair) in had.iter().zip([100_000, 300_000, 100_000]) {
            assert!(had.abs_diff(fair) <= 2 * SLICE, "{had:?}");
        }
    }
}

#[test]
fn a_higher_priority_goes_first_and_interrupts() {
    let mut queue = queue(&[(10_000, 0), (1, 1)]);
    let had = shares(&mut queue, 100_000, 100);
    assert_eq!(had[0], 0);
    queue.put_to_rest(1, Rest::Blocked);
    assert_eq!(run(&mut queue, &mut 100_000, 10), 0);
    queue.wake(1, 100_010);
    assert_eq!(
        run(&mut queue, &mut 100_010, 10),
        1,
        "in the middle of a turn"
    );
}

#[test]
fn who_wakes_up_interrupts_one_that_has_run_but_not_for_long() {
    let mut queue = queue(&[(100, 0), (100, 0)]);
    queue.put_to_rest(1, Rest::Blocked);
    let mut now = 0;
    for _ in 0..100 {
        run(&mut queue, &mut now, SLICE);
    }
    queue.wake(1, now);
    let since = now;
    assert_eq!(run(&mut queue, &mut now, 10), 1, "at once");
    // What it has slept through is worth a slice or two, no more.
    let mut had = 0;
    while now < since + 20 * SLICE {
        let before = now;
        if run(&mut queue, &mut now, SLICE) == 1 {
            had += now - before;
        }
    }
    assert!((10 * SLICE..=13 * SLICE).contains(&had), "{had}");
}

/// Returns a queue of one that has run until `SINCE` and of others that rest: one
/// of its family, one of another, and two more of its own.
fn families() -> RunQueue<usize> {
    let mut queue = RunQueue::new(SLICE);
    for (n, family) in [7, 7, 8, 7, 7].into_iter().enumerate() {
        queue.arrive(Moving::new(n, Share::new(100, 0)).of_family(family));
    }
    queue.wake(0, 0);
    assert_eq!(run(&mut queue, &mut 0, SINCE), 0);
    queue
}

const SINCE: u64 = 100 * SLICE;

#[test]
fn who_wakes_up_does_not_interrupt_its_family_at_once() {
    let mut queue = families();
    let mut now = SINCE;
    queue.wake(1, now);
    assert_eq!(run(&mut queue, &mut now, SLICE), 0, "its tick");
    assert_eq!(now, SINCE + SLICE / GRACE);
    assert_eq!(run(&mut queue, &mut now, 10), 1);
    let mut queue = families();
    queue.wake(2, SINCE);
    assert_eq!(run(&mut queue, &mut now, SLICE), 2, "a stranger");
}

#[test]
fn who_wakes_up_does_not_wait_longer_because_others_wake_up() {
    let mut queue = families();
    let mut now = SINCE;
    for sleeper in [1, 3, 4] {
        queue.wake(sleeper, now);
        assert_eq!(run(&mut queue, &mut now, 10), 0);
    }
    assert_eq!(run(&mut queue, &mut now, SLICE), 0);
    assert_eq!(now, SINCE + SLICE / GRACE);
    assert_eq!(run(&mut queue, &mut now, 10), 1);
}

#[test]
fn who_wakes_up_with_less_right_to_the_cpu_waits_for_the_end_of_the_turn() {
    let mut queue = queue(&[(100, 0), (100, 0)]);
    let mut now = 0;
    assert_eq!(run(&mut queue, &mut now, SLICE), 0);
    assert_eq!(run(&mut queue, &mut now, SLICE), 1);
    assert_eq!(run(&mut queue, &mut now, SLICE), 0);
    queue.put_to_rest(0, Rest::Blocked);
    assert_eq!(run(&mut queue, &mut now, 10), 1);
    // It has had more than the other.
    queue.wake(0, now);
    assert_eq!(run(&mut queue, &mut now, u64::MAX), 1, "its turn goes on");
    assert_eq!(now, 4 * SLICE);
    assert_eq!(run(&mut queue, &mut now, 10), 0);
}

#[test]
fn nobody_waits_for_a_turn_to_end_that_nobody_else_wants() {
    let mut queue = queue(&[(100, 0), (100, 0)]);
    queue.put_to_rest(1, Rest::Blocked);
    assert_eq!(queue.take_next(0, |_| true), Some((0, 0)));
    assert_eq!(queue.turn_end(), None);
    queue.put_back(0, 10, 0, false);
    queue.wake(1, 10);
    assert_eq!(queue.take_next(10, |item| *item != 1), Some((0, 0)));
    assert_eq!(queue.turn_end(), None, "the other may not run");
    queue.put_back(0, 20, 0, false);
    assert_eq!(queue.take_next(20, |_| true), Some((0, 0)));
    assert_eq!(queue.turn_end(), Some(SLICE));
}

#[test]
fn a_turn_that_is_given_up_goes_to_the_next() {
    let mut queue = queue(&[(100, 0), (100, 0)]);
    for turn in 0..6 {
        let (index, _) = queue.take_next(5, |_| true).expect("ready");
        assert_eq!(index, turn % 2);
        queue.put_back(index, 5, 0, true);
    }
}

#[test]
fn who_may_not_run_is_passed_over() {
    let mut queue = queue(&[(100, 7), (100, 0)]);
    assert_eq!(queue.take_next(0, |item| *item != 0), Some((1, 0)));
    queue.put_back(1, 10, 0, false);
    assert_eq!(queue.take_next(10, |item| *item != 1), Some((0, 10)));
    queue.put_back(0, 20, 0, false);
    assert_eq!(queue.take_next(20, |_| false), None);
}

#[test]
fn who_moves_is_neither_favoured_nor_punished() {
    let mut here = queue(&[(100, 0); 3]);
    shares(&mut here, 30_000, SLICE);
    let mut there = queue(&[(100, 0)]);
    shares(&mut there, 900_000, SLICE);
    let moving = here.leave(2).expect("it waits");
    assert_eq!(here.len(), 2);
    there.arrive(moving);
    let had = shares(&mut there, 100_000, SLICE);
    assert!(had[0].abs_diff(had[2]) <= 3 * SLICE, "{had:?}");
    assert_eq!(there.get(1), Some(&2));
}

proptest! {
    /// Whatever happens in whatever order: those that are ready are exactly those
    /// that can be taken, at most one runs, and nobody waits while others take
    /// more than their turns.
    #[test]
    fn nobody_is_lost_and_nobody_starves(
        steps in prop::collection::vec((0..7u8, 0..4usize, 1..2 * SLICE), 0..300),
    ) {
        let mut queue = queue(&[(100, 0), (50, 0), (200, 0), (100, 0)]);
        // For how long each has waited since it last ran or woke up.
        let mut waited = [0u64; 4];
        let mut now = 0;
        for (action, n, ticks) in steps {
            let at = |queue: &RunQueue<usize>, who| queue.iter().position(|item| *item == who);
            match action {
                0 => if let Some(index) = at(&queue, n) { queue.wake(index, now) },
                1 => if let Some(index) = at(&queue, n) { queue.put_to_rest(index, Rest::Blocked) },
                2 => if let Some(index) = at(&queue, n) {
                    let moving = queue.leave(index).expect("it is there");
                    queue.arrive(moving);
                },
                _ => {
                    let ready: Vec<_> = (0..queue.len())
                        .filter(|index| queue.rest(*index).is_none())
                        .filter_map(|index| queue.get(index).copied())
                        .collect();
                    match queue.take_next(now, |_| true) {
                        None => prop_assert!(ready.is_empty()),
                        Some((index, _)) => {
                            let who = *queue.get(index).expect("it is there");
                            prop_assert!(ready.contains(&who));
                            let end = queue.turn_end().unwrap_or(u64::MAX);
                            let ran = ticks.min(end.saturating_sub(now));
                            now += ran;
                            queue.put_back(index, now, ran, action == 3);
                            for (other, waited) in waited.iter_mut().enumerate() {
                                let waits = other != who && ready.contains(&other);
                                *waited = if waits { *waited + ran } else { 0 };
                            }
                            prop_assert!(waited.iter().all(|waited| *waited <= 40 * SLICE));
                        }
                    }
                }
            }
            prop_assert_eq!(queue.len(), 4);
        }
    }
}
