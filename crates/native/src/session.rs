//! A session as Python sees it.

use crate::binding::Binding;
use crate::engine::Engine;
use crate::gil::GilCell;
use crate::handler::name;
use crate::task::HandlerTask;
use photinus_engine::handle::Handle;
use photinus_engine::outbox::{Action, FormatSet, Marks};
use photinus_engine::rate::Buckets;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFrozenSet};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;

/// A player's presence. The engine makes one when a client has connected; `photinus.Session` is what
/// applications see of it.
#[pyclass(frozen, subclass, weakref, module = "photinus._native")]
pub struct Session {
    pub(crate) fields: GilCell<Fields>,
}

#[derive(Default)]
pub struct Fields {
    /// `None`: not made by an engine.
    pub engine: Option<Py<Engine>>,
    pub handle: u32,
    /// The link over which its client is reached, and its handle there; 0 both: its client is this node's.
    pub origin: (u32, u32),
    pub listener: u16,
    pub format: u8,
    pub closed: bool,
    /// It has no connection now.
    pub cut: bool,
    /// A handler of this session is suspended: what comes for it waits in its mailbox.
    pub busy: bool,
    pub data: Option<Py<PyAny>>,
    pub player: Option<Py<PyAny>>,
    /// `None`: it has none.
    pub roles: Option<Py<PyFrozenSet>>,
    /// Of the routes with a rate; made with the first call of one.
    pub buckets: Option<Box<Buckets>>,
    /// The `contextvars.Context` in which its `async def` handlers run, from the first one on.
    pub context: Option<Py<PyAny>>,
    /// The suspended handler. asyncio itself holds tasks only weakly.
    pub task: Option<Py<HandlerTask>>,
    /// It is the `closed` handler.
    pub closing: bool,
    pub address: Box<str>,
    #[allow(clippy::box_collection)] // Most sessions have none: a word of memory each, not four.
    pub mailbox: Option<Box<VecDeque<Parked>>>,
    /// Numbers of the groups it is in.
    pub groups: Vec<u32>,
}

/// What waits until the session's suspended handler is done.
pub struct Parked {
    pub what: Waiting,
    pub body: Py<PyBytes>,
}

pub enum Waiting {
    Packet {
        kind: photinus_proto::codec::Kind,
        id: u32,
        route: u32,
        number: u32,
    },
    Resumed {
        gap: bool,
    },
    /// What a native application tells of it.
    Told,
    Closed {
        by: u32,
    },
    Bound(Binding),
}

#[pymethods]
impl Session {
    #[new]
    fn new() -> Session {
        Session {
            fields: GilCell::new(Fields::default()),
        }
    }

    /// The user's own; None at first.
    #[getter]
    fn data(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.fields.with(py, |fields| {
            fields.data.as_ref().map(|data| data.clone_ref(py))
        })
    }

    #[setter]
    fn set_data(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
        // The old value is dropped outside: its `__del__` may come back here.
        let _old = self
            .fields
            .with(py, |fields| std::mem::replace(&mut fields.data, value));
    }

    /// Who plays; None until it has logged in. Routes that are not public need one.
    #[getter]
    fn player(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.fields.with(py, |fields| {
            fields.player.as_ref().map(|player| player.clone_ref(py))
        })
    }

    #[setter]
    fn set_player(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
        let _old = self
            .fields
            .with(py, |fields| std::mem::replace(&mut fields.player, value));
    }

