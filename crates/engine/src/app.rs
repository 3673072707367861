//! Native applications: receivers of packets that run where the packets come in, without Python.
//!
//! What is promised about threads: each reactor has an instance of its own ([`Registration::make`]), which is
//! made, called and dropped on the threads that lead this reactor, one call at a time, and so needs no lock
//! for what is its own. What instances share they must guard themselves, and must not wait for: a call that
//! blocks stops all connections of its reactor. They are called for sessions that are owned by this node,
//! wherever their clients are. A call may send at once; what is sent leaves in the same turn, behind what
//! the session was sent before. A panic in a call ends the node, as one of the engine's own does.

use crate::handle::Handle;
use crate::names::Names;
use crate::outbox::{Action, FormatSet, Marks, OutBatch, OutRoute, What};
use crate::routes::Routes;
use photinus_proto::codec::Kind;
use std::sync::Arc;

pub trait App: Send {
    /// A packet for one of its routes.
    fn packet(&mut self, context: &mut Context<'_>, packet: &Packet<'_>);

    /// A session has begun, or has come here from another node.
    fn opened(&mut self, _context: &mut Context<'_>, _session: Handle) {}

    /// It has ended, or has gone to another node: what is sent to it is dropped.
    fn closed(&mut self, _context: &mut Context<'_>, _session: Handle) {}

    /// Its time has come ([`Registration::tick_ms`]).
    fn tick(&mut self, _context: &mut Context<'_>) {}
}

/// An application, as it is made known to an engine.
pub struct Registration {
    pub name: String,
    /// Routes by name; a packet is told which of them it came under. One whose application in Python has the same
    /// route takes that one's place.
    pub routes: Vec<String>,
    /// Takes packets without a route, as protocols without routes have them.
    pub takes_default: bool,
    /// Milliseconds between two ticks; a tick that is late is not made up for.
    pub tick_ms: Option<u64>,
    pub make: Box<dyn Fn() -> Box<dyn App> + Send + Sync>,
}

pub struct Packet<'a> {
    pub session: Handle,
    pub kind: Kind,
    /// The request's, for its answer.
    pub id: u32,
    /// Of a protocol that numbers its routes.
    pub number: u32,
    /// The place in [`Registration::routes`]; `None`: it has no route.
    pub route: Option<usize>,
    pub body: &'a [u8],
}

/// What an application may do while it is called.
pub struct Context<'a> {
    /// Of the engine's clock, in nanoseconds.
    pub now_ns: u64,
    pub(crate) out: &'a mut OutBatch,
    pub(crate) names: &'a mut Names,
    pub(crate) events: &'a mut Vec<(Handle, Vec<u8>)>,
}

impl Context<'_> {
    /// The answer to a packet, in the way of its protocol. A notify has none.
    pub fn answer(&mut self, packet: &Packet<'_>, body: &[u8]) {
        let what = match packet.kind {
            Kind::Request => What::Response { id: packet.id },
            Kind::Message => What::Push(OutRoute::Number(packet.number)),
            Kind::Notify => return,
        };
        self.send(packet.session, what, Marks::NONE, body);
    }

    pub fn send(&mut self, to: Handle, what: What, marks: Marks, body: &[u8]) {
        self.out.push(Action::Send { to, what, marks }, body);
    }

    /// A push to each of these, for those whose payloads are in one of these formats.
    pub fn send_list(
        &mut self,
        sessions: &[Handle],
        (route, format): (OutRoute, FormatSet),
        marks: Marks,
        body: &[u8],
    ) {
        for session in sessions {
            self.out.arena.extend_from_slice(&session.0.to_be_bytes());
        }
        let action = Action::SendList {
            sessions: sessions.len() as u32,
            format,
            route,
            marks,
        };
        self.out.push(action, body);
    }

    /// The same to all members of a group but one (`Handle::NONE`: to all).
    pub fn send_group(
        &mut self,
        (group, but): (u32, Handle),
        (route, format): (OutRoute, FormatSet),
        marks: Marks,
        body: &[u8],
    ) {
        let action = Action::GroupSend {
            group,
            but,
            format,
            route,
            marks,
        };
        self.out.push(action, body);
    }

    /// The route of pushes with this name.
    pub fn push_route(&mut self, name: &str) -> OutRoute {
        OutRoute::Named(self.names.intern(name, crate::outbox::NO_NUMBER))
    }

    /// Tells Python something of a session, in order with its packets.
    pub fn tell(&mut self, session: Handle, text: &[u8]) {
        self.events.push((session, text.to_vec()));
    }
}

/// Indices from here on are those of applications' routes.
const FIRST: u32 = 1 << 30;
const ROUTE_BITS: u32 = 16;
/// The route of packets that have none.
const NO_ROUTE: u32 = (1 << ROUTE_BITS) - 1;
/// As many as their place leaves room for.
pub const APPS: usize = 1 << 12;

/// The application and the route that this index means, if it means one.
#[inline]
pub fn of_index(index: u32) -> Option<(usize, Option<usize>)> {
    if index >> 30 != 1 {
        return None;
    }
    let (app, route) = ((index & !FIRST) >> ROUTE_BITS, index & NO_ROUTE);
    Some((app as usize, (route != NO_ROUTE).then_some(route as usize)))
}

/// Puts the applications' routes into a table, over those that are there.
pub fn add_routes(apps: &[Arc<Registration>], routes: &mut Routes) {
    for (app, of) in apps.iter().enumerate() {
        let index = |route: u32| FIRST | (app as u32) << ROUTE_BITS | route;
        for (route, name) in of.routes.iter().enumerate() {
            routes.add_name(0, name, index(route as u32));
        }
        if of.takes_default {
            routes.set_default(index(NO_ROUTE));
        }
    }
}

/// Answers each packet with its own bytes: how far it is to a node and back, past every Python. What comes under
/// [`Echo::TELL`] is told to Python instead: how far it is to that.
pub struct Echo;

impl Echo {
    pub const ROUTE: &'static str = "native.echo";
    pub const TELL: &'static str = "native.tell";

    pub fn registration() -> Registration {
        Registration {
            name: BUILT_IN[0].to_owned(),
            routes: [Echo::ROUTE, Echo::TELL].map(str::to_owned).to_vec(),
            takes_default: true,
            tick_ms: None,
            make: Box::new(|| Box::new(Echo)),
        }
    }
}

impl App for Echo {
    fn packet(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) {
        match packet.route {
            Some(1) => {
                context.tell(packet.session, packet.body);
                context.answer(packet, b"");
            }
            _ => context.answer(packet, packet.body),
        }
    }
}

/// The names of those that an engine has of itself.
pub const BUILT_IN: [&str; 1] = ["echo"];

pub fn built_in(name: &str) -> Option<Registration> {
    (name == BUILT_IN[0]).then(Echo::registration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_means_an_application_and_its_route() {
        let apps = [Echo::registration(), Echo::registration()].map(Arc::new);
        let mut routes = Routes::default();
        routes.add_name(0, "say", 3);
        add_routes(&apps, &mut routes);
        let index = |name: &str| routes.by_name(name.as_bytes()).unwrap();
        assert_eq!(of_index(index("say")), None);
        assert_eq!(of_index(index(Echo::ROUTE)), Some((1, Some(0))));
        assert_eq!(of_index(routes.default_route()), Some((1, None)));
        for special in [crate::inbox::DEFAULT_ROUTE, crate::inbox::UNKNOWN_ROUTE] {
            assert_eq!(of_index(special), None);
        }
    }
}
