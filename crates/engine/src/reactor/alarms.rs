//! Times that lie differently far ahead: of links, whose pings and silences are not in one order, and of dials, which
//! wait longer each time.
//!
//! An alarm is never taken back. When it comes its owner looks whether it still means anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Default)]
pub struct Alarms {
    heap: BinaryHeap<Reverse<(u64, Alarm)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A link's handle.
    Link(u32),
    Dial {
        number: u32,
        serial: u32,
    },
}

impl Alarms {
    pub fn set(&mut self, at_ms: u64, alarm: Alarm) {
        self.heap.push(Reverse((at_ms, alarm)));
    }

    pub fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ms, _))| *at_ms)
    }

    /// The next whose time has come.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Alarm> {
        let due = self.next_ms().is_some_and(|at_ms| at_ms <= now_ms);
        due.then(|| self.heap.pop())
            .flatten()
            .map(|Reverse((_, alarm))| alarm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_in_the_order_of_their_times() {
        let mut alarms = Alarms::default();
        let dial = Alarm::Dial {
            number: 1,
            serial: 2,
        };
        alarms.set(300, Alarm::Link(7));
        alarms.set(100, dial);
        assert_eq!(alarms.next_ms(), Some(100));
        assert_eq!(alarms.pop_due(99), None);
        assert_eq!(alarms.pop_due(300), Some(dial));
        assert_eq!(alarms.pop_due(300), Some(Alarm::Link(7)));
        assert_eq!((alarms.pop_due(300), alarms.next_ms()), (None, None));
    }
}
