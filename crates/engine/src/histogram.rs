//! A log-linear histogram that one thread writes and any thread reads.
//!
//! Eight linear steps in each power of two (the layout of HdrHistogram with 3 significant bits):
//! a value is off by at most 12.5 %. Recording is a shift, a load and a store; there is no
//! read-modify-write on the hot path, since each histogram has a single writer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const STEP_BITS: u32 = 3;
const STEPS: usize = 1 << STEP_BITS;
/// Up to 2^40 ns, 18 minutes; longer ones count as that.
const OCTAVES: usize = 40;
const BUCKETS: usize = (OCTAVES - STEP_BITS as usize + 1) * STEPS;

/// Of durations in nanoseconds.
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    largest: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub count: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            largest: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts `times` events of this duration. Only the histogram's one writer may call it.
    #[inline]
    pub fn record(&self, nanoseconds: u64, times: u64) {
        let bucket = &self.buckets[index(nanoseconds)];
        bucket.store(bucket.load(Relaxed).wrapping_add(times), Relaxed);
        if nanoseconds > self.largest.load(Relaxed) {
            self.largest.store(nanoseconds, Relaxed);
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        merged([self])
    }
}

/// One snapshot of several histograms together.
pub fn merged<'a>(parts: impl IntoIterator<Item = &'a Histogram>) -> Snapshot {
    let mut counts = [0u64; BUCKETS];
    let mut largest = 0;
    for part in parts {
        for (sum, bucket) in counts.iter_mut().zip(part.buckets.iter()) {
            *sum += bucket.load(Relaxed);
        }
        largest = largest.max(part.largest.load(Relaxed));
    }
    let count = counts.iter().sum();
    let quantile = |share: f64| {
        let rank = (count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, bucket) in counts.iter().enumerate() {
            seen += bucket;
            if *bucket > 0 && seen >= rank {
                return upper_bound(at).min(largest);
            }
        }
        0
    };
    Snapshot {
        count,
        p50_ns: quantile(0.50),
        p99_ns: quantile(0.99),
        max_ns: largest,
    }
}

#[inline]
fn index(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let octave = 63 - value.leading_zeros();
    if octave as usize >= OCTAVES {
        return BUCKETS - 1;
    }
    let step = (value >> (octave - STEP_BITS)) as usize & (STEPS - 1);
    (octave - STEP_BITS + 1) as usize * STEPS + step
}

/// The largest value that falls into this bucket.
fn upper_bound(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let octave = (index / STEPS) as u32 + STEP_BITS - 1;
    let width = 1u64 << (octave - STEP_BITS);
    (1u64 << octave) + (index % STEPS) as u64 * width + width - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_bucket() {
        for value in (0..100_000u64).chain([1 << 20, (1 << 30) + 12_345, (1 << 39) + 1]) {
            let at = index(value);
            assert!(value <= upper_bound(at), "{value} in {at}");
            assert!(at == 0 || value > upper_bound(at - 1), "{value} in {at}");
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = Histogram::default();
        for value in 1..=1000 {
            histogram.record(value * 1000, 1);
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.count, 1000);
        assert!((500_000..=563_000).contains(&seen.p50_ns), "{seen:?}");
        assert!((990_000..=1_000_000).contains(&seen.p99_ns), "{seen:?}");
        assert_eq!(seen.max_ns, 1_000_000);
    }

    #[test]
    fn an_empty_one_has_no_quantiles() {
        assert_eq!(Histogram::default().snapshot(), Snapshot::default());
    }
}
