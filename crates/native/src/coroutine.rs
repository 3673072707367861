//! The steps of `async def` handlers.
//!
//! The first one is made at once, where a plain handler would have been called; a handler that yields
//! (a future it waits for) goes on when the loop calls its [`Wakeup`]. All steps run in the session's own
//! `contextvars.Context`, with the same [`HandlerTask`] as the loop's current task. What happens between
//! them follows `asyncio.tasks.Task`, message by message.
//!
//! While a handler is suspended its session is busy, and the session holds its task: asyncio holds
//! tasks only weakly. When it is done the dispatcher answers and goes on with the session's mailbox in that same
//! call, a turn of the loop before asyncio would call back: nothing else of the session can have come in
//! between, since it was busy until then.

use crate::asyncio_tasks::asyncio_tasks;
use crate::dispatch::{self, Call, Purpose};
use crate::gil::GilCell;
use crate::mailbox;
use crate::session::Session;
use crate::task::HandlerTask;
use crate::task_state::{settle, Ends, Handler, Outcome};
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyAttributeError, PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

#[inline]
pub fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) != 0 }
}

/// Makes the first step of a handler. `None`: it is suspended.
#[inline]
pub fn start<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    purpose: Purpose,
    coroutine: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let context = context(call, session)?;
    let event_loop = call.installed.event_loop.bind(call.py);
    let task = call.engine.tasks.begin(coroutine, &context, event_loop)?;
    let result = match step(&task, coroutine, &context, event_loop, None) {
        Ok(Step::Yielded(what)) => {
            suspend(call, session, purpose, &task);
            return go_to_sleep(task, what).map(|()| None);
        }
        Ok(Step::Returned(value)) => Ok(value),
        Err(error) => Err(error),
    };
    let result = settle(&task, result);
    call.engine.tasks.give_back(task);
    result.map(Some)
}

/// Makes the first step of a coroutine that is no session's, such as a call from another node, in this
/// context. `done(error, value)` is called when it is through: here, or later as the node's code.
/// Gives the task if it is suspended, which the caller must hold.
pub fn run<'py>(
    call: &Call<'_, 'py>,
    coroutine: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
    done: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, HandlerTask>>> {
    let event_loop = call.installed.event_loop.bind(call.py);
    let task = call.engine.tasks.begin(coroutine, context, event_loop)?;
    let result = match step(&task, coroutine, context, event_loop, None) {
        Ok(Step::Yielded(what)) => {
            let handler = Handler {
                engine: call.owner.clone().unbind(),
                ends: Ends::Run(done.clone().unbind()),
                around: call.installed.context.clone_ref(call.py),
            };
            task.get()
                .state
                .with(call.py, |state| state.handler = Some(Box::new(handler)));
            return go_to_sleep(task.clone(), what).map(|()| Some(task));
        }
        Ok(Step::Returned(value)) => Ok(value),
        Err(error) => Err(error),
    };
    let result = settle(&task, result);
    call.engine.tasks.give_back(task);
    tell(done, result).map(|()| None)
}

/// `done(error, value)`.
fn tell<'py>(done: &Bound<'py, PyAny>, result: PyResult<Bound<'py, PyAny>>) -> PyResult<()> {
    let py = done.py();
    match result {
        Ok(value) => done.call1((py.None(), value)),
        Err(error) => done.call1((error.into_value(py), py.None())),
    }
    .map(drop)
}

enum Step<'py> {
    Returned(Bound<'py, PyAny>),
    Yielded(Bound<'py, PyAny>),
}

/// One step, with this error if there is one.
#[inline]
fn step<'py>(
    task: &Bound<'py, HandlerTask>,
    coroutine: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
    error: Option<Bound<'py, PyBaseException>>,
) -> PyResult<Step<'py>> {
    let py = task.py();
    let asyncio = asyncio_tasks(py)?;
    // SAFETY: `context` is a Context made by PyContext_Copy; it is exited below on this thread.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let stepped = asyncio.as_current(event_loop, task.as_any(), || match error {
        None => send(coroutine),
        Some(error) => throw(coroutine, error),
    });
    // SAFETY: entered above.
    unsafe { ffi::PyContext_Exit(context.as_ptr()) };
    stepped
}

