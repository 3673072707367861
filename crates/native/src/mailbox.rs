//! What waits for a session while a handler of it is suspended, in the order in which it came.

use crate::binding;
use crate::dispatch::{packet, Call, Purpose};
use crate::life::{closed, resumed, told};
use crate::session::{Parked, Session, Waiting};
use photinus_engine::handle::Handle;
use photinus_engine::outbox::Action;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pub fn park(
    call: &Call<'_, '_>,
    session: &Bound<'_, Session>,
    what: Waiting,
    body: Bound<'_, PyBytes>,
) {
    let body = body.unbind();
    session.get().fields.with(call.py, |fields| {
        fields
            .mailbox
            .get_or_insert_default()
            .push_back(Parked { what, body });
    });
    call.engine.counts.parked.add(1);
    call.engine.counts.parked_now.add(1);
}

/// After a suspended handler of this session is done: what has come meanwhile, until one suspends again.
pub fn work_off_mailbox(call: &Call<'_, '_>, session: &Bound<'_, Session>) -> PyResult<()> {
    let py = call.py;
    if let Some(caught_up) = &call.installed.caught_up {
        caught_up.bind(py).call1((session,))?;
    }
    loop {
        let next = session.get().fields.with(py, |fields| {
            if fields.busy {
                return None;
            }
            let next = fields
                .mailbox
                .as_mut()
                .and_then(|mailbox| mailbox.pop_front());
            if next.is_none() {
                fields.mailbox = None;
            }
            next.map(|parked| (parked, Handle(fields.handle)))
        });
        let Some((Parked { what, body }, handle)) = next else {
            return Ok(());
        };
        let parked_now = &call.engine.counts.parked_now;
        parked_now.set(parked_now.read().saturating_sub(1));
        let body = body.bind(py);
        match what {
            Waiting::Packet {
                kind,
                id,
                route,
                number,
            } => {
                let bytes = body.as_bytes().len() as u32;
                let release = Action::Release {
                    to: handle,
                    packets: 1,
                    bytes,
                };
                call.engine.counts.handled.add(1);
                let result = packet(
                    call,
                    session,
                    Purpose::Packet {
                        kind,
                        id,
                        route,
                        number,
                    },
                    body,
                );
                call.engine.post(py, handle.reactor(), release, &[]);
                result?;
            }
            Waiting::Resumed { gap } => resumed(call, session, gap)?,
            Waiting::Told => told(call, session, body)?,
            Waiting::Closed { by } => closed(call, session, by, body)?,
            Waiting::Bound(what) => binding::tell(call, session, what, body)?,
        }
    }
}
