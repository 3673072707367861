//! A registered handler, as Python describes it and as the dispatch finds it.

use photinus_engine::outbox::FormatSet;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

/// One handler with all that the engine must know to call it.
#[pyclass(frozen, module = "photinus._native")]
pub struct Handler(pub Arc<Entry>);

pub struct Entry {
    pub call: Py<PyAny>,
    pub asynchronous: bool,
    pub public: bool,
    /// By format: JSON, msgpack. `None`: the handler takes bytes.
    decode: Option<[Py<PyAny>; 2]>,
}

#[pymethods]
impl Handler {
    #[new]
    #[pyo3(signature = (call, *, asynchronous, public, decode))]
    fn new(
        call: Py<PyAny>,
        asynchronous: bool,
        public: bool,
        decode: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Handler> {
        let decode = decode.map(by_format).transpose()?;
        Ok(Handler(Arc::new(Entry {
            call,
            asynchronous,
            public,
            decode,
        })))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0.call)?;
        self.0
            .decode
            .iter()
            .flatten()
            .try_for_each(|decode| visit.call(decode))
    }
}

impl Entry {
    #[inline]
    pub fn decoder(&self, format: FormatSet) -> Option<&Py<PyAny>> {
        self.decode
            .as_ref()
            .map(|by_format| &by_format[index(format)])
    }
}

/// The values of `{"json": ..., "msgpack": ...}`, in the order of [`index`].
pub fn by_format(names: &Bound<'_, PyDict>) -> PyResult<[Py<PyAny>; 2]> {
    let value = |name| {
        let found = names.get_item(name)?;
        found
            .map(Bound::unbind)
            .ok_or_else(|| pyo3::exceptions::PyKeyError::new_err(name))
    };
    Ok([value("json")?, value("msgpack")?])
}

#[inline]
pub fn index(format: FormatSet) -> usize {
    usize::from(!format.has(FormatSet::JSON))
}

pub fn name(format: FormatSet) -> &'static str {
    ["json", "msgpack"][index(format)]
}