#[inline]
fn send<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: both are live objects; `result` receives a new reference, or stays null on an error.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &mut result) {
            ffi::PySendResult::PYGEN_RETURN => {
                Ok(Step::Returned(Bound::from_owned_ptr(py, result)))
            }
            ffi::PySendResult::PYGEN_NEXT => Ok(Step::Yielded(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

fn throw<'py>(
    coroutine: &Bound<'py, PyAny>,
    error: Bound<'py, PyBaseException>,
) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    match coroutine.call_method1(intern!(py, "throw"), (error,)) {
        Ok(what) => Ok(Step::Yielded(what)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            let value = error.value(py).getattr(intern!(py, "value"))?;
            Ok(Step::Returned(value))
        }
        Err(error) => Err(error),
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

/// The handler has yielded for the first time: its session is busy until it is done.
fn suspend<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    purpose: Purpose,
    task: &Bound<'py, HandlerTask>,
) {
    let py = call.py;
    call.engine.counts.suspended.add(1);
    let handler = Handler {
        engine: call.owner.clone().unbind(),
        ends: Ends::Session {
            session: session.clone().unbind(),
            purpose,
        },
        around: call.installed.context.clone_ref(py),
    };
    task.get()
        .state
        .with(py, |state| state.handler = Some(Box::new(handler)));
    session.get().fields.with(py, |fields| {
        fields.busy = true;
        fields.closing = matches!(purpose, Purpose::Closed | Purpose::Gone);
        fields.task = Some(task.clone().unbind());
    });
}

/// Arranges for the next step, after a coroutine has yielded this.
fn go_to_sleep<'py>(task: Bound<'py, HandlerTask>, what: Bound<'py, PyAny>) -> PyResult<()> {
    let arranged = match wait_for(&task, &what) {
        Ok(None) => Ok(()),
        Ok(Some(complaint)) => soon(&task, Some(PyRuntimeError::new_err(complaint))),
        Err(error) => soon(&task, Some(error)),
    };
    match arranged {
        Ok(()) => Ok(()),
        // The loop is closed. Nobody would ever come back to it.
        Err(error) => complete(task, Err(error)),
    }
}

/// Gives what is wrong with it, where it is nothing that can be waited for.
fn wait_for<'py>(
    task: &Bound<'py, HandlerTask>,
    what: &Bound<'py, PyAny>,
) -> PyResult<Option<String>> {
    let py = task.py();
    if what.is(task) {
        return Ok(Some(format!("Task cannot await on itself: {task:?}")));
    }
    if what.is_none() {
        // A bare yield: let the others have a turn.
        return soon(task, None).map(|()| None);
    }
    let blocking = what.getattr_opt(intern!(py, "_asyncio_future_blocking"))?;
    let Some(blocking) = blocking.filter(|of| !of.is_none()) else {
        // SAFETY: reads the type of a live object.
        let is_generator = unsafe { ffi::PyGen_Check(what.as_ptr()) != 0 };
        return Ok(Some(match is_generator {
            true => format!(
                "yield was used instead of yield from for generator in task {task:?} with {what:?}"
            ),
            false => format!("Task got bad yield: {what:?}"),
        }));
    };
    let Some((event_loop, around)) = surroundings(task) else {
        return Ok(None);
    };
    let its_loop = match what.call_method0(intern!(py, "get_loop")) {
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => {
            what.getattr(intern!(py, "_loop"))?
        }
        its_loop => its_loop?,
    };
    if !its_loop.is(&event_loop) {
        return Ok(Some(format!(
            "Task {task:?} got Future {what:?} attached to a different loop"
        )));
    }
    if !blocking.is_truthy()? {
        return Ok(Some(format!(
            "yield was used instead of yield from in task {task:?} with {what:?}"
        )));
    }
    what.setattr(intern!(py, "_asyncio_future_blocking"), false)?;
    let wakeup = Wakeup::of(task, None)?;
    let name = intern!(py, "add_done_callback");
    asyncio_tasks(py)?.with_context(what, name, wakeup.as_any(), None, &around)?;
    let (must_cancel, message) = task.get().state.with(py, |state| {
        state.waiter = Some(what.clone().unbind());
        match state.must_cancel {
            true => (
                true,
                state.cancel_message.as_ref().map(|of| of.clone_ref(py)),
            ),
            false => (false, None),
        }
    });
    if must_cancel
        && what
            .call_method1(intern!(py, "cancel"), (message,))?
            .is_truthy()?
    {
        task.get().state.with(py, |state| state.must_cancel = false);
    }
    Ok(None)
}

/// The next step comes in the loop's next turn, with this error if there is one.
fn soon(task: &Bound<'_, HandlerTask>, error: Option<PyErr>) -> PyResult<()> {
    let py = task.py();
    let Some((event_loop, around)) = surroundings(task) else {
        return Ok(());
    };
    let wakeup = Wakeup::of(task, error)?;
    let name = intern!(py, "call_soon");
    asyncio_tasks(py)?.with_context(&event_loop, name, wakeup.as_any(), None, &around)
}

