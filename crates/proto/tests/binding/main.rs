//! Moves of a binding: in every order of events up to a bound, and in random orders beyond it.

mod model;
mod owner;
mod rest;

use model::{Event, Fault, World};
use proptest::prelude::*;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// How often each may happen: sends, moves, cuts, waits, refusals.
type Bounds = [u8; 5];

/// All that can happen between so many owners. The number of different worlds, or what led to one that must not be.
fn explore(owners: usize, bounds: Bounds, fault: Fault) -> Result<usize, (Vec<Event>, String)> {
    let hasher = RandomState::new();
    let first = World::new(owners, fault);
    let mut seen = HashSet::from([hasher.hash_one(&first)]);
    let mut open = vec![(first, Vec::new())];
    while let Some((world, path)) = open.pop() {
        for event in world.possible() {
            let mut next = world.clone();
            let step = next.step(event);
            let past = |(spent, bound): (&u8, u8)| *spent > bound;
            if next.spent.iter().zip(bounds).any(past) {
                continue;
            }
            let new = seen.insert(hasher.hash_one(&next));
            let checked = match step {
                Ok(()) if new => next.comes_to_rest(),
                step => step,
            };
            if new || checked.is_err() {
                let mut path = path.clone();
                path.push(event);
                if let Err(what) = checked {
                    return Err((path, what));
                }
                open.push((next, path));
            }
        }
    }
    Ok(seen.len())
}

fn explored(owners: usize, bounds: Bounds) {
    match explore(owners, bounds, Fault::None) {
        Ok(worlds) => assert!(worlds > 9_000, "only {worlds} worlds"),
        Err((path, what)) => panic!("{what}, after {path:?}"),
    }
}

#[test]
fn every_order_with_packets() {
    explored(2, [2, 1, 1, 1, 1]);
}

#[test]
fn every_order_with_moves_back_and_forth() {
    explored(2, [1, 2, 0, 2, 1]);
}

#[test]
fn every_order_with_cuts() {
    explored(2, [1, 2, 2, 1, 0]);
}

#[test]
fn every_order_of_three_owners() {
    explored(3, [1, 2, 1, 0, 0]);
}

/// The model is worth as much as what it finds.
#[test]
fn every_planted_fault_is_found() {
    for (fault, expected) in [
        (Fault::NoFence, "are all active"),
        (Fault::FenceOvertakes, "when it has left"),
        (Fault::ReadsOn, "when it has left"),
        (Fault::AnyOutput, "are all heard"),
        (Fault::AnyAnswer, "the state is lost"),
        (Fault::StateDropped, "begins without a state"),
        (Fault::NoGap, "no gap was told"),
        (Fault::NoDetach, "was not told to forget"),
        (Fault::NoneBehindFence, "does not come to rest"),
        (Fault::NoRelease, "and the stage says otherwise"),
    ] {
        match explore(2, [2, 2, 1, 2, 1], fault) {
            Ok(worlds) => panic!("{fault:?} is not found in {worlds} worlds"),
            Err((path, what)) => assert!(what.contains(expected), "{fault:?}: {what}, {path:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Longer than all orders can be tried, with more owners. A cut is rarer than the rest, or all are soon lost.
    #[test]
    fn random_orders(choices in prop::collection::vec(any::<u32>(), 1..150)) {
        let mut world = World::new(5, Fault::None);
        let mut path = Vec::new();
        for choice in choices {
            let events = world.possible();
            let (rare, which) = (choice % 16 == 0, choice as usize / 16 % events.len());
            let event = events[which];
            if matches!(event, Event::Cut(_)) && !rare {
                continue;
            }
            path.push(event);
            let checked = world.step(event);
            prop_assert!(checked.is_ok(), "{checked:?}, after {path:?}");
        }
        let checked = world.comes_to_rest();
        prop_assert!(checked.is_ok(), "{checked:?}, at rest after {path:?}");
    }
}
