//! From inbox batches to calls of handlers, and from what they return to replies.
//!
//! Invariants: packets of one session reach its handlers in the order in which they came, one at a
//! time; while a handler of it is suspended (`coroutine.rs`) its later packets wait in its mailbox,
//! counted against its budget until they are handled. A session's `opened` comes first, its
//! `closed` last, and `resumed` before what came over the new connection. No borrow of a `GilCell` is held while Python runs.

use crate::access;
use crate::binding;
use crate::coroutine;
use crate::engine::Engine;
use crate::handler::Entry;
use crate::installed::Installed;
use crate::life::{heard, let_go};
use crate::mailbox::park;
use crate::session::{Session, Waiting};
use crate::timing::{Quick, Timing};
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Batch, Event, Item, DEFAULT_ROUTE, UNKNOWN_ROUTE};
use photinus_engine::outbox::{Action, FormatSet, Marks, OutRoute, What};
use photinus_proto::codec::Kind;
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// How long a drain goes on, so that timers and tasks get their turn: half of the millisecond that a
/// timer may be late.
const BUDGET_NS: u64 = 500_000;

/// Batches taken from the inbox, and how far they are handled.
#[derive(Default)]
pub struct Work {
    batches: VecDeque<Box<Batch>>,
    /// The next item of the first batch, and its run with how many of its packets are to come.
    item: usize,
    run: usize,
    left: u32,
    pub had_packets: bool,
    quick: Option<Box<Quick>>,
}

/// Why a handler was called: what becomes of its result.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    Packet {
        kind: Kind,
        id: u32,
        route: u32,
        number: u32,
    },
    Opened,
    Resumed,
    Closed,
    /// It came to this node or to something of it.
    Bound,
    /// It is leaving that.
    Left {
        target: u32,
    },
    /// Nothing of this node has it any more, though it goes on.
    Gone,
}

/// What every step of a dispatch needs.
pub struct Call<'a, 'py> {
    pub py: Python<'py>,
    pub owner: &'a Bound<'py, Engine>,
    pub engine: &'a Engine,
    pub installed: &'a Arc<Installed>,
}

impl Call<'_, '_> {
    /// Who handles what comes under `route`, if anybody does.
    #[inline]
    fn entry(&self, route: u32) -> Option<&Arc<Entry>> {
        match route {
            DEFAULT_ROUTE => self.installed.default.as_ref(),
            index => self.installed.handlers.get(index as usize)?.1.as_ref(),
        }
    }

    /// Those of the answer to what a handler was called for.
    #[inline]
    fn marks(&self, purpose: Purpose) -> Marks {
        let Purpose::Packet { route, .. } = purpose else {
            return Marks::NONE;
        };
        self.entry(route).map_or(Marks::NONE, |entry| entry.marks)
    }
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn batches(&self) -> usize {
        self.batches.len()
    }
}

/// Handles what has come in, within the budget. `true`: more is there.
pub fn drain(owner: &Bound<'_, Engine>) -> PyResult<bool> {
    let py = owner.py();
    let engine = owner.get();
    let Some(installed) = engine.installed(py) else {
        // Shut down before all was handled. Nobody is left to do it, and what stays there would
        // keep a loop of ours from ever sleeping.
        engine.inner.shared.inbox.take(&mut VecDeque::new());
        engine.work.with(py, |work| {
            if let Some(work) = work {
                *work = Work::default();
            }
        });
        return Ok(false);
    };
    // Taken out, so that a handler that comes back here (a nested loop) finds nothing to do twice.
    let Some(mut work) = engine.work.with(py, Option::take) else {
        return Ok(true);
    };
    let taken = engine.inner.take_inbox(&mut work.batches);
    let result = match taken {
        Err(error) => Err(crate::engine::raised(error)),
        Ok(()) if work.batches.is_empty() => Ok(()),
        Ok(()) => {
            let call = Call {
                py,
                owner,
                engine,
                installed: &installed,
            };
            // SAFETY: `context` is a Context (Python's type stub says so, and Enter checks it); it is
            // exited on this thread below, whatever happened in between.
            if unsafe { ffi::PyContext_Enter(installed.context.as_ptr()) } < 0 {
                Err(PyErr::fetch(py))
            } else {
                let mut quick = std::mem::take(&mut work.quick).unwrap_or_default();
                let result = work_off(&call, &mut work, &mut quick);
                work.quick = Some(quick);
                // SAFETY: entered above.
                unsafe { ffi::PyContext_Exit(installed.context.as_ptr()) };
                result
            }
        }
    };
    let more = !work.batches.is_empty();
    if !more {
        engine.inner.shared.delay.clear();
    }
    engine.work.with(py, |slot| *slot = Some(work));
    result.map(|()| more)
}