/// Its loop, and the context of its wake-ups. `None`: the collector has taken it apart.
fn surroundings<'py>(
    task: &Bound<'py, HandlerTask>,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = task.py();
    task.get().state.with(py, |state| {
        let event_loop = state.event_loop.as_ref()?.bind(py).clone();
        let around = state.handler.as_ref()?.around.bind(py).clone();
        Some((event_loop, around))
    })
}

/// Called by the loop: a future is done, or a turn is over.
///
/// It runs in the node's context and enters the session's for the step: what comes after the handler's end
/// (the answer, the next handlers from the mailbox) is not the session's.
#[pyclass(frozen, module = "photinus._native")]
struct Wakeup {
    /// Until it is called: one that is called again, by a future that forgets nothing, must not wake
    /// the next handler that the task is used for.
    task: GilCell<Option<(Py<HandlerTask>, Option<PyErr>)>>,
}

#[pymethods]
impl Wakeup {
    #[pyo3(signature = (future = None))]
    fn __call__(&self, py: Python<'_>, future: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some((task, error)) = self.task.with(py, Option::take) else {
            return Ok(());
        };
        let error = match future {
            Some(future) => future.call_method0(intern!(py, "result")).err(),
            None => error,
        };
        go_on(task.into_bound(py), error)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: as in HandlerTask.
        let py = unsafe { Python::assume_attached() };
        self.task.with(py, |of| {
            of.iter().try_for_each(|(task, _)| visit.call(task))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let _old = self.task.with(py, Option::take);
    }
}

impl Wakeup {
    fn of<'py>(
        task: &Bound<'py, HandlerTask>,
        error: Option<PyErr>,
    ) -> PyResult<Bound<'py, Wakeup>> {
        let of = Some((task.clone().unbind(), error));
        Bound::new(
            task.py(),
            Wakeup {
                task: GilCell::new(of),
            },
        )
    }
}

/// A later step.
fn go_on(task: Bound<'_, HandlerTask>, error: Option<PyErr>) -> PyResult<()> {
    let py = task.py();
    let (parts, must_cancel, _waiter) = task.get().state.with(py, |state| {
        let parts = match (&state.coroutine, &state.context, &state.event_loop) {
            (Some(coroutine), Some(context), Some(event_loop))
                if matches!(state.outcome, Outcome::Pending) =>
            {
                Some((
                    coroutine.bind(py).clone(),
                    context.bind(py).clone(),
                    event_loop.bind(py).clone(),
                ))
            }
            _ => None,
        };
        (
            parts,
            std::mem::take(&mut state.must_cancel),
            state.waiter.take(),
        )
    });
    let Some((coroutine, context, event_loop)) = parts else {
        return Ok(());
    };
    let cancelled = |error: &PyErr| error.is_instance_of::<CancelledError>(py);
    let error = match must_cancel && !error.as_ref().is_some_and(cancelled) {
        true => Some(task.get().cancellation(py)?),
        false => error.map(|error| error.into_value(py).into_bound(py)),
    };
    match step(&task, &coroutine, &context, &event_loop, error) {
        Ok(Step::Yielded(what)) => go_to_sleep(task, what),
        Ok(Step::Returned(value)) => complete(task, Ok(value)),
        Err(error) => complete(task, Err(error)),
    }
}

/// A handler that was suspended is done: it is answered, and what came meanwhile is handled.
fn complete<'py>(
    task: Bound<'py, HandlerTask>,
    result: PyResult<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let py = task.py();
    let Some(handler) = task.get().state.with(py, |state| state.handler.take()) else {
        return Ok(());
    };
    let owner = handler.engine.bind(py);
    let engine = owner.get();
    let (session, purpose) = match &handler.ends {
        Ends::Session { session, purpose } => (session.bind(py), *purpose),
        Ends::Run(done) => {
            let result = settle(&task, result);
            engine.tasks.give_back(task);
            return tell(done.bind(py), result);
        }
    };
    let own = session.get().fields.with(py, |fields| {
        fields.busy = false;
        fields.task.take()
    });
    drop(own);
    let result = settle(&task, result);
    engine.tasks.give_back(task);
    let Some(installed) = engine.installed(py) else {
        return Ok(());
    };
    let call = Call {
        py,
        owner,
        engine,
        installed: &installed,
    };
    let finished = dispatch::finish(&call, session, purpose, result, false);
    // Also behind a KeyboardInterrupt: what waits must not be overtaken.
    let worked_off = mailbox::work_off_mailbox(&call, session);
    finished.and(worked_off)
}
