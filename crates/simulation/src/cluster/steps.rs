//! What may happen to a cluster, one thing a step.

use super::{name, Cluster, GROUPS, LEAST, MOST_CLIENTS, NS_A_MS};
use crate::app::CLASSES;
use crate::client::Client;
use crate::lost;
use crate::node::{Node, Role};
use crate::trace::note;
use photinus_engine::handle::Handle;
use photinus_engine::memory::Way;
use photinus_proto::bluenet::header::Priority;

impl Cluster {
    pub(super) fn step(&mut self) {
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

    pub(super) fn connect_client(&mut self, at: usize) {
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

    pub(super) fn clear_road(&mut self, from: &str, to: &str) {
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
    pub(super) fn dials(&self, from: usize, to: usize) -> bool {
        match (self.roles[from], self.roles[to]) {
            (_, Role::Proxy) => false,
            (Role::Proxy, _) => true,
            (Role::World | Role::Both, Role::World | Role::Both) => from > to,
        }
    }

    pub(super) fn start(&mut self, at: usize) {
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
