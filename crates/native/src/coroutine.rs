//! `async def` handlers: stepped at once; only one that suspends becomes a task.
//!
//! The first step runs in the session's own `contextvars.Context`, as all of its later ones do. When
//! it yields (a future it waits for), an `asyncio.Task` is made around [`Suspended`], which gives the
//! task that same future as its first step's result, and from then on passes everything through.

use crate::dispatch::{self, Call, Purpose};
use crate::engine::Engine;
use crate::gil::GilCell;
use crate::session::Session;
use crate::task::{self, HandlerTask};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

pub enum Step<'py> {
    Returned(Bound<'py, PyAny>),
    Yielded(Bound<'py, PyAny>),
}

/// What the first step came to.
pub enum First<'py> {
    Returned(Bound<'py, PyAny>),
    /// It waits for this, and this was the current task.
    Suspended(Bound<'py, PyAny>, Bound<'py, HandlerTask>),
}

#[inline]
pub fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) != 0 }
}

/// The first step of a coroutine, in its session's context.
#[inline]
pub fn step<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    coroutine: &Bound<'py, PyAny>,
) -> PyResult<First<'py>> {
    let context = context(call, session)?;
    // SAFETY: `context` is a Context made by PyContext_Copy; it is exited below on this thread.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(call.py));
    }
    let (stepped, current) = task::as_current(call, coroutine, &context, || {
        send(coroutine, &call.py.None().into_bound(call.py))
    });
    // SAFETY: entered above.
    unsafe { ffi::PyContext_Exit(context.as_ptr()) };
    match (stepped, current) {
        (Ok(Step::Yielded(first)), Some(current)) => Ok(First::Suspended(first, current)),
        (Ok(Step::Returned(value) | Step::Yielded(value)), current) => {
            current
                .into_iter()
                .for_each(|current| task::done(call, current));
            Ok(First::Returned(value))
        }
        (Err(error), current) => {
            current
                .into_iter()
                .for_each(|current| task::done(call, current));
            Err(error)
        }
    }
}

fn send<'py>(coroutine: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: both are live objects; `result` receives a new reference, or stays null on an error.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), value.as_ptr(), &mut result) {
            ffi::PySendResult::PYGEN_RETURN => {
                Ok(Step::Returned(Bound::from_owned_ptr(py, result)))
            }
            ffi::PySendResult::PYGEN_NEXT => Ok(Step::Yielded(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

fn context<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = call.py;
    let fields = &session.get().fields;
    let own = fields.with(py, |fields| {
        fields.context.as_ref().map(|of| of.bind(py).clone())
    });
    if let Some(context) = own {
        return Ok(context);
    }
    // SAFETY: copies a live Context; the result is a new reference, or null with an exception set.
    let copy = unsafe {
        let copy = ffi::PyContext_Copy(call.installed.context.as_ptr());
        Bound::from_owned_ptr_or_err(py, copy)?
    };
    fields.with(py, |fields| fields.context = Some(copy.clone().unbind()));
    Ok(copy)
}

/// The coroutine has yielded: a task goes on with it, and its session is busy until that is done.
pub fn go_on_as_task<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    purpose: Purpose,
    coroutine: &Bound<'py, PyAny>,
    first: Bound<'py, PyAny>,
    current: &Bound<'py, HandlerTask>,
) -> PyResult<()> {
    let py = call.py;
    let context = context(call, session)?;
    let suspended = Suspended {
        coroutine: coroutine.clone().unbind(),
        first: GilCell::new(Some(first.unbind())),
    };
    let keywords = PyDict::new(py);
    keywords.set_item("loop", &call.installed.event_loop)?;
    keywords.set_item("context", context)?;
    let task = call
        .installed
        .task_type
        .bind(py)
        .call((suspended,), Some(&keywords))?;
    task::hand_on(py, current, &task)?;
    session.get().fields.with(py, |fields| {
        fields.busy = true;
        fields.closing = matches!(purpose, Purpose::Closed);
        fields.task = Some(task.clone().unbind());
    });
    let completion = Completion {
        engine: call.owner.clone().unbind(),
        session: session.clone().unbind(),
        purpose,
    };
    let keywords = PyDict::new(py);
    keywords.set_item("context", &call.installed.context)?;
    task.call_method("add_done_callback", (completion,), Some(&keywords))?;
    Ok(())
}

/// A coroutine whose first step has been made already.
#[pyclass(frozen, module = "photinus._native")]
struct Suspended {
    coroutine: Py<PyAny>,
    first: GilCell<Option<Py<PyAny>>>,
}

#[pymethods]
impl Suspended {
    fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        if let Some(first) = self.first.with(py, Option::take) {
            return Ok(first.into_bound(py));
        }
        match send(self.coroutine.bind(py), value)? {
            Step::Yielded(next) => Ok(next),
            Step::Returned(value) => Err(PyStopIteration::new_err(value.unbind())),
        }
    }

    #[pyo3(signature = (*exception))]
    fn throw<'py>(&self, exception: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = exception.py();
        let _first = self.first.with(py, Option::take);
        self.coroutine.bind(py).call_method1("throw", exception)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let _first = self.first.with(py, Option::take);
        self.coroutine.call_method0(py, "close").map(drop)
    }

    // What a task's traceback and repr look at.
    #[getter]
    fn cr_frame(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.coroutine.getattr(py, "cr_frame")
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.coroutine.getattr(py, "cr_await")
    }

    #[getter]
    fn cr_code(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.coroutine.getattr(py, "cr_code")
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.coroutine.getattr(py, "cr_running")
    }

    #[getter(__qualname__)]
    fn qualname(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.coroutine.getattr(py, "__qualname__")
    }

    /// asyncio takes for a coroutine what can be awaited, sent to, thrown into and closed.
    fn __await__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        Err(PyRuntimeError::new_err(format!(
            "{slf:?} is run by its task already"
        )))
    }
}

/// Called when the task of a suspended handler is done.
#[pyclass(frozen, module = "photinus._native")]
struct Completion {
    engine: Py<Engine>,
    session: Py<Session>,
    purpose: Purpose,
}

#[pymethods]
impl Completion {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let owner = self.engine.bind(py);
        let engine = owner.get();
        let Some(installed) = engine.installed(py) else {
            return Ok(());
        };
        let call = Call {
            py,
            owner,
            engine,
            installed: &installed,
        };
        let session = self.session.bind(py);
        let _task = session.get().fields.with(py, |fields| {
            fields.busy = false;
            fields.task.take()
        });
        let result = task.call_method0("result");
        dispatch::finish(&call, session, self.purpose, result, false)?;
        dispatch::work_off_mailbox(&call, session)
    }
}
