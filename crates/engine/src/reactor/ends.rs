//! How connections and sessions end, by whomever: every end is counted with its reason, told to
//! Python once, and takes nothing of another session with it.

use super::dialling::DIALLED;
use super::Reactor;
use crate::back::{Back, Stream};
use crate::connection::{By, Connection, Stage};
use crate::handle::Handle;
use crate::inbox::Event;
use crate::session::Waits;
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::codec::{self, Flags, Outgoing};

/// Why a session ended whose client was sent to another address.
const REDIRECTED: &str = "redirected";

/// Why a session ended that was told this last.
pub(super) fn reason_of(what: Waits, text: &str) -> &str {
    match what {
        Waits::Redirect => REDIRECTED,
        _ => text,
    }
}

impl<B: Back> Reactor<B> {
    /// Ends the connection now, and its session with it, unless that goes on without one.
    pub(super) fn close(&mut self, at: u32, by: By, reason: &str) {
        let Some(mut connection) = self.connections[at as usize].take() else {
            return;
        };
        self.back.forget(&mut connection.stream);
        self.vacant.push(at);
        self.addresses.remove(&at);
        self.out.total -= connection.unsent_bytes();
        self.partial_bytes -= connection.partial_counted;
        self.links.open -= usize::from(connection.for_link);
        let handle = connection.session;
        if connection.for_link {
            self.count_link_end(&connection, by, reason);
            if let Some(tie) = connection.tie.take() {
                self.untie(at, *tie);
            }
            return;
        }
        if self.outlives(handle, by) {
            return self.detach(handle, connection.acquaintance, by, reason);
        }
        self.count_end(connection.stage, by, reason);
        if handle != Handle::NONE {
            self.end_session(handle, by, reason);
        }
    }

    /// The session is over; its connection may still be lingering.
    pub(super) fn end_session(&mut self, handle: Handle, by: By, reason: &str) {
        let Some(session) = self.sessions.live(handle) else {
            return;
        };
        self.paused_sessions -= usize::from(std::mem::take(&mut session.paused));
        self.detached -= usize::from(session.is_detached());
        let bindings = session.bindings.take();
        self.addresses_at_home.remove(&handle.0);
        self.leave_groups(handle);
        let (waiting, resumable) = self.sessions.end(handle);
        if let Some(resumable) = resumable {
            self.kept_bytes -= resumable.sent.bytes();
        }
        if let Some(waiting) = waiting {
            self.out.total -= waiting.bytes;
            self.statistics
                .counts
                .dropped_gone
                .add(waiting.len() as u64);
        }
        self.shared.gate.session_ended();
        self.statistics.counts.sessions_closed.add(1);
        match bindings {
            None => self.tell(handle, Event::Closed, by as u32, reason),
            Some(bindings) => self.close_bindings(handle, *bindings, by, reason),
        }
    }

    /// It goes on elsewhere: nothing is told to anybody.
    pub(super) fn end_quietly(&mut self, handle: Handle) {
        let Some(session) = self.sessions.live(handle) else {
            return;
        };
        self.paused_sessions -= usize::from(std::mem::take(&mut session.paused));
        self.sessions.end(handle);
        self.shared.gate.session_ended();
        self.statistics.counts.sessions_closed.add(1);
    }

    /// Of a connection that was for a link. A dial that came to nothing is counted as that.
    fn count_link_end(&self, connection: &Connection<B::Stream>, by: By, reason: &str) {
        match connection.stage {
            Stage::Link => self.statistics.counts.link_cuts.add(1),
            stage if connection.listener != DIALLED => self.count_end(stage, by, reason),
            _ => {}
        }
    }

    pub(super) fn count_end(&self, stage: Stage, by: By, reason: &str) {
        if stage == Stage::Lingering {
            return; // counted when its session ended
        }
        let counts = &self.statistics.counts;
        match (by, reason) {
            (By::Server, "full" | "overloaded") => {} // counted when it was turned away
            (By::Client, _) => counts.closed_left.add(1),
            (By::Network, "heartbeat") => counts.closed_heartbeat.add(1),
            (By::Network, "frame-timeout") => counts.closed_frame_timeout.add(1),
            (By::Network, _) => counts.closed_reset.add(1),
            (By::Server, "slow") => counts.closed_slow.add(1),
            (By::Server, "shutdown") => counts.closed_shutdown.add(1),
            (By::Server, _) => counts.closed_kicked.add(1),
            (By::Protocol, "handshake-timeout") => counts.closed_handshake_timeout.add(1),
            (By::Protocol, "frame-timeout") => counts.closed_frame_timeout.add(1),
            (By::Protocol, _) => counts.closed_protocol.add(1),
        }
    }

    /// A connection's peer did what ends it, for this reason.
    pub(super) fn count_wire_error(&self, reason: &'static str) {
        let mut errors = crate::lock::lock(&self.statistics.wire_errors);
        *errors.entry(reason).or_default() += 1;
    }

    pub(super) fn drain_all(&mut self, reason: &str) {
        self.back.stop_listening();
        self.draining = Some(reason.into());
        self.dissolve_line();
        for at in 0..self.connections.len() as u32 {
            let handshaking = |of: &Connection<_>| of.stage == Stage::Handshake && !of.for_link;
            if self.connections[at as usize]
                .as_ref()
                .is_some_and(handshaking)
            {
                self.close(at, By::Server, reason);
            }
        }
        self.tell_of_leaving();
        for handle in self.sessions.handles() {
            self.hand_on_or_kick(handle, reason);
        }
    }

