//! The engine as its user sees it: listeners, the inbox, hand-over to the reactors, and the end.

use crate::app::{Registration, APPS};
use crate::handle::REACTORS;
use crate::histogram::{merged, Snapshot};
use crate::homes::Homes;
use crate::inbox::Batch;
use crate::layers::Certificates;
use crate::leaders::{self, LoopLed, Rest};
use crate::limits::{Limits, BACKLOG, EVENTS_A_LED_TURN, EVENTS_A_TURN, LOOP_SLICE_NS};
use crate::listener::ListenUrl;
use crate::lock::lock;
use crate::memory::{Hub, Memory, MemoryConnection, Network};
use crate::outbox::{Handover, OutBatch};
use crate::reactor::{Next, Reactor};
use crate::routes::Routes;
use crate::shared::{Listening, Mailbox, Shared};
use crate::sockets::Sockets;
use crate::statistics::Count;
use crate::system::{self, Sleeper};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::ToSocketAddrs;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub struct Engine {
    pub shared: Arc<Shared>,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    limits: Limits,
    back: Reactors,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) started: AtomicBool,
    /// Reactors that have connections, or may have; they are the first ones.
    pub(crate) in_use: AtomicUsize,
    forks: u32,
}

enum Reactors {
    /// Led by native threads. Here until they are started.
    Sockets(Mutex<Vec<Reactor<Sockets>>>),
    /// One, led by the loop's thread and a native stand-by; and one beside it, led by a native thread, for
    /// the listeners whose work the loop's thread should not do. That one is here until it is needed.
    LoopLed {
        led: Arc<LoopLed>,
        beside: Box<Mutex<Option<Reactor<Sockets>>>>,
    },
    Memory {
        hub: Hub,
        reactor: Box<Mutex<Reactor<Memory>>>,
    },
}

