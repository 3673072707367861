//! What `asyncio.current_task()` is while an `async def` handler makes its first step.
//!
//! A handler that never suspends needs no task, only somebody to be asked about: `asyncio.timeout`
//! and `TaskGroup` remember the current task, to cancel it later and to count that. So a
//! [`HandlerTask`] is current during the first step. It is pooled, and costs two calls. When the
//! handler suspends, a real `asyncio.Task` goes on with it, and whoever remembered the first object
//! reaches that task through it: cancellations that were asked for before are passed on.

use crate::dispatch::Call;
use crate::gil::GilCell;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

/// The first step of a handler as asyncio sees it; later, a way to the task that went on.
#[pyclass(frozen, weakref, module = "photinus._native")]
pub struct HandlerTask {
    state: GilCell<State>,
}

#[derive(Default)]
struct State {
    /// Set once the handler has suspended.
    task: Option<Py<PyAny>>,
    coroutine: Option<Py<PyAny>>,
    context: Option<Py<PyAny>>,
    event_loop: Option<Py<PyAny>>,
    name: Option<Py<PyAny>>,
    /// Cancellations asked for during the first step, less those taken back.
    cancelling: u32,
    cancel_message: Option<Py<PyAny>>,
    must_cancel: bool,
    /// `add_done_callback` during the first step.
    callbacks: Vec<(Py<PyAny>, Option<Py<PyDict>>)>,
    finished: bool,
}

/// Makes a task current, as asyncio itself does.
pub struct Current {
    pub enter: Py<PyAny>,
    pub leave: Py<PyAny>,
}

impl Current {
    pub fn find(py: Python<'_>) -> PyResult<Current> {
        // Public in all but name: what a third-party task has to call (documented in "Extending asyncio").
        let tasks = py.import("asyncio.tasks")?;
        let find = |name| tasks.getattr(name).map(Bound::unbind);
        Ok(Current {
            enter: find("_enter_task")?,
            leave: find("_leave_task")?,
        })
    }
}

/// Runs `step` with a current task; gives that back, for a handler that suspends.
#[inline]
pub fn as_current<'py, R>(
    call: &Call<'_, 'py>,
    coroutine: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
    step: impl FnOnce() -> PyResult<R>,
) -> (PyResult<R>, Option<Bound<'py, HandlerTask>>) {
    let py = call.py;
    let pooled = call.engine.spare_task.with(py, Option::take);
    let task = match pooled {
        Some(task) => task.into_bound(py),
        None => match Bound::new(
            py,
            HandlerTask {
                state: GilCell::new(State::default()),
            },
        ) {
            Ok(task) => task,
            Err(error) => return (Err(error), None),
        },
    };
    let event_loop = &call.installed.event_loop;
    task.get().state.with(py, |state| {
        state.coroutine = Some(coroutine.clone().unbind());
        state.context = Some(context.clone().unbind());
        state.event_loop = Some(event_loop.clone_ref(py));
        state.finished = false;
    });
    if let Err(error) = two(py, &call.installed.current.enter, event_loop, &task) {
        return (Err(error), None);
    }
    let stepped = step();
    let left = two(py, &call.installed.current.leave, event_loop, &task);
    (left.and(stepped), Some(task))
}

/// The handler is done without having suspended: the object is used again, unless somebody kept it.
#[inline]
pub fn done(call: &Call<'_, '_>, task: Bound<'_, HandlerTask>) {
    let py = call.py;
    let (_coroutine, _context, callbacks) = task.get().state.with(py, |state| {
        state.finished = true;
        (
            state.coroutine.take(),
            state.context.take(),
            std::mem::take(&mut state.callbacks),
        )
    });
    for (callback, keywords) in callbacks {
        let event_loop = call.installed.event_loop.bind(py);
        let scheduled = event_loop.call_method(
            "call_soon",
            (callback, &task),
            keywords.as_ref().map(|of| of.bind(py)),
        );
        if let Err(error) = scheduled {
            error.write_unraisable(py, Some(&task));
        }
    }
    // SAFETY: reads the count of a live object.
    if unsafe { ffi::Py_REFCNT(task.as_ptr()) } == 1 {
        let _old = task.get().state.with(py, std::mem::take);
        let task = task.unbind();
        let _older = call.engine.spare_task.with(py, |spare| spare.replace(task));
    }
}

/// A real task goes on: what was asked of the first step's object is asked of that.
pub fn hand_on(
    py: Python<'_>,
    first: &Bound<'_, HandlerTask>,
    task: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let asked = first.get().state.with(py, |state| {
        state.task = Some(task.clone().unbind());
        let asked = (
            std::mem::take(&mut state.cancelling),
            std::mem::take(&mut state.must_cancel),
            state.cancel_message.take(),
            state.name.take(),
            std::mem::take(&mut state.callbacks),
        );
        (state.coroutine.take(), state.context.take(), asked)
    });
    let (_coroutine, _context, (cancelling, must_cancel, message, name, callbacks)) = asked;
    if let Some(name) = name {
        task.call_method1("set_name", (name,))?;
    }
    for (callback, keywords) in callbacks {
        task.call_method(
            "add_done_callback",
            (callback,),
            keywords.as_ref().map(|of| of.bind(py)),
        )?;
    }
    if must_cancel {
        for _ in 0..cancelling.max(1) {
            task.call_method1("cancel", (message.as_ref(),))?;
        }
        if cancelling == 0 {
            task.call_method0("uncancel")?;
        }
    }
    Ok(())
}

