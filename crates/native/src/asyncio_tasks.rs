//! What asyncio has for tasks that are not its own.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};

/// Functions that a third-party task has to call (documented in "Extending asyncio"), and how to
/// show one.
pub struct AsyncioTasks {
    enter: Py<PyAny>,
    leave: Py<PyAny>,
    pub register: Py<PyAny>,
    pub representation: Py<PyAny>,
    pub stack: Py<PyAny>,
    pub print_stack: Py<PyAny>,
    /// `weakref.getweakrefs`.
    pub weak_references: Py<PyAny>,
    /// Names of the keywords of a call with `context=`.
    context: Py<PyTuple>,
}

static FOUND: PyOnceLock<AsyncioTasks> = PyOnceLock::new();

#[inline]
pub fn asyncio_tasks(py: Python<'_>) -> PyResult<&'static AsyncioTasks> {
    FOUND.get_or_try_init(py, || {
        let find = |module: &str, name: &str| -> PyResult<Py<PyAny>> {
            py.import(module)?.getattr(name).map(Bound::unbind)
        };
        Ok(AsyncioTasks {
            enter: find("asyncio.tasks", "_enter_task")?,
            leave: find("asyncio.tasks", "_leave_task")?,
            register: find("asyncio.tasks", "_register_task")?,
            representation: find("asyncio.base_tasks", "_task_repr")?,
            stack: find("asyncio.base_tasks", "_task_get_stack")?,
            print_stack: find("asyncio.base_tasks", "_task_print_stack")?,
            weak_references: find("weakref", "getweakrefs")?,
            context: PyTuple::new(py, ["context"])?.unbind(),
        })
    })
}

impl AsyncioTasks {
    /// Runs `step` with `task` as the loop's current one.
    #[inline]
    pub fn as_current<'py, R>(
        &self,
        event_loop: &Bound<'py, PyAny>,
        task: &Bound<'py, PyAny>,
        step: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        two(&self.enter, event_loop, task)?;
        let stepped = step();
        let left = two(&self.leave, event_loop, task);
        left.and(stepped)
    }

    /// `target.method(first, second, context=context)`; `second` may be left out.
    #[inline]
    pub fn with_context<'py>(
        &self,
        target: &Bound<'py, PyAny>,
        method: &Bound<'py, PyString>,
        first: &Bound<'py, PyAny>,
        second: Option<&Bound<'py, PyAny>>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = target.py();
        let positional = 2 + usize::from(second.is_some());
        let mut arguments = [std::ptr::null_mut(); 5];
        arguments[1] = target.as_ptr();
        arguments[2] = first.as_ptr();
        arguments[3] = second.map_or(std::ptr::null_mut(), Bound::as_ptr);
        arguments[1 + positional] = context.as_ptr();
        // SAFETY: live arguments behind a free place, as the flag says: the positional ones with the
        // target, then one for the one name in `context`; the result is a new reference, or null
        // with an exception set.
        unsafe {
            let result = ffi::PyObject_VectorcallMethod(
                method.as_ptr(),
                arguments.as_ptr().add(1),
                positional | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                self.context.as_ptr(),
            );
            Bound::from_owned_ptr_or_err(py, result).map(drop)
        }
    }
}

#[inline]
fn two<'py>(
    function: &Py<PyAny>,
    event_loop: &Bound<'py, PyAny>,
    task: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let arguments = [std::ptr::null_mut(), event_loop.as_ptr(), task.as_ptr()];
    // SAFETY: two live arguments behind a free place, as the flag says; the result is a new
    // reference, or null with an exception set.
    unsafe {
        let result = ffi::PyObject_Vectorcall(
            function.as_ptr(),
            arguments.as_ptr().add(1),
            2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(event_loop.py(), result).map(drop)
    }
}
