//! A reactor: a poller, the connections and sessions that belong to it for life, and a mailbox.
//!
//! One turn ([`Reactor::turn`]): take what the poller tells ([`Reactor::poll`]); read it into this
//! turn's batch (`arrivals.rs`, `inbound.rs`), hand the batch to Python (`batches.rs`) and do what is due (`clock.rs`:
//! [`Reactor::work`]); carry out what the mailbox holds with one write a connection (`outbound.rs`:
//! [`Reactor::prepare`]). How things end stands in `ends.rs`. Whoever goes this round leads the reactor
//! at that moment (`leaders.rs`); nothing in here knows who that is, and nothing in here waits for anyone.

mod alarms;
mod apps;
mod arrivals;
mod batches;
mod binding;
mod clock;
mod compressing;
mod deadlines;
mod dialling;
mod ends;
mod forwarding;
mod greeting;
mod groups;
mod inbound;
mod layered;
mod linking;
mod links;
mod moving;
mod neighbours;
mod outbound;
mod owning;
mod photinus;
mod relaying;
mod resume;
mod waiting;
mod waiting_line;
mod writing;

use crate::back::{Back, Ready, Source};
use crate::connection::Connection;
use crate::group::Groups;
use crate::handle::Handle;
use crate::homes::Homes;
use crate::inbox::{Batch, Event};
use crate::layers::{Door, Tools};
use crate::limits::{Limits, ACCEPT_RETRY_MS, ARENA_BYTES};
use crate::neighbour::Neighbours;
use crate::outbox::{Handover, OutBatch};
use crate::overload::Overload;
use crate::rate::SessionRates;
use crate::routes::Routes;
use crate::session::{Sessions, NONE};
use crate::shared::{Mailbox, Shared};
use crate::statistics::Statistics;
use crate::system;
use apps::Running;
use compressing::Compression;
use deadlines::Deadlines;
use links::Links;
use outbound::Outbound;
use photinus_proto::binding::STEP_MS;
use photinus_proto::codec::Protocol;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use waiting_line::WaitingLine;

const NS_A_MS: u64 = 1_000_000;
/// An idle reactor gives freed memory back at most this often.
const TRIM_MS: u64 = 1_000;

pub struct Reactor<B: Back> {
    number: usize,
    pub back: B,
    shared: Arc<Shared>,
    mailboxes: Arc<[Mailbox]>,
    statistics: Arc<Statistics>,
    limits: Limits,
    listeners: Vec<Option<Serving>>,
    routes: Arc<Routes>,
    routes_version: usize,
    connections: Vec<Option<Connection<B::Stream>>>,
    vacant: Vec<u32>,
    serial: u32,
    sessions: Sessions,
    groups: Groups,
    /// Peers' addresses, from accept to the opening of the session.
    addresses: HashMap<u32, Box<str>>,
    /// Those of clients whose sessions have their home here and nothing elsewhere, by session, at a node of a
    /// cluster: should something of them go elsewhere, it is told.
    addresses_at_home: HashMap<u32, Box<str>>,
    /// This turn's packets.
    batch: Box<Batch>,
    #[allow(clippy::vec_box, reason = "batches are only ever moved by pointer")]
    spare: Vec<Box<Batch>>,
    ready: Vec<Ready>,
    /// To be read again without the poller's word.
    again: Vec<u32>,
    /// Not read because the whole inbox's budget is used up.
    held_back: Vec<(u32, u32)>,
    paused_sessions: usize,
    /// Sessions without a connection, and bytes of what is kept for all that can be resumed.
    detached: usize,
    kept_bytes: usize,
    rates: SessionRates,
    /// Python is so far behind that droppable messages are dropped; that nobody new is let in.
    busy: Overload,
    too_busy: Overload,
    line: WaitingLine,
    /// Cost of all packets of this reactor that Python has not handled.
    unhandled: usize,
    /// Bytes of frames of which only a part has come, of all connections.
    partial_bytes: usize,
    out: Outbound,
    /// What other nodes know and are known by; where new sessions have their homes.
    neighbours: Neighbours,
    homes: Arc<Homes>,
    homes_version: usize,
    /// Moves of sessions, by handle and place.
    moves: Deadlines,
    /// Messages that came over links for our clients in this turn.
    relayed: OutBatch,
    apps: Vec<Running>,
    app_events: Vec<(Handle, Vec<u8>)>,
    /// Of a frame; links of one message.
    head: Vec<u8>,
    link_list: Vec<Handle>,
    mail: VecDeque<Handover>,
    handshakes: Deadlines,
    frames: Deadlines,
    lingering: Deadlines,
    /// Listeners at which more waits than one turn may take.
    accept_again: Vec<usize>,
    accept_retries: Deadlines,
    /// Replies of the protocol itself (a handshake's).
    reply: Vec<u8>,
    /// Connections whose next bytes may cost a handshake's arithmetic, with their serials.
    costly: VecDeque<(u32, u32)>,
    tools: Tools,
    compression: Compression,
    links: Links,
    /// Frames are heard where they lie: the arena is not handed in.
    amid_frames: bool,
    /// As read, for layers; what comes out of them; and what they have made of what was sent.
    raw: Vec<u8>,
    plain: Vec<u8>,
    wire: Vec<u8>,
    /// When the poller told us, in nanoseconds: the beginning of the stage "socket to inbox".
    told: u64,
    now_ms: u64,
    draining: Option<Arc<str>>,
    drained_told: bool,
    trim_due: bool,
    trimmed_ms: u64,
    stopped: bool,
}

