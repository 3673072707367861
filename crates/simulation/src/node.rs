//! One node: an engine, its listeners and links, and what must be true of it. The application on it is `app.rs`.

use crate::app::{Session, GROUP_NAME, TOLD_NAME};
use crate::client::{GROUP, ROUTES, TOLD};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::trace::Trace;
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::homes::Homes;
use photinus_engine::inbox::{arrival, Batch, Event};
use photinus_engine::limits::{Limits, PACKET_OVERHEAD};
use photinus_engine::memory::{MemoryConnection, Network};
use photinus_engine::outbox::{Action, OutBatch, NO_NUMBER};
use photinus_engine::routes::Routes;
use photinus_proto::bluenet::header::{Kind, Priority};
use photinus_proto::link::hello::{Identity, Roles};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Proxy,
    World,
    /// It holds clients, and is their home.
    Both,
}

pub struct Node {
    pub name: String,
    pub generation: u64,
    pub(crate) trace: Trace,
    pub(crate) random: Random,
    engine: Engine,
    url: String,
    limits: Limits,
    out: OutBatch,
    /// Taken from the engine, and not handled.
    inbox: VecDeque<Box<Batch>>,
    pub(crate) sessions: BTreeMap<u32, Session>,
    /// Ended sessions whose slots it has not let go of.
    pub(crate) ended: Vec<Handle>,
    /// When which slot was let go of, in milliseconds.
    pub(crate) freed: BTreeMap<u32, u64>,
    pub(crate) links: BTreeMap<u32, Linked>,
    /// Sessions whose clients are at other nodes.
    remote: BTreeSet<u32>,
    /// Its Python does something else, and handles nothing.
    pub stuck: bool,
}

/// A link, as this end knows it.
pub(crate) struct Linked {
    pub peer: String,
    pub generation: u64,
    /// Its number at the oracle, and the one of the other end once that has said something.
    pub number: u32,
    pub theirs: Option<u32>,
}

impl Node {
    /// Started for the so-many-th time.
    pub fn new(
        name: &str,
        (role, generation): (Role, u64),
        seed: u64,
        limits: &Limits,
        network: &Network,
        trace: &Trace,
    ) -> Node {
        let engine = Engine::memory_in(limits.clone(), network, name);
        let engine = engine.expect("an engine in memory needs nothing that can be missing");
        let mut routes = Routes::default();
        if role != Role::Proxy {
            for (class, name) in ROUTES.into_iter().enumerate() {
                routes.add_name(class as u32, name, class as u32);
            }
        }
        engine.set_routes(routes);
        engine.set_homes(Homes {
            here: role == Role::Both,
            ..Homes::default()
        });
        let identity = Identity {
            cluster: "simulated".to_owned(),
            node: name.to_owned(),
            generation,
            roles: match role {
                Role::Proxy => Roles::PROXY,
                Role::World => Roles::WORLD,
                Role::Both => Roles::PROXY.with(Roles::WORLD),
            },
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
            generation,
            random: Random::new(seed),
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
            remote: BTreeSet::new(),
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
        let known = self.inbox.len();
        self.engine
            .take_inbox(&mut self.inbox)
            .expect("nothing has stopped it");
        let fresh = self.inbox.iter().skip(known);
        let items = fresh.flat_map(|batch| batch.items.iter().map(|item| (item, batch.body(item))));
        for (item, body) in items {
            let is_remote = match item.event {
                Event::Opened => item.route != 0,
                Event::Arrived => arrival(body).expect("an arrival").origin.0 != 0,
                _ => continue,
            };
            if is_remote {
                self.remote.insert(item.handle.0);
            }
        }
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
    pub(crate) fn post(&mut self, action: Action, payload: &[u8]) {
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
            // What was sent before its proxy heard that it is enough, which is no more than a link keeps.
            let on_its_way = match self.remote.contains(&session) {
                true => self.limits.link_kept_bytes,
                false => 0,
            };
            let most = most + on_its_way;
            assert!(
                waits <= most,
                "{}: {waits} bytes of session {session:#x} wait, and {most} may",
                self.name
            );
        }
    }
}

const NS_A_MS: u64 = 1_000_000;
/// What one read may bring beyond a budget: small packets cost more in the inbox than on the wire.
const A_READ: usize =
    photinus_engine::limits::READ_BYTES / LEAST_FRAME * (LEAST_FRAME + PACKET_OVERHEAD);
/// The smallest frame that a client sends here.
const LEAST_FRAME: usize = 50;
