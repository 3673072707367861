//! A cluster and its clients, driven step by step by a seed.

use crate::app::CLASSES;
use crate::client::{Client, SILENCE_MS};
use crate::lost;
use crate::node::{Node, Role};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::trace::{note, Trace};
use photinus_engine::handle::Handle;
use photinus_engine::limits::Limits;
use photinus_engine::memory::{Network, Way};
use photinus_proto::bluenet::header::Priority;
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

/// What may happen.
impl Cluster {
    fn step(&mut self) {
        match self.random.below(100) {
            0..6 => self.connect(),
            6..24 => self.say(),
            24..27 => self.flood(),
            27..34 => self.tell(),
            34..38 => self.change_group(),
            38..42 => self.tell_group(),
            42..46 => self.cut_client(),
            46 => self.leave(),
            47 => self.kick(),
            48..51 => self.stick(),
            51 => self.crash(),
            52..54 => self.restart(),
            54..57 => self.mail(),
            57..61 => self.change_road(),
            61..64 => self.cut_road(),
            64..68 => self.attach(),
            68..77 => self.move_on(),
            77..79 => self.detach(),
            79..82 => self.save(),
            82..84 => {
                let milliseconds = self.random.below(3_000) as u64;
                self.pass(milliseconds);
            }
            _ => self.pass(1 + self.now_ms % 40),
        }
        self.flood_on();
        for node in self.nodes.iter_mut().flatten() {
            if self.random.chance(60) {
                let batches = 1 + self.random.below(4);
                node.handle(batches, &mut self.oracle);
            }
            if self.random.chance(80) {
                node.free(self.now_ms);
            }
            node.hand_over();
        }
        for client in &mut self.clients {
            if self.random.chance(60) {
                let limit = [100, 1 << 20][self.random.below(2)];
                client.read(limit, self.now_ms, &mut self.oracle);
            }
        }
    }

    /// Somebody new comes, or somebody who was cut comes back.
    fn connect(&mut self) {
        let cut = self.clients_that(|client| !client.is_connected());
        let new = self.clients.len() < MOST_CLIENTS && self.random.chance(60);
        if let Some(at) = self.random.pick(&cut).filter(|_| !new) {
            self.connect_client(at);
        } else if new {
            let name = self.clients.len();
            let life = self.oracle.be_born(name);
            let client = Client::new(name, self.trace.clone(), life);
            self.clients.push(client);
            let holds = |at: &usize| self.roles[*at] != Role::World;
            let proxies: Vec<usize> = (0..self.roles.len()).filter(holds).collect();
            self.places.push(proxies[self.random.below(proxies.len())]);
            self.connect_client(name);
        }
    }

    fn connect_client(&mut self, at: usize) {
        let node = self.nodes[self.places[at]].as_ref();
        let Some((node, connection)) = node.and_then(|node| Some((node, node.connect()?))) else {
            return;
        };
        let number = connection.number();
        let client = &mut self.clients[at];
        client.connect(connection, self.now_ms, &mut self.oracle);
        let of = client.life;
        self.oracle.connect(&node.name, node.generation, number, of);
    }

    fn say(&mut self) {
        let welcome = self.clients_that(Client::is_welcome);
        if let Some(at) = self.random.pick(&welcome) {
            for _ in 0..1 + self.random.below(6) {
                let padding = LEAST + self.random.below(200);
                let is_request = self.random.chance(70);
                let class = self.random.below(1 + usize::from(CLASSES)) as u8;
                self.clients[at].say(class, is_request, padding, &mut self.oracle);
            }
        }
    }

    /// More than its owner takes in one go.
    fn flood(&mut self) {
        let welcome = self.clients_that(Client::is_welcome);
        if let Some(at) = self.random.pick(&welcome) {
            note!(self.trace, "client floods", "client {at}");
            let stubborn = self.random.chance(30);
            self.flooding = (at, if stubborn { 12 } else { 1 });
        }
    }

    fn flood_on(&mut self) {
        let (at, left) = self.flooding;
        if left == 0 || !self.clients[at].is_welcome() {
            return;
        }
        self.flooding = (at, left - 1);
        let client = &mut self.clients[at];
        let class = self.random.below(1 + usize::from(CLASSES)) as u8;
        for _ in 0..30 + self.random.below(60) {
            let padding = LEAST + self.random.below(2_000);
            client.say(class, false, padding, &mut self.oracle);
        }
    }

    fn tell(&mut self) {
        for node in self.nodes.iter_mut().flatten().filter(|of| !of.stuck) {
            let known = node.known();
            for handle in known {
                if self.random.chance(30) {
                    let padding = self.random.below(600);
                    node.tell(handle, padding, &mut self.oracle);
                }
            }
            node.hand_over();
        }
    }

