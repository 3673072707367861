//! When the packets of an open loop are due: evenly spaced from a start, whatever the server does.
//!
//! A packet's latency counts from here and not from when it could be written, so a server that
//! stands still for a while is charged for every packet that was due meanwhile ("coordinated
//! omission" is what the other way is called).

const SECOND: u128 = 1_000_000_000;

/// Computed from the packet's number each time, so that rounding never adds up.
pub struct Schedule {
    start: u64,
    per_second: u64,
}

impl Schedule {
    /// `start` in nanoseconds; `per_second` is not 0.
    pub fn new(start: u64, per_second: u64) -> Schedule {
        Schedule { start, per_second }
    }

    /// When packet `number` (from 0) is to be sent, in nanoseconds.
    pub fn intended(&self, number: u64) -> u64 {
        let passed = u128::from(number) * SECOND / u128::from(self.per_second);
        self.start + passed as u64
    }

    /// How many packets are to have been sent by `now`.
    pub fn due(&self, now: u64) -> u64 {
        let Some(passed) = now.checked_sub(self.start) else {
            return 0;
        };
        // Of the numbers n with n * SECOND / rate <= passed (rounded down), the count.
        let whole = (u128::from(passed) + 1) * u128::from(self.per_second);
        whole.div_ceil(SECOND) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_and_intended_agree() {
        for rate in [1, 3, 7, 20_000, 60_000, 999_983] {
            let schedule = Schedule::new(1_000, rate);
            assert_eq!(schedule.due(999), 0);
            assert_eq!(schedule.due(1_000), 1, "the first is due at once");
            for number in [1, 2, 17, 59_999, 60_000, 1_234_567] {
                let at = schedule.intended(number);
                assert_eq!(schedule.due(at), number + 1, "{rate}/s, {number}");
                assert_eq!(schedule.due(at - 1), number, "{rate}/s, {number}");
            }
        }
    }

    #[test]
    fn it_does_not_drift() {
        let schedule = Schedule::new(0, 60_000);
        assert_eq!(schedule.intended(60_000 * 3_600), 3_600_000_000_000);
    }
}