fn work_off(call: &Call<'_, '_>, work: &mut Work, quick: &mut Quick) -> PyResult<()> {
    let engine = call.engine;
    let now = engine.inner.now();
    let mut timing = Timing::new(&engine.clock, &engine.counts, quick, now, BUDGET_NS);
    while let Some(mut batch) = work.batches.pop_front() {
        timing.batch(batch.pushed);
        engine.inner.shared.delay.begin(batch.pushed);
        while let Some(&item) = batch.items.get(work.item) {
            work.item += 1;
            if item.event.is_counted() {
                work.had_packets = true;
                while work.left == 0 && work.run < batch.runs.len() {
                    work.left = batch.runs[work.run].packets;
                    work.run += 1;
                }
                work.left = work.left.saturating_sub(1);
            }
            let handled = match one(call, &mut batch, &item, work.run.wrapping_sub(1)) {
                Ok(handled) => handled,
                Err(error) => {
                    work.batches.push_front(batch);
                    return Err(error);
                }
            };
            if timing.done(handled) {
                if work.item < batch.items.len() {
                    work.batches.push_front(batch);
                } else {
                    work.next_batch(call, batch);
                }
                return Ok(());
            }
        }
        work.next_batch(call, batch);
    }
    Ok(())
}

impl Work {
    fn next_batch(&mut self, call: &Call<'_, '_>, done: Box<Batch>) {
        (self.item, self.run, self.left) = (0, 0, 0);
        call.engine.inner.give_back(done);
    }
}

/// One item. `true`: a packet that was given to a handler (or answered in its place).
#[inline]
fn one(call: &Call<'_, '_>, batch: &mut Batch, item: &Item, run: usize) -> PyResult<bool> {
    let Event::Packet(kind) = item.event else {
        return heard(call, batch, item).map(|()| false);
    };
    let py = call.py;
    let Item {
        handle,
        id,
        route,
        number,
        ..
    } = *item;
    // A space's or a service's packet is handled by its lane of the session.
    let session = match call.entry(route) {
        Some(entry) if entry.of_target => call.engine.lane(py, handle, number),
        _ => call.engine.seat(py, handle),
    };
    let Some(session) = session else {
        return Ok(false);
    };
    let body = PyBytes::new(py, batch.body(item));
    if session.get().fields.with(py, |fields| fields.busy) {
        let waiting = Waiting::Packet {
            kind,
            id,
            route,
            number,
        };
        park(call, &session, waiting, body);
        // Its part of the budget stays taken until the mailbox comes to it.
        if let Some(run) = batch.runs.get_mut(run) {
            run.packets -= 1;
            run.bytes -= item.len;
        }
        return Ok(false);
    }
    let purpose = Purpose::Packet {
        kind,
        id,
        route,
        number,
    };
    packet(call, &session, purpose, &body)?;
    Ok(true)
}

/// Calls the handler of a packet, and answers.
#[inline]
pub fn packet<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    purpose: Purpose,
    body: &Bound<'py, PyBytes>,
) -> PyResult<()> {
    let py = call.py;
    let Purpose::Packet { route, number, .. } = purpose else {
        return Ok(());
    };
    let Some(entry) = call.entry(route) else {
        let refusal = call.installed.refusals.unknown_route.bind(py).call0()?;
        let name = String::from_utf8_lossy(body.as_bytes());
        let name = if route == UNKNOWN_ROUTE {
            Some(name.as_ref())
        } else {
            None
        };
        return failed(call, session, purpose, name, PyErr::from_value(refusal));
    };
    if let Some(refused) = access::refuse(call, session, purpose, entry) {
        return refused;
    }
    let format = session
        .get()
        .fields
        .with(py, |fields| FormatSet(fields.format));
    let result = match entry.decoder(format) {
        None if entry.of_target => entry.call.bind(py).call1((session, body, number)),
        None => vectorcall(py, entry, session, body.as_any()),
        Some(decode) => match decode.bind(py).call1((body,)) {
            Ok(message) if entry.of_target => entry.call.bind(py).call1((session, message, number)),
            Ok(message) => vectorcall(py, entry, session, &message),
            Err(error) => return failed(call, session, purpose, None, error),
        },
    };
    finish(call, session, purpose, result, entry.asynchronous)
}

