//! The engine as Python holds it: listeners, the loop's sleep, what is sent, and the end.

use crate::asyncio::OwnLoop;
use crate::cork::Cork;
use crate::coroutine;
use crate::dispatch::{self, Work};
use crate::gil::GilCell;
use crate::groups::Groups;
use crate::handler::{by_format, Handler};
use crate::installed::{self, Installed, Refusals};
use crate::memory::{MemoryConnection, MemoryNetwork};
use crate::pool::Pool;
use crate::seats::Seats;
use crate::session::{shortened, Session};
use crate::statistics::{self, Loop};
use crate::task::HandlerTask;
use crate::turn::me;
use photinus_engine::app;
use photinus_engine::engine::{Engine as Inner, EngineError};
use photinus_engine::handle::Handle;
use photinus_engine::layers::{Certificates, ClientCertificates};
use photinus_engine::leaders::Rest;
use photinus_engine::limits::Limits;
use photinus_engine::remote::Spoken;
use photinus_engine::system::{monotonic_ns, Sleeper};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

/// The native engine of one node.
#[pyclass(frozen, weakref, module = "photinus._native")]
pub struct Engine {
    pub(crate) inner: Inner,
    pub(crate) cork: Cork,
    pub(crate) counts: Loop,
    pub(crate) clock: quanta::Clock,
    pub(crate) work: GilCell<Option<Work>>,
    /// For the next `async def` handlers.
    pub(crate) tasks: Pool,
    /// By reactor.
    pub(crate) seats: GilCell<Vec<Seats>>,
    /// By session and target.
    pub(crate) lanes: GilCell<HashMap<(u32, u32), Py<Session>>>,
    pub(crate) groups: GilCell<Groups>,
    /// Route (str or int) -> index, known to every reactor.
    pub(crate) out_routes: Py<PyDict>,
    /// What messages are encoded into, one after the other.
    pub(crate) encoding: GilCell<Option<Py<PyByteArray>>>,
    installed: GilCell<Option<Arc<Installed>>>,
    owner: GilCell<Option<Py<PyAny>>>,
    own_loop: GilCell<Option<Arc<OwnLoop>>>,
    /// `call_soon(flush)` of a loop that is not ours, and whether it has been called.
    pub(crate) foreign: GilCell<Option<(Py<PyAny>, bool)>>,
    drained: GilCell<Option<(Py<PyAny>, usize)>>,
    /// Which thread the loop runs on (`me`); 0: not known yet.
    pub(crate) loop_thread: AtomicUsize,
    /// When the present turn began, if it has packets: raw clock.
    pub(crate) turn_began: GilCell<u64>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, threads = 0, memory = false, limits = None, network = None, name = ""))]
    fn new(
        py: Python<'_>,
        threads: usize,
        memory: bool,
        limits: Option<HashMap<String, u64>>,
        network: Option<&Bound<'_, MemoryNetwork>>,
        name: &str,
    ) -> PyResult<Engine> {
        let mut bounds = Limits::default();
        for (name, value) in limits.unwrap_or_default() {
            bounds.set(&name, value).map_err(PyValueError::new_err)?;
        }
        let inner = match (memory, network) {
            (true, Some(network)) => Inner::memory_in(bounds, &network.get().0, name),
            (true, None) => Inner::memory(bounds),
            (false, _) => Inner::sockets(threads, bounds),
        };
        let inner = inner.map_err(raised)?;
        let reactors = inner.most_reactors();
        Ok(Engine {
            inner,
            cork: Cork::new(reactors),
            counts: Loop::default(),
            clock: quanta::Clock::new(),
            work: GilCell::new(Some(Work::default())),
            tasks: Pool::new(),
            seats: GilCell::new((0..reactors).map(|_| Vec::new()).collect()),
            lanes: GilCell::new(HashMap::new()),
            groups: GilCell::new(Groups::default()),
            out_routes: PyDict::new(py).unbind(),
            encoding: GilCell::new(None),
            installed: GilCell::new(None),
            owner: GilCell::new(None),
            own_loop: GilCell::new(None),
            foreign: GilCell::new(None),
            drained: GilCell::new(None),
            loop_thread: AtomicUsize::new(0),
            turn_began: GilCell::new(0),
        })
    }

    /// Whom the engine belongs to: for whoever holds one of its sessions.
    #[getter]
    fn owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.owner
            .with(py, |owner| owner.as_ref().map(|of| of.clone_ref(py)))
    }

    #[setter]
    fn set_owner(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
        let _old = self.owner.with(py, |owner| std::mem::replace(owner, value));
    }

    /// Tells the engine what the application is, before `listen`; again, to replace it at once.
    ///
    /// What has been read and not handled yet goes to the new one. Handlers that are suspended go on,
    /// and when one is done, `caught_up` is given its session before its next packet is handled.
    #[pyo3(signature = (*, session_type, routes, default, opened, resumed, closed, failed, refusals,
                        encoders, event_loop, context, caught_up = None, linked = None, unlinked = None,
                        frames = None, bound = None, done = None, told = None))]
    #[allow(
        clippy::too_many_arguments,
        reason = "keywords of one call, checked by the type stub"
    )]
    fn install(
        &self,
        py: Python<'_>,
        session_type: Py<PyAny>,
        routes: &Bound<'_, PyDict>,
        default: Option<&Bound<'_, Handler>>,
        opened: Option<Py<PyAny>>,
        resumed: Option<Py<PyAny>>,
        closed: Option<Py<PyAny>>,
        failed: Py<PyAny>,
        refusals: &Bound<'_, PyDict>,
        encoders: &Bound<'_, PyDict>,
        event_loop: Py<PyAny>,
        context: Py<PyAny>,
        caught_up: Option<Py<PyAny>>,
        linked: Option<Py<PyAny>>,
        unlinked: Option<Py<PyAny>>,
        frames: Option<Py<PyAny>>,
        bound: Option<Py<PyAny>>,
        done: Option<Py<PyAny>>,
        told: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let before = self.installed(py);
        let default = default.map(|handler| handler.get().0.clone());
        let (table, handlers) = installed::table(py, before.as_deref(), routes, default.as_ref())?;
        let installed = Installed {
            session_type,
            handlers,
            default,
            opened,
            resumed,
            told,
            closed,
            failed,
            linked,
            unlinked,
            frames,
            bound,
            done,
            caught_up,
            refusals: Refusals::by_code(refusals)?,
            encoders: by_format(encoders)?,
            event_loop,
            context,
        };
        // In this order: the first packet with a new route's index must find its handler.
        let _before = self
            .installed
            .with(py, |slot| slot.replace(Arc::new(installed)));
        self.inner.set_routes(table);
        Ok(())
    }

    /// What new connections over TLS are shown, in PEM; ValueError says what is wrong with it.
    /// `node_ca` has the authorities of other nodes' certificates, for links.
    #[pyo3(signature = (certificate, key, *, client_ca = None, client_required = false, node_ca = None))]
    fn set_certificates(
        &self,
        certificate: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
        client_required: bool,
        node_ca: Option<&[u8]>,
    ) -> PyResult<()> {
        let clients = client_ca.map(|authorities| ClientCertificates {
            authorities,
            required: client_required,
        });
        let certificates = Certificates {
            chain: certificate,
            key,
            clients,
            nodes: node_ca,
        };
        self.inner.set_certificates(&certificates).map_err(raised)
    }

    /// One of the native applications that the engine has of itself; before `install`. ValueError names them.
    fn add_app(&self, name: &str) -> PyResult<()> {
        let app = app::built_in(name).ok_or_else(|| {
            let names = app::BUILT_IN.join(", ");
            PyValueError::new_err(format!(
                "there is no native application {name:?}; there is {names}"
            ))
        })?;
        self.inner.add_app(app).map_err(raised)
    }

    /// Binds a listener; gives its URL with the address really bound.
    fn listen(&self, py: Python<'_>, url: &str) -> PyResult<String> {
        if self.installed.with(py, |installed| installed.is_none()) {
            return Err(PyRuntimeError::new_err("listen: call install first"));
        }
        py.detach(|| self.inner.listen(url)).map_err(raised)
    }

    /// Starts the native threads.
    fn start(&self) -> PyResult<()> {
        self.inner.start().map_err(raised)
    }

    /// Readable when something has come in, for a loop that is not ours.
    fn fileno(&self) -> i32 {
        self.inner.shared.python.as_raw_fd()
    }

    /// Handles what has come in, for about half a millisecond. True: more is waiting.
    ///
    /// Leaves `fileno()` readable exactly if there is more.
    fn drain(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let engine = slf.get();
        engine.inner.shared.python.clear();
        engine.begin_turn(slf.py());
        let result = dispatch::drain(slf);
        engine.end_turn(slf.py());
        engine.flush(slf.py());
        let more =
            matches!(result, Ok(true) | Err(_)) || !engine.inner.shared.inbox.prepare_sleep(false);
        if more {
            engine.inner.shared.python.notify();
        }
        result.map(|_| more)
    }

    /// Hands what has been sent to the reactors. The loop does it at the end of each turn.
    fn flush(&self, py: Python<'_>) {
        self.foreign.with(py, |foreign| {
            if let Some((_, called)) = foreign {
                *called = false;
            }
        });
        self.cork.flush(py, &self.inner, &self.counts);
    }

    /// The asyncio loop whose selector's `select` is ours; its own poller's descriptor, and `poll(0)`,
    /// which gives that poller's events.
    fn sleep_for(
        &self,
        event_loop: &Bound<'_, PyAny>,
        fileno: i32,
        poll: Py<PyAny>,
    ) -> PyResult<()> {
        let sleeper = Sleeper::new(self.inner.shared.python.as_raw_fd(), fileno)?;
        let own = Arc::new(OwnLoop::of(event_loop, sleeper, poll)?);
        let _old = self
            .own_loop
            .with(event_loop.py(), |slot| slot.replace(own));
        Ok(())
    }

    /// Turns of our loop, until there is something to do for asyncio or `timeout` seconds have passed
    /// (None: for ever). A turn hands over what was sent, sleeps until something comes, and handles it.
    /// Gives the events of the loop's own poller.
    ///
    /// This is the selector's `select` itself: a Python function in between would be a page of cold
    /// code at every wake.
    #[pyo3(signature = (timeout = None))]
    fn select<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let engine = slf.get();
        let Some(own) = engine.own_loop.with(py, |slot| slot.clone()) else {
            return Err(PyRuntimeError::new_err("select: call sleep_for first"));
        };
        engine.check()?;
        if engine.loop_thread.load(Relaxed) != me() {
            engine.inner.prepare_loop_thread();
            engine.loop_thread.store(me(), Relaxed);
        }
        let until = match timeout {
            Some(seconds) if seconds <= 0.0 => Rest::None,
            Some(seconds) => {
                let wait = (seconds * 1e9).min(1e18) as u64;
                Rest::Until(Some(monotonic_ns().saturating_add(wait)))
            }
            None => Rest::Until(None),
        };
        let before = own.state(py)?;
        loop {
            let other = engine.next_turn(py, &own.sleeper, until);
            dispatch::drain(slf)?;
            if other {
                return own.poll.bind(py).call1((0,));
            }
            py.check_signals()?;
            if until.is_over() || own.state(py)? != before {
                return Ok(PyList::empty(py).into_any());
            }
        }
    }

    /// A loop that is not ours: what is sent outside of `drain` is flushed by its `call_soon`.
    fn follow(&self, py: Python<'_>, call_soon: Option<Py<PyAny>>) {
        self.loop_thread.store(me(), Relaxed);
        let _old = self.foreign.with(py, |foreign| {
            std::mem::replace(foreign, call_soon.map(|call_soon| (call_soon, false)))
        });
    }

    /// The living sessions; with `idle`, those of which no handler is suspended.
    #[pyo3(signature = (*, idle = false))]
    fn sessions(&self, py: Python<'_>, idle: bool) -> Vec<Py<Session>> {
        let mut sessions: Vec<_> = self.seats.with(py, |seats| {
            let all = seats.iter().flatten().flatten();
            all.map(|(_, session)| session.clone_ref(py)).collect()
        });
        if idle {
            sessions.retain(|session| !session.get().fields.with(py, |fields| fields.busy));
        }
        sessions
    }

    /// The tasks of handlers that are suspended; with `closing`, those of `closed` handlers.
    #[pyo3(signature = (*, closing = false))]
    fn suspended(&self, py: Python<'_>, closing: bool) -> Vec<Py<HandlerTask>> {
        let task = |session: Py<Session>| {
            session.get().fields.with(py, |fields| {
                let task = fields.task.as_ref().filter(|_| fields.closing == closing);
                task.map(|of| of.clone_ref(py))
            })
        };
        let lanes: Vec<_> = self.lanes.with(py, |lanes| {
            lanes.values().map(|of| of.clone_ref(py)).collect()
        });
        let all = self.sessions(py, false).into_iter().chain(lanes);
        all.filter_map(task).collect()
    }

    /// The session with this handle; None if there is none now.
    fn session(&self, py: Python<'_>, handle: u32) -> Option<Py<Session>> {
        let found = self.seat(py, Handle(handle))?;
        let ended = found.get().fields.with(py, |fields| fields.closed);
        (!ended).then(|| found.unbind())
    }

    /// Makes the first step of a coroutine at once, in this context, and the later ones as asyncio's tasks
    /// do. `done(error, value)` is called when it is through, with None for what there is not. Gives the
    /// task if the coroutine is suspended, to be held by the caller until then.
    ///
    /// Call it where no task is running: from a callback of the loop, or of the engine.
    fn run<'py>(
        slf: &Bound<'py, Self>,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
        done: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, HandlerTask>>> {
        let engine = slf.get();
        let Some(installed) = engine.installed(slf.py()) else {
            return Err(PyRuntimeError::new_err("run: call install first"));
        };
        let call = dispatch::Call {
            py: slf.py(),
            owner: slf,
            engine,
            installed: &installed,
        };
        coroutine::run(&call, coroutine, context, done)
    }

    /// Accepts no more, ends every session with this reason, and calls `done` when none is left.
    fn close_sessions(&self, py: Python<'_>, reason: &str, done: Py<PyAny>) {
        let _old = self
            .drained
            .with(py, |drained| drained.replace((done, self.inner.reactors())));
        self.flush(py);
        self.inner.drain(shortened(reason));
    }

    /// Closes everything and waits for the native threads to end. What came before, and the sessions'
    /// ends, may still be drained.
    fn shut_down(&self, py: Python<'_>) {
        py.detach(|| self.inner.shut_down());
    }

    /// Lets go of the application and of all sessions: nothing is handled any more.
    fn release(&self, py: Python<'_>) {
        let _lanes = self.lanes.with(py, std::mem::take);
        let _seats = self.seats.with(py, |seats| {
            seats.iter_mut().map(std::mem::take).collect::<Vec<_>>()
        });
        let _installed = self.installed.with(py, Option::take);
        let _owner = self.owner.with(py, Option::take);
    }

    /// Counters, queues and histograms; `docs/statistics.md` says what each is.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let backlog = self
            .work
            .with(py, |work| work.as_ref().map_or(0, Work::batches));
        statistics::shown(py, &self.inner, &self.counts, backlog)
    }

    /// Connects a client to a listener of the memory back.
    fn connect(&self, url: &str) -> PyResult<MemoryConnection> {
        self.inner
            .connect(url)
            .map(MemoryConnection)
            .map_err(raised)
    }

    /// Runs the memory back at this time, in seconds. True: something happened.
    fn turn(&self, now: f64) -> PyResult<bool> {
        self.inner.turn((now * 1e9).round() as u64).map_err(raised)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the token is used for `GilCell::with` only, which calls nothing of Python's; the
        // collector runs with the GIL held and never within `with`, where no Python object is made.
        let py = unsafe { Python::assume_attached() };
        visit.call(&self.out_routes)?;
        self.owner
            .with(py, |owner| owner.iter().try_for_each(|of| visit.call(of)))?;
        self.own_loop
            .with(py, |of| of.iter().try_for_each(|of| of.visit(&visit)))?;
        self.foreign.with(py, |of| {
            of.iter()
                .try_for_each(|(call_soon, _)| visit.call(call_soon))
        })?;
        self.lanes.with(py, |lanes| {
            lanes.values().try_for_each(|lane| visit.call(lane))
        })?;
        self.seats.with(py, |seats| {
            let all = seats.iter().flatten().flatten();
            all.map(|(_, session)| session)
                .try_for_each(|session| visit.call(session))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let _owner = self.owner.with(py, Option::take);
        let _foreign = self.foreign.with(py, Option::take);
        let _own_loop = self.own_loop.with(py, Option::take);
        let _seats = self.seats.with(py, |seats| {
            seats.iter_mut().map(std::mem::take).collect::<Vec<_>>()
        });
    }
}

impl Engine {
    #[inline]
    pub fn installed(&self, py: Python<'_>) -> Option<Arc<Installed>> {
        self.installed.with(py, |installed| installed.clone())
    }

    pub fn leave_groups(&self, py: Python<'_>, handle: Handle, numbers: &[u32]) {
        self.groups.with(py, |groups| {
            for &number in numbers {
                groups.take_out(number, handle);
            }
        });
    }

    /// RuntimeError in a fork of the process that made the engine: nobody would ever take what is
    /// handed over there.
    #[inline]
    pub fn check(&self) -> PyResult<()> {
        self.inner.check().map_err(raised)
    }

    pub fn protocol_name(&self, listener: u16) -> &'static str {
        if let Some(spoken) = Spoken::from_listener(listener) {
            return spoken.name();
        }
        self.inner
            .shared
            .listener(usize::from(listener))
            .map_or("", |of| of.protocol.name())
    }

    /// A reactor has no session left; the last one's word is passed on.
    pub fn reactor_drained(&self, py: Python<'_>) -> PyResult<()> {
        let done = self.drained.with(py, |drained| match drained {
            Some((_, left)) if *left > 1 => {
                *left -= 1;
                None
            }
            _ => drained.take(),
        });
        match done {
            Some((done, _)) => done.call0(py).map(drop),
            None => Ok(()),
        }
    }
}

pub fn raised(error: EngineError) -> PyErr {
    match error {
        EngineError::Wrong(text) => PyValueError::new_err(text),
        EngineError::System(error) => match error.raw_os_error() {
            // With its number, so that Python makes the subclass and whoever catches it can look.
            Some(number) => {
                let text = error.to_string();
                let text = text.split(" (os error").next().unwrap_or_default();
                PyOSError::new_err((number, text.to_owned()))
            }
            None => error.into(),
        },
        other => PyRuntimeError::new_err(other.to_string()),
    }
}
