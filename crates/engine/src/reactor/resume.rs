//! Sessions that outlive their connection: they are detached when it is cut, resumed by a token, and end
//! when their window is over (`resumable.rs` has the invariants).

use super::compressing::Packing;
use super::photinus::Greeted;
use super::writing::encode;
use super::Reactor;
use crate::acquaintance::{announce, Acquaintance};
use crate::back::Back;
use crate::connection::{By, Connection, Stage};
use crate::handle::Handle;
use crate::inbox::Event;
use crate::outbox::{Handover, Moving, OutRoute, What};
use crate::resumable::{read_token, secret, token, Kept, Resumable};
use crate::session::{Waiting, Waits, NONE};
use photinus_proto::codec::photinus::{self as codec, Status, Welcome, USUAL_RATE};
use photinus_proto::codec::Protocol;
use photinus_proto::error::WireError;
use photinus_proto::resume::{Continuation, Worth};

impl<B: Back> Reactor<B> {
    /// Whether the session of a connection that ends so goes on without it.
    pub(super) fn outlives(&mut self, handle: Handle, by: By) -> bool {
        let cut = matches!(by, By::Network | By::Client) && self.draining.is_none();
        cut && self.sessions.live(handle).is_some_and(|session| {
            let waiting = session.waiting.as_ref();
            let goes = waiting.is_some_and(|of| of.each().any(|of| of.what.is_goodbye()));
            session.resumable.is_some() && !goes
        })
    }

    /// Its client has said that it is leaving: the session ends with its connection.
    pub(super) fn make_final(&mut self, handle: Handle) {
        if let Some(session) = self.sessions.live(handle) {
            if let Some(resumable) = session.resumable.take() {
                self.kept_bytes -= resumable.sent.bytes();
            }
        }
    }

    /// Its connection was cut. What `of` has counted goes on with the next.
    pub(super) fn detach(
        &mut self,
        handle: Handle,
        of: Option<Box<Acquaintance>>,
        by: By,
        reason: &str,
    ) {
        let Some(session) = self.sessions.live(handle) else {
            return;
        };
        session.connection = NONE;
        self.paused_sessions -= usize::from(std::mem::take(&mut session.paused));
        // What is counted is kept as well; what is droppable is about a moment that has passed.
        let waiting = session.waiting.take().unwrap_or_default();
        self.out.total -= waiting.bytes;
        let listener = session.listener as usize;
        let Some(resumable) = &mut session.resumable else {
            return;
        };
        resumable.received = of.map_or(resumable.received, |of| of.received());
        resumable.cuts = resumable.cuts.wrapping_add(1);
        resumable.cut = Some((by, reason.into()));
        let cuts = resumable.cuts;
        self.detached += 1;
        self.statistics.counts.cut.add(1);
        if let Some(Some(serving)) = self.listeners.get_mut(listener) {
            if let Some(windows) = &mut serving.windows {
                windows.set(self.now_ms, handle.0, cuts);
            }
        }
        self.tell_owners(handle, Event::Cut, 0, "");
    }

    /// Sessions whose window is over.
    pub(super) fn end_detached(&mut self) {
        for listener in 0..self.listeners.len() {
            while let Some((handle, cuts)) = self.next_over(listener) {
                let Some(session) = self.sessions.live(handle) else {
                    continue;
                };
                let detached = session.is_detached();
                let resumable = session.resumable.as_ref().filter(|of| of.cuts == cuts);
                if let (true, Some((by, reason))) =
                    (detached, resumable.and_then(|of| of.cut.clone()))
                {
                    self.statistics.counts.resume_expired.add(1);
                    self.count_end(Stage::Open, by, &reason);
                    self.end_session(handle, by, &reason);
                }
            }
        }
    }

    /// The next session of this listener whose window is over, and the cut with which it began.
    fn next_over(&mut self, listener: usize) -> Option<(Handle, u32)> {
        let windows = self.listeners[listener].as_mut()?.windows.as_mut()?;
        let (handle, cuts) = windows.pop_due(self.now_ms)?;
        Some((Handle(handle), cuts))
    }

