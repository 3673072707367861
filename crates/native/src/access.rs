//! Who may call a handler, and how often: what is checked before a packet is decoded.

use crate::dispatch::{failed, Call, Purpose};
use crate::handler::Entry;
use crate::session::Session;
use photinus_proto::codec::Kind;
use pyo3::prelude::*;

/// `Some`: the session may not call this now, and has been answered if it waits for an answer.
#[inline]
pub fn refuse(
    call: &Call<'_, '_>,
    session: &Bound<'_, Session>,
    purpose: Purpose,
    entry: &Entry,
) -> Option<PyResult<()>> {
    let py = call.py;
    let refusals = &call.installed.refusals;
    let answer = |refusal: PyResult<Bound<'_, PyAny>>| {
        failed(call, session, purpose, None, PyErr::from_value(refusal?))
    };
    if !entry.public {
        let logged_in = session
            .get()
            .fields
            .with(py, |fields| fields.player.is_some());
        if !logged_in {
            return Some(answer(refusals.login_required.bind(py).call0()));
        }
    }
    if !entry.roles.is_empty() {
        match has_role(py, session, entry) {
            Ok(true) => {}
            Ok(false) => return Some(answer(refusals.forbidden.bind(py).call0())),
            Err(error) => return Some(failed(call, session, purpose, None, error)),
        }
    }
    let rate = entry.rate.as_ref()?;
    let now = call.engine.inner.now();
    let taken = session.get().fields.with(py, |fields| {
        let buckets = fields.buckets.get_or_insert_default();
        buckets.take(rate, now)
    });
    let wait = taken.err()?;
    call.engine.counts.too_fast.add(1);
    match purpose {
        Purpose::Packet {
            kind: Kind::Request,
            ..
        } => {
            // Rounded up: who waits as long as told must find a token.
            let seconds = wait.div_ceil(1_000_000) as f64 / 1000.0;
            Some(answer(refusals.too_fast.bind(py).call1((seconds,))))
        }
        // Nobody waits for an answer, and it may be one of very many: no Python for it.
        _ => Some(Ok(())),
    }
}

/// Whether the session has one of the roles that the handler asks for.
fn has_role(py: Python<'_>, session: &Bound<'_, Session>, entry: &Entry) -> PyResult<bool> {
    let roles = session.get().fields.with(py, |fields| {
        fields.roles.as_ref().map(|roles| roles.bind(py).clone())
    });
    let Some(roles) = roles else {
        return Ok(false);
    };
    for role in &entry.roles {
        if roles.contains(role)? {
            return Ok(true);
        }
    }
    Ok(false)
}
