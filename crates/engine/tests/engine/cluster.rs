//! Proxies and world nodes on one network in memory: what crosses them, and in which order.

use crate::world::{frame, read, Client, Seen, SAY};
use photinus_engine::app::{Echo, Registration};
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::homes::Homes;
use photinus_engine::inbox::{arrival, Batch, Event};
use photinus_engine::limits::Limits;
use photinus_engine::memory::Network;
use photinus_engine::outbox::{Action, FormatSet, Marks, OutBatch, OutRoute, Owner, What};
use photinus_engine::routes::Routes;
use photinus_proto::bluenet::control::Tag;
use photinus_proto::link::hello::{Identity, Roles};
use std::collections::VecDeque;

pub const LENGTH: &str = "tcp://memory:1?protocol=length4";
pub const POMELO: &str = "tcp://memory:2?protocol=pomelo&heartbeat=0";
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
                let listeners = [(LENGTH, 10), (POMELO, 20)];
                for (url, port) in listeners {
                    let port = port + number;
                    engine
                        .listen(&url.replacen(['1', '2'], &port.to_string(), 1))
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

#[test]
fn packets_reach_the_home_and_answers_the_client() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    for number in 0..100u8 {
        client.say(&[number]);
    }
    cluster.settle();
    let packets = cluster.members[home].packets();
    assert_eq!(packets, (0..100).map(|of| vec![of]).collect::<Vec<_>>());
    for number in 0..100u8 {
        cluster.members[home].send(session, &[number, 1]);
    }
    cluster.settle();
    let frames = client.frames();
    assert_eq!(frames.len(), 100);
    assert!(frames
        .iter()
        .enumerate()
        .all(|(at, of)| of[..] == [at as u8, 1]));
    // The proxy's Python knows nothing of it.
    let proxy = &cluster.members[0];
    assert!(proxy.seen.iter().all(|of| of.event == Event::LinkUp));
    assert_eq!(proxy.count("forwarded"), 100);
    assert_eq!(proxy.count("relayed_in"), 100);
    client.link.close();
    cluster.settle();
    assert_eq!(cluster.members[home].event(Event::Closed).handle, session);
    assert_eq!(cluster.members[0].count("sessions"), 0);
    assert_eq!(cluster.members[home].count("sessions"), 0);
}

#[test]
fn a_kick_comes_behind_what_was_sent_and_ends_it_everywhere() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    cluster.members[home].send(session, b"last");
    cluster.members[home].post(Action::Kick { to: session }, b"enough");
    cluster.settle();
    assert_eq!(client.frames(), [b"last"]);
    assert!(client.ended);
    client.link.close();
    cluster.settle();
    let closed = cluster.members[home].event(Event::Closed);
    assert_eq!(closed.body, b"enough");
}

#[test]
fn requests_by_name_are_answered_and_unknown_ones_are_the_homes_to_refuse() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let mut client = cluster.connect(0, 20, "pomelo");
    client.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (home, session) = cluster.opened();
    client.packages();
    client.write(&crate::world::pomelo(Some(3), "say", b"{}"));
    client.write(&crate::world::pomelo(Some(4), "nonsense", b"{}"));
    cluster.settle();
    let seen = std::mem::take(&mut cluster.members[home].seen);
    let packets: Vec<_> = seen.iter().filter(|of| of.is_packet()).collect();
    assert_eq!((packets[0].route, packets[0].id), (SAY.1, 3));
    let unknown = photinus_engine::inbox::UNKNOWN_ROUTE;
    assert_eq!((packets[1].route, packets[1].id), (unknown, 4));
    assert_eq!(packets[1].body, b"nonsense");
    let member = &mut cluster.members[home];
    member.post(
        Action::NameRoute {
            index: 0,
            number: photinus_engine::outbox::NO_NUMBER,
        },
        b"said",
    );
    let marks = Marks::NONE;
    for what in [
        What::Push(OutRoute::Named(0)),
        What::Response { id: 3 },
        What::Error { id: 4 },
    ] {
        let to = session;
        member.post(Action::Send { to, what, marks }, b"{}");
    }
    cluster.settle();
    let packages = client.packages();
    assert_eq!(packages.len(), 3);
    assert_eq!(packages[0][4..], *b"\x06\x04said{}");
    assert_eq!(packages[1][4..], *b"\x04\x03{}");
}

