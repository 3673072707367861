//! Proxies and world nodes on one network in memory; the tests of what they do together lie beside.

mod bad_input;
mod crossing;
mod ends;
mod flow;
mod groups;
mod homes;
mod moves;

use crate::world::{read, Client, Seen, SAY};
use photinus_engine::app::Registration;
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::homes::Homes;
use photinus_engine::inbox::{Batch, Event};
use photinus_engine::limits::Limits;
use photinus_engine::memory::Network;
use photinus_engine::outbox::{Action, Marks, OutBatch, OutRoute, Owner, What};
use photinus_engine::routes::Routes;
use photinus_proto::bluenet::control::Tag;
use photinus_proto::link::hello::{Identity, Roles};
use std::collections::VecDeque;

pub const LENGTH: &str = "tcp://memory:1?protocol=length4";
pub const POMELO: &str = "tcp://memory:2?protocol=pomelo&heartbeat=0";
pub const PHOTINUS: &str = "tcp://memory:3?protocol=photinus&heartbeat=10&resume=30";
/// A class of spaces, with a route.
pub const SPACES: u32 = 1;
pub const WAVE: (&str, u32) = ("wave", 9);

pub struct Member {
    pub name: String,
    pub engine: Engine,
    pub seen: Vec<Seen>,
    /// Its Python does nothing: what comes is not taken.
    pub stuck: bool,
    out: OutBatch,
}

pub struct Cluster {
    pub network: Network,
    pub now_ms: u64,
    pub members: Vec<Member>,
}

impl Cluster {
    /// `proxies` of them first, and then the world nodes; each proxy dials each of those, and they each other.
    pub fn new(proxies: usize, worlds: usize, limits: &Limits) -> Cluster {
        Cluster::with(proxies, worlds, limits, None)
    }

    /// The same with a native application at each world node.
    pub fn with(
        proxies: usize,
        worlds: usize,
        limits: &Limits,
        app: Option<fn() -> Registration>,
    ) -> Cluster {
        let network = Network::default();
        let mut members = Vec::new();
        for number in 0..proxies + worlds {
            let (name, roles) = match number < proxies {
                true => (format!("proxy-{number}"), Roles::PROXY),
                false => (format!("world-{number}"), Roles::WORLD),
            };
            let engine = Engine::memory_in(limits.clone(), &network, &name).unwrap();
            engine
                .join(Identity {
                    cluster: "test".to_owned(),
                    node: name.clone(),
                    generation: 1,
                    roles,
                    schema: 0,
                    secret: b"secret".to_vec(),
                })
                .unwrap();
            let mut routes = Routes::default();
            if number >= proxies {
                routes.add_name(0, SAY.0, SAY.1);
                routes.add_name(SPACES, WAVE.0, WAVE.1);
                if let Some(app) = app {
                    engine.add_app(app()).unwrap();
                }
            }
            engine.set_routes(routes);
            if number < proxies {
                engine.set_homes(Homes {
                    here: false,
                    ..Homes::default()
                });
                let listeners = [(LENGTH, 10), (POMELO, 20), (PHOTINUS, 30)];
                for (url, port) in listeners {
                    let port = port + number;
                    engine
                        .listen(&url.replacen(['1', '2', '3'], &port.to_string(), 1))
                        .unwrap();
                }
            } else {
                engine
                    .listen(&format!("tcp://memory:{}?protocol=link", 100 + number))
                    .unwrap();
            }
            members.push(Member {
                name,
                engine,
                seen: Vec::new(),
                stuck: false,
                out: OutBatch::default(),
            });
        }
        let mut cluster = Cluster {
            network,
            now_ms: 1_000,
            members,
        };
        for from in 0..proxies + worlds {
            for to in proxies.max(from + 1)..proxies + worlds {
                let to_name = cluster.members[to].name.clone();
                let place = format!("tcp://memory:{}", 100 + to);
                cluster.members[from].engine.dial(&to_name, &place).unwrap();
            }
        }
        cluster.pass(500);
        cluster
    }

