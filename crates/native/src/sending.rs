//! From a call of Python's to an item in the cork: the route's number, the encoded message, and who
//! sees to it that the cork is opened.

use crate::engine::Engine;
use crate::handler::index;
use crate::installed::Installed;
use crate::turn::me;
use photinus_engine::handle::Handle;
use photinus_engine::outbox::{Action, FormatSet, Marks, OutRoute, What, NO_NUMBER};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyInt, PyString};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

/// Names that messages are sent under. Each is kept for good, so they must not be made up a message.
const OUT_ROUTES: usize = 65_536;

impl Engine {
    pub fn send(
        &self,
        py: Python<'_>,
        (handle, format, closed): (Handle, FormatSet, bool),
        route: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        marks: Marks,
    ) -> PyResult<()> {
        self.check()?;
        if closed {
            self.counts.dropped_closed.add(1);
            return Ok(());
        }
        let what = What::Push(self.out_route(py, route)?);
        let to = handle;
        let action = Action::Send { to, what, marks };
        self.cork.count_receivers(py, 1);
        if let Ok(bytes) = message.cast::<PyBytes>() {
            self.post(py, handle.reactor(), action, bytes.as_bytes());
        } else {
            let encoders = &self.encoders(py)?.encoders;
            let post = |encoded: &[u8]| self.post(py, handle.reactor(), action, encoded);
            self.encoded(py, encoders, format, message, post)?;
        }
        Ok(())
    }

    /// Corks one item, and sees to it that the cork is opened.
    #[inline]
    pub fn post(&self, py: Python<'_>, reactor: usize, action: Action, payload: &[u8]) {
        let full = self.cork.push(py, reactor, action, payload);
        if full || self.loop_thread.load(Relaxed) != me() {
            return self.cork.flush(py, &self.inner, &self.counts);
        }
        let call_soon = self.foreign.with(py, |foreign| match foreign {
            Some((call_soon, called)) => {
                let first = !std::mem::replace(called, true);
                first.then(|| call_soon.clone_ref(py))
            }
            None => None,
        });
        if let Some(call_soon) = call_soon {
            // A loop that is closed calls nothing any more: then this is the last chance.
            if call_soon.call0(py).is_err() {
                self.cork.flush(py, &self.inner, &self.counts);
            }
        }
    }

    /// Encodes a message, and has `then` take its bytes.
    ///
    /// All are encoded into one buffer, which saves an object for each. It is taken out meanwhile: what
    /// encodes may run Python code that comes back here, and makes another one then.
    #[inline]
    pub fn encoded<R>(
        &self,
        py: Python<'_>,
        encoders: &[Py<PyAny>; 2],
        format: FormatSet,
        message: &Bound<'_, PyAny>,
        then: impl FnOnce(&[u8]) -> R,
    ) -> PyResult<R> {
        let buffer = match self.encoding.with(py, Option::take) {
            Some(buffer) => buffer.into_bound(py),
            None => PyByteArray::new(py, b""),
        };
        encoders[index(format)].bind(py).call1((message, &buffer))?;
        // SAFETY: nobody but this call has the buffer: no encoder keeps it, and it is given to no other
        // code until it is put back below. So it is neither resized nor written while `then` reads it.
        let result = then(unsafe { buffer.as_bytes() });
        self.encoding.with(py, |slot| *slot = Some(buffer.unbind()));
        Ok(result)
    }

    /// What the application encodes with. RuntimeError if there is none any more.
    pub fn encoders(&self, py: Python<'_>) -> PyResult<Arc<Installed>> {
        self.installed(py)
            .ok_or_else(|| PyRuntimeError::new_err("the engine has been shut down"))
    }

    pub fn out_route(&self, py: Python<'_>, route: &Bound<'_, PyAny>) -> PyResult<OutRoute> {
        let known = self.out_routes.bind(py);
        if let Some(index) = known.get_item(route)? {
            return Ok(OutRoute::Named(index.extract()?));
        }
        let (name, number) = if let Ok(name) = route.cast::<PyString>() {
            (name.to_str()?.to_owned(), NO_NUMBER)
        } else if route.is_instance_of::<PyInt>() {
            let number: u32 = route.extract()?;
            (number.to_string(), number)
        } else {
            let text = format!(
                "route: expected str or int, not {}",
                route.get_type().name()?
            );
            return Err(PyTypeError::new_err(text));
        };
        if name.len() > usize::from(u8::MAX) {
            return Err(PyValueError::new_err("route: a name has at most 255 bytes"));
        }
        if known.len() >= OUT_ROUTES {
            let text = format!(
                "route: {OUT_ROUTES} names have been sent under; put what varies into the message"
            );
            return Err(PyValueError::new_err(text));
        }
        let index = known.len() as u32;
        known.set_item(route, index)?;
        for reactor in 0..self.inner.most_reactors() {
            self.post(
                py,
                reactor,
                Action::NameRoute { index, number },
                name.as_bytes(),
            );
        }
        Ok(OutRoute::Named(index))
    }
}
