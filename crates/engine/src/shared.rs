//! What the threads of one engine share: the inbox, the reactors' mailboxes, tables replaced whole.

use crate::app::{self, Registration};
use crate::gate::Gate;
use crate::homes::Homes;
use crate::inbox::Batch;
use crate::layers::{Door, Prepared};
use crate::limits::{Limits, SPARE_BATCHES};
use crate::lock::lock;
use crate::outbox::{FormatSet, Handover, OutBatch};
use crate::overload::Delay;
use crate::resolver::Resolver;
use crate::routes::Routes;
use crate::statistics::Statistics;
use crate::system::Event;
use crate::wakeup::Channel;
use photinus_proto::codec::{Format, Protocol};
use photinus_proto::link::hello::Identity;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub struct Shared {
    /// From all reactors to Python, and the word that wakes it.
    pub inbox: Channel<Box<Batch>>,
    pub python: Event,
    /// How long packets wait there.
    pub delay: Delay,
    pub gate: Arc<Gate>,
    pub statistics: Vec<Arc<Statistics>>,
    /// Emptied outbox batches of each reactor, to be filled again.
    spares: Vec<Mutex<Vec<OutBatch>>>,
    /// Why a reactor has stopped by itself, if one has.
    failure: Mutex<Option<String>>,
    routes: Mutex<Arc<Routes>>,
    /// Native applications: each reactor makes its own of them when it sees the routes that follow.
    apps: Mutex<Vec<Arc<Registration>>>,
    /// Grows with each table of routes: 0 is the empty one.
    routes_version: AtomicUsize,
    /// Which nodes may be homes: likewise.
    homes: Mutex<Arc<Homes>>,
    homes_version: AtomicUsize,
    /// Formats that clients of other nodes' proxies have spoken here, as a `FormatSet`.
    remote_formats: AtomicU8,
    listeners: Mutex<Vec<Listening>>,
    /// What new connections over TLS are shown.
    certificates: Mutex<Option<Arc<Prepared>>>,
    /// Who this node is to others, once it has joined a cluster.
    identity: Mutex<Option<Arc<Identity>>>,
    pub resolver: Resolver,
}

/// A listener as it was asked for.
#[derive(Clone)]
pub struct Listening {
    pub protocol: Arc<Protocol>,
    pub door: Arc<Door>,
    /// Reactors that its connections may live on; the first accepts them.
    pub reactors: Range<usize>,
    /// The URL with the address really bound.
    pub url: String,
}

/// One reactor's mailbox.
pub struct Mailbox {
    pub queue: Channel<Handover>,
    waker: Option<Arc<mio::Waker>>,
}

impl Mailbox {
    /// `None`: nobody sleeps there (the memory back).
    pub fn new(waker: Option<Arc<mio::Waker>>) -> Mailbox {
        Mailbox {
            queue: Channel::default(),
            waker,
        }
    }

    /// `true`: the reactor slept, and was woken.
    pub fn post(&self, item: Handover, weight: usize) -> bool {
        let wake = self.queue.push(item, weight);
        if wake {
            self.wake();
        }
        wake
    }

    /// Something that is in no hurry, unless the reactor starves for it.
    pub fn post_quietly(&self, item: Handover) {
        if self.queue.push_quietly(item) {
            self.wake();
        }
    }

    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            // Fails only when the poller is gone, and then nobody is left to be woken.
            let _ = waker.wake();
        }
    }
}

impl Shared {
    pub fn new(reactors: usize, limits: &Limits) -> std::io::Result<Shared> {
        Ok(Shared {
            inbox: Channel::default(),
            python: Event::new()?,
            delay: Delay::default(),
            gate: Arc::new(Gate::new(reactors, limits)),
            statistics: (0..reactors).map(|_| Arc::default()).collect(),
            spares: (0..reactors).map(|_| Mutex::default()).collect(),
            failure: Mutex::default(),
            routes: Mutex::default(),
            apps: Mutex::default(),
            routes_version: AtomicUsize::new(0),
            homes: Mutex::default(),
            homes_version: AtomicUsize::new(0),
            remote_formats: AtomicU8::new(0),
            listeners: Mutex::default(),
            certificates: Mutex::default(),
            identity: Mutex::default(),
            resolver: Resolver::default(),
        })
    }

