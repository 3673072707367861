//! The memory back's clients, and the network that several engines are in.

use photinus_engine::memory::{MemoryConnection as Inner, Network};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The client's end of a connection in memory. Nothing waits: what does not fit is not taken.
#[pyclass(frozen, module = "photinus._native")]
pub struct MemoryConnection(pub Inner);

#[pymethods]
impl MemoryConnection {
    /// How many of the bytes were taken. Raises BrokenPipeError once either end is closed.
    fn write(&self, data: &[u8]) -> PyResult<usize> {
        Ok(self.0.write(data)?)
    }

    /// What has come, at most `limit` bytes; None once the server has said all it had to say.
    #[pyo3(signature = (limit = 65536))]
    fn read<'py>(&self, py: Python<'py>, limit: usize) -> Option<Bound<'py, PyBytes>> {
        self.0.read(limit).map(|bytes| PyBytes::new(py, &bytes))
    }

    fn close(&self) {
        self.0.close();
    }
}

/// A network in memory. Engines that are made in it reach each other where they listen; names are those that they
/// were made with.
#[pyclass(frozen, module = "photinus._native")]
pub struct MemoryNetwork(pub Network);

#[pymethods]
impl MemoryNetwork {
    #[new]
    fn new() -> MemoryNetwork {
        MemoryNetwork(Network::default())
    }

    /// What is sent from now on takes so many seconds.
    fn delay(&self, origin: &str, to: &str, seconds: f64) {
        let nanoseconds = (seconds.max(0.0) * 1e9).round() as u64;
        self.0.delay(origin, to, nanoseconds);
    }

    /// Nothing arrives until it is thawed.
    fn freeze(&self, origin: &str, to: &str, frozen: bool) {
        self.0.freeze(origin, to, frozen);
    }

    /// New connections are refused. Those that are there stay.
    fn refuse(&self, origin: &str, to: &str, refused: bool) {
        self.0.refuse(origin, to, refused);
    }

    /// Every connection between the two breaks, and what was not read is lost.
    fn cut(&self, one: &str, other: &str) {
        self.0.cut(one, other);
    }

    /// The node's process ends at once and says nothing.
    fn kill(&self, name: &str) {
        self.0.kill(name);
    }

    /// Will the next turn of any engine in it tell something?
    fn has_events(&self) -> bool {
        self.0.has_events()
    }
}
