//! Hellos of links (docs/bluenet.md, 3): whether a connection becomes a link's, and which one's.
//!
//! What the two sides say and prove is `photinus_proto::link::hello`'s. What is decided here: whether the other node
//! is wanted, and whether this is a link that was there before.

use super::Reactor;
use crate::back::Back;
use crate::connection::{By, Stage};
use crate::handle::Handle;
use crate::link::{Attempt, Tie};
use photinus_proto::error::WireError;
use photinus_proto::link::hello::{
    self, Accepted, Accepting, Dialled, Dialling, PeerHello, Reason,
};
use photinus_proto::link::LANES;

/// What came of a message.
pub(super) enum Met {
    Incomplete {
        need: usize,
    },
    /// There is more to say.
    Said {
        consumed: usize,
    },
    /// Frames follow it.
    Linked {
        consumed: usize,
    },
    /// The connection has ended, or will.
    Ended,
}

/// What each reason is counted as, said by us and by the peer.
fn words(reason: Reason) -> [&'static str; 2] {
    match reason {
        Reason::Version => ["link-version", "refused-version"],
        Reason::Cluster => ["link-cluster", "refused-cluster"],
        Reason::Secret => ["link-secret", "refused-secret"],
        Reason::Generation => ["link-generation", "refused-generation"],
        Reason::SameNode => ["link-same-node", "refused-same-node"],
        Reason::UnknownLink => ["link-unknown-link", "refused-unknown-link"],
        Reason::Role => ["link-role", "refused-role"],
        Reason::OtherNode => ["link-other-node", "refused-other-node"],
        Reason::Full => ["link-full", "refused-full"],
    }
}