    fn change_group(&mut self) {
        let group = self.random.below(GROUPS);
        let at = self.random.below(self.nodes.len());
        let Some(node) = self.nodes[at].as_mut().filter(|of| !of.stuck) else {
            return;
        };
        let known = node.known();
        let Some(&handle) = known.get(self.random.below(known.len().max(1))) else {
            return;
        };
        if self.members[group].remove(&(at, handle.0)) {
            self.trace.count("group parts");
            node.part(group as u32, handle);
        } else {
            self.trace.count("group joins");
            self.members[group].insert((at, handle.0));
            node.join(group as u32, handle, &mut self.oracle);
        }
        node.hand_over();
    }

    fn tell_group(&mut self) {
        let group = self.random.below(GROUPS);
        let at = self.random.below(self.nodes.len());
        let Some(node) = self.nodes[at].as_mut().filter(|of| !of.stuck) else {
            return;
        };
        let members = self.members[group].iter().filter(|(by, _)| *by == at);
        let members = members.map(|(_, handle)| *handle);
        let due = members.filter_map(|of| node.life(Handle(of)));
        let message = self.oracle.tell_group(due.collect());
        self.trace.count("group messages");
        node.tell_group(group as u32, message);
        node.hand_over();
    }

    fn cut_client(&mut self) {
        let connected = self.clients_that(Client::is_connected);
        if let Some(at) = self.random.pick(&connected) {
            self.clients[at].cut();
        }
    }

    fn leave(&mut self) {
        let welcome = self.clients_that(Client::is_welcome);
        if let Some(at) = self.random.pick(&welcome) {
            note!(self.trace, "client leaves", "client {at}");
            self.clients[at].leave(&mut self.oracle);
        }
    }

    fn kick(&mut self) {
        let at = self.random.below(self.nodes.len());
        if let Some(node) = self.nodes[at].as_mut().filter(|of| !of.stuck) {
            let known = node.known();
            if let Some(&handle) = known.get(self.random.below(known.len().max(1))) {
                note!(
                    self.trace,
                    "session is kicked",
                    "{} {:#x}",
                    node.name,
                    handle.0
                );
                node.kick(handle);
                node.hand_over();
            }
        }
    }

    /// A node's Python is busy from now on, or free again.
    fn stick(&mut self) {
        let at = self.random.below(self.nodes.len());
        if let Some(node) = &mut self.nodes[at] {
            node.stuck = !node.stuck;
            let what = if node.stuck {
                "node is stuck"
            } else {
                "node is free"
            };
            note!(self.trace, what, "{}", node.name);
        }
    }

    fn crash(&mut self) {
        let at = self.random.below(self.nodes.len());
        if let Some(node) = self.nodes[at].take() {
            if self.random.chance(70) {
                note!(self.trace, "node is killed", "{}", node.name);
                let ways = self.network.kill(&node.name);
                self.count_lost("killed", &ways);
            } else {
                note!(self.trace, "node vanishes", "{}", node.name);
                let ways = self.network.vanish(&node.name);
                self.count_lost("vanished", &ways);
            }
            for members in &mut self.members {
                members.retain(|(by, _)| *by != at);
            }
        }
    }

    /// A session at its home, and a world node, which may be the same.
    fn home(&mut self) -> Option<(usize, Handle, usize)> {
        let free = |at: &usize| self.nodes[*at].as_ref().is_some_and(|of| !of.stuck);
        let free: Vec<usize> = (0..self.nodes.len()).filter(free).collect();
        let homes = |at: &usize| {
            let homes = self.nodes[*at].as_ref().map(Node::homes);
            let at = *at;
            let homes = homes.unwrap_or_default().into_iter();
            homes.map(move |of| (at, of))
        };
        let homes: Vec<_> = free.iter().flat_map(homes).collect();
        let worlds = |at: &usize| self.roles[*at] != Role::Proxy;
        let worlds: Vec<usize> = (0..self.roles.len()).filter(worlds).collect();
        let to = self.random.pick(&worlds)?;
        if homes.is_empty() {
            return None;
        }
        let (at, handle) = homes[self.random.below(homes.len())];
        Some((at, handle, to))
    }

    fn attach(&mut self) {
        let class = 1 + self.random.below(usize::from(CLASSES)) as u8;
        if let Some((at, handle, to)) = self.home() {
            if let Some(node) = &mut self.nodes[at] {
                node.attach(handle, class, &name(to), &mut self.oracle);
                node.hand_over();
            }
        }
    }

