//! What the application is, as Python tells the engine; replaced as a whole when its code is.

use crate::handler::{Entry, Handler};
use photinus_engine::routes::Routes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};
use std::sync::Arc;

/// A route, and what handles it: nothing, if it was removed.
pub type Handlers = Vec<(Py<PyAny>, Option<Arc<Entry>>)>;

/// What the application is. Never changed: a drain that has begun goes on with the one it began with.
pub struct Installed {
    pub session_type: Py<PyAny>,
    /// By the index that packets carry.
    pub handlers: Handlers,
    pub default: Option<Arc<Entry>>,
    pub opened: Option<Py<PyAny>>,
    pub resumed: Option<Py<PyAny>>,
    pub told: Option<Py<PyAny>>,
    pub closed: Option<Py<PyAny>>,
    pub failed: Py<PyAny>,
    /// Is told of each new link to another node, of each that is lost, and of what comes over one for Python.
    pub linked: Option<Py<PyAny>>,
    pub unlinked: Option<Py<PyAny>>,
    pub frames: Option<Py<PyAny>>,
    /// Is told of what happens to sessions' bindings here, and of what became of what was asked for.
    pub bound: Option<Py<PyAny>>,
    pub done: Option<Py<PyAny>>,
    /// Is given each session whose suspended handler is done: that handler may be of replaced code,
    /// and have left the session what the code of now does not know.
    pub caught_up: Option<Py<PyAny>>,
    pub refusals: Refusals,
    pub encoders: [Py<PyAny>; 2],
    pub event_loop: Py<PyAny>,
    pub context: Py<PyAny>,
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

/// The reactors' table, and the handlers by its indices.
///
/// A route has one index for good: packets that carry it may wait anywhere when the application is
/// replaced. So those of `before` come first, with what handles them now.
pub fn table(
    py: Python<'_>,
    before: Option<&Installed>,
    routes: &Bound<'_, PyDict>,
    default: Option<&Arc<Entry>>,
) -> PyResult<(Routes, Handlers)> {
    let mut table = Routes::default();
    let mut handlers: Handlers = Vec::new();
    let indices = PyDict::new(py);
    for (route, _) in before.iter().flat_map(|before| &before.handlers) {
        indices.set_item(route, handlers.len())?;
        // A number that has no handler of its own goes to the default one.
        let of_all = default.filter(|_| route.bind(py).is_instance_of::<PyInt>());
        handlers.push((route.clone_ref(py), of_all.cloned()));
    }
    for (route, handler) in routes.iter() {
        let entry = Some(handler.cast::<Handler>()?.get().0.clone());
        let index = match indices.get_item(&route)? {
            Some(index) => {
                let index: usize = index.extract()?;
                handlers[index].1 = entry;
                index
            }
            None => {
                handlers.push((route.clone().unbind(), entry));
                handlers.len() - 1
            }
        };
        // A class's routes come with its number.
        let (class, route) = match route.cast::<PyTuple>() {
            Ok(pair) => (pair.get_item(0)?.extract()?, pair.get_item(1)?),
            Err(_) => (0, route),
        };
        match route.cast::<PyString>() {
            Ok(name) => table.add_name(class, name.to_str()?, index as u32),
            Err(_) => table.add_number(class, route.extract()?, index as u32),
        }
    }
    Ok((table, handlers))
}
