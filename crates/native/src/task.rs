//! The task of an `async def` handler: one native object from its first step to its end.
//!
//! It is to asyncio what an `asyncio.Task` is (the semantics are those of `asyncio.tasks.Task`,
//! version by version), except that its first step is made at once by the dispatcher, and that what
//! it comes to goes to the dispatcher and not to a log. `coroutine.rs` makes the steps; here is what
//! others see and ask of it.
//!
//! A task that nobody else holds when it is done is used again for another handler (`pool.rs`).

use crate::asyncio_tasks::asyncio_tasks;
use crate::gil::GilCell;
use crate::task_state::{Outcome, State};
use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};
use pyo3::{PyTraverseError, PyVisit};

/// The task of an `async def` handler, as `asyncio.current_task()` gives it.
///
/// It does what an `asyncio.Task` does, but is none: `isinstance(task, asyncio.Task)` is false.
/// `asyncio.isfuture(task)` is true. Its name is the handler's `__qualname__` until it is given another.
#[pyclass(frozen, weakref, module = "photinus._native")]
pub struct HandlerTask {
    pub(crate) state: GilCell<State>,
    /// The reference by which `asyncio.all_tasks` knows it, held so that it can be told from others.
    pub(crate) registered: GilCell<Option<Py<PyAny>>>,
}

pub fn schedule<'py>(
    event_loop: &Bound<'py, PyAny>,
    callback: &Bound<'py, PyAny>,
    task: &Bound<'py, HandlerTask>,
    context: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = task.py();
    let name = intern!(py, "call_soon");
    asyncio_tasks(py)?.with_context(event_loop, name, callback, Some(task.as_any()), context)
}

