//! From messages to frames, and from frames to a socket.

use super::Reactor;
use crate::back::{Back, Stream};
use crate::connection::{By, Connection, Stage};
use crate::link::Tie;
use crate::outbox::{OutRoute, What, NO_NUMBER};
use crate::session::Waits;
use photinus_proto::codec::{self, Flags, Outgoing, Protocol};
use std::io::ErrorKind;
use std::sync::Arc;

impl<B: Back> Reactor<B> {
    /// Writes what the protocol says to a connection, behind what it has unsent.
    #[inline]
    pub(super) fn write_now(&mut self, at: u32, bytes: &[u8]) {
        match self.connections.get(at as usize) {
            Some(Some(connection)) if connection.layers.is_none() => self.write_raw(at, bytes),
            _ => self.write_through(at, bytes),
        }
    }

    /// The same below all layers.
    pub(super) fn write_raw(&mut self, at: u32, bytes: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let mut taken = 0;
        if !connection.blocked && connection.unsent.is_empty() {
            self.statistics.counts.writes.add(1);
            let mut result = connection.stream.write(bytes);
            while matches!(&result, Err(error) if error.kind() == ErrorKind::Interrupted) {
                result = connection.stream.write(bytes); // no edge would follow
            }
            match result {
                Ok(count) => {
                    self.statistics.counts.bytes_out.add(count as u64);
                    taken = count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return self.close(at, By::Network, "reset"),
            }
            if taken == bytes.len() {
                return;
            }
            connection.blocked = true;
        }
        connection.unsent.extend_from_slice(&bytes[taken..]);
        self.out.total += bytes.len() - taken;
    }

    /// The socket takes something again: what is encoded first, then the session's messages.
    pub(super) fn flush(&mut self, at: u32) {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
                return;
            };
            if connection.unsent_bytes() > 0 {
                self.statistics.counts.writes.add(1);
                match connection
                    .stream
                    .write(&connection.unsent[connection.sent..])
                {
                    Ok(count) => {
                        self.statistics.counts.bytes_out.add(count as u64);
                        connection.sent += count;
                        self.out.total -= count;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return self.close(at, By::Network, "reset"),
                }
                if connection.unsent_bytes() > 0 {
                    connection.blocked = true;
                    return;
                }
            }
            connection.unsent = Vec::new();
            connection.sent = 0;
            if connection.stage == Stage::Lingering {
                return connection.stream.finish();
            }
            if let Some(Tie::Link(slot)) = connection.tie.as_deref() {
                return self.links.queue(*slot);
            }
            let handle = connection.session;
            if !self.encode_waiting(handle, at) {
                return;
            }
        }
    }

    pub(super) fn put_unsent(&mut self, at: u32, mut encoded: Vec<u8>) {
        let layered = |of: &Connection<_>| of.layers.is_some();
        if self.connections[at as usize].as_ref().is_some_and(layered) {
            let mut wire = Vec::new();
            self.seal(at, &encoded, &mut wire);
            encoded = wire;
        }
        self.out.total += encoded.len();
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            connection.unsent = encoded;
            connection.sent = 0;
        }
    }
}

#[inline]
pub(super) fn encode(
    protocol: &Protocol,
    what: Waits,
    (body, compressed): (&[u8], bool),
    names: &[(Arc<str>, u32)],
    out: &mut Vec<u8>,
) -> bool {
    let Waits::Send(what, marks) = what else {
        return true; // `say_goodbye` does that
    };
    let mut index = 0;
    let (kind, name, number) = match what {
        What::Response { id } => (Outgoing::Response { id }, "", 0),
        What::Error { id } => (Outgoing::Error { id }, "", 0),
        What::Push(OutRoute::Number(number)) => (Outgoing::Push, "", number),
        What::Push(OutRoute::Named(named)) => {
            index = named;
            match names.get(named as usize) {
                Some((_, NO_NUMBER)) if matches!(protocol, Protocol::Firefly(_)) => {
                    return false;
                }
                Some((name, number)) => (Outgoing::Push, &**name, *number),
                None => (Outgoing::Push, "", 0),
            }
        }
    };
    protocol
        .encode(
            &codec::Message {
                kind,
                name,
                number,
                index,
                body,
                flags: Flags {
                    compressed,
                    droppable: marks.droppable(),
                },
            },
            out,
        )
        .is_ok()
}
