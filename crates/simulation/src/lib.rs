//! Clusters of engines in one process, in memory and on a virtual clock: random schedules of what clients,
//! applications and the network do to each other, driven by a seed, against what must be true (`oracle.rs`).
//!
//! `make simulate SEED=17` shows one seed, step by step; `make simulate SEEDS=5000` runs so many.

mod client;
mod cluster;
mod node;
mod oracle;
mod random;
mod trace;
mod wire;

use cluster::Cluster;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use trace::Trace;

/// How one seed went.
pub struct Outcome {
    pub seed: u64,
    /// What was not as it must be, and what went before.
    pub failure: Option<Failure>,
    pub counts: BTreeMap<String, u64>,
    /// Of everything that happened: the same for the same seed.
    pub digest: u64,
}

pub struct Failure {
    pub what: String,
    pub tail: String,
}

/// Runs a seed; each step is printed if `verbose`.
pub fn simulate(seed: u64, verbose: bool) -> Outcome {
    let trace = Trace::new(verbose);
    let of = trace.clone();
    let run = catch_unwind(AssertUnwindSafe(move || Cluster::new(seed, of).run()));
    let failure = run.err().map(|panic| Failure {
        what: said(&*panic),
        tail: trace.tail(),
    });
    Outcome {
        seed,
        failure,
        counts: trace.counts(),
        digest: trace.digest(),
    }
}

/// What a panic says.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a word".to_owned())
}