    /// The session's first token.
    pub(super) fn make_resumable(&mut self, handle: Handle) -> Option<[u8; codec::TOKEN_BYTES]> {
        let secret = secret()?;
        let session = self.sessions.live(handle)?;
        session.resumable = Some(Box::new(Resumable::new(secret)));
        Some(token(handle, &secret))
    }

    /// The client has the token of the last welcome.
    pub(super) fn has_token(&mut self, at: u32) {
        if let Some(resumable) = self.resumable_of(at) {
            resumable.tokens.arrived();
        }
    }

    /// The client has received so many counted frames.
    pub(super) fn acknowledge(&mut self, at: u32, received: u32) -> Result<(), WireError> {
        let Some(resumable) = self.resumable_of(at) else {
            return Ok(());
        };
        let before = resumable.sent.bytes();
        resumable.sent.acknowledge(received)?;
        let after = resumable.sent.bytes();
        self.kept_bytes -= before - after;
        Ok(())
    }

    fn resumable_of(&mut self, at: u32) -> Option<&mut Resumable> {
        let handle = self.connections.get(at as usize)?.as_ref()?.session;
        self.sessions.live(handle)?.resumable.as_deref_mut()
    }

    /// A client wants its session back: it gets all that it lacks, or is refused.
    pub(super) fn resume(&mut self, greeted: Greeted<'_>, resume: codec::Resume, rest: Vec<u8>) {
        let at = greeted.at;
        let resumed = self.judge(&greeted, &resume);
        let resumed = resumed.and_then(|()| self.go_on(&greeted, &resume));
        match resumed {
            Ok(()) => self.decode_rest(at, rest),
            Err(reason) => self.refuse_resume(at, reason),
        }
    }

    /// Whether the token is this session's, and of this listener.
    fn judge(&mut self, greeted: &Greeted<'_>, resume: &codec::Resume) -> Result<(), &'static str> {
        let (handle, secret) = read_token(&resume.token);
        let connection = self.connections.get(greeted.at as usize);
        let listener = connection.and_then(Option::as_ref).map(|of| of.listener);
        let session = self.sessions.live(handle);
        let Some((session, listener)) = session.zip(listener) else {
            return Err("resume-unknown");
        };
        let same_door = session.listener == listener;
        let resumable = session.resumable.as_ref().ok_or("resume-unknown")?;
        match resumable.tokens.judge(&secret) {
            Worth::Good if same_door => Ok(()),
            Worth::Replayed => Err("resume-replayed"),
            Worth::Good | Worth::Forged => Err("resume-forged"),
        }
    }

    /// The session of this token has a new connection.
    fn go_on(&mut self, greeted: &Greeted<'_>, resume: &codec::Resume) -> Result<(), &'static str> {
        let at = greeted.at;
        let (handle, shown) = read_token(&resume.token);
        let (continuation, next) = self.continuation(handle, resume.received)?;
        let clock = self.clock();
        let old = self.sessions.live(handle).map_or(NONE, |of| of.connection);
        if old != NONE {
            // It does not know yet that it was cut; what it still sends is not read.
            self.close(old, By::Network, "reset");
        }
        let Some(session) = self.sessions.live(handle) else {
            return Err("resume-unknown"); // it was to be kicked, and is now
        };
        let listener = usize::from(session.listener);
        let Some(resumable) = &mut session.resumable else {
            return Err("resume-unknown");
        };
        resumable.tokens.renew(&shown, next);
        let received = resumable.received;
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return Err("resume-unknown");
        };
        session.connection = at;
        self.detached -= 1;
        let status = match continuation {
            Continuation::Whole => Status::Resumed { received },
            Continuation::Gap { next } => Status::Gap { received, next },
        };
        let window = greeted.options.resume();
        let welcome = Welcome {
            status,
            clock,
            rate: USUAL_RATE,
            resume: window.map(|window| (token(handle, &next), window)),
        };
        let (mut peer, mut frames) = (greeted.peer, Vec::new());
        greeted.options.welcome(&mut peer, &welcome, &mut frames);
        connection.peer = peer;
        connection.session = handle;
        connection.stage = Stage::Open;
        connection.guest.ends_handshake();
        connection.acquaintance = Some(Box::new(Acquaintance::going_on(received)));
        let serial = connection.serial;
        let gap = continuation != Continuation::Whole;
        match gap {
            true => self.statistics.counts.resumed_with_gap.add(1),
            false => self.statistics.counts.resumed.add(1),
        }
        self.beat_at(listener, at, serial);
        let address = self.addresses.remove(&at).unwrap_or_default();
        self.tell_owners(handle, Event::Resumed, u32::from(gap), &address);
        self.say_again(handle, at, &mut frames);
        self.write_now(at, &frames);
        Ok(())
    }

    /// What the client is sent that has received so many counted frames; and its next secret.
    fn continuation(
        &mut self,
        handle: Handle,
        received: u32,
    ) -> Result<(Continuation, [u8; 16]), &'static str> {
        let session = self.sessions.live(handle);
        let resumable = session.and_then(|of| of.resumable.as_mut());
        let (resumable, next) = resumable.zip(secret()).ok_or("resume-unknown")?;
        let before = resumable.sent.bytes();
        let continuation = resumable.sent.resume(received);
        let continuation = continuation.map_err(|_| "bad-frame")?;
        self.kept_bytes -= before - resumable.sent.bytes();
        Ok((continuation, next))
    }

