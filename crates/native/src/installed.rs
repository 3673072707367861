//! What the application is, as Python tells the engine once.

use crate::handler::Entry;
use crate::task::Current;
use pyo3::prelude::*;
use std::sync::Arc;

/// What the application is, set once.
pub struct Installed {
    pub session_type: Py<PyAny>,
    pub handlers: Vec<(Py<PyAny>, Arc<Entry>)>,
    pub default: Option<Arc<Entry>>,
    pub opened: Option<Py<PyAny>>,
    pub closed: Option<Py<PyAny>>,
    pub failed: Py<PyAny>,
    pub unknown_route: Py<PyAny>,
    pub login_required: Py<PyAny>,
    pub encoders: [Py<PyAny>; 2],
    pub event_loop: Py<PyAny>,
    pub context: Py<PyAny>,
    pub task_type: Py<PyAny>,
    pub current: Current,
}
