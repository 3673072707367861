//! Deadlines that all lie equally far ahead: a queue is enough, and setting one costs a push.
//!
//! A deadline is never taken back. When it comes its owner looks whether it still means anything.

use std::collections::VecDeque;

pub struct Deadlines {
    after_ms: u64,
    queue: VecDeque<Deadline>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deadline {
    at_ms: u64,
    connection: u32,
    serial: u32,
}

impl Deadlines {
    pub fn new(after_ms: u64) -> Deadlines {
        Deadlines {
            after_ms,
            queue: VecDeque::new(),
        }
    }

    pub fn set(&mut self, now_ms: u64, connection: u32, serial: u32) {
        self.queue.push_back(Deadline {
            at_ms: now_ms + self.after_ms,
            connection,
            serial,
        });
    }

    pub fn next_ms(&self) -> Option<u64> {
        self.queue.front().map(|deadline| deadline.at_ms)
    }

    /// The next connection (number and serial) whose deadline has come.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<(u32, u32)> {
        let due = self
            .queue
            .front()
            .filter(|deadline| deadline.at_ms <= now_ms)?;
        let due = (due.connection, due.serial);
        self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > 1024 {
            self.queue.shrink_to(0);
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_due_in_order() {
        let mut deadlines = Deadlines::new(100);
        deadlines.set(0, 1, 10);
        deadlines.set(50, 2, 20);
        assert_eq!(deadlines.next_ms(), Some(100));
        assert_eq!(deadlines.pop_due(99), None);
        assert_eq!(deadlines.pop_due(149), Some((1, 10)));
        assert_eq!(deadlines.pop_due(149), None);
        assert_eq!(deadlines.pop_due(150), Some((2, 20)));
        assert_eq!(deadlines.next_ms(), None);
    }
}
