//! What the binding counts, all on the thread that holds the GIL, and how everything is shown.

use photinus_engine::engine::Engine;
use photinus_engine::histogram::{Histogram, Snapshot};
use photinus_engine::statistics::Count;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

#[derive(Default)]
pub struct Loop {
    /// Packets given to a handler.
    pub handled: Count,
    /// Packets that came faster than their route allows its sessions to send them.
    pub too_fast: Count,
    /// Packets that waited in their session's mailbox while a handler was suspended.
    pub parked: Count,
    /// Handlers that were suspended at an `await`, each counted once.
    pub suspended: Count,
    /// Times the loop slept and was woken, or looked without sleeping.
    pub turns: Count,
    /// Of these, with packets to handle.
    pub turns_with_packets: Count,
    /// Times the GIL was let go and taken back by the loop.
    pub gil_acquisitions: Count,
    /// System calls of the loop's thread: its waits, and its wakes of reactors.
    pub waits: Count,
    pub wakes: Count,
    /// Messages to sessions that had ended.
    pub dropped_closed: Count,
    /// Times a sender waited because a reactor was behind.
    pub waited_for_room: Count,
    /// Nanoseconds with the GIL held in turns that had packets.
    pub gil_ns: Count,
    /// Bytes and packets waiting in mailboxes now.
    pub parked_now: Count,
    pub inbox_to_handler: Histogram,
    pub handler: Histogram,
}

impl Loop {
    fn each(&self) -> [(&'static str, u64); 13] {
        [
            ("handled", self.handled.read()),
            ("too_fast", self.too_fast.read()),
            ("parked", self.parked.read()),
            ("parked_now", self.parked_now.read()),
            ("suspended", self.suspended.read()),
            ("turns", self.turns.read()),
            ("turns_with_packets", self.turns_with_packets.read()),
            ("gil_acquisitions", self.gil_acquisitions.read()),
            ("waits", self.waits.read()),
            ("wakes", self.wakes.read()),
            ("dropped_closed", self.dropped_closed.read()),
            ("waited_for_room", self.waited_for_room.read()),
            ("gil_ns", self.gil_ns.read()),
        ]
    }
}

/// `{"engine": {...}, "wire_errors": {...}, "links": [...], "loop": {...}, "queues": {...}, "stages": {...}}`.
pub fn shown<'py>(
    py: Python<'py>,
    engine: &Engine,
    of_loop: &Loop,
    backlog: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    let section = |name: &str, values: &mut dyn Iterator<Item = (&'static str, u64)>| {
        let section = PyDict::new(py);
        for (name, value) in values {
            section.set_item(name, value)?;
        }
        all.set_item(name, section)
    };
    section("engine", &mut engine.counts().into_iter())?;
    section("wire_errors", &mut engine.wire_errors().into_iter())?;
    all.set_item("links", links(py, engine)?)?;
    section("loop", &mut of_loop.each().into_iter())?;
    let queues = [
        (
            "inbox_batches",
            (engine.shared.inbox.len() + backlog) as u64,
        ),
        ("inbox_bytes", engine.shared.inbox.weight() as u64),
        ("outbox_bytes", engine.outbox_bytes() as u64),
        ("mailboxes", of_loop.parked_now.read()),
    ];
    section("queues", &mut queues.into_iter())?;
    let stages = PyDict::new(py);
    let [first, written, take_over] = engine.stages();
    let own = [
        ("inbox_to_handler", of_loop.inbox_to_handler.snapshot()),
        ("handler", of_loop.handler.snapshot()),
    ];
    for (name, snapshot) in [first].into_iter().chain(own).chain([written, take_over]) {
        stages.set_item(name, histogram(py, &snapshot)?)?;
    }
    all.set_item("stages", stages)?;
    Ok(all)
}

fn links<'py>(py: Python<'py>, engine: &Engine) -> PyResult<Bound<'py, PyList>> {
    let all = PyList::empty(py);
    for of in engine.links() {
        let shown = PyDict::new(py);
        shown.set_item("node", &*of.node)?;
        shown.set_item("generation", of.generation)?;
        shown.set_item("reactor", of.reactor)?;
        shown.set_item("dialled", of.dialled)?;
        shown.set_item("connected", of.connected)?;
        shown.set_item("round_trip_us", of.round_trip_us)?;
        for (name, value) in [
            ("kept_bytes", of.kept_bytes),
            ("frames_in", of.frames_in),
            ("frames_out", of.frames_out),
            ("bytes_in", of.bytes_in),
            ("bytes_out", of.bytes_out),
            ("resent", of.resent),
            ("dropped", of.dropped),
            ("cuts", of.cuts),
            ("dials", of.dials),
        ] {
            shown.set_item(name, value)?;
        }
        all.append(shown)?;
    }
    Ok(all)
}

fn histogram<'py>(py: Python<'py>, seen: &Snapshot) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("count", seen.count)?;
    for (name, nanoseconds) in [
        ("p50_us", seen.p50_ns),
        ("p99_us", seen.p99_ns),
        ("max_us", seen.max_ns),
    ] {
        shown.set_item(name, nanoseconds as f64 / 1000.0)?;
    }
    Ok(shown)
}
