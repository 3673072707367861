//! Latencies of a window, as the few figures that are reported.

use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};

/// Beyond this a latency is recorded as this; nobody waits for it.
const LONGEST_NS: u64 = 60_000_000_000;

/// Three digits: a bucket is at most 0.1 % wide.
const DIGITS: u8 = 3;

pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Latencies {
        Latencies(
            Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)
                .expect("the bounds are constants in hdrhistogram's range"),
        )
    }

    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// Adds `p50_us`, `p99_us`, `max_us`: null where nothing was recorded.
    pub fn report(&self, into: &mut Map<String, Value>) {
        let figures = [
            ("p50_us", self.0.value_at_quantile(0.50)),
            ("p99_us", self.0.value_at_quantile(0.99)),
            ("max_us", self.0.max()),
        ];
        for (name, ns) in figures {
            let value = match self.0.len() {
                0 => Value::Null,
                _ => json!(rounded(ns as f64 / 1e3)),
            };
            into.insert(name.to_owned(), value);
        }
    }
}

/// To three decimals: JSON that a person can read.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(latencies: &Latencies) -> Map<String, Value> {
        let mut map = Map::new();
        latencies.report(&mut map);
        map
    }

    #[test]
    fn quantiles_are_right_to_a_thousandth() {
        let mut latencies = Latencies::new();
        (1..=1_000).for_each(|us| latencies.record(us * 1_000));
        let map = report(&latencies);
        for (name, expected) in [("p50_us", 500.0), ("p99_us", 990.0), ("max_us", 1_000.0)] {
            let value = map[name].as_f64().unwrap();
            assert!((value / expected - 1.0).abs() < 0.002, "{name} is {value}");
        }
    }

    #[test]
    fn nothing_recorded_is_null_and_the_longest_is_kept() {
        let mut latencies = Latencies::new();
        assert_eq!(report(&latencies)["p99_us"], Value::Null);
        latencies.record(u64::MAX);
        assert!(report(&latencies)["max_us"].as_f64().unwrap() >= 60e6);
        latencies.clear();
        assert_eq!(report(&latencies)["max_us"], Value::Null);
    }
}
