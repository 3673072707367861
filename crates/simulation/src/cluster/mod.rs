//! A cluster and its clients, driven step by step by a seed.

mod steps;

use crate::client::{Client, SILENCE_MS};
use crate::node::{Node, Role};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::trace::Trace;
use photinus_engine::limits::Limits;
use photinus_engine::memory::Network;
use std::collections::BTreeSet;

/// Steps of one seed, before everything is healed.
const STEPS: usize = 220;
/// No deadline of the engine's is shorter than that.
const TICK_MS: u64 = 20;
/// Of the listeners: how long a session waits for its client, and how often it is asked for a sign of life.
const WINDOW_MS: u64 = 30_000;
/// More than between two pings of a link.
const PING_MS: u64 = 600;
const GROUPS: usize = 3;
const MOST_CLIENTS: usize = 8;

pub struct Cluster {
    random: Random,
    trace: Trace,
    oracle: Oracle,
    network: Network,
    now_ms: u64,
    /// Of the node that was started last.
    generation: u64,
    roles: Vec<Role>,
    /// `None`: it has crashed.
    nodes: Vec<Option<Node>>,
    limits: Limits,
    clients: Vec<Client>,
    /// Which node each client is at.
    places: Vec<usize>,
    members: Vec<BTreeSet<(usize, u32)>>,
    /// Who floods, and for how many steps more.
    flooding: (usize, usize),
}

impl Cluster {
    pub fn new(seed: u64, trace: Trace) -> Cluster {
        let mut random = Random::new(seed);
        let limits = Limits {
            sessions: 64,
            connections: 64,
            session_packets_per_s: 0,
            session_bytes_per_s: 0,
            overload_wait_ms: 0, // who comes is let in at once
            inbound_session_bytes: 2_048 << random.below(4),
            link_kept_bytes: [64 << 10, 1 << 20][random.below(2)],
            outbound_session_bytes: 65_536 << random.below(3),
            resume_session_bytes: [500, 128 << 10][random.below(2)],
            ..Limits::default()
        };
        let mut cluster = Cluster {
            oracle: Oracle::new(trace.clone()),
            network: Network::default(),
            now_ms: 1_000,
            generation: 0,
            roles: Vec::new(),
            nodes: Vec::new(),
            clients: Vec::new(),
            places: Vec::new(),
            members: vec![BTreeSet::new(); GROUPS],
            flooding: (0, 0),
            trace,
            limits,
            random,
        };
        cluster.network.record();
        cluster.network.set_now(cluster.now_ms * NS_A_MS);
        let proxies = 1 + cluster.random.below(2);
        let worlds = 2 + cluster.random.below(2);
        cluster.roles.extend(vec![Role::Proxy; proxies]);
        cluster.roles.extend(vec![Role::World; worlds]);
        // Now and then everybody has both roles, or one of the proxies has.
        match cluster.random.below(10) {
            0 => cluster.roles.fill(Role::Both),
            1 => cluster.roles[0] = Role::Both,
            _ => {}
        }
        cluster.nodes.resize_with(cluster.roles.len(), || None);
        for at in 0..cluster.roles.len() {
            cluster.start(at);
        }
        cluster.settle();
        cluster.pass(500);
        cluster.settle();
        cluster
    }

    pub fn run(mut self) {
        for step in 1..=STEPS {
            self.trace.at(step, self.now_ms);
            self.step();
            self.turn();
        }
        self.trace.tell(format_args!("everything is healed"));
        self.heal();
        self.come_to_rest();
        self.check_links();
        self.oracle.check_rest();
        self.trace.tell(format_args!("everybody leaves"));
        for client in &mut self.clients {
            client.leave(&mut self.oracle);
        }
        self.pass(WINDOW_MS + 5_000);
        self.trace.at(STEPS, self.now_ms);
        self.settle();
        for node in self.nodes.iter().flatten() {
            node.check_rest();
            for (name, count) in node.counts() {
                self.trace.add(name, count);
            }
        }
    }
}

/// Time.
impl Cluster {
    /// Everything that can be done without time is done.
    fn turn(&mut self) {
        for _ in 0..MOST_ROUNDS {
            for node in self.nodes.iter_mut().flatten() {
                node.turn(self.now_ms);
            }
            if !self.network.has_events() {
                return;
            }
        }
        panic!("nodes have something to do for ever, while no time passes");
    }

    fn pass(&mut self, milliseconds: u64) {
        let until = self.now_ms + milliseconds;
        while self.now_ms < until {
            let tick = until.min(self.now_ms + TICK_MS);
            let arrival = self.network.next_arrival();
            let arrival = arrival.map_or(u64::MAX, |at| at.div_ceil(NS_A_MS));
            self.now_ms = tick.min(arrival).max(self.now_ms + 1);
            self.turn();
        }
    }

    fn heal(&mut self) {
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                self.clear_road(&name(from), &name(to));
            }
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_none() {
                self.start(at);
            }
        }
        for node in self.nodes.iter_mut().flatten() {
            node.stuck = false;
        }
    }

    /// Who is cut comes back, and nothing is left to be done.
    fn come_to_rest(&mut self) {
        const ROUNDS: usize = 8;
        for _ in 0..ROUNDS {
            self.settle();
            self.trace.at(STEPS, self.now_ms);
            for at in self.clients_that(|client| !client.is_connected()) {
                self.connect_client(at);
            }
            self.settle();
            self.pass(SILENCE_MS / 4);
        }
        // A link that may keep little takes half a second for each of its fills: that is when its pings acknowledge them.
        loop {
            let handled = self.oracle.handled();
            self.settle();
            self.pass(PING_MS);
            self.settle();
            if self.oracle.handled() == handled {
                break;
            }
        }
        for client in &self.clients {
            assert!(client.is_welcome(), "client {} is not in", client.name);
            assert!(!client.waits(), "client {} is not read", client.name);
        }
    }

    /// There is one link between any two, and all that it was given has come.
    fn check_links(&mut self) {
        for (at, node) in self.nodes.iter().enumerate() {
            let links = node.as_ref().map(Node::links).unwrap_or_default();
            let linked = |other: &usize| self.dials(at, *other) || self.dials(*other, at);
            let others: Vec<usize> = (0..self.nodes.len()).filter(linked).collect();
            for other in others {
                let other = name(other);
                let to_it = links.iter().filter(|(peer, _)| *peer == other);
                let numbers: Vec<u32> = to_it.map(|(_, number)| *number).collect();
                assert_eq!(numbers.len(), 1, "links from {} to {other}", name(at));
                self.oracle.check_link(numbers[0]);
            }
        }
    }

    /// Everybody writes, reads and handles until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..MOST_ROUNDS {
            self.turn();
            let mut moved = false;
            for node in self.nodes.iter_mut().flatten() {
                node.free(self.now_ms);
                moved |= node.has_work();
                node.handle(usize::MAX, &mut self.oracle);
            }
            for client in &mut self.clients {
                client.write();
                moved |= client.read(1 << 20, self.now_ms, &mut self.oracle) > 0;
            }
            moved |= self.network.has_events();
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn clients_that(&self, hold: impl Fn(&Client) -> bool) -> Vec<usize> {
        let clients = self.clients.iter().enumerate();
        let clients = clients.filter(|(_, client)| hold(client));
        clients.map(|(at, _)| at).collect()
    }
}

/// Without time nobody has more to say to each other than that.
const MOST_ROUNDS: usize = 20_000;
/// What the smallest message here is padded with.
const LEAST: usize = 40;

fn name(node: usize) -> String {
    format!("n{node}")
}

const NS_A_MS: u64 = 1_000_000;
