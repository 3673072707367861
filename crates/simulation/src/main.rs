//! One seed, step by step; or many, with a report of what they came to.

use clap::Parser;
use photinus_simulation::{simulate, Planted};
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(Parser)]
struct Options {
    /// Show this one alone
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many, from the first on
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// With this fault, by its number among those that can be planted
    #[arg(long)]
    planted: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seeds = match options.seed {
        Some(seed) => seed..=seed,
        None => options.first..=options.first + options.seeds.saturating_sub(1),
    };
    let planted = options.planted.map(|number| Planted::ALL[number]);
    let mut counts = BTreeMap::<String, u64>::new();
    let mut failed = Vec::new();
    for seed in seeds.clone() {
        let outcome = simulate(seed, options.seed.is_some(), planted);
        for (name, count) in outcome.counts {
            *counts.entry(name).or_default() += count;
        }
        if let Some(failure) = outcome.failure {
            println!("{}\nseed {seed} failed: {}\n", failure.tail, failure.what);
            failed.push(seed);
        }
    }
    for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
        println!("{count:>12}  {name}");
    }
    println!(
        "{} seeds, {} failed{}",
        seeds.count(),
        failed.len(),
        failed
            .iter()
            .map(|seed| format!(" {seed}"))
            .collect::<String>()
    );
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