#[derive(Debug)]
pub enum EngineError {
    /// The caller gave something wrong; the text says what was expected.
    Wrong(String),
    System(std::io::Error),
    /// This process is a fork of the one that made the engine.
    Forked,
    /// A reactor has stopped by a fault of ours.
    Failed(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Wrong(text) => f.write_str(text),
            EngineError::System(error) => error.fmt(f),
            EngineError::Forked => f.write_str(
                "this process was forked from the one that made the engine: make a new engine here, \
                 or use the multiprocessing start method \"spawn\"",
            ),
            EngineError::Failed(text) => write!(f, "the engine has stopped: {text}"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<std::io::Error> for EngineError {
    fn from(error: std::io::Error) -> Self {
        EngineError::System(error)
    }
}

impl Engine {
    /// With sockets, and as many reactors led by native threads; with 0 of them, one that the loop's
    /// thread leads while it [rests](Self::rest), and a native stand-by otherwise, and another one led by a
    /// native thread as soon as there is a listener that needs it.
    pub fn sockets(threads: usize, limits: Limits) -> Result<Engine, EngineError> {
        if threads > REACTORS {
            let text = format!("threads: expected 0 to {REACTORS}, not {threads}");
            return Err(EngineError::Wrong(text));
        }
        system::raise_open_files();
        let reactors = if threads == 0 { 2 } else { threads };
        let shared = Arc::new(Shared::new(reactors, &limits)?);
        let mut backs = Vec::new();
        let mut wakers = Vec::new();
        for number in 0..reactors {
            let events = match (threads, number) {
                (0, 0) => EVENTS_A_LED_TURN,
                _ => EVENTS_A_TURN,
            };
            let (back, waker) = Sockets::new(events)?;
            backs.push(back);
            wakers.push(waker);
        }
        let mailboxes = wakers.iter().cloned().map(|of| Mailbox::new(Some(of)));
        let mailboxes: Arc<[Mailbox]> = mailboxes.collect();
        let reactors = backs.into_iter().enumerate().map(|(number, back)| {
            Reactor::new(
                number,
                back,
                shared.clone(),
                mailboxes.clone(),
                limits.clone(),
            )
        });
        let mut reactors: Vec<_> = reactors.collect();
        if threads > 0 {
            let back = Reactors::Sockets(Mutex::new(reactors));
            return Ok(Engine::with(shared, mailboxes, limits, back, threads));
        }
        let beside = Box::new(Mutex::new(reactors.pop()));
        let waker = wakers.swap_remove(0);
        let led = LoopLed::new(reactors.swap_remove(0), shared.clone(), waker);
        let led = Arc::new(led);
        let back = Reactors::LoopLed { led, beside };
        Ok(Engine::with(shared, mailboxes, limits, back, 1))
    }

    /// In memory, with one reactor that runs when [`turn`](Engine::turn) is called.
    pub fn memory(limits: Limits) -> Result<Engine, EngineError> {
        Engine::memory_in(limits, &Network::default(), "")
    }

    /// The same as one node of several in this network, under this name. Nodes reach each other where they
    /// [listen](Self::listen), and all have the network's clock.
    pub fn memory_in(limits: Limits, network: &Network, name: &str) -> Result<Engine, EngineError> {
        let shared = Arc::new(Shared::new(1, &limits)?);
        let mailboxes: Arc<[Mailbox]> = [Mailbox::new(None)].into();
        let hub = Hub::new(network, name);
        let reactor = Reactor::new(
            0,
            hub.back(),
            shared.clone(),
            mailboxes.clone(),
            limits.clone(),
        );
        let back = Reactors::Memory {
            hub,
            reactor: Box::new(Mutex::new(reactor)),
        };
        Ok(Engine::with(shared, mailboxes, limits, back, 1))
    }

    fn with(
        shared: Arc<Shared>,
        mailboxes: Arc<[Mailbox]>,
        limits: Limits,
        back: Reactors,
        in_use: usize,
    ) -> Engine {
        system::watch_forks();
        let forks = system::forks();
        Engine {
            shared,
            mailboxes,
            limits,
            back,
            threads: Mutex::default(),
            started: AtomicBool::new(false),
            in_use: AtomicUsize::new(in_use),
            forks,
        }
    }

    /// Before the first listener, and again whenever they change. A route that stays keeps its index.
    pub fn set_routes(&self, routes: Routes) {
        self.shared.set_routes(routes);
    }

    /// A native application; before the first [`set_routes`](Self::set_routes), which makes its routes known.
    pub fn add_app(&self, app: Registration) -> Result<(), EngineError> {
        let name = app.name.clone();
        match self.shared.add_app(app) {
            true => Ok(()),
            false => Err(EngineError::Wrong(format!(
                "native application {name:?}: there are {APPS} already, which is the most"
            ))),
        }
    }

    /// Which nodes are homes of sessions that begin here from now on. In the beginning it is this one.
    pub fn set_homes(&self, homes: Homes) {
        self.shared.set_homes(homes);
    }

    /// How many reactors have connections, or may have.
    #[inline]
    pub fn reactors(&self) -> usize {
        self.in_use.load(Acquire)
    }

    /// How many it can become.
    pub fn most_reactors(&self) -> usize {
        self.mailboxes.len()
    }

    /// What new connections over TLS are shown; those that are there keep what they have. Before the
    /// first listener of `tls` or `wss`, and again whenever they are renewed.
    pub fn set_certificates(&self, certificates: &Certificates<'_>) -> Result<(), EngineError> {
        let prepared = certificates.prepare().map_err(EngineError::Wrong)?;
        self.shared.set_certificates(prepared);
        Ok(())
    }

    pub fn is_memory(&self) -> bool {
        matches!(self.back, Reactors::Memory { .. })
    }

    /// Binds, and gives the URL with the address really bound. Served from the start on.
    pub fn listen(&self, url: &str) -> Result<String, EngineError> {
        self.check()?;
        let mut parsed =
            ListenUrl::parse(url, self.limits.max_payload).map_err(EngineError::Wrong)?;
        parsed.read_dictionary().map_err(EngineError::Wrong)?;
        let is_link = parsed.is_link();
        if parsed.door.tls && !is_link && self.shared.certificates().is_none() {
            return Err(EngineError::Wrong(format!(
                "listener {url:?}: needs a certificate: give [tls] certificate and key"
            )));
        }
        let identity = is_link.then(|| self.identity(url)).transpose()?;
        let (port, mut socket) = match &self.back {
            Reactors::Memory { .. } => (parsed.port, None),
            Reactors::Sockets(_) | Reactors::LoopLed { .. } => {
                let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
                let mut bound = None;
                let addresses = (parsed.host.as_str(), parsed.port).to_socket_addrs()?;
                let addresses: Vec<_> = addresses.collect();
                if let Some(identity) = &identity {
                    self.check_link(url, identity, (parsed.door.tls, parsed.plain), &addresses)?;
                }
                for address in addresses {
                    match mio::net::TcpListener::bind(address) {
                        Ok(socket) => {
                            bound = Some(socket);
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                let socket = bound.ok_or(last)?;
                system::set_backlog(&socket, BACKLOG)?;
                (socket.local_addr()?.port(), Some(socket))
            }
        };
        let bound = parsed.bound(port);
        let place = format!("{}:{port}", parsed.host);
        let reactors = match &self.back {
            _ if is_link => self.link_reactor()..self.link_reactor() + 1,
            Reactors::LoopLed { .. } if parsed.is_heavy() => 1..2,
            Reactors::LoopLed { .. } => 0..1,
            _ => 0..self.mailboxes.len(),
        };
        let acceptor = reactors.start;
        let used = reactors.end;
        let listening = Listening {
            protocol: Arc::new(parsed.protocol),
            door: Arc::new(parsed.door),
            reactors,
            url: bound.clone(),
        };
        let listener = self.shared.add_listener(listening);
        if let Reactors::Memory { hub, .. } = &self.back {
            hub.listen(listener, &place)?;
        }
        // The one that accepts comes last, so that the others know the listener by then.
        for mailbox in self.mailboxes[acceptor + 1..].iter() {
            mailbox.post(
                Handover::Listen {
                    listener,
                    socket: None,
                },
                1,
            );
        }
        self.mailboxes[acceptor].post(
            Handover::Listen {
                listener,
                socket: socket.take(),
            },
            1,
        );
        self.in_use.fetch_max(used, Release);
        if self.started.load(Relaxed) {
            self.start()?;
        }
        Ok(bound)
    }

    /// Starts the native threads that are needed. A second call does nothing.
    pub fn start(&self) -> Result<(), EngineError> {
        self.check()?;
        let mut threads = lock(&self.threads);
        match &self.back {
            Reactors::Sockets(reactors) => {
                let reactors = std::mem::take(&mut *lock(reactors));
                for (number, reactor) in reactors.into_iter().enumerate() {
                    threads.push(leaders::spawn(reactor, number, self.shared.clone())?);
                }
            }
            Reactors::LoopLed { led, beside } => {
                if !self.started.load(Relaxed) {
                    threads.push(led.clone().stand_by()?);
                }
                if self.reactors() > 1 {
                    if let Some(reactor) = lock(beside).take() {
                        threads.push(leaders::spawn(reactor, 1, self.shared.clone())?);
                    }
                }
            }
            Reactors::Memory { .. } => {}
        }
        self.started.store(true, Relaxed);
        Ok(())
    }

    /// The thread of a loop of ours, before it [rests](Self::rest) for the first time.
    pub fn prepare_loop_thread(&self) {
        if matches!(self.back, Reactors::LoopLed { .. }) {
            system::wish_slice(LOOP_SLICE_NS);
        }
    }

    /// The sleep of a loop of ours, without the GIL: until there is something for Python, or for the
    /// loop's own poller (`true`), or the rest is over. `much`: there is so much to write or to handle that
    /// this thread should not be the one who leads now. `waits` counts those in the sleeper.
    pub fn rest(&self, sleeper: &Sleeper, rest: Rest, much: bool, waits: &Count) -> bool {
        match &self.back {
            Reactors::LoopLed { led, .. } if !much => led.rest(sleeper, rest, waits),
            Reactors::LoopLed { led, .. } => led.rest_without_leading(sleeper, rest, waits),
            _ => rest.sleep(sleeper, &self.shared.inbox, waits),
        }
    }

    /// Takes the batches that wait for Python.
    pub fn take_inbox(&self, into: &mut VecDeque<Box<Batch>>) -> Result<(), EngineError> {
        self.check()?;
        self.shared.inbox.take(into);
        match into.is_empty().then(|| self.shared.failure()).flatten() {
            Some(failure) => Err(EngineError::Failed(failure)),
            None => Ok(()),
        }
    }

    /// An empty batch for this reactor.
    pub fn spare(&self, reactor: usize) -> OutBatch {
        self.shared.spare(reactor)
    }

    /// Hands a batch over. `true`: the reactor sleeps, and the caller must [wake](Self::wake) it soon.
    #[must_use]
    pub fn hand_over(&self, reactor: usize, mut batch: OutBatch) -> bool {
        batch.pushed = self.now();
        let weight = batch.weight();
        self.mailboxes[reactor]
            .queue
            .push(Handover::Out(batch), weight)
    }

    /// One system call, in which the reactor may take this thread's core: never with the GIL held.
    pub fn wake(&self, reactor: usize) {
        self.mailboxes[reactor].wake();
    }

    /// Is so much handed over that the caller must [wait](Self::wait_for_room)?
    pub fn is_full(&self, reactor: usize) -> bool {
        !self.is_memory() && self.mailboxes[reactor].queue.weight() >= self.limits.outbox_bytes
    }

    /// Handed over to all reactors, and not looked at yet.
    pub fn outbox_bytes(&self) -> usize {
        self.mailboxes
            .iter()
            .map(|mailbox| mailbox.queue.weight())
            .sum()
    }

    /// Blocks until the reactor has looked at what it was handed. Never with the GIL held.
    pub fn wait_for_room(&self, reactor: usize) {
        self.pass_lead();
        if !self.is_memory() {
            self.mailboxes[reactor]
                .queue
                .wait_for_room(self.limits.outbox_bytes);
        }
    }

    /// A drained batch, with its runs as far as they are handled.
    pub fn give_back(&self, batch: Box<Batch>) {
        let reactor = batch.reactor;
        self.mailboxes[reactor].post_quietly(Handover::Returned(batch));
    }

    /// Accepts no more and ends every session, with this reason, behind what was sent to it.
    pub fn drain(&self, reason: &str) {
        for mailbox in &self.mailboxes[..self.reactors()] {
            mailbox.post(
                Handover::Drain {
                    reason: reason.to_owned(),
                },
                1,
            );
        }
    }

    /// Closes everything and waits for the threads to end. A second call does nothing.
    pub fn shut_down(&self) {
        if self.check().is_err() {
            return; // the threads are the parent's
        }
        for mailbox in self.mailboxes.iter() {
            mailbox.post(Handover::Shutdown, 1);
        }
        self.pass_lead();
        let_go(&self.back, !self.started.load(Relaxed));
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // It has told of its panic itself (`lead.rs`).
            let _ = thread.join();
        }
        // Sockets that nobody takes any more: a listener's, or one on its way to another reactor.
        for mailbox in self.mailboxes.iter() {
            mailbox.queue.take(&mut VecDeque::new());
        }
    }

    /// Everything counted, as sections of names and values.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for (number, statistics) in self.shared.statistics.iter().enumerate() {
            for (at, (name, value)) in statistics.counts.each().enumerate() {
                match number {
                    0 => sums.push((name, value)),
                    _ => sums[at].1 += value,
                }
            }
        }
        sums
    }

    /// Ends of connections by the wire error that caused them.
    pub fn wire_errors(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for statistics in &self.shared.statistics {
            for (&reason, count) in lock(&statistics.wire_errors).iter() {
                *sums.entry(reason).or_default() += count;
            }
        }
        sums
    }

    /// The histograms of the stages that the reactors see.
    pub fn stages(&self) -> [(&'static str, Snapshot); 3] {
        let all = &self.shared.statistics;
        [
            (
                "socket_to_inbox",
                merged(all.iter().map(|of| &of.socket_to_inbox)),
            ),
            (
                "outbox_to_write",
                merged(all.iter().map(|of| &of.outbox_to_write)),
            ),
            ("take_over", merged(all.iter().map(|of| &of.take_over))),
        ]
    }

    /// Nanoseconds on the clock of the back.
    #[inline]
    pub fn now(&self) -> u64 {
        match &self.back {
            Reactors::Sockets(_) | Reactors::LoopLed { .. } => system::monotonic_ns(),
            Reactors::Memory { hub, .. } => hub.now(),
        }
    }

    /// Runs the memory back's reactor at this time until it has nothing more to do.
    /// `true`: something was there to be done.
    pub fn turn(&self, now: u64) -> Result<bool, EngineError> {
        let Reactors::Memory { hub, reactor } = &self.back else {
            return Err(EngineError::Wrong(
                "only the memory back is given its time".to_owned(),
            ));
        };
        hub.set_now(now);
        let mut reactor = lock(reactor);
        let mut busy = hub.has_events() || !self.mailboxes[0].queue.is_empty();
        while reactor.turn(Some(0))? == Next::Again || hub.has_events() {
            busy = true;
        }
        Ok(busy || !self.shared.inbox.is_empty())
    }

    /// A client of the memory back, connected to the listener of this URL.
    pub fn connect(&self, url: &str) -> Result<MemoryConnection, EngineError> {
        let Reactors::Memory { hub, .. } = &self.back else {
            return Err(EngineError::Wrong(
                "only the memory back is connected to so".to_owned(),
            ));
        };
        let listeners = self.shared.listeners();
        let number = listeners.iter().position(|of| of.url == url);
        number
            .and_then(|number| hub.connect(number))
            .ok_or_else(|| {
                let urls: Vec<_> = listeners.iter().map(|of| of.url.as_str()).collect();
                EngineError::Wrong(format!(
                    "nothing listens at {url:?}; there is {}",
                    urls.join(", ")
                ))
            })
    }

    /// Whoever waits for a reactor must not be the one who keeps it.
    fn pass_lead(&self) {
        if let Reactors::LoopLed { led, .. } = &self.back {
            led.pass();
        }
    }

    /// Refuses to work in a fork of the process that made the engine.
    #[inline]
    pub fn check(&self) -> Result<(), EngineError> {
        if system::forks() != self.forks {
            return Err(EngineError::Forked);
        }
        Ok(())
    }
}

/// Reactors that were never started hold sockets: they are let go.
fn let_go(back: &Reactors, never_started: bool) {
    match back {
        Reactors::Sockets(reactors) => lock(reactors).clear(),
        Reactors::LoopLed { led, beside } => {
            lock(beside).take();
            if never_started {
                led.close();
            }
        }
        Reactors::Memory { reactor, .. } => {
            // Its last turn closes what is open; the memory back's poll cannot fail.
            let _ = lock(reactor).turn(Some(0));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shut_down();
    }
}
