//! The seeds that run each time, and what the simulation itself is worth: that a seed always goes the same way, and
//! that faults are found.

use photinus_simulation::{simulate, Planted};
use std::collections::BTreeMap;

const SEEDS: u64 = 200;
/// Within which each planted fault is found: one seed in fifty floods a stuck node with more than what its proxy may have
/// sent before it hears an XOFF.
const PLANTED_SEEDS: u64 = 150;

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
fn a_skipped_fence_is_found() {
    assert_found(Planted::SkippedFence);
}

#[test]
fn a_missed_epoch_is_found() {
    assert_found(Planted::MissedEpoch);
}

#[test]
fn an_acknowledgement_before_the_frame_is_kept_is_found() {
    assert_found(Planted::EarlyAcknowledgement);
}

#[test]
fn an_ignored_xoff_is_found() {
    assert_found(Planted::IgnoredXoff);
}

#[test]
fn a_slot_that_is_used_again_too_early_is_found() {
    assert_found(Planted::EarlySlot);
}

/// By a seed that finds nothing without it.
fn assert_found(planted: Planted) {
    let fails = |seed, planted| simulate(seed, false, planted).failure.is_some();
    let mut tried = 1..=PLANTED_SEEDS;
    let found = tried.any(|seed| fails(seed, Some(planted)) && !fails(seed, None));
    assert!(found, "{planted:?} is not found in {PLANTED_SEEDS} seeds");
}