    pub(super) fn shut_down(&mut self) {
        self.back.stop_listening();
        for at in 0..self.connections.len() as u32 {
            self.close(at, By::Server, "shutdown");
        }
        for handle in self.sessions.handles() {
            self.kick(handle, "shutdown"); // those without a connection
        }
        self.mailboxes[self.number].queue.close();
        self.stopped = true;
    }

    /// From the reactor itself (drain): behind all that the session was sent.
    pub(super) fn kick(&mut self, handle: Handle, reason: &str) {
        let Some(session) = self.sessions.live(handle) else {
            return;
        };
        if let Some(remote) = &session.remote {
            // Its end comes back from where its client is.
            let (link, theirs, tag) = (remote.link.local(), remote.theirs, remote.any_tag());
            let tag = tag.map_or(0, |of| of.0);
            let header = Header::new(Kind::Session, Priority::Usual, theirs.0, tag);
            self.push_message(link, header, Waits::Kick, 3, &[], reason.as_bytes());
            return;
        }
        if session.is_detached() {
            self.count_end(Stage::Open, By::Server, reason);
            return self.end_session(handle, By::Server, reason);
        }
        let at = session.connection;
        if let Some(waiting) = &mut session.waiting {
            let (added, _) = waiting.put(Waits::Kick, reason.as_bytes());
            self.out.total = self.out.total.wrapping_add_signed(added);
            return self.limit_goodbye(handle);
        }
        self.finish(handle, at, By::Server, reason);
    }

    /// One that is to go, and does not read what comes before its goodbye, is not waited for long.
    pub(super) fn limit_goodbye(&mut self, handle: Handle) {
        let Some(at) = self.connection_of(handle) else {
            return;
        };
        if let Some(Some(connection)) = self.connections.get(at as usize) {
            self.lingering.set(self.now_ms, at, connection.serial);
        }
    }

    /// Its time to read the last is up.
    pub(super) fn cut_off(&mut self, at: u32) {
        let Some(Some(connection)) = self.connections.get(at as usize) else {
            return;
        };
        let session = self.sessions.live(connection.session);
        let waiting = session.and_then(|session| session.waiting.as_ref());
        let goodbye = waiting.and_then(|of| of.each().find(|of| of.what.is_goodbye()));
        let reason = goodbye.map_or("kicked".into(), |message| {
            let text = String::from_utf8_lossy(&message.body);
            reason_of(message.what, &text).to_owned()
        });
        self.close(at, By::Server, &reason);
    }

    /// The peer broke the protocol: its own error where it has one, then the end.
    pub(super) fn refuse(&mut self, at: u32, reason: &'static str) {
        let Some(Some(connection)) = self.connections.get(at as usize) else {
            return;
        };
        let handle = connection.session;
        if let Some(Some(serving)) = self.listeners.get(connection.listener as usize) {
            let refusal = serving.protocol.refusal(connection.peer);
            if !refusal.is_empty() {
                self.write_now(at, refusal);
            }
        }
        self.finish(handle, at, By::Protocol, reason);
    }

    /// What the application has its session told last: a reason, or another address.
    pub(super) fn say_goodbye(&mut self, handle: Handle, at: u32, what: Waits, text: &str) {
        let kind = match what {
            Waits::Redirect => Outgoing::Redirect,
            _ => Outgoing::Kick,
        };
        self.finish_with(handle, at, By::Server, reason_of(what, text), (kind, text));
    }

    /// Ends the session, if there is one yet: the protocol's kick goes out last, and the connection
    /// lingers until that has been read.
    pub(super) fn finish(&mut self, handle: Handle, at: u32, by: By, reason: &str) {
        self.finish_with(handle, at, by, reason, (Outgoing::Kick, reason));
    }

    fn finish_with(
        &mut self,
        handle: Handle,
        at: u32,
        by: By,
        reason: &str,
        (kind, text): (Outgoing, &str),
    ) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let (listener, stage, serial) = (connection.listener, connection.stage, connection.serial);
        if stage == Stage::Lingering {
            return;
        }
        connection.stage = Stage::Lingering;
        connection.guest.ends_handshake();
        connection.session = Handle::NONE;
        self.partial_bytes -= std::mem::take(&mut connection.partial_counted);
        connection.partial = Vec::new();
        connection.need = 0;
        if let Some(tie) = connection.tie.take() {
            if stage == Stage::Link {
                self.statistics.counts.link_cuts.add(1);
            } else if listener != DIALLED {
                self.count_end(stage, by, reason);
            }
            self.untie(at, *tie);
        } else {
            self.count_end(stage, by, reason);
        }
        if handle != Handle::NONE {
            self.end_session(handle, by, reason);
        }
        let mut frame = Vec::new();
        if let (Some(Some(serving)), true) =
            (self.listeners.get(listener as usize), stage == Stage::Open)
        {
            let last = codec::Message {
                kind,
                name: "",
                number: 0,
                index: 0,
                body: text.as_bytes(),
                flags: Flags::default(),
            };
            // A protocol without a kick appends nothing; a reason is never too long for one.
            let _ = serving.protocol.encode(&last, &mut frame);
        }
        if !frame.is_empty() {
            self.write_now(at, &frame);
        }
        self.close_layers(at, reason);
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.unsent_bytes() == 0 {
            connection.stream.finish();
        }
        self.lingering.set(self.now_ms, at, serial);
        // What it still sends is read and thrown away, beginning with what is there now.
        connection.readable = true;
        self.queue(at);
    }
}