    /// A home or an attachment is to go to another node.
    fn move_on(&mut self) {
        let Some((at, handle, to)) = self.home() else {
            return;
        };
        if let Some(node) = &mut self.nodes[at] {
            let slots = node.life(handle).map(|life| self.oracle.slots(life));
            let slots = slots.unwrap_or_default();
            if !slots.is_empty() {
                let place = slots[self.random.below(slots.len())];
                node.move_on(handle, place, &name(to), &mut self.oracle);
                node.hand_over();
            }
        }
    }

    fn detach(&mut self) {
        let Some((at, handle, _)) = self.home() else {
            return;
        };
        if let Some(node) = &mut self.nodes[at] {
            let slots = node.life(handle).map(|life| self.oracle.slots(life));
            let slots = slots.unwrap_or_default();
            if slots.len() > 1 {
                let place = slots[1 + self.random.below(slots.len() - 1)];
                node.leave(handle, place, &mut self.oracle);
                node.hand_over();
            }
        }
    }

    fn save(&mut self) {
        if let Some((at, handle, _)) = self.home() {
            if let Some(node) = &mut self.nodes[at] {
                node.save(handle);
                node.hand_over();
            }
        }
    }

    fn mail(&mut self) {
        for node in self.nodes.iter_mut().flatten().filter(|of| !of.stuck) {
            let priority = Priority::ALL[self.random.below(3)];
            let padding = [20, 3_000][self.random.below(2)];
            for _ in 0..1 + self.random.below(3) {
                node.mail(priority, padding, &mut self.oracle);
            }
            node.hand_over();
        }
    }

    /// Two of the nodes.
    fn road(&mut self) -> (String, String) {
        let from = self.random.below(self.nodes.len());
        let to = (from + 1 + self.random.below(self.nodes.len() - 1)) % self.nodes.len();
        (name(from), name(to))
    }

    fn change_road(&mut self) {
        let (from, to) = self.road();
        match self.random.below(10) {
            0..4 => {
                let milliseconds = [0, 1, 7, 40, 300][self.random.below(5)];
                note!(self.trace, "delay", "{from} > {to}: {milliseconds} ms");
                self.network.delay(&from, &to, milliseconds * NS_A_MS);
            }
            4..6 => {
                let bytes = [0, 100, 1_000][self.random.below(3)];
                note!(self.trace, "narrow", "{from} > {to}: {bytes} bytes");
                self.network.narrow(&from, &to, bytes);
            }
            6 => {
                note!(self.trace, "freeze", "{from} > {to}");
                self.network.freeze(&from, &to, true);
            }
            7 => {
                note!(self.trace, "refuse", "{from} > {to}");
                self.network.refuse(&from, &to, true);
            }
            _ => self.clear_road(&from, &to),
        }
    }

    fn clear_road(&mut self, from: &str, to: &str) {
        self.trace.tell(format_args!("clear: {from} > {to}"));
        self.network.freeze(from, to, false);
        self.network.refuse(from, to, false);
        self.network.delay(from, to, 0);
        self.network.narrow(from, to, 0);
    }

    fn cut_road(&mut self) {
        let (from, to) = self.road();
        let ways = self.network.cut(&from, &to);
        if !ways.is_empty() {
            note!(self.trace, "cut", "{from} - {to}");
            self.count_lost("cut", &ways);
        }
    }

    /// What was on its way is lost for the connection; who keeps it sends it again.
    fn count_lost(&self, by: &str, ways: &[Way]) {
        for frame in ways.iter().flat_map(lost::frames) {
            self.trace.count(&format!("{by} with {frame} on its way"));
        }
    }

    fn restart(&mut self) {
        let crashed: Vec<_> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].is_none())
            .collect();
        if let Some(at) = self.random.pick(&crashed) {
            self.start(at);
        }
    }

    /// Whether one node keeps a link to the other: proxies to world nodes, and world nodes among themselves.
    fn dials(&self, from: usize, to: usize) -> bool {
        match (self.roles[from], self.roles[to]) {
            (_, Role::Proxy) => false,
            (Role::Proxy, _) => true,
            (Role::World | Role::Both, Role::World | Role::Both) => from > to,
        }
    }

    fn start(&mut self, at: usize) {
        let own = name(at);
        note!(self.trace, "node starts", "{own}");
        self.generation += 1;
        let generation = self.generation;
        let seed = self.random.below(usize::MAX) as u64;
        let role = (self.roles[at], generation);
        let node = Node::new(&own, role, seed, &self.limits, &self.network, &self.trace);
        for other in (0..self.roles.len()).filter(|other| self.dials(at, *other)) {
            node.dial(&name(other));
        }
        self.nodes[at] = Some(node);
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
