//! One node: an engine, and the application on it, which takes the engine's inbox as the binding for Python
//! does. It answers each packet with the packet's number, and knows how many of which session it has handled.

use crate::client::{GROUP, ROUTES, TOLD};
use crate::oracle::{Oracle, Owned};
use crate::trace::{note, Trace};
use crate::wire::{fixed, Numbered};
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Batch, Event, Item};
use photinus_engine::limits::{Limits, PACKET_OVERHEAD};
use photinus_engine::memory::{MemoryConnection, Network};
use photinus_engine::outbox::{Action, FormatSet, Marks, OutBatch, OutRoute, What, NO_NUMBER};
use photinus_engine::routes::Routes;
use photinus_proto::bluenet::header::{Kind, Priority};
use photinus_proto::codec;
use photinus_proto::link::hello::{Identity, Roles};
use std::collections::{BTreeMap, VecDeque};

/// Indices of the names of pushes.
const TOLD_NAME: u32 = 0;
const GROUP_NAME: u32 = 1;

pub struct Node {
    pub name: String,
    trace: Trace,
    engine: Engine,
    url: String,
    limits: Limits,
    out: OutBatch,
    /// Taken from the engine, and not handled.
    inbox: VecDeque<Box<Batch>>,
    sessions: BTreeMap<u32, Session>,
    /// Ended sessions whose slots it has not let go of.
    ended: Vec<Handle>,
    /// When which slot was let go of, in milliseconds.
    freed: BTreeMap<u32, u64>,
    links: BTreeMap<u32, Linked>,
    /// Its Python does something else, and handles nothing.
    pub stuck: bool,
}

/// A link, as this end knows it.
struct Linked {
    peer: String,
    /// Its number at the oracle, and the one of the other end once that has said something.
    number: u32,
    theirs: Option<u32>,
}

struct Session {
    owned: Owned,
    here: bool,
}

impl Node {
    /// Started for the so-many-th time.
    pub fn new(
        name: &str,
        generation: u64,
        limits: &Limits,
        network: &Network,
        trace: &Trace,
    ) -> Node {
        let engine = Engine::memory_in(limits.clone(), network, name);
        let engine = engine.expect("an engine in memory needs nothing that can be missing");
        let mut routes = Routes::default();
        for (index, name) in ROUTES.into_iter().enumerate() {
            routes.add_name(name, index as u32);
        }
        engine.set_routes(routes);
        let identity = Identity {
            cluster: "simulated".to_owned(),
            node: name.to_owned(),
            generation,
            roles: Roles::PROXY.with(Roles::WORLD),
            schema: 0,
            secret: b"of the cluster".to_vec(),
        };
        engine.join(identity).expect("it is its first");
        let url = format!("tcp://{name}:1?protocol=photinus&heartbeat=10&resume=30");
        for url in [&url, &format!("tcp://{name}:2?protocol=link")] {
            engine.listen(url).expect("the URL is ours");
        }
        let mut node = Node {
            name: name.to_owned(),
            trace: trace.clone(),
            engine,
            url,
            limits: limits.clone(),
            out: OutBatch::default(),
            inbox: VecDeque::new(),
            sessions: BTreeMap::new(),
            ended: Vec::new(),
            freed: BTreeMap::new(),
            links: BTreeMap::new(),
            stuck: false,
        };
        for (index, name) in [(TOLD_NAME, TOLD), (GROUP_NAME, GROUP)] {
            let number = NO_NUMBER;
            node.post(Action::NameRoute { index, number }, name.as_bytes());
        }
        node.hand_over();
        node
    }

    /// `None`: it takes nobody.
    pub fn connect(&self) -> Option<MemoryConnection> {
        self.engine.connect(&self.url).ok()
    }

    /// Keeps a link to this node.
    pub fn dial(&self, node: &str) {
        let url = format!("tcp://{node}:2");
        self.engine.dial(node, &url).expect("the URL is ours");
    }

    pub fn turn(&mut self, now_ms: u64) {
        self.engine
            .turn(now_ms * NS_A_MS)
            .expect("memory does not fail");
        self.engine
            .take_inbox(&mut self.inbox)
            .expect("nothing has stopped it");
        self.check_budgets();
    }

    /// Handles so many batches of what has come.
    pub fn handle(&mut self, batches: usize, oracle: &mut Oracle) -> bool {
        if self.stuck {
            return false;
        }
        let mut handled = false;
        for _ in 0..batches {
            let Some(batch) = self.inbox.pop_front() else {
                break;
            };
            handled = true;
            for item in &batch.items {
                self.see(item, batch.body(item), batch.pushed / NS_A_MS, oracle);
            }
            self.engine.give_back(batch);
        }
        self.hand_over();
        handled
    }