impl HandlerTask {
    #[cold]
    pub fn new(py: Python<'_>) -> PyResult<Bound<'_, HandlerTask>> {
        let task = Bound::new(
            py,
            HandlerTask {
                state: GilCell::new(State::default()),
                registered: GilCell::new(None),
            },
        )?;
        let asyncio = asyncio_tasks(py)?;
        asyncio.register.call1(py, (&task,))?;
        let references = asyncio.weak_references.call1(py, (&task,))?;
        let references = references.bind(py).cast::<PyList>()?;
        if references.len() == 1 {
            let registered = references.get_item(0)?.unbind();
            task.get()
                .registered
                .with(py, |slot| *slot = Some(registered));
        }
        Ok(task)
    }

    fn part(
        &self,
        py: Python<'_>,
        part: impl FnOnce(&State) -> &Option<Py<PyAny>>,
    ) -> Option<Py<PyAny>> {
        self.state
            .with(py, |state| part(state).as_ref().map(|of| of.clone_ref(py)))
    }

    /// The CancelledError that ended it, once; after that, and before, a new one with the message
    /// that was last given.
    pub fn cancellation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBaseException>> {
        let (own, message) = self.state.with(py, |state| {
            let message = state.cancel_message.as_ref();
            (
                state.cancelled_error.take(),
                message.map(|of| of.clone_ref(py)),
            )
        });
        let error = match (own, message) {
            (Some(error), _) => return Ok(error.into_bound(py)),
            (None, None) => CancelledError::new_err(()),
            (None, Some(message)) => CancelledError::new_err((message,)),
        };
        Ok(error.into_value(py).into_bound(py))
    }

    /// What it returned or raised; raises itself if it was cancelled or, with the message `not_yet`,
    /// if it is not done.
    fn ended(&self, py: Python<'_>, not_yet: &'static str) -> PyResult<Result<Py<PyAny>, PyErr>> {
        match self.state.with(py, |state| state.outcome.clone_ref(py)) {
            Outcome::Idle | Outcome::Pending => Err(InvalidStateError::new_err(not_yet)),
            Outcome::Cancelled => Err(PyErr::from_value(self.cancellation(py)?.into_any())),
            Outcome::Returned(value) => Ok(Ok(value)),
            Outcome::Raised(error, traceback) => {
                let error = PyErr::from_value(error.into_bound(py).into_any());
                // As it was at the end: what each who awaits it adds is not to pile up.
                error.set_traceback(py, traceback.map(|of| of.into_bound(py)));
                Ok(Err(error))
            }
        }
    }
}

#[pymethods]
impl HandlerTask {
    #[pyo3(signature = (msg = None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let waiter = self.state.with(py, |state| {
            if !matches!(state.outcome, Outcome::Pending) {
                return None;
            }
            state.cancelling += 1;
            Some(state.waiter.as_ref().map(|of| of.clone_ref(py)))
        });
        let Some(waiter) = waiter else {
            return Ok(false);
        };
        if let Some(waiter) = waiter {
            // It stays what is waited for: it may be a task that refuses, to be asked again later.
            if waiter
                .call_method1(py, intern!(py, "cancel"), (msg.as_ref(),))?
                .is_truthy(py)?
            {
                return Ok(true);
            }
        }
        let _old = self.state.with(py, |state| {
            state.must_cancel = true;
            std::mem::replace(&mut state.cancel_message, msg)
        });
        Ok(true)
    }

    fn uncancel(&self, py: Python<'_>) -> u32 {
        // Since 3.13 the last one taken back also takes back a cancellation not yet delivered.
        let withdraws = py.version_info() >= (3, 13);
        self.state.with(py, |state| {
            state.cancelling = state.cancelling.saturating_sub(1);
            if state.cancelling == 0 && withdraws {
                state.must_cancel = false;
            }
            state.cancelling
        })
    }

    fn cancelling(&self, py: Python<'_>) -> u32 {
        self.state.with(py, |state| state.cancelling)
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.state
            .with(py, |state| !matches!(state.outcome, Outcome::Pending))
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        self.state
            .with(py, |state| matches!(state.outcome, Outcome::Cancelled))
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.ended(py, "Result is not set.")?
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyBaseException>>> {
        let ended = self.ended(py, "Exception is not set.")?;
        Ok(ended.err().map(|error| error.into_value(py)))
    }

    fn set_result(&self, _result: &Bound<'_, PyAny>) -> PyResult<()> {
        let refusal = "Task does not support set_result operation";
        Err(PyRuntimeError::new_err(refusal))
    }

    fn set_exception(&self, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let refusal = "Task does not support set_exception operation";
        Err(PyRuntimeError::new_err(refusal))
    }

    #[pyo3(signature = (callback, /, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let context = match context {
            Some(context) => context,
            // SAFETY: the result is a new reference, or null with an exception set.
            None => unsafe {
                Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())?.unbind()
            },
        };
        let (late, event_loop) = slf.get().state.with(py, |state| {
            let event_loop = state.event_loop.as_ref().map(|of| of.clone_ref(py));
            if matches!(state.outcome, Outcome::Pending) {
                state.callbacks.push((callback, context));
                return (None, event_loop);
            }
            (Some((callback, context)), event_loop)
        });
        match (late, event_loop) {
            (Some((callback, context)), Some(event_loop)) => schedule(
                event_loop.bind(py),
                callback.bind(py),
                slf,
                context.bind(py),
            ),
            _ => Ok(()),
        }
    }

    /// How many were removed.
    #[pyo3(signature = (callback, /))]
    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = callback.py();
        let all = self
            .state
            .with(py, |state| std::mem::take(&mut state.callbacks));
        let before = all.len();
        let mut kept = Vec::with_capacity(before);
        for entry in all {
            if !entry.0.bind(py).eq(callback)? {
                kept.push(entry);
            }
        }
        let removed = before - kept.len();
        self.state.with(py, |state| {
            kept.append(&mut state.callbacks);
            state.callbacks = kept;
        });
        Ok(removed)
    }

    fn get_name(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(name) = self.part(py, |state| &state.name) {
            return Ok(name);
        }
        match self.part(py, |state| &state.coroutine) {
            Some(coroutine) => coroutine.getattr(py, intern!(py, "__qualname__")),
            None => Ok(intern!(py, "handler").clone().into_any().unbind()),
        }
    }

    fn set_name(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = value.str()?.into_any().unbind();
        let _old = self
            .state
            .with(value.py(), |state| state.name.replace(name));
        Ok(())
    }

    fn get_coro(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.part(py, |state| &state.coroutine)
    }

    fn get_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.part(py, |state| &state.context)
    }

    fn get_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.part(py, |state| &state.event_loop)
    }

    #[pyo3(signature = (*, limit = None))]
    fn get_stack(slf: &Bound<'_, Self>, limit: Option<i64>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        asyncio_tasks(py)?.stack.call1(py, (slf, limit))
    }

    #[pyo3(signature = (*, limit = None, file = None))]
    fn print_stack(
        slf: &Bound<'_, Self>,
        limit: Option<i64>,
        file: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        asyncio_tasks(py)?.print_stack.call1(py, (slf, limit, file))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        asyncio_tasks(py)?.representation.call1(py, (slf,))
    }

    fn __await__(slf: Bound<'_, Self>) -> Awaiting {
        Awaiting {
            task: slf.unbind(),
            given: GilCell::new(false),
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Awaiting {
        HandlerTask::__await__(slf)
    }

    // What asyncio itself reads of a task, and anyio of its private parts.

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.blocking)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, py: Python<'_>, value: bool) {
        self.state.with(py, |state| state.blocking = value);
    }

    #[pyo3(name = "_make_cancelled_error")]
    fn make_cancelled_error<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBaseException>> {
        self.cancellation(py)
    }

    #[getter(_must_cancel)]
    fn must_cancel(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.must_cancel)
    }

    #[getter(_fut_waiter)]
    fn waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.part(py, |state| &state.waiter)
    }

    #[getter(_cancel_message)]
    fn cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.part(py, |state| &state.cancel_message)
    }

    #[getter(_coro)]
    fn coroutine(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get_coro(py)
    }

    #[getter(_loop)]
    fn event_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get_loop(py)
    }

    #[getter(_state)]
    fn state_name(&self, py: Python<'_>) -> &'static str {
        self.state.with(py, |state| match state.outcome {
            Outcome::Pending => "PENDING",
            Outcome::Cancelled => "CANCELLED",
            _ => "FINISHED",
        })
    }

    #[getter(_result)]
    fn returned(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| match &state.outcome {
            Outcome::Returned(value) => Some(value.clone_ref(py)),
            _ => None,
        })
    }

    #[getter(_exception)]
    fn raised(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        self.state.with(py, |state| match &state.outcome {
            Outcome::Raised(error, _) => Some(error.clone_ref(py)),
            _ => None,
        })
    }

    #[getter(_callbacks)]
    fn callbacks<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let all: Vec<_> = self.state.with(py, |state| {
            let all = state.callbacks.iter();
            all.map(|(callback, context)| (callback.clone_ref(py), context.clone_ref(py)))
                .collect()
        });
        (!all.is_empty()).then(|| PyList::new(py, all)).transpose()
    }

    #[getter(_source_traceback)]
    fn source_traceback(&self) -> Option<Py<PyAny>> {
        None
    }

    #[getter(_log_traceback)]
    fn log_traceback(&self) -> bool {
        false
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        of: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let alias = cls.py().import("types")?.getattr("GenericAlias")?;
        alias.call1((cls, of))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the token is used for `GilCell::with` only, which calls nothing of Python's; the
        // collector runs with the GIL held and never within `with`, where no Python object is made.
        let py = unsafe { Python::assume_attached() };
        self.registered
            .with(py, |of| of.iter().try_for_each(|of| visit.call(of)))?;
        self.state.with(py, |state| state.visit(&visit))
    }

    fn __clear__(&self, py: Python<'_>) {
        let _old = self.state.with(py, std::mem::take);
    }
}

/// `await task`, from elsewhere.
#[pyclass(frozen, module = "photinus._native")]
struct Awaiting {
    task: Py<HandlerTask>,
    given: GilCell<bool>,
}

#[pymethods]
impl Awaiting {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<HandlerTask>> {
        let task = self.task.get();
        if task.done(py) {
            return Err(PyStopIteration::new_err((task.result(py)?,)));
        }
        if self.given.with(py, |given| std::mem::replace(given, true)) {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        task.set_blocking(py, true);
        Ok(self.task.clone_ref(py))
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<HandlerTask>> {
        self.__next__(value.py())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)
    }
}