    /// From a reactor: batches it has carried out.
    pub fn give_spares(&self, reactor: usize, batches: &mut Vec<OutBatch>) {
        let mut spares = lock(&self.spares[reactor]);
        let room = SPARE_BATCHES
            .saturating_sub(spares.len())
            .min(batches.len());
        spares.extend(batches.drain(..room));
    }

    pub fn drop_spares(&self, reactor: usize) {
        *lock(&self.spares[reactor]) = Vec::new();
    }

    pub fn spare(&self, reactor: usize) -> OutBatch {
        lock(&self.spares[reactor]).pop().unwrap_or_default()
    }

    /// A reactor's thread has ended by an error: Python is told at its next drain.
    pub fn fail(&self, reason: String) {
        lock(&self.failure).get_or_insert(reason);
        self.python.notify();
    }

    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Each reactor looks at the version when it begins to read, and not into its mailbox: whoever
    /// is told of a new route and calls it at once is not told that there is none.
    pub fn set_routes(&self, mut routes: Routes) {
        app::add_routes(&lock(&self.apps), &mut routes);
        *lock(&self.routes) = Arc::new(routes);
        // Release: whoever sees the new version finds the new table.
        self.routes_version.fetch_add(1, Ordering::Release);
    }

    /// Before `set_routes`. `false`: there are as many as there may be.
    pub fn add_app(&self, app: Registration) -> bool {
        let mut apps = lock(&self.apps);
        let room = apps.len() < app::APPS;
        if room {
            apps.push(Arc::new(app));
        }
        room
    }

    pub fn apps(&self) -> Vec<Arc<Registration>> {
        lock(&self.apps).clone()
    }

    pub fn routes_version(&self) -> usize {
        self.routes_version.load(Ordering::Acquire)
    }

    pub fn routes(&self) -> Arc<Routes> {
        lock(&self.routes).clone()
    }

    /// For sessions that begin from now on.
    pub fn set_homes(&self, homes: Homes) {
        *lock(&self.homes) = Arc::new(homes);
        self.homes_version.fetch_add(1, Ordering::Release);
    }

    pub fn homes_version(&self) -> usize {
        self.homes_version.load(Ordering::Acquire)
    }

    pub fn homes(&self) -> Arc<Homes> {
        lock(&self.homes).clone()
    }

    /// A client of another node's proxy reads payloads in this format.
    pub fn speaks(&self, format: FormatSet) {
        self.remote_formats.fetch_or(format.0, Ordering::Relaxed);
    }

    /// Whether anybody reads payloads in this format: a client of a listener here, or of another node's.
    pub fn is_spoken(&self, format: FormatSet) -> bool {
        let remote = FormatSet(self.remote_formats.load(Ordering::Relaxed));
        let listeners = lock(&self.listeners);
        let mut here = listeners.iter().map(|of| format_of(&of.protocol));
        format.has(remote) || here.any(|of| format.has(of))
    }

    /// Connections that are there keep theirs.
    pub fn set_certificates(&self, prepared: Prepared) {
        *lock(&self.certificates) = Some(Arc::new(prepared));
    }

    pub fn certificates(&self) -> Option<Arc<Prepared>> {
        lock(&self.certificates).clone()
    }

    /// `false`: there is one already, and it stays.
    pub fn set_identity(&self, identity: Identity) -> bool {
        let mut slot = lock(&self.identity);
        let free = slot.is_none();
        if free {
            *slot = Some(Arc::new(identity));
        }
        free
    }

    pub fn identity(&self) -> Option<Arc<Identity>> {
        lock(&self.identity).clone()
    }

    /// Its number.
    pub fn add_listener(&self, listening: Listening) -> usize {
        let mut listeners = lock(&self.listeners);
        listeners.push(listening);
        listeners.len() - 1
    }

    pub fn listener(&self, number: usize) -> Option<Listening> {
        lock(&self.listeners).get(number).cloned()
    }

    pub fn listeners(&self) -> Vec<Listening> {
        lock(&self.listeners).clone()
    }
}

pub fn format_of(protocol: &Protocol) -> FormatSet {
    match protocol.format() {
        Format::Json => FormatSet::JSON,
        Format::Msgpack => FormatSet::MSGPACK,
    }
}