    /// Appends what the client lacks, and the newest of each droppable route since the cut.
    fn say_again(&mut self, handle: Handle, at: u32, frames: &mut Vec<u8>) {
        let Some(session) = self.sessions.live(handle) else {
            return;
        };
        let mut waiting = session.waiting.take().unwrap_or_default();
        self.out.total -= waiting.bytes;
        let (Some(Some(serving)), Some(Some(connection)), Some(resumable)) = (
            self.listeners.get(usize::from(session.listener)),
            self.connections.get_mut(at as usize),
            &mut session.resumable,
        ) else {
            return;
        };
        let protocol: &Protocol = &serving.protocol;
        let packing = Packing::of(protocol, session.listener, connection.peer.compression());
        let Some(of) = &mut connection.acquaintance else {
            return;
        };
        let mut secret = waiting.each().any(|message| message.what.is_secret());
        let counts = &self.statistics.counts;
        let names = self.out.names.as_slice();
        let compression = &mut self.compression;
        let mut say = |what: Waits, body: &[u8]| {
            if let Waits::Send(What::Push(OutRoute::Named(index)), _) = what {
                announce(of, names, index, frames);
            }
            let payload = match &packing {
                None => (body, false),
                Some(packing) => compression.pack(packing, what, None, body, counts),
            };
            match encode(protocol, what, payload, names, frames) {
                true => counts.packets_out.add(1),
                false => counts.dropped_unsendable.add(1),
            }
        };
        for (Kept { what, marks }, body) in resumable.sent.kept() {
            secret |= marks.secret();
            say(Waits::Send(what, marks), body);
        }
        while let Some(message) = waiting.pop() {
            say(message.what, &message.body);
        }
        self.tools.secret = secret;
    }

    fn refuse_resume(&mut self, at: u32, reason: &'static str) {
        self.count_wire_error(reason);
        let mut refusal = Vec::new();
        codec::refuse(reason, None, &mut refusal);
        self.write_now(at, &refusal);
        self.finish(Handle::NONE, at, By::Protocol, reason);
    }