#[test]
fn a_group_crosses_a_link_once() {
    let mut cluster = Cluster::new(2, 1, &Limits::default());
    let world = 2;
    let mut clients = Vec::new();
    let mut sessions = Vec::new();
    for number in 0..20 {
        let (client, home, session) = cluster.join(number % 2);
        assert_eq!(home, world);
        let member = &mut cluster.members[home];
        member.post(
            Action::GroupAdd {
                group: 4,
                member: session,
            },
            b"",
        );
        clients.push(client);
        sessions.push(session);
    }
    cluster.settle();
    let before = cluster.members[world].count("relayed_out");
    let send = |cluster: &mut Cluster, but, payload: &[u8]| {
        let action = Action::GroupSend {
            group: 4,
            but,
            format: FormatSet::ANY,
            route: OutRoute::Number(7),
            marks: Marks::NONE,
        };
        cluster.members[world].post(action, payload);
        cluster.settle();
    };
    send(&mut cluster, sessions[3], b"all");
    assert_eq!(cluster.members[world].count("relayed_out"), before + 2);
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = usize::from(number != 3);
        assert_eq!(client.frames().len(), expected, "{number}");
    }
    let member = sessions[5];
    cluster.members[world].post(Action::GroupRemove { group: 4, member }, b"");
    clients[6].link.close();
    cluster.settle();
    send(&mut cluster, Handle::NONE, b"again");
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = usize::from(number != 5 && number != 6);
        assert_eq!(client.frames().len(), expected, "{number}");
    }
    let list: Vec<u8> = [1, 2, 7]
        .into_iter()
        .flat_map(|of: usize| sessions[of].0.to_be_bytes())
        .collect();
    let member = &mut cluster.members[world];
    let mut batch = OutBatch::default();
    batch.arena.extend_from_slice(&list);
    let action = Action::SendList {
        sessions: 3,
        format: FormatSet::ANY,
        route: OutRoute::Number(7),
        marks: Marks::NONE,
    };
    batch.push(action, b"listed");
    let _ = member.engine.hand_over(0, batch);
    cluster.settle();
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = usize::from([1, 2, 7].contains(&number));
        assert_eq!(client.frames().len(), expected, "{number}");
    }
}

#[test]
fn a_stuck_home_stops_its_clients_and_no_others() {
    let limits = Limits {
        inbound_session_bytes: 4 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 1, &limits);
    let (client, home, _) = cluster.join(0);
    let (other, _, _) = cluster.join(0);
    cluster.members[home].stuck = true;
    let mut sent = 0;
    for _ in 0..2000 {
        let whole = frame(&[b'x'; 100]);
        if client.link.write(&whole).unwrap() < whole.len() {
            break;
        }
        sent += 1;
        cluster.settle();
    }
    assert!(sent < 1500, "{sent}: it is never stopped");
    let held = cluster.members[home].count("unhandled_bytes");
    assert!(held < 16 << 10, "{held}");
    other.say(b"free");
    cluster.settle();
    cluster.members[home].stuck = false;
    cluster.pass(100);
    let packets = cluster.members[home].packets();
    assert!(packets.contains(&b"free".to_vec()));
    assert!(packets.len() >= sent, "{} of {sent}", packets.len());
    assert_eq!(cluster.members[home].count("unhandled_bytes"), 0);
}

