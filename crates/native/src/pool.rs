//! Tasks of handlers that are done, for handlers to come.

use crate::gil::GilCell;
use crate::task::HandlerTask;
use crate::task_state::Outcome;
use pyo3::ffi;
use pyo3::prelude::*;

/// Tasks that wait for another handler.
pub struct Pool(GilCell<Vec<Py<HandlerTask>>>);

/// How many tasks wait at most for their next handler. As many as are suspended and done again within
/// a turn or two of a busy loop; they hold some 400 bytes each.
const SPARE_TASKS: usize = 256;

impl Pool {
    pub fn new() -> Pool {
        Pool(GilCell::new(Vec::new()))
    }

    /// A task at the beginning of this coroutine.
    #[inline]
    pub fn begin<'py>(
        &self,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, HandlerTask>> {
        let py = coroutine.py();
        let task = match self.0.with(py, Vec::pop) {
            Some(task) => task.into_bound(py),
            None => HandlerTask::new(py)?,
        };
        task.get().state.with(py, |state| {
            state.outcome = Outcome::Pending;
            state.coroutine = Some(coroutine.clone().unbind());
            state.context = Some(context.clone().unbind());
            state.event_loop = Some(event_loop.clone().unbind());
        });
        Ok(task)
    }

    /// A task that is done: used again, if nobody else can tell.
    #[inline]
    pub fn give_back(&self, task: Bound<'_, HandlerTask>) {
        if !is_ours_alone(&task) {
            return;
        }
        let py = task.py();
        let mut old = task.get().state.with(py, std::mem::take);
        old.outcome = Outcome::Idle;
        let task = task.unbind();
        self.0.with(py, |spare| {
            if spare.len() < SPARE_TASKS {
                spare.push(task);
                None
            } else {
                Some(task)
            }
        });
    }
}

/// Nobody refers to it, strongly or weakly, but `asyncio.all_tasks`, which asks whether it is done.
#[inline]
pub fn is_ours_alone(task: &Bound<'_, HandlerTask>) -> bool {
    let registered = task.get().registered.with(task.py(), |of| {
        of.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr)
    });
    let object = task.as_ptr();
    // SAFETY: reads the count and the type of a live object, and at the offset that its type names
    // the head of its list of weak references (PyO3 gives a `weakref` class such an offset). A
    // reference with a callback, as the registered one is, comes first only while there is no other:
    // each later one is put before it, or behind one without a callback that was put before it. It
    // cannot be gone and another be where it was, since it is held.
    unsafe {
        let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        ffi::Py_REFCNT(object) == 1
            && offset > 0
            && object
                .byte_offset(offset)
                .cast::<*mut ffi::PyObject>()
                .read()
                == registered
    }
}