    pub fn hand_over(&mut self) {
        if !self.out.items.is_empty() {
            // Whether it slept does not matter: it runs when it is turned.
            let _ = self.engine.hand_over(0, std::mem::take(&mut self.out));
        }
    }

    /// Lets go of the slots of sessions that have ended.
    pub fn free(&mut self, now_ms: u64) {
        for to in std::mem::take(&mut self.ended) {
            self.freed.insert(to.local(), now_ms);
            self.post(Action::Free { to }, b"");
        }
    }

    /// Sessions that it knows the owner of.
    pub fn known(&self) -> Vec<Handle> {
        let known = self
            .sessions
            .iter()
            .filter(|(_, of)| of.owned.life.is_some());
        known.map(|(handle, _)| Handle(*handle)).collect()
    }

    /// Tells a session the next, and so many bytes more.
    pub fn tell(&mut self, to: Handle, padding: usize, oracle: &mut Oracle) {
        let owned = self.sessions[&to.0].owned;
        if let Some(told) = oracle.tell(owned) {
            let what = What::Push(OutRoute::Named(TOLD_NAME));
            let marks = Marks::NONE;
            let mut body = told.encode();
            body.resize(body.len() + padding, 0);
            self.post(Action::Send { to, what, marks }, &body);
        }
    }

    pub fn kick(&mut self, to: Handle) {
        self.post(Action::Kick { to }, b"enough");
    }

    pub fn join(&mut self, group: u32, member: Handle, oracle: &mut Oracle) {
        oracle.join(self.sessions[&member.0].owned, group);
        self.post(Action::GroupAdd { group, member }, b"");
    }

    pub fn part(&mut self, group: u32, member: Handle) {
        self.post(Action::GroupRemove { group, member }, b"");
    }

    pub fn tell_group(&mut self, group: u32, message: u32) {
        let body = [group.to_be_bytes(), message.to_be_bytes()].concat();
        let action = Action::GroupSend {
            group,
            but: Handle::NONE,
            format: FormatSet::ANY,
            route: OutRoute::Named(GROUP_NAME),
            marks: Marks::NONE,
        };
        self.post(action, &body);
    }

    /// Sends something over each of its links.
    pub fn mail(&mut self, priority: Priority, padding: usize, oracle: &mut Oracle) {
        let links: Vec<_> = self
            .links
            .iter()
            .map(|(of, link)| (*of, link.number))
            .collect();
        for (link, number) in links {
            let mut body = number.to_be_bytes().to_vec();
            body.extend(oracle.post(number, priority as u8).to_be_bytes());
            body.resize(body.len() + padding, 0);
            let action = Action::Frame {
                link: Handle(link),
                kind: Kind::Service,
                priority,
                request: false,
                destination: 7,
                source: 0,
            };
            self.post(action, &body);
        }
    }

    /// To whom it has links, and the links' numbers; twice if there are two.
    pub fn links(&self) -> Vec<(&str, u32)> {
        let links = self.links.values();
        links.map(|of| (of.peer.as_str(), of.number)).collect()
    }

    pub fn life(&self, handle: Handle) -> Option<u32> {
        self.sessions.get(&handle.0)?.owned.life
    }

    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty() || !self.out.items.is_empty()
    }

    pub fn count(&self, name: &str) -> u64 {
        let counts = self.engine.counts();
        let found = counts.iter().find(|(of, _)| *of == name);
        found.unwrap_or_else(|| panic!("no count {name}")).1
    }

    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.engine.counts()
    }

    /// Everything that was held for somebody has been given back.
    pub fn check_rest(&self) {
        assert!(
            self.sessions.is_empty(),
            "{}: session {:#x?}",
            self.name,
            self.sessions.keys()
        );
        for gauge in [
            "sessions",
            "unhandled_bytes",
            "waiting_out_bytes",
            "partial_bytes",
            "paused_now",
            "detached",
            "kept_bytes",
            "in_line",
        ] {
            assert_eq!(self.count(gauge), 0, "{}: {gauge}", self.name);
        }
        let links = self.engine.links();
        for link in &links {
            assert!(
                link.connected && link.kept_bytes == 0,
                "{}: {link:?}",
                self.name
            );
        }
        let connections = self.count("connections");
        assert_eq!(
            connections,
            links.len() as u64,
            "{}: connections",
            self.name
        );
    }
}

impl Node {
    fn post(&mut self, action: Action, payload: &[u8]) {
        self.out.push(action, payload);
    }