/// A listener as its connections see it.
struct Serving {
    protocol: Arc<Protocol>,
    door: Arc<Door>,
    /// Reactors that its connections may live on.
    reactors: Range<usize>,
    format: crate::outbox::FormatSet,
    heartbeats: Option<Deadlines>,
    heartbeat_ms: u64,
    /// Of sessions that were cut; `None`: none outlives its connection.
    windows: Option<Deadlines>,
}

/// What a turn left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing before the poller tells or this many nanoseconds have passed (`None`: no deadline).
    Sleep(Option<u64>),
    /// Something is waiting already.
    Again,
    Stopped,
}

impl<B: Back> Reactor<B> {
    pub fn new(
        number: usize,
        back: B,
        shared: Arc<Shared>,
        mailboxes: Arc<[Mailbox]>,
        limits: Limits,
    ) -> Reactor<B> {
        let statistics = shared.statistics[number].clone();
        Reactor {
            number,
            shared,
            mailboxes,
            statistics,
            listeners: Vec::new(),
            routes: Arc::default(),
            routes_version: 0,
            connections: Vec::new(),
            vacant: Vec::new(),
            serial: 0,
            sessions: Sessions::new(number),
            groups: Groups::default(),
            addresses: HashMap::new(),
            addresses_at_home: HashMap::new(),
            batch: Box::new(Batch::new(number, ARENA_BYTES)),
            spare: Vec::new(),
            ready: Vec::new(),
            again: Vec::new(),
            held_back: Vec::new(),
            paused_sessions: 0,
            detached: 0,
            kept_bytes: 0,
            rates: SessionRates::new(&limits),
            busy: Overload::new(limits.overload_drop_ms),
            too_busy: Overload::new(limits.overload_wait_ms),
            line: WaitingLine::default(),
            unhandled: 0,
            partial_bytes: 0,
            out: Outbound::default(),
            neighbours: Neighbours::default(),
            homes: Arc::default(),
            homes_version: 0,
            moves: Deadlines::new(STEP_MS),
            relayed: OutBatch::default(),
            apps: Vec::new(),
            app_events: Vec::new(),
            head: Vec::new(),
            link_list: Vec::new(),
            mail: VecDeque::new(),
            handshakes: Deadlines::new(limits.handshake_ms),
            frames: Deadlines::new(limits.frame_ms),
            lingering: Deadlines::new(limits.linger_ms),
            accept_again: Vec::new(),
            accept_retries: Deadlines::new(ACCEPT_RETRY_MS),
            reply: Vec::new(),
            costly: VecDeque::new(),
            tools: Tools::default(),
            compression: Compression::default(),
            links: Links::default(),
            amid_frames: false,
            raw: Vec::new(),
            plain: Vec::new(),
            wire: Vec::new(),
            told: 0,
            now_ms: back.now() / NS_A_MS,
            draining: None,
            drained_told: false,
            trim_due: false,
            trimmed_ms: 0,
            stopped: false,
            back,
            limits,
        }
    }