    /// What it may do beside what every player may; empty until a login says more.
    #[getter]
    fn roles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        let roles = self.fields.with(py, |fields| {
            fields.roles.as_ref().map(|roles| roles.clone_ref(py))
        });
        match roles {
            Some(roles) => Ok(roles.into_bound(py)),
            None => PyFrozenSet::empty(py),
        }
    }

    #[setter]
    fn set_roles(&self, py: Python<'_>, value: Bound<'_, PyFrozenSet>) {
        let value = (!value.is_empty()).then(|| value.unbind());
        let _old = self
            .fields
            .with(py, |fields| std::mem::replace(&mut fields.roles, value));
    }

    /// Slot and generation: unique among the living sessions of a node.
    #[getter]
    fn id(&self, py: Python<'_>) -> u32 {
        self.fields.with(py, |fields| fields.handle)
    }

    /// The link over which its client is reached, and its handle there; (0, 0) if its client is this node's.
    #[getter]
    fn origin(&self, py: Python<'_>) -> (u32, u32) {
        self.fields.with(py, |fields| fields.origin)
    }

    /// The peer's address, as "127.0.0.1:51324" or "[::1]:51324"; after a resume, the new one.
    #[getter]
    fn address(&self, py: Python<'_>) -> String {
        self.fields.with(py, |fields| fields.address.to_string())
    }

    /// Name of the protocol that its client speaks.
    #[getter]
    fn protocol(&self, py: Python<'_>) -> PyResult<&'static str> {
        let listener = self.fields.with(py, |fields| fields.listener);
        Ok(self.engine(py)?.get().protocol_name(listener))
    }

    /// How its typed messages are written: "json" or "msgpack".
    #[getter]
    fn format(&self, py: Python<'_>) -> &'static str {
        name(self.fields.with(py, |fields| FormatSet(fields.format)))
    }

    /// It has ended, or was told to.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        self.fields.with(py, |fields| fields.closed)
    }

    /// Its client is there. False from the moment on that its connection was cut until it comes back, or
    /// the session has ended; what is sent to it meanwhile waits.
    #[getter]
    fn connected(&self, py: Python<'_>) -> bool {
        self.fields.with(py, |fields| !fields.cut && !fields.closed)
    }

    /// The engine it belongs to. Raises RuntimeError for a session that no engine made.
    #[getter]
    fn engine(&self, py: Python<'_>) -> PyResult<Py<Engine>> {
        let engine = self.fields.with(py, |fields| {
            fields.engine.as_ref().map(|of| of.clone_ref(py))
        });
        engine.ok_or_else(|| PyRuntimeError::new_err("sessions are made by the engine only"))
    }

    /// Sends one message: bytes as they are, all else encoded for this client. From any thread.
    ///
    /// A `droppable` one is about the present: while the client does not keep up, the newest of its route
    /// takes the place of those before it. A `secret` one is never compressed. To a session that has
    /// ended it is dropped, and counted.
    #[pyo3(signature = (route, message, *, droppable = false, secret = false))]
    fn send(
        &self,
        py: Python<'_>,
        route: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        droppable: bool,
        secret: bool,
    ) -> PyResult<()> {
        let engine = self.engine(py)?;
        let marks = Marks::new(droppable, secret);
        let (handle, format, closed) = self.fields.with(py, |fields| {
            (
                Handle(fields.handle),
                FormatSet(fields.format),
                fields.closed,
            )
        });
        engine
            .get()
            .send(py, (handle, format, closed), route, message, marks)
    }

    /// Ends it: what was sent before goes out, then the protocol's kick with this reason.
    #[pyo3(signature = (reason = "kicked"))]
    fn kick(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        self.say_goodbye(py, |to| Action::Kick { to }, shortened(reason))
    }

    /// Ends it as `kick` does, and has the client go to another server: the URL of a listener of that one.
    /// Where the protocol has no word for it, it is a kick with the reason "redirected".
    fn redirect(&self, py: Python<'_>, url: &str) -> PyResult<()> {
        if url.is_empty() || url.len() > ADDRESS_BYTES {
            let text = format!("redirect: expected a URL of 1 to {ADDRESS_BYTES} bytes");
            return Err(PyValueError::new_err(text));
        }
        self.say_goodbye(py, |to| Action::Redirect { to }, url)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs with the GIL held, and never within `GilCell::with`, where no Python
        // object is made; so the borrow is free.
        // SAFETY: the token is used for `with` only, which calls nothing of Python's.
        let py = unsafe { Python::assume_attached() };
        self.fields.with(py, |fields| {
            fields.engine.iter().try_for_each(|of| visit.call(of))?;
            fields.task.iter().try_for_each(|of| visit.call(of))?;
            [&fields.data, &fields.player, &fields.context]
                .into_iter()
                .flatten()
                .try_for_each(|of| visit.call(of))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let _old = self.fields.with(py, |fields| {
            (
                fields.engine.take(),
                fields.data.take(),
                fields.player.take(),
                fields.context.take(),
                fields.task.take(),
            )
        });
    }
}

impl Session {
    fn say_goodbye(
        &self,
        py: Python<'_>,
        action: fn(Handle) -> Action,
        text: &str,
    ) -> PyResult<()> {
        let engine = self.engine(py)?;
        engine.get().check()?;
        let handle = self.fields.with(py, |fields| {
            let was = std::mem::replace(&mut fields.closed, true);
            (!was).then_some(Handle(fields.handle))
        });
        if let Some(handle) = handle {
            let reactor = handle.reactor();
            engine
                .get()
                .post(py, reactor, action(handle), text.as_bytes());
        }
        Ok(())
    }
}

/// The longest address that a client can be sent to (docs/protocol.md, 5.10).
const ADDRESS_BYTES: usize = 1024;
/// A reason is shown to a person: what is longer than this is cut.
const REASON_BYTES: usize = 256;

pub fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