/// `handler(session, message)`, by the vectorcall protocol.
#[inline]
fn vectorcall<'py>(
    py: Python<'py>,
    entry: &Entry,
    session: &Bound<'py, Session>,
    message: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [std::ptr::null_mut(), session.as_ptr(), message.as_ptr()];
    // SAFETY: two live arguments behind a free place that the callee may use for `self`, as the flag
    // says; the result is a new reference, or null with an exception set.
    unsafe {
        let result = ffi::PyObject_Vectorcall(
            entry.call.as_ptr(),
            arguments.as_ptr().add(1),
            2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// What a handler (or hook) gave back: its reply, its error, or a coroutine to be stepped.
pub fn finish<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    purpose: Purpose,
    result: PyResult<Bound<'py, PyAny>>,
    may_be_coroutine: bool,
) -> PyResult<()> {
    let value = match result {
        Err(error) => return failed(call, session, purpose, None, error),
        Ok(value) if may_be_coroutine && coroutine::is_coroutine(&value) => {
            match coroutine::start(call, session, purpose, &value) {
                Err(error) => return failed(call, session, purpose, None, error),
                Ok(Some(value)) => value,
                Ok(None) => return Ok(()),
            }
        }
        Ok(value) => value,
    };
    match purpose {
        Purpose::Packet {
            kind, id, number, ..
        } => reply(call, session, (kind, id, number), purpose, &value),
        Purpose::Opened | Purpose::Resumed | Purpose::Bound => Ok(()),
        Purpose::Left { target } => {
            binding::left(call, session, target);
            Ok(())
        }
        Purpose::Closed | Purpose::Gone => let_go(call, session),
    }
}

#[inline]
fn reply<'py>(
    call: &Call<'_, 'py>,
    session: &Bound<'py, Session>,
    (kind, id, number): (Kind, u32, u32),
    purpose: Purpose,
    value: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = call.py;
    let (to, format) = session.get().fields.with(py, |fields| {
        (Handle(fields.handle), FormatSet(fields.format))
    });
    let what = match kind {
        Kind::Request => What::Response { id },
        Kind::Message if value.is_none() => return Ok(()),
        Kind::Message => What::Push(OutRoute::Number(number)),
        Kind::Notify => return Ok(()),
    };
    let marks = call.marks(purpose);
    let action = Action::Send { to, what, marks };
    let reactor = to.reactor();
    if let Ok(bytes) = value.cast::<PyBytes>() {
        call.engine.post(py, reactor, action, bytes.as_bytes());
    } else if value.is_none() {
        // A request must be answered: with an empty map.
        let empty: &[u8] = if format.has(FormatSet::JSON) {
            b"{}"
        } else {
            b"\x80"
        };
        call.engine.post(py, reactor, action, empty);
    } else {
        let post = |encoded: &[u8]| call.engine.post(py, reactor, action, encoded);
        let encoders = &call.installed.encoders;
        if let Err(error) = call.engine.encoded(py, encoders, format, value, post) {
            return failed(call, session, purpose, None, error);
        }
    }
    Ok(())
}

/// An exception out of a handler: Python logs and counts it, and says what the peer is told.
#[cold]
pub fn failed(
    call: &Call<'_, '_>,
    session: &Bound<'_, Session>,
    purpose: Purpose,
    unknown: Option<&str>,
    error: PyErr,
) -> PyResult<()> {
    let py = call.py;
    if error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py) {
        return Err(error);
    }
    let route = match purpose {
        Purpose::Packet { route, number, .. } => {
            match (call.installed.handlers.get(route as usize), unknown) {
                (Some((name, _)), _) => Some(name.clone_ref(py)),
                (None, Some(name)) => Some(name.into_pyobject(py)?.into_any().unbind()),
                (None, None) if number != 0 => Some(number.into_pyobject(py)?.into_any().unbind()),
                (None, None) => None,
            }
        }
        _ => None,
    };
    let error = error.into_value(py);
    let told = call
        .installed
        .failed
        .bind(py)
        .call1((session, route, error));
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            // The reporter itself is broken: that must be seen, and must not stop the others.
            error.write_unraisable(py, Some(call.installed.failed.bind(py)));
            py.None().into_bound(py)
        }
    };
    match purpose {
        Purpose::Packet {
            kind: Kind::Request,
            id,
            ..
        } => {
            let to = session
                .get()
                .fields
                .with(py, |fields| Handle(fields.handle));
            let action = Action::Send {
                to,
                what: What::Error { id },
                marks: call.marks(purpose),
            };
            let body = told
                .cast::<PyBytes>()
                .map_or(&b"{}"[..], |told| told.as_bytes());
            call.engine.post(py, to.reactor(), action, body);
        }
        Purpose::Closed | Purpose::Gone => let_go(call, session)?,
        Purpose::Left { target } => binding::left(call, session, target),
        _ => {}
    }
    Ok(())
}