    /// Waits at most `timeout` nanoseconds for something to do, then does all there is.
    pub fn turn(&mut self, timeout: Option<u64>) -> io::Result<Next> {
        self.poll(timeout)?;
        self.work();
        Ok(self.prepare())
    }

    /// Waits at most `timeout` nanoseconds for the poller to tell something.
    pub fn poll(&mut self, timeout: Option<u64>) -> io::Result<()> {
        self.ready.clear();
        self.statistics.counts.polls.add(1);
        self.back.poll(&mut self.ready, timeout)?;
        self.told = self.back.now();
        self.now_ms = self.told / NS_A_MS;
        let age = self.shared.delay.age(self.told);
        self.busy.look(age, self.told);
        self.too_busy.look(age, self.told);
        Ok(())
    }

    /// Reads what the poller has told of, and does what is due.
    pub fn work(&mut self) {
        self.statistics.counts.turns.add(1);
        // Taking the mail says that we are awake: nobody pays for waking us any more.
        self.mailboxes[self.number].queue.take(&mut self.mail);
        self.read_all();
        self.read_for_links();
        self.hand_in();
        self.meet_deadlines();
        self.write_links();
        self.hand_in();
    }

    /// Carries out what the mailbox holds; then there is nothing left but this.
    pub fn prepare(&mut self) -> Next {
        self.deliver();
        self.write_links();
        // Sessions that ended and messages that were dropped just now go to Python, too.
        self.hand_in();
        self.publish();
        self.next()
    }

    /// The stand-by leads now, after a lease that had begun at this time.
    pub fn taken_over(&self, leased_at: u64) {
        let waited = self.back.now().saturating_sub(leased_at);
        self.statistics.counts.take_overs.add(1);
        self.statistics.take_over.record(waited, 1);
    }

    /// Did it tell that the loop is wanted?
    pub fn loop_is_wanted(&self) -> bool {
        self.ready.iter().any(|event| event.source == Source::Loop)
    }

    /// What to do before the next turn. The mailbox is looked at once more by whoever sleeps.
    fn next(&mut self) -> Next {
        if self.stopped {
            return Next::Stopped;
        }
        let starving = self.paused_sessions > 0 || !self.held_back.is_empty();
        let more =
            !self.again.is_empty() || !self.accept_again.is_empty() || !self.costly.is_empty();
        // What was heard of, or told to applications, while messages were carried out.
        let more = more || self.links.has_work() || !self.relayed.items.is_empty();
        if more || !self.mailboxes[self.number].queue.prepare_sleep(starving) {
            return Next::Again;
        }
        self.trim();
        let deadlines = [
            &self.handshakes,
            &self.frames,
            &self.lingering,
            &self.accept_retries,
            &self.moves,
        ];
        let listeners = self.listeners.iter().flatten();
        let of_listeners = listeners.flat_map(|of| of.heartbeats.iter().chain(of.windows.as_ref()));
        let next = deadlines
            .into_iter()
            .chain(of_listeners)
            .filter_map(Deadlines::next_ms)
            .min();
        let others = [
            self.line.next_ms(),
            self.links.alarms.next_ms(),
            self.next_tick_ms(),
        ];
        let next = next.into_iter().chain(others.into_iter().flatten()).min();
        let trim = self.trim_due.then_some(self.trimmed_ms + TRIM_MS);
        let now = self.back.now();
        // A deadline in this millisecond is met in the next: never a wait of 0 in a circle.
        let wait = |at: u64| (at * NS_A_MS).saturating_sub(now).max(NS_A_MS / 4);
        Next::Sleep(next.into_iter().chain(trim).min().map(wait))
    }

