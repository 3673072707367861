//! Links to other nodes: joining a cluster, frames to and from Python, and what Python is told of links.

use crate::dispatch::Call;
use crate::engine::{raised, Engine};
use photinus_engine::handle::Handle;
use photinus_engine::homes::Homes;
use photinus_engine::inbox::{Batch, Event, Item};
use photinus_engine::outbox::Action;
use photinus_proto::bluenet::header::{Kind, Priority};
use photinus_proto::link::hello::{Identity, Roles};
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::HashMap;

#[pymethods]
impl Engine {
    /// Who this node is to the others of its cluster; once, before links are listened for or dialled. Of roles bit 0
    /// is a proxy and bit 1 a world node; the generation grows at each start.
    #[pyo3(signature = (cluster, node, roles, secret, *, generation, schema = 0))]
    fn join(
        &self,
        cluster: String,
        node: String,
        roles: u8,
        secret: Vec<u8>,
        generation: u64,
        schema: u64,
    ) -> PyResult<()> {
        let roles = Roles::from_bits(roles)
            .ok_or_else(|| PyValueError::new_err(format!("join: no roles are {roles}")))?;
        let identity = Identity {
            cluster,
            node,
            generation,
            roles,
            schema,
            secret,
        };
        self.inner.join(identity).map_err(raised)
    }

    /// Keeps a link to that node from now on.
    fn dial(&self, py: Python<'_>, node: &str, url: &str) -> PyResult<()> {
        py.detach(|| self.inner.dial(node, url)).map_err(raised)
    }

    /// Keeps none any more.
    fn hang_up(&self, node: &str) {
        self.inner.hang_up(node);
    }

    /// Whether new clients' sessions are at home here, and of how much each other node gets: 1 if it is not
    /// named, and none with 0.
    #[pyo3(signature = (*, here, weights))]
    fn set_homes(&self, here: bool, weights: HashMap<String, f64>) {
        let weights = weights
            .into_iter()
            .map(|(node, weight)| (node.into(), weight));
        self.inner.set_homes(Homes {
            here,
            weights: weights.collect(),
        });
    }

    /// One frame to the other end of a link, for the Python there. To a link that is gone it is dropped, and counted.
    #[pyo3(signature = (link, kind, destination, source, body, *, priority = 1, request = false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "one call of Python's, as its type stub says it"
    )]
    fn send_frame(
        &self,
        py: Python<'_>,
        link: u32,
        kind: u8,
        destination: u32,
        source: u32,
        body: &[u8],
        priority: u8,
        request: bool,
    ) -> PyResult<()> {
        self.check()?;
        let link = Handle(link);
        let reactor = link.reactor();
        if reactor >= self.inner.most_reactors() {
            return Err(PyValueError::new_err("send_frame: no such link"));
        }
        let action = Action::Frame {
            link,
            kind: Kind::ALL[usize::from(kind & 7)],
            priority: Priority::ALL[usize::from(priority & 3)],
            request,
            destination,
            source,
        };
        self.post(py, reactor, action, body);
        Ok(())
    }
}

/// What Python is told of links, and what comes over them for it.
pub fn heard(call: &Call<'_, '_>, batch: &Batch, item: &Item) -> PyResult<()> {
    let py = call.py;
    let link = item.handle.0;
    match item.event {
        Event::LinkUp => {
            let Some(linked) = &call.installed.linked else {
                return Ok(());
            };
            let text = String::from_utf8_lossy(batch.body(item));
            // A node's name may hold blanks, and a generation none.
            let (node, generation) = text.rsplit_once(' ').unwrap_or((&text, "0"));
            let generation: u64 = generation.parse().unwrap_or_default();
            let told = linked.bind(py).call1((link, node, generation, item.number));
            survive(told, linked)
        }
        Event::LinkLost => {
            let Some(unlinked) = &call.installed.unlinked else {
                return Ok(());
            };
            let reason = String::from_utf8_lossy(batch.body(item));
            survive(unlinked.bind(py).call1((link, reason)), unlinked)
        }
        _ => {
            let Some(frames) = &call.installed.frames else {
                return Ok(());
            };
            frame(py, frames, batch, item)
        }
    }
}

/// `frames(link, kind, request, destination, source, body)`, by the vectorcall protocol: each call between nodes
/// is two of these.
#[inline]
fn frame(py: Python<'_>, frames: &Py<PyAny>, batch: &Batch, item: &Item) -> PyResult<()> {
    let body = PyBytes::new(py, batch.body(item));
    let number = |of: u32| of.into_pyobject(py);
    let (link, kind) = (number(item.handle.0)?, number(item.route & 7)?);
    let (destination, source) = (number(item.id)?, number(item.number)?);
    let request = (item.route >> 5 & 1 != 0).into_pyobject(py)?;
    let arguments = [
        std::ptr::null_mut(),
        link.as_ptr(),
        kind.as_ptr(),
        request.as_ptr(),
        destination.as_ptr(),
        source.as_ptr(),
        body.as_ptr(),
    ];
    // SAFETY: six live arguments behind a free place that the callee may use for `self`, as the flag says; the
    // result is a new reference, or null with an exception set.
    let told = unsafe {
        let result = ffi::PyObject_Vectorcall(
            frames.as_ptr(),
            arguments.as_ptr().add(1),
            6 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    };
    survive(told, frames)
}

/// What one of these raises is a mistake of ours: it must be seen, and must not stop the others.
pub fn survive(told: PyResult<Bound<'_, PyAny>>, of: &Py<PyAny>) -> PyResult<()> {
    let Err(error) = told else {
        return Ok(());
    };
    Python::attach(|py| {
        if error.is_instance_of::<PyKeyboardInterrupt>(py)
            || error.is_instance_of::<PySystemExit>(py)
        {
            return Err(error);
        }
        error.write_unraisable(py, Some(of.bind(py)));
        Ok(())
    })
}
