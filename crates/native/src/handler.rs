//! A registered handler, as Python describes it and as the dispatch finds it.

use photinus_engine::outbox::{FormatSet, Marks};
use photinus_engine::rate::Rate;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

/// One handler with all that the engine must know to call it.
#[pyclass(frozen, module = "photinus._native")]
pub struct Handler(pub Arc<Entry>);

pub struct Entry {
    pub call: Py<PyAny>,
    pub asynchronous: bool,
    pub public: bool,
    /// One of these suffices; none: any session that may call it at all.
    pub roles: Vec<Py<PyString>>,
    pub rate: Option<Rate>,
    /// By format: JSON, msgpack. `None`: the handler takes bytes.
    decode: Option<[Py<PyAny>; 2]>,
    /// It is of a space or service, and is called with its number besides.
    pub of_target: bool,
    /// Of what it answers.
    pub marks: Marks,
}

/// The next handler's key among the buckets of a session, which may outlive the handler.
static RATES: AtomicU32 = AtomicU32::new(0);

#[pymethods]
impl Handler {
    /// `rate`: the seconds after which a token comes back, and how many tokens there are.
    #[new]
    #[pyo3(signature = (call, *, asynchronous, public, decode, roles = None, rate = None, secret = false,
                        of_target = false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "keywords of one call, checked by the type stub"
    )]
    fn new(
        call: Py<PyAny>,
        asynchronous: bool,
        public: bool,
        decode: Option<&Bound<'_, PyDict>>,
        roles: Option<Vec<Py<PyString>>>,
        rate: Option<(f64, u32)>,
        secret: bool,
        of_target: bool,
    ) -> PyResult<Handler> {
        let decode = decode.map(by_format).transpose()?;
        let rate = rate.map(|(seconds, burst)| {
            let key = RATES.fetch_add(1, Relaxed);
            Rate::new(key, (seconds * 1e9).round() as u64, burst)
        });
        Ok(Handler(Arc::new(Entry {
            call,
            asynchronous,
            public,
            roles: roles.unwrap_or_default(),
            rate,
            decode,
            of_target,
            marks: Marks::new(false, secret),
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

/// ValueError if no format is called so.
pub fn by_name(name: &str) -> PyResult<FormatSet> {
    match name {
        "json" => Ok(FormatSet::JSON),
        "msgpack" => Ok(FormatSet::MSGPACK),
        _ => Err(pyo3::exceptions::PyValueError::new_err(format!(
            "no format is called {name}"
        ))),
    }
}

pub fn name(format: FormatSet) -> &'static str {
    ["json", "msgpack"][index(format)]
}
