//! The seeds that run each time, and what the simulation itself is worth: that a seed always goes the same way, and
//! that faults are found.

use photinus_simulation::{simulate, Planted};
use std::collections::BTreeMap;

const SEEDS: u64 = 200;

#[test]
fn whatever_happens_in_whatever_order() {
    let mut counts = BTreeMap::<String, u64>::new();
    for seed in 1..=SEEDS {
        let outcome = simulate(seed, false, None);
        if let Some(failure) = outcome.failure {
            panic!(
                "{}\nmake simulate SEED={seed}: {}",
                failure.tail, failure.what
            );
        }
        for (name, count) in outcome.counts {
            *counts.entry(name).or_default() += count;
        }
    }
    // It is worth something only as long as it comes to the difficult places.
    for name in [
        "client is back",
        "client is back with a gap",
        "client is kicked",
        "node is killed",
        "node vanishes",
        "group messages heard",
        "paused_session",
    ] {
        let count = counts.get(name).copied().unwrap_or(0);
        assert!(count > SEEDS / 10, "{name}: {count}");
    }
}

#[test]
fn a_seed_always_goes_the_same_way() {
    for seed in 1..=5 {
        let digests = [0; 2].map(|_| simulate(seed, false, None).digest);
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

#[test]
fn a_slot_that_is_used_again_too_early_is_found() {
    assert_found(Planted::EarlySlot, 20);
}

/// Within so many seeds.
fn assert_found(planted: Planted, seeds: u64) {
    let mut tried = 1..=seeds;
    let found = tried.any(|seed| simulate(seed, false, Some(planted)).failure.is_some());
    assert!(found, "{planted:?} is not found in {seeds} seeds");
}
