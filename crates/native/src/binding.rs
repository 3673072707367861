//! Sessions that come to this node as their home or to one of its spaces and services, and go: what Python is told,
//! in order with their packets, and what it says of them.

use crate::dispatch::{finish, Call, Purpose};
use crate::engine::Engine;
use crate::life::{let_go, made, seated};
use crate::mailbox::park;
use crate::session::{Session, Waiting};
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{arrival, Batch, Event, Item};
use photinus_engine::outbox::{Action, Marks, Owner};
use photinus_engine::remote::HOME;
use photinus_proto::bluenet::control::Tag;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What happened to a session's bindings here.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    pub what: What,
    pub tag: u32,
    pub target: u32,
    /// As in `Event::Arrived`.
    pub flags: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Arrived,
    Fence,
    Detached,
    Gone,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Arrived => "arrived",
            What::Fence => "fence",
            What::Detached => "detached",
            What::Gone => "gone",
        }
    }
}

#[pymethods]
impl Engine {
    /// An owner's word about a session, to whoever holds its client. `verb` is `data`, `arrived`, `refused`, `fenced`,
    /// `attach`, `move` or `leave`, and says which of the rest it takes; ValueError if it is none.
    #[pyo3(signature = (session, verb, payload, *, tag = 0, request = 0, slot = 0, target = 0, class_number = 0))]
    #[allow(
        clippy::too_many_arguments,
        reason = "one call of Python's, as its type stub says it"
    )]
    fn own(
        &self,
        py: Python<'_>,
        session: &Bound<'_, Session>,
        verb: &str,
        payload: &[u8],
        tag: u32,
        request: u32,
        slot: u8,
        target: u32,
        class_number: u32,
    ) -> PyResult<()> {
        self.check()?;
        let tag = Tag(tag);
        let what = match verb {
            "data" => Owner::Data,
            "arrived" => Owner::Arrived { tag },
            "refused" => Owner::Refused { tag },
            "fenced" => Owner::Fenced { tag },
            "attach" => Owner::Attach {
                request,
                target,
                class: class_number,
            },
            "move" => Owner::Move {
                request,
                slot,
                target,
                class: class_number,
            },
            "leave" => Owner::Leave { request, slot },
            _ => return Err(PyValueError::new_err(format!("own: no verb {verb}"))),
        };
        let to = session
            .get()
            .fields
            .with(py, |fields| Handle(fields.handle));
        self.post(py, to.reactor(), Action::Own { to, what }, payload);
        Ok(())
    }

    /// A message to a session of another node's client, over the link to where it is held: bytes as they are, all
    /// else in this format.
    #[pyo3(signature = (link, session, written, route, message, *, droppable = false, secret = false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "one call of Python's, as its type stub says it"
    )]
    fn send_to(
        &self,
        py: Python<'_>,
        link: u32,
        session: u32,
        written: &str,
        route: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        droppable: bool,
        secret: bool,
    ) -> PyResult<()> {
        self.check()?;
        let link = Handle(link);
        if link.reactor() >= self.inner.most_reactors() {
            return Err(PyValueError::new_err("send_to: no such link"));
        }
        let action = Action::SendTo {
            link,
            session: Handle(session),
            route: self.out_route(py, route)?,
            marks: Marks::new(droppable, secret),
        };
        if let Ok(bytes) = message.cast::<PyBytes>() {
            self.post(py, link.reactor(), action, bytes.as_bytes());
            return Ok(());
        }
        let format = crate::handler::by_name(written)?;
        let encoders = &self.encoders(py)?.encoders;
        let post = |encoded: &[u8]| self.post(py, link.reactor(), action, encoded);
        self.encoded(py, encoders, format, message, post)
    }
}

/// What is attached to a space or service has a lane of its own there: packets and events of the session for that
/// target come one at a time and in their order, whatever its home, or another target, is busy with. A lane is an
/// object like the session's, which its handlers do not see.
impl Engine {
    pub fn lane<'py>(
        &self,
        py: Python<'py>,
        handle: Handle,
        target: u32,
    ) -> Option<Bound<'py, Session>> {
        self.lanes.with(py, |lanes| {
            let found = lanes.get(&(handle.0, target))?;
            Some(found.bind(py).clone())
        })
    }

    fn close_lane(&self, py: Python<'_>, lane: &Bound<'_, Session>, target: u32) {
        let (handle, waits) = lane
            .get()
            .fields
            .with(py, |fields| (fields.handle, fields.mailbox.is_some()));
        if !waits {
            let _old = self.lanes.with(py, |lanes| lanes.remove(&(handle, target)));
        }
    }
}