    fn read_all(&mut self) {
        let version = self.shared.routes_version();
        if version != self.routes_version {
            self.routes_version = version;
            self.routes = self.shared.routes();
            let apps = self.shared.apps();
            self.meet_apps(&apps);
            self.tell_routes_to_all();
        }
        let version = self.shared.homes_version();
        if version != self.homes_version {
            self.homes_version = version;
            self.homes = self.shared.homes();
        }
        for listener in std::mem::take(&mut self.accept_again) {
            self.accept(listener);
        }
        for at in std::mem::take(&mut self.again) {
            if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
                connection.queued = false;
                self.read(at);
            }
        }
        let ready = std::mem::take(&mut self.ready);
        for event in &ready {
            match event.source {
                Source::Listener(listener) => self.accept(listener),
                Source::Mailbox | Source::Loop => {}
                Source::Connection(at) => {
                    let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
                        continue;
                    };
                    if event.writable && connection.blocked {
                        connection.blocked = false;
                        self.flush(at);
                    }
                    if event.readable {
                        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
                            connection.readable = true;
                            connection.ended |= event.ended;
                            self.read(at);
                        }
                    }
                }
            }
        }
        self.ready = ready;
        self.shake_hands();
    }

    fn same(&mut self, at: u32, serial: u32) -> Option<&mut Connection<B::Stream>> {
        self.connections
            .get_mut(at as usize)?
            .as_mut()
            .filter(|of| of.serial == serial)
    }

    /// After a fault of ours: nobody waits for room in a mailbox that nobody empties.
    pub fn abandon(&self) {
        self.mailboxes[self.number].queue.close();
    }

    fn publish(&mut self) {
        let counts = &self.statistics.counts;
        counts.sessions.set(self.sessions.count() as u64);
        counts
            .connections
            .set((self.connections.len() - self.vacant.len()) as u64);
        counts.waiting_out_bytes.set(self.out.total as u64);
        counts.unhandled_bytes.set(self.unhandled as u64);
        counts.partial_bytes.set(self.partial_bytes as u64);
        counts.detached.set(self.detached as u64);
        counts.in_line.set(self.line.len() as u64);
        counts.kept_bytes.set(self.kept_bytes as u64);
        counts
            .paused_now
            .set((self.paused_sessions + self.held_back.len()) as u64);
        self.report_links();
        let nobody = self.connections.len() == self.vacant.len() + self.links.open;
        // Those of other nodes' clients end when their proxies have said so.
        let nobody = nobody && self.sessions.count() == 0;
        if self.draining.is_some() && nobody && !self.drained_told {
            self.drained_told = true;
            self.tell(Handle::NONE, Event::Drained, 0, "");
            self.hand_in();
        }
    }

    /// Gives back what a burst took, when there is nothing else to do.
    fn trim(&mut self) {
        if self.trim_due && self.now_ms >= self.trimmed_ms + TRIM_MS {
            self.trim_due = false;
            self.trimmed_ms = self.now_ms;
            self.spare.truncate(1);
            self.out.shrink();
            self.tools.shrink();
            self.compression.shrink();
            for buffer in [&mut self.raw, &mut self.plain, &mut self.wire] {
                *buffer = Vec::new();
            }
            self.shared.drop_spares(self.number);
            system::release_free_memory();
        }
    }

    /// The connection that a session's messages go to.
    fn connection_of(&mut self, handle: Handle) -> Option<u32> {
        let at = self.sessions.live(handle)?.connection;
        (at != NONE).then_some(at)
    }
}
