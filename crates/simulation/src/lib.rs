//! Clusters of engines in one process, in memory and on a virtual clock: random schedules of what clients,
//! applications and the network do to each other, driven by a seed, against what must be true (`oracle.rs`).
//!
//! `make simulate SEED=17` shows one seed, step by step; `make simulate SEEDS=5000` runs so many.

mod app;
mod client;
mod cluster;
mod lost;
mod node;
mod oracle;
mod random;
mod trace;
mod wire;

use cluster::Cluster;
use photinus_proto::planted::plant;
pub use photinus_proto::planted::Planted;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
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

/// Runs a seed; each step is printed if `verbose`. With a planted fault it should fail.
pub fn simulate(seed: u64, verbose: bool, planted: Option<Planted>) -> Outcome {
    keep_panics();
    let trace = Trace::new(verbose);
    let of = trace.clone();
    plant(planted);
    WHAT.set(Some(String::new()));
    let run = catch_unwind(AssertUnwindSafe(move || Cluster::new(seed, of).run()));
    let what = WHAT.take().unwrap_or_default();
    plant(None);
    let failure = run.is_err().then(|| Failure {
        what,
        tail: trace.tail(),
    });
    Outcome {
        seed,
        failure,
        counts: trace.counts(),
        digest: trace.digest(),
    }
}

thread_local! {
    /// What the panic of the simulation on this thread says. `None`: there is none on it.
    static WHAT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The first panic of a simulation is kept instead of printed.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let kept = WHAT.with_borrow_mut(|what| keep(what, panic));
            if !kept {
                usual(panic);
            }
        }));
    });
}

fn keep(what: &mut Option<String>, panic: &PanicHookInfo<'_>) -> bool {
    if let Some(what) = what.as_mut().filter(|of| of.is_empty()) {
        *what = panic.to_string();
    }
    what.is_some()
}