#[inline]
fn two(
    py: Python<'_>,
    function: &Py<PyAny>,
    event_loop: &Py<PyAny>,
    task: &Bound<'_, HandlerTask>,
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
        Bound::from_owned_ptr_or_err(py, result).map(drop)
    }
}

impl HandlerTask {
    fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.with(py, |state| {
            state.task.as_ref().map(|task| task.bind(py).clone())
        })
    }

    fn part(
        &self,
        py: Python<'_>,
        part: impl FnOnce(&State) -> &Option<Py<PyAny>>,
    ) -> Option<Py<PyAny>> {
        self.state
            .with(py, |state| part(state).as_ref().map(|of| of.clone_ref(py)))
    }
}

#[pymethods]
impl HandlerTask {
    #[pyo3(signature = (msg = None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        if let Some(task) = self.task(py) {
            return task.call_method1("cancel", (msg,))?.extract();
        }
        let (answer, _old) = self.state.with(py, |state| {
            if state.finished {
                return (false, None);
            }
            state.cancelling += 1;
            state.must_cancel = true;
            (true, std::mem::replace(&mut state.cancel_message, msg))
        });
        Ok(answer)
    }

    fn uncancel(&self, py: Python<'_>) -> PyResult<u32> {
        if let Some(task) = self.task(py) {
            return task.call_method0("uncancel")?.extract();
        }
        let version = py.version_info();
        Ok(self.state.with(py, |state| {
            state.cancelling = state.cancelling.saturating_sub(1);
            // Since 3.13 the last one taken back also takes back a cancellation not yet delivered.
            if state.cancelling == 0 && version >= (3, 13) {
                state.must_cancel = false;
            }
            state.cancelling
        }))
    }

    fn cancelling(&self, py: Python<'_>) -> PyResult<u32> {
        match self.task(py) {
            Some(task) => task.call_method0("cancelling")?.extract(),
            None => Ok(self.state.with(py, |state| state.cancelling)),
        }
    }

    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        match self.task(py) {
            Some(task) => task.call_method0("done")?.extract(),
            None => Ok(self.state.with(py, |state| state.finished)),
        }
    }

    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        match self.task(py) {
            Some(task) => task.call_method0("cancelled")?.extract(),
            None => Ok(false),
        }
    }

    fn get_name(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(task) = self.task(py) {
            return task.call_method0("get_name").map(Bound::unbind);
        }
        if let Some(name) = self.part(py, |state| &state.name) {
            return Ok(name);
        }
        match self.part(py, |state| &state.coroutine) {
            Some(coroutine) => coroutine.getattr(py, "__qualname__"),
            None => Ok("handler".into_pyobject(py)?.into_any().unbind()),
        }
    }

    fn set_name(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = name.py();
        if let Some(task) = self.task(py) {
            return task.call_method1("set_name", (name,)).map(drop);
        }
        let name = name.str()?.into_any().unbind();
        let _old = self.state.with(py, |state| state.name.replace(name));
        Ok(())
    }

    fn get_coro(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.task(py) {
            Some(task) => Ok(Some(task.call_method0("get_coro")?.unbind())),
            None => Ok(self.part(py, |state| &state.coroutine)),
        }
    }

    fn get_context(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.task(py) {
            Some(task) => Ok(Some(task.call_method0("get_context")?.unbind())),
            None => Ok(self.part(py, |state| &state.context)),
        }
    }

    fn get_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.part(py, |state| &state.event_loop)
    }

    #[pyo3(signature = (callback, **keywords))]
    fn add_done_callback(
        &self,
        py: Python<'_>,
        callback: Py<PyAny>,
        keywords: Option<Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        if let Some(task) = self.task(py) {
            return task
                .call_method("add_done_callback", (callback,), keywords.as_ref())
                .map(drop);
        }
        self.state.with(py, |state| {
            state
                .callbacks
                .push((callback, keywords.map(Bound::unbind)))
        });
        Ok(())
    }

    /// The stack of the handler, as of any task.
    #[pyo3(signature = (*arguments, **keywords))]
    fn print_stack(
        &self,
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        match self.task(arguments.py()) {
            Some(task) => task
                .call_method("print_stack", arguments, keywords)
                .map(drop),
            None => Ok(()),
        }
    }

    /// Everything else that a task has, once there is one.
    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        match self.task(py) {
            Some(task) => task.getattr(name).map(Bound::unbind),
            None => Err(PyAttributeError::new_err(name.to_owned())),
        }
    }

    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.task(py) {
            Some(task) => task.call_method0("__await__"),
            None => Err(PyRuntimeError::new_err(
                "a handler cannot await its own task",
            )),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the token is used for `GilCell::with` only, which calls nothing of Python's; the
        // collector runs with the GIL held and never within `with`, where no Python object is made.
        let py = unsafe { Python::assume_attached() };
        self.state.with(py, |state| {
            let parts = [
                &state.task,
                &state.coroutine,
                &state.context,
                &state.event_loop,
            ];
            parts
                .into_iter()
                .flatten()
                .try_for_each(|of| visit.call(of))?;
            state
                .callbacks
                .iter()
                .try_for_each(|(callback, _)| visit.call(callback))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let _old = self.state.with(py, std::mem::take);
    }
}