    /// Turns all until none has anything to do.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let mut busy = false;
            for member in &mut self.members {
                member.hand_over();
                let turned = member.engine.turn(self.now_ms * 1_000_000).unwrap();
                // Of one that is stuck what is not taken counts as something to do.
                if !member.stuck {
                    busy |= member.take() | turned;
                }
            }
            if !busy {
                return;
            }
        }
        panic!("they never come to rest");
    }

    pub fn pass(&mut self, milliseconds: u64) {
        let until = self.now_ms + milliseconds;
        self.settle();
        while self.now_ms < until {
            self.now_ms = until.min(self.now_ms + 50);
            self.settle();
        }
    }

    pub fn connect(&self, proxy: usize, port: usize, protocol: &str) -> Client {
        let engine = &self.members[proxy].engine;
        let listeners = engine.shared.listeners();
        let url = listeners
            .iter()
            .map(|of| of.url.clone())
            .find(|url| url.contains(&format!("memory:{}", port + proxy)));
        let url = url.unwrap_or_else(|| panic!("no listener of {protocol}"));
        Client {
            link: engine.connect(&url).unwrap(),
            got: Vec::new(),
            ended: false,
        }
    }

    /// A client of length4 at this proxy, with the node that is its home and its session there.
    pub fn join(&mut self, proxy: usize) -> (Client, usize, Handle) {
        let client = self.connect(proxy, 10, "length4");
        self.settle();
        let (home, handle) = self.opened();
        (client, home, handle)
    }

    /// Where the newest session was opened.
    pub fn opened(&mut self) -> (usize, Handle) {
        for (number, member) in self.members.iter_mut().enumerate() {
            let at = member.seen.iter().position(|of| of.event == Event::Opened);
            if let Some(at) = at {
                return (number, member.seen.remove(at).handle);
            }
        }
        panic!("none was opened");
    }

    /// Asks for this session's home to be moved to the other world node, which is returned.
    pub fn move_home(&mut self, home: usize, session: Handle, request: u32) -> usize {
        let there = self.other(home);
        let name = self.members[there].name.clone();
        let move_on = Owner::Move {
            request,
            slot: 0,
            target: 0,
            class: 0,
        };
        self.members[home].own(session, move_on, name.as_bytes());
        self.settle();
        there
    }

    /// The same, and the old home leaves with this state.
    pub fn leave_home(&mut self, home: usize, session: Handle, state: &[u8]) -> usize {
        let there = self.move_home(home, session, 1);
        let tag = Tag(self.members[home].event(Event::Fence).id);
        self.members[home].own(session, Owner::Fenced { tag }, state);
        there
    }

    /// Has the home ask for this session to be attached to a space at that node, which takes it.
    pub fn attach(&mut self, home: usize, session: Handle, there: usize) {
        let name = self.members[there].name.clone();
        let attach = Owner::Attach {
            request: 1,
            target: 77,
            class: SPACES,
        };
        self.members[home].own(session, attach, name.as_bytes());
        self.settle();
        let attached = self.members[there].event(Event::Arrived);
        let tag = Tag(attached.id);
        self.members[there].own(attached.handle, Owner::Arrived { tag }, b"");
        self.settle();
        let done = self.members[home].event(Event::Done);
        assert!(done.body.is_empty());
    }

    /// A world node that is not this one.
    pub fn other(&self, than: usize) -> usize {
        let worlds = self.members.iter().enumerate();
        let mut worlds = worlds.filter(|(_, of)| of.name.starts_with("world"));
        worlds.find(|(at, _)| *at != than).unwrap().0
    }
}

impl Member {
    pub fn take(&mut self) -> bool {
        let mut batches: VecDeque<Box<Batch>> = VecDeque::new();
        self.engine.take_inbox(&mut batches).unwrap();
        let any = !batches.is_empty();
        let seen = read(&batches);
        for of in &seen {
            if matches!(of.event, Event::Closed | Event::Gone) {
                self.post(Action::Free { to: of.handle }, b"");
            }
        }
        self.seen.extend(seen);
        for batch in batches {
            self.engine.give_back(batch);
        }
        any
    }

    pub fn post(&mut self, action: Action, payload: &[u8]) {
        self.out.push(action, payload);
    }

    pub fn hand_over(&mut self) {
        if !self.out.items.is_empty() {
            let _ = self.engine.hand_over(0, std::mem::take(&mut self.out));
        }
    }

    pub fn send(&mut self, to: Handle, payload: &[u8]) {
        let (what, marks) = (What::Push(OutRoute::Number(7)), Marks::NONE);
        self.post(Action::Send { to, what, marks }, payload);
    }

    pub fn own(&mut self, to: Handle, what: Owner, payload: &[u8]) {
        self.post(Action::Own { to, what }, payload);
    }

    /// The packets that came, and no others are left.
    pub fn packets(&mut self) -> Vec<Vec<u8>> {
        let packets = self.seen.iter().filter(|of| of.is_packet());
        let packets = packets.map(|of| of.body.clone()).collect();
        self.seen.retain(|of| !of.is_packet());
        packets
    }

    /// The one event of this kind that came.
    pub fn event(&mut self, event: Event) -> Seen {
        let at = self.seen.iter().position(|of| of.event == event);
        let at = at.unwrap_or_else(|| panic!("no {event:?} among {:?}", self.seen));
        self.seen.remove(at)
    }

    pub fn count(&self, name: &str) -> u64 {
        let counts = self.engine.counts();
        let found = counts.iter().find(|(of, _)| *of == name);
        found.unwrap_or_else(|| panic!("no count {name}")).1
    }
}
