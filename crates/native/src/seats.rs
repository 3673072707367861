//! The sessions that Python holds, by their handles.

use crate::engine::Engine;
use crate::session::Session;
use photinus_engine::handle::Handle;
use photinus_engine::outbox::Action;
use pyo3::prelude::*;

/// One reactor's sessions, by place in its table.
pub type Seats = Vec<Option<(Handle, Py<Session>)>>;

impl Engine {
    /// The session that has this handle now.
    #[inline]
    pub fn seat<'py>(&self, py: Python<'py>, handle: Handle) -> Option<Bound<'py, Session>> {
        self.seats.with(py, |seats| {
            let seat = seats
                .get(handle.reactor())?
                .get(handle.local() as usize)?
                .as_ref();
            let (of, session) = seat?;
            (*of == handle).then(|| session.bind(py).clone())
        })
    }

    pub fn take_seat(&self, py: Python<'_>, handle: Handle, session: Py<Session>) {
        let _old = self.seats.with(py, |seats| {
            let seats = &mut seats[handle.reactor()];
            let local = handle.local() as usize;
            if seats.len() <= local {
                seats.resize_with(local + 1, || None);
            }
            seats[local].replace((handle, session))
        });
    }

    pub fn leave_seat(&self, py: Python<'_>, handle: Handle) {
        let _old = self.seats.with(py, |seats| {
            seats
                .get_mut(handle.reactor())?
                .get_mut(handle.local() as usize)?
                .take()
        });
        self.post(py, handle.reactor(), Action::Free { to: handle }, &[]);
    }
}
