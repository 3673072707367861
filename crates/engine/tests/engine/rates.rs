//! Token buckets.

use photinus_engine::rate::{Buckets, Rate};

const SECOND: u64 = 1_000_000_000;

/// How many of `calls` made `step` apart from `start` on are allowed.
fn allowed(buckets: &mut Buckets, rate: &Rate, start: u64, step: u64, calls: u64) -> usize {
    (0..calls)
        .filter(|call| buckets.take(rate, start + call * step).is_ok())
        .count()
}

#[test]
fn a_burst_and_then_one_an_interval() {
    let rate = Rate::new(0, SECOND / 5, 10);
    let mut buckets = Buckets::default();
    assert_eq!(allowed(&mut buckets, &rate, 7, 0, 100), 10);
    assert_eq!(buckets.take(&rate, 7), Err(SECOND / 5));
    assert_eq!(buckets.take(&rate, 7 + SECOND / 10), Err(SECOND / 10));
    // Whoever waits as long as told is let through, once.
    assert_eq!(buckets.take(&rate, 7 + SECOND / 5), Ok(()));
    assert_eq!(buckets.take(&rate, 7 + SECOND / 5), Err(SECOND / 5));
    // To be refused costs nothing: 100 a second get what 5 a second would.
    let later = 7 + SECOND / 5;
    assert_eq!(allowed(&mut buckets, &rate, later, SECOND / 100, 1001), 50);
}

#[test]
fn a_rest_fills_it_and_no_more() {
    let rate = Rate::new(0, SECOND, 3);
    let mut buckets = Buckets::default();
    assert_eq!(allowed(&mut buckets, &rate, 0, 0, 9), 3);
    assert_eq!(allowed(&mut buckets, &rate, 2 * SECOND, 0, 9), 2);
    assert_eq!(allowed(&mut buckets, &rate, 1000 * SECOND, 0, 9), 3);
}

#[test]
fn it_is_a_token_bucket() {
    let (interval, burst) = (70, 4);
    let rate = Rate::new(0, interval, burst);
    let mut buckets = Buckets::default();
    // Counted in parts of a token, an interval's worth each.
    let (mut level, mut before) = (u64::from(burst) * interval, 0);
    let mut now = 0_u64;
    let mut seed = 1_u64;
    for _ in 0..10_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        now += (seed >> 33) % 100;
        level = (level + now - before).min(u64::from(burst) * interval);
        before = now;
        let expected = level >= interval;
        let wait = interval.saturating_sub(level);
        match buckets.take(&rate, now) {
            Ok(()) => assert!(expected, "{now}"),
            Err(told) => assert_eq!((expected, told), (false, wait), "{now}"),
        }
        if expected {
            level -= interval;
        }
    }
}

#[test]
fn one_bucket_does_not_empty_another_and_full_ones_are_not_kept() {
    let rates: Vec<_> = (0..50).map(|key| Rate::new(key, SECOND, 1)).collect();
    let mut buckets = Buckets::default();
    for rate in &rates {
        assert_eq!(buckets.take(rate, 0), Ok(()));
        assert_eq!(buckets.take(rate, 0), Err(SECOND));
    }
    assert_eq!(buckets.kept(), 50);
    // A new one at a time when all others are full again.
    assert_eq!(buckets.take(&Rate::new(50, SECOND, 1), SECOND), Ok(()));
    assert_eq!(buckets.kept(), 1);
    assert_eq!(buckets.take(&rates[0], SECOND), Ok(()));
}

#[test]
fn the_widest_and_the_narrowest() {
    let mut buckets = Buckets::default();
    let never_again = Rate::new(0, u64::MAX, u32::MAX);
    assert_eq!(allowed(&mut buckets, &never_again, SECOND, 0, 9), 9);
    let free = Rate::new(1, 0, 0);
    assert_eq!(allowed(&mut buckets, &free, SECOND, 1, 9), 9);
}