/// An item about a binding: told at once, or behind what that is busy with.
pub fn heard(call: &Call<'_, '_>, batch: &Batch, item: &Item) -> PyResult<()> {
    let py = call.py;
    let (what, text) = match item.event {
        Event::Arrived => (What::Arrived, batch.body(item)),
        Event::Fence => (What::Fence, &b""[..]),
        Event::Detached => (What::Detached, &b""[..]),
        _ => (What::Gone, &b""[..]),
    };
    let binding = Binding {
        what,
        tag: item.id,
        target: item.number,
        flags: item.route,
    };
    let seat = call.engine.seat(py, item.handle);
    let arrival = arrival(text);
    let session = match (seat, &arrival) {
        (Some(session), _) => session,
        (None, Some(of)) => {
            let listener = (item.route >> 3) as u16;
            let session = seated(call, item.handle, listener, of.address.to_owned())?;
            session
                .get()
                .fields
                .with(py, |fields| fields.origin = of.origin);
            session
        }
        (None, None) => return Ok(()),
    };
    let state = arrival.map_or(&b""[..], |of| of.state);
    let state = PyBytes::new(py, state);
    let session = match (what, item.number) {
        (What::Gone, _) | (_, HOME) => session,
        (_, target) => match call.engine.lane(py, item.handle, target) {
            Some(lane) => lane,
            None if what == What::Arrived => lane_for(call, &session, target)?,
            None => return Ok(()),
        },
    };
    in_turn(call, &session, binding, &state)
}

fn in_turn<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    binding: Binding,
    state: &Bound<'py, PyBytes>,
) -> PyResult<()> {
    if session.get().fields.with(call.py, |fields| fields.busy) {
        park(call, session, Waiting::Bound(binding), state.clone());
        return Ok(());
    }
    tell(call, session, binding, state)
}

/// The session has ended: so have its lanes, each behind what it is busy with.
pub fn close_lanes(call: &Call<'_, '_>, handle: Handle) -> PyResult<()> {
    let py = call.py;
    let targets: Vec<u32> = call.engine.lanes.with(py, |lanes| {
        let of = lanes.keys().filter(|(of, _)| *of == handle.0);
        of.map(|(_, target)| *target).collect()
    });
    for target in targets {
        let Some(lane) = call.engine.lane(py, handle, target) else {
            continue;
        };
        lane.get().fields.with(py, |fields| fields.closed = true);
        let binding = Binding {
            what: What::Detached,
            tag: 0,
            target,
            flags: 0,
        };
        in_turn(call, &lane, binding, &PyBytes::new(py, b""))?;
    }
    Ok(())
}

fn lane_for<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    target: u32,
) -> PyResult<Bound<'py, Session>> {
    let py = call.py;
    let (handle, listener, origin, address) = session.get().fields.with(py, |fields| {
        let address = fields.address.to_string();
        (
            Handle(fields.handle),
            fields.listener,
            fields.origin,
            address,
        )
    });
    let lane = made(call, handle, listener, address)?;
    lane.get().fields.with(py, |fields| fields.origin = origin);
    let kept = lane.clone().unbind();
    let _old = call
        .engine
        .lanes
        .with(py, |lanes| lanes.insert((handle.0, target), kept));
    Ok(lane)
}

/// `bound(session, what, target, tag, flags, state)`.
pub fn tell<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    bound: Binding,
    state: &Bound<'py, PyBytes>,
) -> PyResult<()> {
    let purpose = match bound.what {
        What::Gone => Purpose::Gone,
        What::Arrived => Purpose::Bound,
        What::Fence | What::Detached => Purpose::Left {
            target: bound.target,
        },
    };
    if bound.what == What::Gone {
        session
            .get()
            .fields
            .with(call.py, |fields| fields.closed = true);
    }
    let Some(told) = &call.installed.bound else {
        return match purpose {
            Purpose::Gone => let_go(call, session),
            _ => Ok(()),
        };
    };
    let Binding {
        what,
        tag,
        target,
        flags,
    } = bound;
    let arguments = (session, what.name(), target, tag, flags & 7, state);
    let result = told.bind(call.py).call1(arguments);
    finish(call, session, purpose, result, true)
}

/// It has left a target, and that is done.
pub fn left(call: &Call<'_, '_>, session: &Bound<'_, Session>, target: u32) {
    if target != HOME {
        call.engine.close_lane(call.py, session, target);
    }
}

/// `done(session, request, slot, reason)`: at once, since it is the busy handler that waits for it.
pub fn done(call: &Call<'_, '_>, batch: &Batch, item: &Item) -> PyResult<()> {
    let (Some(session), Some(done)) =
        (call.engine.seat(call.py, item.handle), &call.installed.done)
    else {
        return Ok(());
    };
    let reason = String::from_utf8_lossy(batch.body(item));
    let told = done
        .bind(call.py)
        .call1((session, item.number, item.id, reason));
    crate::linking::survive(told, done)
}