    /// Counts and keeps what this turn has for a session that can be resumed; and if it is detached, that is
    /// all. `true`: it is.
    pub(super) fn keep_chain(&mut self, handle: Handle) -> bool {
        let Some(session) = self.sessions.live(handle) else {
            return false;
        };
        let detached = session.is_detached();
        let Some(resumable) = &mut session.resumable else {
            return false;
        };
        let counts = &self.statistics.counts;
        let (before, limits) = (resumable.sent.bytes(), &self.limits);
        let mut goodbye = None;
        let (mut added, mut dropped) = (0, 0);
        for (at, waits, body) in self.out.each_of_chain() {
            match waits {
                Waits::Kick | Waits::Redirect => {
                    let behind = self.out.chain.len() - at - 1;
                    counts.dropped_gone.add(behind as u64);
                    goodbye = Some((waits, String::from_utf8_lossy(body).into_owned()));
                    break;
                }
                Waits::Send(what, marks) if !marks.droppable() => {
                    let kept = Kept { what, marks };
                    let limit = limits.resume_session_bytes;
                    resumable.sent.keep(kept, body, limit);
                }
                Waits::Send(..) if detached => {
                    let waiting = session.waiting.get_or_insert_with(Box::<Waiting>::default);
                    let (grown, replaced) = waiting.put(waits, body);
                    added += grown;
                    dropped += u64::from(replaced);
                }
                Waits::Send(..) => {}
            }
        }
        self.out.total = self.out.total.wrapping_add_signed(added);
        counts.dropped_stale.add(dropped);
        self.kept_bytes = self.kept_bytes - before + resumable.sent.bytes();
        if self.kept_bytes > limits.resume_total_bytes {
            self.kept_bytes -= resumable.sent.bytes();
            resumable.sent.forget();
            counts.resume_dropped.add(1);
        }
        let waiting = session.waiting.as_ref().filter(|_| detached);
        if waiting.is_some_and(|of| of.bytes > limits.outbound_session_bytes) {
            let waiting = session.waiting.take().unwrap_or_default();
            self.out.total -= waiting.bytes;
            counts.dropped_stale.add(waiting.len() as u64);
        }
        if let (true, Some((what, text))) = (detached, goodbye) {
            let reason = super::ends::reason_of(what, &text);
            self.count_end(Stage::Open, By::Server, reason);
            self.end_session(handle, By::Server, reason);
        }
        detached
    }

    /// To the reactor where the session lives that this client wants back, with what came behind its hello.
    /// `Some`: it stays here.
    pub(super) fn move_away(
        &mut self,
        greeted: &Greeted<'_>,
        resume: codec::Resume,
        rest: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let (handle, _) = read_token(&resume.token);
        let there = handle.reactor();
        let slot = self.connections.get_mut(greeted.at as usize)?;
        let listener = slot.as_ref()?.listener;
        let serving = self.listeners.get(usize::from(listener))?.as_ref();
        if there == self.number || !serving.is_some_and(|of| of.reactors.contains(&there)) {
            return Some(rest);
        }
        let mut connection = slot.take()?;
        self.vacant.push(greeted.at);
        let address = self.addresses.remove(&greeted.at).unwrap_or_default();
        self.out.total -= connection.unsent_bytes();
        self.partial_bytes -= connection.partial_counted;
        self.back.forget(&mut connection.stream);
        if let Ok(stream) = self.back.part_with(connection.stream) {
            connection.guest.moves_to(there);
            self.statistics.counts.wakes.add(1);
            let moving = Moving {
                stream,
                address,
                listener,
                guest: connection.guest,
                layers: connection.layers,
                peer: greeted.peer,
                resume,
                rest,
                unsent: connection.unsent[connection.sent..].to_vec(),
            };
            self.mailboxes[there].post(Handover::Move(Box::new(moving)), 1);
        }
        None
    }

    /// A client comes from another reactor, since its session lives here.
    pub(super) fn take_in(&mut self, moving: Moving) {
        let Some(Some(serving)) = self.listeners.get(usize::from(moving.listener)) else {
            return;
        };
        let protocol = serving.protocol.clone();
        let (Protocol::Photinus(options), None) = (&*protocol, &self.draining) else {
            return;
        };
        let Some(mut stream) = self.back.adopt(moving.stream) else {
            return;
        };
        let at = self.place_for_connection();
        if self.back.watch(&mut stream, at).is_err() {
            self.statistics.counts.accept_failures.add(1);
            self.vacant.push(at);
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        let mut connection = Connection::new(
            stream,
            moving.guest,
            self.serial,
            moving.listener,
            Stage::Handshake,
            moving.peer,
            self.now_ms,
        );
        connection.layers = moving.layers;
        connection.readable = true; // more may have come meanwhile
        connection.queued = true;
        connection.blocked = !moving.unsent.is_empty();
        self.out.total += moving.unsent.len();
        connection.unsent = moving.unsent;
        self.again.push(at);
        self.connections[at as usize] = Some(connection);
        self.addresses.insert(at, moving.address);
        let (peer, resume, rest) = (moving.peer, moving.resume, moving.rest);
        self.resume(Greeted { at, peer, options }, resume, rest);
    }
}