#[test]
fn a_space_elsewhere_gets_its_routes_and_its_state_moves_on() {
    let mut cluster = Cluster::new(1, 3, &Limits::default());
    let mut client = cluster.connect(0, 20, "pomelo");
    client.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (home, session) = cluster.opened();
    let there = cluster.other(home);
    let name = cluster.members[there].name.clone();
    let attach = Owner::Attach {
        request: 5,
        target: 77,
        class: SPACES,
    };
    cluster.members[home].own(session, attach, name.as_bytes());
    cluster.settle();
    let attached = cluster.members[there].event(Event::Arrived);
    assert_eq!((attached.number, attached.route & 3), (77, 2));
    let (guest, tag) = (attached.handle, Tag(attached.id));
    cluster.members[there].own(guest, Owner::Arrived { tag }, b"");
    cluster.settle();
    let done = cluster.members[home].event(Event::Done);
    assert_eq!((done.number, done.id, &done.body[..]), (5, 1, &b""[..]));
    client.packages();
    client.write(&crate::world::pomelo(None, "wave", b"1"));
    client.write(&crate::world::pomelo(None, "say", b"2"));
    cluster.settle();
    let wave = cluster.members[there].seen.pop().unwrap();
    assert_eq!((wave.handle, wave.route, wave.number), (guest, WAVE.1, 77));
    assert_eq!(cluster.members[home].packets(), [b"2"]);

    // On to a third node, with what the second leaves.
    let third = (1..4).find(|of| *of != home && *of != there).unwrap();
    let name = cluster.members[third].name.clone();
    let move_on = Owner::Move {
        request: 6,
        slot: 1,
        target: 78,
        class: SPACES,
    };
    cluster.members[home].own(session, move_on, name.as_bytes());
    client.write(&crate::world::pomelo(None, "wave", b"3"));
    cluster.settle();
    client.write(&crate::world::pomelo(None, "wave", b"4"));
    cluster.settle();
    let fence = cluster.members[there].event(Event::Fence);
    assert_eq!(fence.number, 77);
    let before = cluster.members[there].packets();
    assert!(before.is_empty() || before == [b"3"], "{before:?}");
    let tag = Tag(fence.id);
    let push = What::Push(OutRoute::Number(1));
    let marks = Marks::NONE;
    let action = Action::Send {
        to: guest,
        what: push,
        marks,
    };
    cluster.members[there].post(action, b"last");
    cluster.members[there].own(guest, Owner::Fenced { tag }, b"hero");
    cluster.members[there].post(action, b"too late");
    cluster.settle();
    let arrived = cluster.members[third].event(Event::Arrived);
    let state = arrival(&arrived.body).unwrap().state;
    assert_eq!((arrived.number, state), (78, &b"hero"[..]));
    assert_eq!(arrived.route & 7, 4, "moved, whole, with a state");
    let tag = Tag(arrived.id);
    cluster.members[third].own(arrived.handle, Owner::Arrived { tag }, b"");
    cluster.settle();
    let mut after = before;
    after.extend(cluster.members[third].packets());
    assert_eq!(after, [b"3", b"4"]);
    assert_eq!(cluster.members[home].event(Event::Done).number, 6);
    cluster.members[there].event(Event::Gone);
    assert_eq!(cluster.members[there].count("sessions"), 0);
    let packages = client.packages();
    assert_eq!(packages.len(), 1, "{packages:?}");
    assert!(packages[0].ends_with(b"last"));
}

#[test]
fn a_lost_home_is_replaced_with_the_data_that_was_kept() {
    let limits = Limits::default();
    let mut cluster = Cluster::new(1, 2, &limits);
    let (client, home, session) = cluster.join(0);
    cluster.members[home].own(session, Owner::Data, b"gold 7");
    cluster.settle();
    let name = cluster.members[home].name.clone();
    cluster.network.kill(&name);
    let other = cluster.other(home);
    let dead = cluster.members.remove(home);
    drop(dead);
    let other = other - usize::from(other > home);
    cluster.pass(5_000);
    let rehomed = cluster.members[other].event(Event::Arrived);
    assert_eq!(rehomed.number, 0, "as its home");
    assert_eq!(arrival(&rehomed.body).unwrap().state, b"gold 7");
    assert_eq!(rehomed.route & 7, 5, "with a gap, and with a state");
    let tag = Tag(rehomed.id);
    cluster.members[other].own(rehomed.handle, Owner::Arrived { tag }, b"");
    client.say(b"still here");
    cluster.settle();
    assert_eq!(cluster.members[other].packets(), [b"still here"]);
}

