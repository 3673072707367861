//! The application on a node, which takes the engine's inbox as the binding for Python does. It answers each
//! packet with the packet's number, knows how many of which chain it has handled, and hands that on when a
//! session moves.

use crate::node::{Linked, Node};
use crate::oracle::{Oracle, Owned, Wish};
use crate::trace::note;
use crate::wire::{fixed, Numbered};
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{arrival, Event, Item, UNKNOWN_ROUTE};
use photinus_engine::limits::QUARANTINE_MS;
use photinus_engine::outbox::{Action, FormatSet, Marks, OutRoute, Owner, What};
use photinus_proto::bluenet::control::Tag;
use photinus_proto::codec::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// Indices of the names of pushes.
pub const TOLD_NAME: u32 = 0;
pub const GROUP_NAME: u32 = 1;
/// Classes of spaces, from 1 on; each node has one space of each.
pub const CLASSES: u8 = 2;
/// The number of a node's space of class 0, if there were one.
const SPACES: u32 = 100;
const HOME: u32 = 0;
/// The application refuses now and then, in percent.
const REFUSALS: usize = 4;
/// Why links are lost between nodes that do as they should.
const LOSSES: [&str; 4] = ["silence", "restarted", "unknown-link", "full"];

pub struct Session {
    /// By target.
    bound: BTreeMap<u32, Bound>,
    /// Its client has a connection, as far as that was told.
    here: Option<bool>,
    /// Targets at which it was refused: what follows its arrival there is lost, which the next owner is told.
    refused: BTreeSet<u32>,
}

struct Bound {
    owned: Owned,
    /// `None`: it began here.
    tag: Option<u32>,
    /// Its state was given away.
    left: bool,
}

impl Session {
    fn life(&self) -> Option<u32> {
        self.bound.values().find_map(|of| of.owned.life)
    }

    /// What it has here of a session that it may speak to.
    fn owned(&self) -> Option<Owned> {
        let bound = self
            .bound
            .values()
            .find(|of| !of.left && of.owned.life.is_some());
        bound.map(|of| of.owned)
    }

    fn is_home(&self) -> bool {
        self.bound.get(&HOME).is_some_and(|of| !of.left)
    }
}

/// What the application does by itself.
impl Node {
    /// Sessions that it owns something of, and knows whose they are.
    pub fn known(&self) -> Vec<Handle> {
        let known = self.sessions.iter().filter(|(_, of)| of.owned().is_some());
        known.map(|(handle, _)| Handle(*handle)).collect()
    }

    /// Of those, the ones whose home it is.
    pub fn homes(&self) -> Vec<Handle> {
        let home = |of: &Handle| self.sessions[&of.0].is_home();
        self.known().into_iter().filter(home).collect()
    }

    /// Whose it is, if it is owned here.
    pub fn life(&self, handle: Handle) -> Option<u32> {
        self.sessions.get(&handle.0)?.owned()?.life
    }

