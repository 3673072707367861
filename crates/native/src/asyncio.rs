//! The loop that is ours: how it sleeps, and whether asyncio has anything to do.
//!
//! A loop of the standard library (asyncio/base_events.py, 3.11 to 3.13) calls `select` when nothing
//! is ready, with the time to its next timer. While nothing has become ready since, no timer stands
//! before that one, and nobody has stopped the loop, it would do nothing but call `select` again.

use photinus_engine::system::Sleeper;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{intern, PyTraverseError, PyVisit};

/// A loop of ours around its own poller.
pub struct OwnLoop {
    pub sleeper: Sleeper,
    /// `poll(0)` gives the events of the loop's own poller.
    pub poll: Py<PyAny>,
    event_loop: Py<PyAny>,
    /// Handles to be called in the next turn; one object for the loop's life.
    ready: Py<PyAny>,
}

/// Equal as long as asyncio has nothing new to do. The next timer is remembered by its address alone:
/// one that took the place of another is of no interest before it is due, and then is seen by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    ready: usize,
    stopping: bool,
    next_timer: Option<usize>,
}

impl OwnLoop {
    pub fn of(event_loop: &Bound<'_, PyAny>, sleeper: Sleeper, poll: Py<PyAny>) -> PyResult<Self> {
        Ok(OwnLoop {
            sleeper,
            poll,
            event_loop: event_loop.clone().unbind(),
            ready: event_loop.getattr("_ready")?.unbind(),
        })
    }

    pub fn state(&self, py: Python<'_>) -> PyResult<State> {
        let event_loop = self.event_loop.bind(py);
        // Read each time: asyncio replaces the list when it drops cancelled timers.
        let timers = event_loop.getattr(intern!(py, "_scheduled"))?;
        let next_timer = timers.cast::<PyList>()?.get_item(0).ok();
        Ok(State {
            ready: self.ready.bind(py).len()?,
            stopping: event_loop.getattr(intern!(py, "_stopping"))?.is_truthy()?,
            next_timer: next_timer.map(|timer| timer.as_ptr() as usize),
        })
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.poll)?;
        visit.call(&self.event_loop)?;
        visit.call(&self.ready)
    }
}
