//! A session's beginning, its client's coming back, and its end, as the application is told of them.

use crate::binding;
use crate::dispatch::{finish, Call, Purpose};
use crate::linking;
use crate::mailbox::park;
use crate::session::{Session, Waiting};
use photinus_engine::connection::By;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Batch, Event, Item};
use photinus_engine::outbox::FormatSet;
use photinus_engine::remote::Spoken;
use photinus_engine::shared::format_of;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What an item says that is no packet. Apart from the packets' way, which is worth keeping short.
#[inline(never)]
pub fn heard(call: &Call<'_, '_>, batch: &Batch, item: &Item) -> PyResult<()> {
    let py = call.py;
    match item.event {
        Event::Packet(_) => Ok(()), // not here
        Event::Opened => {
            let address = String::from_utf8_lossy(batch.body(item)).into_owned();
            let origin = (item.route, item.id);
            opened(call, item.handle, item.number as u16, address, origin)
        }
        Event::Closed => {
            let Some(session) = call.engine.seat(py, item.handle) else {
                return Ok(());
            };
            let reason = PyBytes::new(py, batch.body(item));
            let (busy, groups) = session.get().fields.with(py, |fields| {
                fields.closed = true;
                (fields.busy, std::mem::take(&mut fields.groups))
            });
            call.engine.leave_groups(py, item.handle, &groups);
            binding::close_lanes(call, item.handle)?;
            if busy {
                park(call, &session, Waiting::Closed { by: item.number }, reason);
            } else {
                closed(call, &session, item.number, &reason)?;
            }
            Ok(())
        }
        Event::Cut => {
            if let Some(session) = call.engine.seat(py, item.handle) {
                session.get().fields.with(py, |fields| fields.cut = true);
            }
            Ok(())
        }
        Event::Resumed => {
            let Some(session) = call.engine.seat(py, item.handle) else {
                return Ok(());
            };
            let address = String::from_utf8_lossy(batch.body(item)).into_owned();
            let busy = session.get().fields.with(py, |fields| {
                fields.cut = false;
                fields.address = address.into_boxed_str();
                fields.busy
            });
            let gap = item.number != 0;
            if busy {
                park(
                    call,
                    &session,
                    Waiting::Resumed { gap },
                    PyBytes::new(py, b""),
                );
            } else {
                resumed(call, &session, gap)?;
            }
            Ok(())
        }
        Event::LinkUp | Event::LinkLost | Event::Frame => linking::heard(call, batch, item),
        Event::Arrived | Event::Fence | Event::Detached | Event::Gone => {
            binding::heard(call, batch, item)
        }
        Event::Done => binding::done(call, batch, item),
        Event::FromApp => {
            let Some(session) = call.engine.seat(py, item.handle) else {
                return Ok(());
            };
            let body = PyBytes::new(py, batch.body(item));
            if session.get().fields.with(py, |fields| fields.busy) {
                park(call, &session, Waiting::Told, body);
            } else {
                told(call, &session, &body)?;
            }
            Ok(())
        }
        Event::Drained => call.engine.reactor_drained(py),
    }
}

/// A new session is there. `origin` is as in its fields.
fn opened(
    call: &Call<'_, '_>,
    handle: Handle,
    listener: u16,
    address: String,
    origin: (u32, u32),
) -> PyResult<()> {
    let session = seated(call, handle, listener, address)?;
    session
        .get()
        .fields
        .with(call.py, |fields| fields.origin = origin);
    match &call.installed.opened {
        None => Ok(()),
        Some(opened) => {
            let result = opened.bind(call.py).call1((&session,));
            finish(call, &session, Purpose::Opened, result, true)
        }
    }
}

/// The object of a session that is known from here on.
pub fn seated<'py>(
    call: &Call<'_, 'py>,
    handle: Handle,
    listener: u16,
    address: String,
) -> PyResult<Bound<'py, Session>> {
    let session = made(call, handle, listener, address)?;
    let kept = session.clone().unbind();
    call.engine.take_seat(call.py, handle, kept);
    Ok(session)
}

/// An object for a session, which nobody finds yet.
pub fn made<'py>(
    call: &Call<'_, 'py>,
    handle: Handle,
    listener: u16,
    address: String,
) -> PyResult<Bound<'py, Session>> {
    let py = call.py;
    let made = call.installed.session_type.bind(py).call0()?;
    let session = made.cast_into::<Session>()?;
    let format = match Spoken::from_listener(listener) {
        Some(spoken) => spoken.format(),
        None => {
            let listening = call.engine.inner.shared.listener(usize::from(listener));
            listening.map_or(FormatSet::JSON, |of| format_of(&of.protocol))
        }
    };
    session.get().fields.with(py, |fields| {
        fields.engine = Some(call.owner.clone().unbind());
        fields.handle = handle.0;
        fields.listener = listener;
        fields.format = format.0;
        fields.address = address.into_boxed_str();
    });
    Ok(session)
}

/// Its client is back. With a gap, some of what was sent to it meanwhile is lost.
pub fn resumed<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    gap: bool,
) -> PyResult<()> {
    let Some(resumed) = &call.installed.resumed else {
        return Ok(());
    };
    let result = resumed.bind(call.py).call1((session, gap));
    finish(call, session, Purpose::Resumed, result, true)
}

/// A native application tells something of it.
pub fn told<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    body: &Bound<'py, PyBytes>,
) -> PyResult<()> {
    let Some(told) = &call.installed.told else {
        return Ok(());
    };
    let result = told.bind(call.py).call1((session, body));
    finish(call, session, Purpose::Resumed, result, true)
}

pub fn closed<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    by: u32,
    reason: &Bound<'py, PyBytes>,
) -> PyResult<()> {
    let py = call.py;
    let Some(closed) = &call.installed.closed else {
        return let_go(call, session);
    };
    let reason = String::from_utf8_lossy(reason.as_bytes());
    let result = closed
        .bind(py)
        .call1((session, By::from_number(by).name(), reason));
    finish(call, session, Purpose::Closed, result, true)
}

/// The engine forgets an ended session; its slot may rest now.
pub fn let_go(call: &Call<'_, '_>, session: &Bound<'_, Session>) -> PyResult<()> {
    let (handle, _context) = session.get().fields.with(call.py, |fields| {
        (Handle(fields.handle), fields.context.take())
    });
    call.engine.leave_seat(call.py, handle);
    Ok(())
}