    /// Tells a session the next, and so many bytes more.
    pub fn tell(&mut self, to: Handle, padding: usize, oracle: &mut Oracle) {
        let owned = self.sessions[&to.0].owned();
        if let Some(told) = owned.and_then(|owned| oracle.tell(owned)) {
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
        if let Some(owned) = self.sessions[&member.0].owned() {
            oracle.join(owned, group);
            self.post(Action::GroupAdd { group, member }, b"");
        }
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

    /// The home gives the proxy what the next one is to have if this is lost.
    pub fn save(&mut self, to: Handle) {
        if let Some(home) = self.sessions[&to.0].bound.get(&HOME) {
            let data = home.owned.encode();
            self.own(to, Owner::Data, &data);
        }
    }

    /// The home wants it attached to the space of this class at that node.
    pub fn attach(&mut self, to: Handle, class: u8, node: &str, oracle: &mut Oracle) {
        let life = self.life(to).filter(|life| oracle.is_free(*life, class));
        if let Some(life) = life {
            let request = oracle.ask(life, Wish::Attach { class });
            note!(
                self.trace,
                "attach",
                "life {life} to class {class} at {node} ({request})"
            );
            let (target, class) = (SPACES + u32::from(class), u32::from(class));
            let attach = Owner::Attach {
                request,
                target,
                class,
            };
            self.own(to, attach, node.as_bytes());
        }
    }

    /// The home wants what is bound in this place moved to that node.
    pub fn move_on(&mut self, to: Handle, place: (u8, u8), node: &str, oracle: &mut Oracle) {
        let (slot, class) = place;
        if let Some(life) = self.life(to) {
            let request = oracle.ask(life, Wish::Move);
            note!(
                self.trace,
                "move",
                "life {life}, place {slot} to {node} ({request})"
            );
            let target = match class {
                0 => HOME,
                class => SPACES + u32::from(class),
            };
            let class = u32::from(class);
            let move_on = Owner::Move {
                request,
                slot,
                target,
                class,
            };
            self.own(to, move_on, node.as_bytes());
        }
    }

    /// The home wants an attachment ended.
    pub fn leave(&mut self, to: Handle, (slot, class): (u8, u8), oracle: &mut Oracle) {
        if let Some(life) = self.life(to) {
            let request = oracle.ask(life, Wish::Leave { class });
            note!(self.trace, "leave", "life {life}, place {slot} ({request})");
            self.own(to, Owner::Leave { request, slot }, b"");
        }
    }

    fn own(&mut self, to: Handle, what: Owner, payload: &[u8]) {
        self.post(Action::Own { to, what }, payload);
    }
}

/// What comes to it.
impl Node {
    /// `at_ms`: when it came.
    pub(crate) fn see(&mut self, item: &Item, body: &[u8], at_ms: u64, oracle: &mut Oracle) {
        let handle = item.handle;
        match item.event {
            Event::Opened => {
                let address = String::from_utf8_lossy(body);
                let life = self.whose(item.route, &address, oracle);
                note!(
                    self.trace,
                    "session opened",
                    "{} {:#x} of {life:?}",
                    self.name,
                    handle.0
                );
                self.begin(handle, at_ms);
                self.bind(handle, HOME, Owned::new(life, 0), None);
            }
            Event::Arrived => self.arrive(item, body, at_ms, oracle),
            Event::Fence => self.fence(item),
            Event::Detached => {
                let session = self.sessions.get_mut(&handle.0).expect("it is here");
                let bound = session.bound.get(&item.number);
                if bound.is_some_and(|of| of.tag.is_none_or(|tag| tag == item.id)) {
                    session.bound.remove(&item.number);
                }
            }
            Event::Gone => {
                let session = self.sessions.remove(&handle.0).expect("it was here");
                note!(self.trace, "session gone", "{} {:#x}", self.name, handle.0);
                let left = session.bound.values().all(|of| of.left);
                assert!(left, "it went, and still owned something");
                self.ended.push(handle);
            }
            Event::Packet(kind) => self.hear(item, kind, body, oracle),
            Event::Cut => {
                let session = self.sessions.get_mut(&handle.0).expect("it is open");
                assert_ne!(
                    session.here.replace(false),
                    Some(false),
                    "{} {:#x}: cut twice",
                    self.name,
                    handle.0
                );
            }
            Event::Resumed => {
                let session = self.sessions.get_mut(&handle.0).expect("it is open");
                assert_ne!(session.here.replace(true), Some(true), "here twice");
            }
            Event::Closed => self.close(handle, &String::from_utf8_lossy(body), oracle),
            Event::Done => {
                let reason = String::from_utf8_lossy(body);
                let life = self.sessions.get(&handle.0).and_then(Session::life);
                let what = oracle.done(life, item.number, item.id as u8, &reason);
                let how = if reason.is_empty() { "done" } else { &reason };
                note!(
                    self.trace,
                    &format!("{what}: {how}"),
                    "life {life:?} ({})",
                    item.number
                );
            }
            Event::Drained | Event::FromApp => {}
            Event::LinkUp => self.link(handle, &String::from_utf8_lossy(body), oracle),
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

    fn link(&mut self, handle: Handle, text: &str, oracle: &mut Oracle) {
        let (peer, generation) = text.split_once(' ').expect("a name and a generation");
        note!(self.trace, "link up", "{} - {text}", self.name);
        let linked = Linked {
            peer: peer.to_owned(),
            generation: generation.parse().expect("a number"),
            number: oracle.link(),
            theirs: None,
        };
        let before = self.links.insert(handle.0, linked);
        assert!(before.is_none(), "link {:#x} was up", handle.0);
    }

    /// Whose session it is, by where its client came to.
    fn whose(&self, link: u32, address: &str, oracle: &Oracle) -> Option<u32> {
        match self.links.get(&link) {
            Some(of) => oracle.whose(&of.peer, of.generation, address),
            None => oracle.whose(&self.name, self.generation, address),
        }
    }

    fn begin(&mut self, handle: Handle, at_ms: u64) {
        let session = Session {
            bound: BTreeMap::new(),
            here: None,
            refused: BTreeSet::new(),
        };
        let before = self.sessions.insert(handle.0, session);
        assert!(before.is_none(), "{handle:?} was open");
        let slot = handle.local();
        let held = self.ended.iter().any(|of| of.local() == slot);
        assert!(!held, "slot {slot} is used again before it was let go of");
        if let Some(freed) = self.freed.get(&slot) {
            let rested = at_ms - freed;
            assert!(
                rested >= QUARANTINE_MS,
                "slot {slot} has rested {rested} ms"
            );
        }
    }

    fn bind(&mut self, handle: Handle, target: u32, owned: Owned, tag: Option<u32>) {
        let session = self.sessions.get_mut(&handle.0).expect("it is here");
        let lives = (session.life(), owned.life);
        let same = !matches!(lives, (Some(one), Some(other)) if one != other);
        assert!(same, "a session that was another's: {lives:?}");
        let left = false;
        session.refused.remove(&target);
        // While it was another's, only that one was told.
        session.here = None;
        session.bound.insert(target, Bound { owned, tag, left });
    }

    fn arrive(&mut self, item: &Item, body: &[u8], at_ms: u64, oracle: &mut Oracle) {
        let (handle, target, tag) = (item.handle, item.number, Tag(item.id));
        let [gap, fresh, whole] = [1, 2, 4].map(|bit| item.route & bit != 0);
        let arrival = arrival(body).expect("an arrival");
        if !self.sessions.contains_key(&handle.0) {
            self.begin(handle, at_ms);
        }
        let life = self.whose(arrival.origin.0, arrival.address, oracle);
        let chain = |life| match target {
            HOME => Some(0),
            space => oracle.attached(life, (space - SPACES) as u8),
        };
        let by = life.and_then(|life| Some((life, chain(life)?)));
        let own = self.sessions[&handle.0].bound.get(&target);
        let own = own.map(|of| (of.owned, of.left));
        note!(
            self.trace,
            "session arrives",
            "{} {:#x} of {life:?}, target {target}: gap {gap}, fresh {fresh}, state {whole}",
            self.name,
            handle.0
        );
        let owned = match (fresh, whole, own) {
            // The first packet says which of its chains this is.
            (true, ..) => Some(Owned::new(None, 0)),
            (_, true, _) => Some(Owned::decode(arrival.state).unwrap_or(Owned::new(None, 0))),
            // It has back what it left with, or never left.
            (_, false, Some((owned, true))) => Some(owned),
            (_, false, Some((owned, false))) => panic!("{owned:?} was not left"),
            (_, false, None) if gap => Some(match by {
                Some((life, chain)) => Owned::new(Some(life), chain),
                None => Owned::new(None, 0),
            }),
            (_, false, None) => None,
        };
        let Some(owned) = owned.filter(|_| !self.random.chance(REFUSALS)) else {
            self.trace.count("arrivals refused");
            let session = self.sessions.get_mut(&handle.0).expect("it is here");
            session.bound.remove(&target);
            session.refused.insert(target);
            session.here = None; // as when it is taken
            return self.own(handle, Owner::Refused { tag }, b"not now");
        };
        let owned = oracle.arrive(owned, gap, by);
        self.bind(handle, target, owned, Some(tag.0));
        self.own(handle, Owner::Arrived { tag }, b"");
    }

    fn fence(&mut self, item: &Item) {
        let (handle, tag) = (item.handle, Tag(item.id));
        let session = self.sessions.get_mut(&handle.0).expect("it is here");
        let bound = session.bound.get_mut(&item.number).expect("it is bound");
        assert!(bound.tag.is_none_or(|of| of == tag.0), "another's fence");
        assert!(!std::mem::replace(&mut bound.left, true), "fenced twice");
        let state = bound.owned.encode();
        if self.random.chance(REFUSALS) {
            self.trace.count("leaves refused");
            return self.own(handle, Owner::Refused { tag }, b"not now");
        }
        self.trace.count("leaves");
        self.own(handle, Owner::Fenced { tag }, &state);
    }

    fn hear(&mut self, item: &Item, kind: Kind, body: &[u8], oracle: &mut Oracle) {
        let to = item.handle;
        let marks = Marks::NONE;
        let session = self.sessions.get_mut(&to.0);
        let session = session.unwrap_or_else(|| panic!("a packet to no session: {to:?}"));
        if session.refused.contains(&item.number) {
            return self.trace.count("packets behind a refused arrival");
        }
        if item.route == UNKNOWN_ROUTE {
            let class = crate::client::ROUTES
                .iter()
                .position(|of| of.as_bytes() == body);
            let home = session.bound.get(&HOME).expect("the home gets those");
            oracle.handle_unrouted(home.owned, class.expect("a route of ours") as u8);
            self.trace.count("packets that nobody serves");
            if kind == Kind::Request {
                let what = What::Error { id: item.id };
                self.post(Action::Send { to, what, marks }, b"unknown-route");
            }
            return;
        }
        let packet = Numbered::decode(body);
        let bound = session.bound.get_mut(&item.number);
        let bound = bound.unwrap_or_else(|| panic!("{packet:?} to nothing that it is bound to"));
        assert!(!bound.left, "{packet:?} behind the fence");
        bound.owned = oracle.handle(bound.owned, packet);
        self.trace.count("packets handled");
        if kind == Kind::Request {
            let what = What::Response { id: item.id };
            self.post(Action::Send { to, what, marks }, &packet.encode());
        }
    }

    fn close(&mut self, handle: Handle, reason: &str, oracle: &mut Oracle) {
        let session = self.sessions.remove(&handle.0).expect("it was here");
        let life = session.life();
        note!(
            self.trace,
            "session closed",
            "{} {:#x} of {life:?}: {reason}",
            self.name,
            handle.0
        );
        // It may go on without us.
        if let Some(life) = life.filter(|_| reason != "proxy-lost") {
            oracle.end(life, reason);
        }
        self.ended.push(handle);
    }
}