#[test]
fn a_world_node_that_stops_hands_its_sessions_on() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    cluster.members[home].engine.drain("shutdown");
    cluster.settle();
    client.say(b"while it moves");
    cluster.settle();
    let fence = cluster.members[home].event(Event::Fence);
    assert_eq!((fence.handle, fence.number), (session, 0));
    let tag = Tag(fence.id);
    cluster.members[home].own(session, Owner::Fenced { tag }, b"gold 7");
    cluster.settle();
    let other = cluster.other(home);
    let arrived = cluster.members[other].event(Event::Arrived);
    assert_eq!(arrived.number, 0, "as its home");
    assert_eq!(arrived.route & 7, 4, "whole, and with a state");
    let tag = Tag(arrived.id);
    cluster.members[other].own(arrived.handle, Owner::Arrived { tag }, b"");
    cluster.settle();
    assert_eq!(cluster.members[other].packets(), [b"while it moves"]);
    cluster.members[home].event(Event::Gone);
    cluster.members[home].event(Event::Drained);
    client.read();
    assert!(!client.ended);
    // Nobody new is at home there, and who has nowhere to go is told so.
    let (mut late, new_home, _) = cluster.join(0);
    assert_eq!(new_home, other);
    cluster.members[other].engine.drain("shutdown");
    cluster.settle();
    late.read();
    assert!(late.ended);
}

#[test]
fn a_native_application_answers_and_tells_wherever_the_client_is() {
    let mut cluster = Cluster::with(1, 1, &Limits::default(), Some(Echo::registration));
    let (mut client, home, session) = cluster.join(0);
    client.say(b"there and back");
    cluster.settle();
    assert_eq!(client.frames(), [b"there and back"]);
    assert!(cluster.members[home].packets().is_empty());
    assert_eq!(cluster.members[home].count("native_packets"), 1);
    let mut named = cluster.connect(0, 20, "pomelo");
    named.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    named.packages();
    let (_, other) = cluster.opened();
    assert_ne!(session, other);
    named.write(&crate::world::pomelo(Some(5), Echo::TELL, b"a word"));
    named.write(&crate::world::pomelo(Some(6), Echo::ROUTE, b"{}"));
    cluster.settle();
    let told = cluster.members[home].event(Event::FromApp);
    assert_eq!((told.handle, &told.body[..]), (other, &b"a word"[..]));
    let packages = named.packages();
    assert_eq!(packages[0][4..], *b"\x04\x05");
    assert_eq!(packages[1][4..], *b"\x04\x06{}");
}

#[test]
fn without_a_home_nobody_is_let_in() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let name = cluster.members[1].name.clone();
    let (mut client, _, _) = cluster.join(0);
    cluster.network.kill(&name);
    cluster.members.truncate(1);
    cluster.pass(5_000);
    client.read();
    assert!(client.ended, "its home is gone, and there is no other");
    let mut late = cluster.connect(0, 10, "length4");
    cluster.settle();
    late.read();
    assert!(late.ended);
    assert_eq!(cluster.members[0].count("refused_overloaded"), 1);
}

#[test]
fn what_an_application_tells_comes_between_the_packets_of_a_client_here() {
    let mut world = crate::world::World::new(Limits::default());
    world.engine.add_app(Echo::registration()).unwrap();
    let mut routes = Routes::default();
    routes.add_name(0, SAY.0, SAY.1);
    world.engine.set_routes(routes);
    let (client, session) = world.join(crate::world::POMELO);
    let pomelo = |route: &str, body: &[u8]| crate::world::pomelo(None, route, body);
    let long = [b'x'; 300];
    client.write(
        &[
            pomelo("say", b"first"),
            pomelo(Echo::TELL, &long),
            pomelo("say", b"second"),
            pomelo(Echo::TELL, b"told"),
            pomelo("say", b"third"),
        ]
        .concat(),
    );
    let seen = world.drain();
    assert!(seen.iter().all(|of| of.handle == session));
    let bodies: Vec<&[u8]> = seen.iter().map(|of| &of.body[..]).collect();
    assert_eq!(bodies, [&b"first"[..], &long, b"second", b"told", b"third"]);
    assert_eq!(world.count("unhandled_bytes"), 0);
}
