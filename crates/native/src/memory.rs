//! A client of the memory back.

use photinus_engine::memory::MemoryConnection as Inner;
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
