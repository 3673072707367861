//! What a task has to remember, and its end.

use crate::dispatch::Purpose;
use crate::engine::Engine;
use crate::pool::is_ours_alone;
use crate::session::Session;
use crate::task::{schedule, HandlerTask};
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyTraceback};
use pyo3::{PyTraverseError, PyVisit};

#[derive(Default)]
pub struct State {
    pub outcome: Outcome,
    pub coroutine: Option<Py<PyAny>>,
    /// The `contextvars.Context` that its steps run in: its session's.
    pub context: Option<Py<PyAny>>,
    pub event_loop: Option<Py<PyAny>>,
    /// Set when it suspends. Boxed, so that a handler that never does moves less memory.
    pub handler: Option<Box<Handler>>,
    /// What it waits for.
    pub waiter: Option<Py<PyAny>>,
    pub name: Option<Py<PyAny>>,
    /// Cancellations asked for, less those taken back.
    pub cancelling: u32,
    /// The next step throws a CancelledError.
    pub must_cancel: bool,
    pub cancel_message: Option<Py<PyAny>>,
    /// What it was cancelled with, for the first who asks.
    pub cancelled_error: Option<Py<PyBaseException>>,
    /// Somebody who awaits it has just been given it.
    pub blocking: bool,
    /// Each with its context.
    pub callbacks: Vec<(Py<PyAny>, Py<PyAny>)>,
}

#[derive(Default)]
pub enum Outcome {
    /// No handler's: done, as far as others can see.
    #[default]
    Idle,
    Pending,
    Returned(Py<PyAny>),
    Raised(Py<PyBaseException>, Option<Py<PyTraceback>>),
    Cancelled,
}

impl Outcome {
    pub fn clone_ref(&self, py: Python<'_>) -> Outcome {
        match self {
            Outcome::Idle => Outcome::Idle,
            Outcome::Pending => Outcome::Pending,
            Outcome::Cancelled => Outcome::Cancelled,
            Outcome::Returned(value) => Outcome::Returned(value.clone_ref(py)),
            Outcome::Raised(error, traceback) => Outcome::Raised(
                error.clone_ref(py),
                traceback.as_ref().map(|of| of.clone_ref(py)),
            ),
        }
    }
}

impl Drop for State {
    /// What asyncio says of a task that is forgotten while it waits.
    fn drop(&mut self) {
        let (Outcome::Pending, Some(coroutine), Some(event_loop)) =
            (&self.outcome, &self.coroutine, &self.event_loop)
        else {
            return;
        };
        Python::try_attach(|py| {
            // It is dropped wherever the last reference goes, perhaps while an error is on its way.
            let on_its_way = PyErr::take(py);
            let message = intern!(py, "Task was destroyed but it is pending!").as_any();
            // Nobody is there to hear it if the loop is collected together with it.
            let _told = [("message", message), ("coroutine", coroutine.bind(py))]
                .into_py_dict(py)
                .and_then(|report| {
                    event_loop.call_method1(py, "call_exception_handler", (report,))
                });
            if let Some(error) = on_its_way {
                error.restore(py);
            }
        });
    }
}

/// What becomes of a handler's result.
pub struct Handler {
    pub engine: Py<Engine>,
    pub ends: Ends,
    /// The node's context, in which everything but the handler's own steps runs.
    pub around: Py<PyAny>,
}

/// Who is told that it is done.
pub enum Ends {
    Session {
        session: Py<Session>,
        purpose: Purpose,
    },
    /// `done(error, value)` of `Engine.run`.
    Run(Py<PyAny>),
}

/// The handler is done: notes how, schedules what was to be called then, and gives what the
/// dispatcher is to see of it.
#[inline]
pub fn settle<'py>(
    task: &Bound<'py, HandlerTask>,
    result: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = task.py();
    let (must_cancel, awaited) = task.get().state.with(py, |state| {
        (
            std::mem::take(&mut state.must_cancel),
            !state.callbacks.is_empty(),
        )
    });
    if !must_cancel && !awaited && is_ours_alone(task) {
        return result; // nobody will ever ask it; `Pool::give_back` does the rest
    }
    let raised = result.is_err();
    // Cancelled right before it returned.
    let result = match must_cancel && result.is_ok() {
        true => Err(PyErr::from_value(task.get().cancellation(py)?.into_any())),
        false => result,
    };
    let (outcome, cancelled) = match &result {
        Ok(value) => (Outcome::Returned(value.clone().unbind()), None),
        Err(error) if error.is_instance_of::<CancelledError>(py) => {
            (Outcome::Cancelled, Some(error.value(py).clone().unbind()))
        }
        Err(error) => {
            let traceback = error.traceback(py).map(Bound::unbind);
            let error = error.value(py).clone().unbind();
            (Outcome::Raised(error, traceback), None)
        }
    };
    let (callbacks, event_loop, _message) = task.get().state.with(py, |state| {
        state.outcome = outcome;
        state.cancelled_error = cancelled;
        let event_loop = match state.callbacks.is_empty() {
            true => None,
            false => state.event_loop.as_ref().map(|of| of.clone_ref(py)),
        };
        // The first who asks gets the error itself, and the others one without a message.
        let message = raised.then(|| state.cancel_message.take());
        (std::mem::take(&mut state.callbacks), event_loop, message)
    });
    if let Some(event_loop) = event_loop {
        for (callback, context) in callbacks {
            let scheduled = schedule(
                event_loop.bind(py),
                callback.bind(py),
                task,
                context.bind(py),
            );
            if let Err(error) = scheduled {
                error.write_unraisable(py, Some(task));
            }
        }
    }
    result
}

impl State {
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let parts = [
            &self.coroutine,
            &self.context,
            &self.event_loop,
            &self.waiter,
            &self.name,
            &self.cancel_message,
        ];
        parts
            .into_iter()
            .flatten()
            .try_for_each(|of| visit.call(of))?;
        match &self.outcome {
            Outcome::Returned(value) => visit.call(value)?,
            Outcome::Raised(error, traceback) => {
                visit.call(error)?;
                traceback.iter().try_for_each(|of| visit.call(of))?;
            }
            Outcome::Idle | Outcome::Pending | Outcome::Cancelled => {}
        }
        if let Some(handler) = &self.handler {
            visit.call(&handler.engine)?;
            match &handler.ends {
                Ends::Session { session, .. } => visit.call(session)?,
                Ends::Run(done) => visit.call(done)?,
            }
            visit.call(&handler.around)?;
        }
        self.cancelled_error
            .iter()
            .try_for_each(|of| visit.call(of))?;
        self.callbacks.iter().try_for_each(|(callback, context)| {
            visit.call(callback)?;
            visit.call(context)
        })
    }
}
