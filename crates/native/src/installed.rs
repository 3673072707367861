//! What the application is, as Python tells the engine once.

use crate::handler::Entry;
use crate::task::Current;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// What the application is, set once.
pub struct Installed {
    pub session_type: Py<PyAny>,
    pub handlers: Vec<(Py<PyAny>, Arc<Entry>)>,
    pub default: Option<Arc<Entry>>,
    pub opened: Option<Py<PyAny>>,
    pub closed: Option<Py<PyAny>>,
    pub failed: Py<PyAny>,
    pub refusals: Refusals,
    pub encoders: [Py<PyAny>; 2],
    pub event_loop: Py<PyAny>,
    pub context: Py<PyAny>,
    pub task_type: Py<PyAny>,
    pub current: Current,
}

/// What makes the exceptions that answer a packet in its handler's place.
pub struct Refusals {
    pub unknown_route: Py<PyAny>,
    pub login_required: Py<PyAny>,
    pub forbidden: Py<PyAny>,
    /// Called with the seconds after which the next call is allowed.
    pub too_fast: Py<PyAny>,
}

impl Refusals {
    /// The values of `{"unknown-route": ..., ...}`.
    pub fn by_code(codes: &Bound<'_, PyDict>) -> PyResult<Refusals> {
        let of = |code: &str| {
            let found = codes.get_item(code)?;
            found
                .map(Bound::unbind)
                .ok_or_else(|| PyValueError::new_err(format!("refusals: {code}")))
        };
        Ok(Refusals {
            unknown_route: of("unknown-route")?,
            login_required: of("login-required")?,
            forbidden: of("forbidden")?,
            too_fast: of("too-fast")?,
        })
    }
}