impl<B: Back> Reactor<B> {
    /// Reads the first message of `arena[from..end]`.
    pub(super) fn meet_node(&mut self, at: u32, from: usize, end: usize) -> Met {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return Met::Ended;
        };
        // Put back unless it has become a link's.
        match connection.tie.take().map(|tie| *tie) {
            Some(Tie::Accepting(hello)) => self.accept_hello(at, hello, from, end),
            Some(Tie::Dialling(mut attempt)) => match attempt.hello.take() {
                Some(hello) => self.dial_hello(at, attempt, hello, from, end),
                // It spoke before what lies between was open.
                None => {
                    self.tie(at, Tie::Dialling(attempt));
                    self.break_off(at, WireError::BadHandshake.reason());
                    Met::Ended
                }
            },
            Some(Tie::Link(_)) | None => Met::Ended,
        }
    }

    fn accept_hello(&mut self, at: u32, mut hello: Box<Accepting>, from: usize, end: usize) -> Met {
        let mut reply = Vec::new();
        match hello.handle_bytes(&self.batch.arena[from..end], &mut reply) {
            Ok(Accepted::Incomplete { need }) => {
                self.tie(at, Tie::Accepting(hello));
                Met::Incomplete { need }
            }
            Ok(Accepted::Answered { consumed }) => {
                self.tie(at, Tie::Accepting(hello));
                self.write_now(at, &reply);
                Met::Said { consumed }
            }
            Ok(Accepted::Refused { reason, by, .. }) => self.part(at, reason, by, &reply),
            Err(error) => {
                self.break_off(at, error.reason());
                Met::Ended
            }
            Ok(Accepted::Proved {
                consumed,
                peer,
                received,
                resumes,
            }) => {
                let (slot, resumed) = match self.choose_link(&peer, resumes) {
                    Ok(chosen) => chosen,
                    Err(reason) => {
                        hello.refuse(reason, &mut reply);
                        return self.part(at, reason, hello::By::Us, &reply);
                    }
                };
                if let Err(error) = self.connect_link(slot, at, received) {
                    self.break_off(at, error.reason());
                    return Met::Ended;
                }
                let counts = self.links.get(slot).map(|of| of.link.received());
                hello.welcome(counts.unwrap_or_default(), resumed, &mut reply);
                self.write_now(at, &reply);
                self.is_linked(at, slot);
                Met::Linked { consumed }
            }
        }
    }

    /// The link that was there before (`true`), or a new one.
    fn choose_link(&mut self, peer: &PeerHello, resumes: bool) -> Result<(u32, bool), Reason> {
        self.judge_node(peer)?;
        if let Some(slot) = self.links.known(peer) {
            return Ok((slot, true));
        }
        if resumes {
            return Err(Reason::UnknownLink);
        }
        let slot = self.add_link(peer, None).ok_or(Reason::Full)?;
        Ok((slot, false))
    }

    fn dial_hello(
        &mut self,
        at: u32,
        mut attempt: Box<Attempt>,
        mut hello: Dialling,
        from: usize,
        end: usize,
    ) -> Met {
        let mut reply = Vec::new();
        let step = hello.handle_bytes(&self.batch.arena[from..end], &mut reply);
        let mut refused = None;
        let greeted = match step {
            Ok(Dialled::Incomplete { need }) => Met::Incomplete { need },
            Ok(Dialled::Proved { consumed, peer }) => match self.judge_dialled(&attempt, &peer) {
                Ok(link) => {
                    let link = link.and_then(|slot| self.links.get(slot));
                    let received = link.map(|of| of.link.received());
                    let resumes = received.is_some();
                    hello.prove(received.unwrap_or_default(), resumes, &mut reply);
                    attempt.peer = Some(peer);
                    Met::Said { consumed }
                }
                Err(reason) => {
                    hello.refuse(reason, &mut reply);
                    refused = Some((reason, hello::By::Us));
                    Met::Ended
                }
            },
            Ok(Dialled::Welcome {
                consumed, received, ..
            }) => return self.is_welcome(at, attempt, received, consumed),
            Ok(Dialled::Refused { reason, by, .. }) => {
                if reason == Reason::UnknownLink {
                    self.forget_link(attempt.dial);
                }
                refused = Some((reason, by));
                Met::Ended
            }
            Err(error) => {
                self.tie(at, Tie::Dialling(attempt));
                self.break_off(at, error.reason());
                return Met::Ended;
            }
        };
        attempt.hello = Some(hello);
        self.tie(at, Tie::Dialling(attempt));
        if let Some((reason, by)) = refused {
            return self.part(at, reason, by, &reply);
        }
        if !reply.is_empty() {
            self.write_now(at, &reply);
        }
        greeted
    }

    /// Is it the node that was dialled, and the link still the dial's? If so, the link that there is.
    fn judge_dialled(
        &mut self,
        attempt: &Attempt,
        peer: &PeerHello,
    ) -> Result<Option<u32>, Reason> {
        let dial = self.links.dial_mut(attempt.dial);
        let dial = dial
            .filter(|of| of.id == attempt.id)
            .ok_or(Reason::UnknownLink)?;
        if *dial.to.node != *peer.node {
            return Err(Reason::OtherNode);
        }
        self.judge_node(peer)?;
        let dial = self
            .links
            .dial_mut(attempt.dial)
            .ok_or(Reason::UnknownLink)?;
        // If the node was started again there is no link now, and there it knows none under this number.
        dial.id = attempt.id;
        Ok(dial.link)
    }

    fn is_welcome(
        &mut self,
        at: u32,
        attempt: Box<Attempt>,
        received: [u32; LANES],
        consumed: usize,
    ) -> Met {
        let number = attempt.dial;
        let dial = self.links.dial_mut(number).filter(|of| of.id == attempt.id);
        let known = dial.map(|of| of.link);
        let slot = match (known, &attempt.peer) {
            (Some(Some(slot)), _) => Some(slot),
            (Some(None), Some(peer)) => self.add_link(peer, Some(number)),
            _ => None,
        };
        if let (Some(dial), Some(_)) = (self.links.dial_mut(number), slot) {
            dial.link = slot;
        }
        let connected = slot.map(|slot| (slot, self.connect_link(slot, at, received)));
        let error = match connected {
            Some((slot, Ok(()))) => {
                self.is_linked(at, slot);
                return Met::Linked { consumed };
            }
            Some((_, Err(error))) => error,
            None => WireError::BadHandshake,
        };
        self.tie(at, Tie::Dialling(attempt));
        self.break_off(at, error.reason());
        Met::Ended
    }

    /// The connection carries this link from now on.
    fn is_linked(&mut self, at: u32, slot: u32) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        connection.stage = Stage::Link;
        connection.guest.ends_handshake();
        connection.tie = Some(Box::new(Tie::Link(slot)));
        let Some(linked) = self.links.get_mut(slot) else {
            return;
        };
        if !std::mem::replace(&mut linked.up, true) {
            self.statistics.counts.links_up.add(1);
            self.link_up(slot);
        }
    }

    /// The other node does not know the dial's link any more: what was on it is lost.
    fn forget_link(&mut self, dial: u32) {
        let link = self.links.dial_mut(dial).and_then(|of| of.link);
        if let Some(slot) = link {
            self.lose_link(slot, "unknown-link");
        }
    }

    /// There is to be no link, as one of both sides has said.
    fn part(&mut self, at: u32, reason: Reason, by: hello::By, reply: &[u8]) -> Met {
        let [ours, theirs] = words(reason);
        match by {
            hello::By::Us => {
                self.count_wire_error(ours);
                self.write_now(at, reply);
                self.finish(Handle::NONE, at, By::Protocol, ours);
            }
            hello::By::Peer => {
                self.count_wire_error(theirs);
                self.close(at, By::Protocol, theirs);
            }
        }
        Met::Ended
    }

    fn tie(&mut self, at: u32, tie: Tie) {
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            connection.tie = Some(Box::new(tie));
        }
    }
}