    /// What waits of one session is bounded, however long nobody handles it.
    fn check_budgets(&self) {
        let mut waiting = BTreeMap::<u32, usize>::new();
        let runs = self.inbox.iter().flat_map(|batch| &batch.runs);
        for run in runs.filter(|run| run.handle != Handle::NONE) {
            let cost = run.bytes as usize + run.packets as usize * PACKET_OVERHEAD;
            *waiting.entry(run.handle.0).or_default() += cost;
        }
        let most = self.limits.inbound_session_bytes + A_READ;
        for (session, waits) in waiting {
            assert!(
                waits <= most,
                "{}: {waits} bytes of session {session:#x} wait, and {most} may",
                self.name
            );
        }
    }

    /// `at_ms`: when it came.
    fn see(&mut self, item: &Item, body: &[u8], at_ms: u64, oracle: &mut Oracle) {
        let handle = item.handle;
        match item.event {
            Event::Opened => self.open(handle, at_ms),
            Event::Packet(kind) => {
                let packet = Numbered::decode(body);
                let session = self.sessions.get_mut(&handle.0);
                let session = session.unwrap_or_else(|| panic!("{packet:?} of no session"));
                session.owned = oracle.handle(session.owned, packet);
                self.trace.count("packets handled");
                if kind == codec::Kind::Request {
                    let what = What::Response { id: item.id };
                    let to = handle;
                    let marks = Marks::NONE;
                    self.post(Action::Send { to, what, marks }, &packet.encode());
                }
            }
            Event::Cut => {
                let session = self.sessions.get_mut(&handle.0).expect("it is open");
                assert!(std::mem::replace(&mut session.here, false), "cut twice");
                self.trace.tell(format_args!(
                    "{} {:#x} is cut, came at {at_ms}",
                    self.name, handle.0
                ));
            }
            Event::Resumed => {
                let session = self.sessions.get_mut(&handle.0).expect("it is open");
                assert!(!std::mem::replace(&mut session.here, true), "here twice");
            }
            Event::Closed => {
                let session = self.sessions.remove(&handle.0).expect("it was open");
                let reason = String::from_utf8_lossy(body);
                let life = session.owned.life;
                note!(
                    self.trace,
                    "session closed",
                    "{} {:#x} of {life:?}: {reason}",
                    self.name,
                    handle.0
                );
                if let Some(life) = life {
                    oracle.end(life, &reason);
                }
                self.ended.push(handle);
            }
            Event::Drained => {}
            Event::LinkUp => {
                let text = String::from_utf8_lossy(body);
                let peer = text.split(' ').next().unwrap_or_default().to_owned();
                let number = oracle.link();
                note!(self.trace, "link up", "{} - {peer}", self.name);
                let theirs = None;
                let linked = Linked {
                    peer,
                    number,
                    theirs,
                };
                let before = self.links.insert(handle.0, linked);
                assert!(before.is_none(), "link {:#x} was up", handle.0);
            }
            Event::LinkLost => {
                let linked = self.links.remove(&handle.0).expect("it was up");
                let reason = String::from_utf8_lossy(body);
                note!(
                    self.trace,
                    "link lost",
                    "{} - {}: {reason}",
                    self.name,
                    linked.peer
                );
                self.trace.count(&format!("link lost: {reason}"));
                assert!(LOSSES.contains(&&*reason), "a link was lost: {reason}");
            }
            Event::Frame => {
                let linked = self.links.get_mut(&handle.0).expect("it is up");
                let [theirs, number] = [0, 4].map(|at| fixed(&body[at..]));
                let known = *linked.theirs.get_or_insert(theirs);
                assert_eq!(known, theirs, "a frame of another link");
                oracle.receive(theirs, (item.route >> 3 & 3) as u8, number);
                self.trace.count("frames heard");
            }
        }
    }

    fn open(&mut self, handle: Handle, at_ms: u64) {
        note!(
            self.trace,
            "session opened",
            "{} {:#x}",
            self.name,
            handle.0
        );
        let owned = Owned::NEW;
        let here = true;
        let before = self.sessions.insert(handle.0, Session { owned, here });
        assert!(before.is_none(), "{handle:?} was open");
        let slot = handle.local();
        let held = self.ended.iter().any(|of| of.local() == slot);
        assert!(!held, "slot {slot} is used again before it was let go of");
        if let Some(freed) = self.freed.get(&slot) {
            let rested = at_ms - freed;
            assert!(rested >= REST_MS, "slot {slot} has rested {rested} ms");
        }
    }
}

/// Why links are lost between nodes that do as they should.
const LOSSES: [&str; 3] = ["silence", "restarted", "unknown-link"];
const NS_A_MS: u64 = 1_000_000;
/// What one read may bring beyond a budget: small packets cost more in the inbox than on the wire.
const A_READ: usize =
    photinus_engine::limits::READ_BYTES / LEAST_FRAME * (LEAST_FRAME + PACKET_OVERHEAD);
/// The smallest frame that a client sends here.
const LEAST_FRAME: usize = 12;
const REST_MS: u64 = photinus_engine::limits::QUARANTINE_MS;
