//! One connection in memory: two ends, and a way to each of them on which things take their time.

use std::collections::VecDeque;
use std::io::{self, Read};

/// The order of a default socket buffer.
pub const PIPE_BYTES: usize = 64 << 10;

/// One end of one pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub pipe: u64,
    pub side: usize,
}

pub struct Pipe {
    pub ends: [End; 2],
    /// `to[side]` is what goes to that side.
    pub to: [Direction; 2],
}

pub struct End {
    /// The hub that it is at; `None`: a test's client holds it.
    pub hub: Option<usize>,
    /// Number that the reactor there gave it.
    pub connection: Option<u32>,
    /// A dialled one can be used once its other end is known to be there.
    pub open: bool,
    /// It sends nothing more, and whoever holds it may still read.
    pub closed: bool,
    /// Nobody holds it.
    pub dropped: bool,
    /// The other end is closed, and that is known here.
    pub alone: bool,
    pub broken: Option<io::ErrorKind>,
}

#[derive(Default)]
pub struct Direction {
    arrived: VecDeque<u8>,
    flight: VecDeque<(u64, Flight)>,
    in_flight: usize,
    /// Nothing comes behind what has arrived.
    finished: bool,
    /// All that was ever written, where that is recorded, and how much of it was read.
    pub record: Vec<u8>,
    pub taken: usize,
}

pub enum Flight {
    /// To a listener of the other hub.
    Open(usize),
    Opened,
    Bytes(Vec<u8>),
    /// The writer has said that nothing more will come.
    End,
    /// The writer is gone.
    Gone,
    Reset(io::ErrorKind),
}

impl Place {
    pub fn other(self) -> Place {
        Place {
            side: 1 - self.side,
            ..self
        }
    }
}

impl End {
    pub fn new(hub: Option<usize>, open: bool) -> End {
        End {
            hub,
            connection: None,
            open,
            closed: false,
            dropped: false,
            alone: false,
            broken: None,
        }
    }
}

impl Direction {
    pub fn waiting(&self) -> usize {
        self.arrived.len()
    }

    /// `None`: nothing is there, and more may come.
    pub fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.arrived.is_empty() && !self.finished {
            return None;
        }
        let count = self.arrived.len().min(into.len());
        // A queue of bytes does not fail.
        let _ = self.arrived.read_exact(&mut into[..count]);
        self.taken += count;
        Some(count)
    }

    /// In a pipe that holds so much.
    pub fn room_of(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.arrived.len() + self.in_flight)
    }

    /// Behind everything that is on its way already, however the delay has changed since.
    pub fn send(&mut self, at: u64, flight: Flight) {
        if let Flight::Bytes(bytes) = &flight {
            self.in_flight += bytes.len();
        }
        let at = self.flight.back().map_or(at, |(last, _)| at.max(*last));
        self.flight.push_back((at, flight));
    }

    pub fn next_arrival(&self) -> Option<u64> {
        self.flight.front().map(|(at, _)| *at)
    }

    pub fn take_due(&mut self, now: u64) -> Option<Flight> {
        if self.next_arrival()? > now {
            return None;
        }
        let (_, flight) = self.flight.pop_front()?;
        if let Flight::Bytes(bytes) = &flight {
            self.in_flight -= bytes.len();
        }
        Some(flight)
    }

    pub fn arrive(&mut self, bytes: &[u8]) {
        self.arrived.extend(bytes);
    }

    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// What was not read is lost.
    pub fn lose(&mut self) {
        self.arrived.clear();
        self.flight.clear();
        self.in_flight = 0;
    }
}
