//! Payloads that are compressed on their way out and inflated on their way in, for connections that have
//! agreed on it; who has not pays one branch for it.
//!
//! A message to a group is compressed once for all members with the same listener and agreement, however
//! these lie among the others. A secret one never is.

use super::Reactor;
use crate::back::Back;
use crate::handle::Handle;
use crate::session::Waits;
use crate::statistics::Counts;
use photinus_proto::codec::{Peer, Protocol};
use photinus_proto::compress::{Agreement, Contexts, Scheme};
use photinus_proto::error::WireError;
use std::collections::HashMap;
use std::ops::Range;

/// What all connections of a reactor use in turn.
#[derive(Default)]
pub struct Compression {
    contexts: Contexts,
    /// What came last.
    inflated: Vec<u8>,
    /// Where in `bytes` the messages to groups of this turn lie; `None`: that one is sent as it is.
    of_groups: HashMap<OfGroup, Option<Range<usize>>>,
    bytes: Vec<u8>,
}

/// A message to a group, for its members of one listener with one agreement.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfGroup {
    message: (u32, u32),
    listener: u16,
    agreement: Agreement,
}

/// How messages to one connection are compressed.
pub struct Packing<'a> {
    listener: u16,
    agreement: Agreement,
    scheme: Scheme<'a>,
}

impl<'a> Packing<'a> {
    /// `None`: not at all.
    #[inline]
    pub fn of(
        protocol: &'a Protocol,
        listener: u16,
        agreement: Option<Agreement>,
    ) -> Option<Packing<'a>> {
        let agreement = agreement?;
        Some(Packing {
            listener,
            agreement,
            scheme: protocol.scheme(agreement)?,
        })
    }
}

impl Compression {
    /// What is sent for this body, and whether that is compressed. `message`: its place in this turn, if it
    /// is to a group.
    pub fn pack<'b>(
        &'b mut self,
        packing: &Packing<'_>,
        what: Waits,
        message: Option<(u32, u32)>,
        body: &'b [u8],
        counts: &Counts,
    ) -> (&'b [u8], bool) {
        let secret = !matches!(what, Waits::Send(_, marks) if !marks.secret());
        if secret || !packing.scheme.is_worth(body.len()) {
            return (body, false);
        }
        let Some(message) = message else {
            let compressed = self.contexts.compress(&packing.scheme, body);
            count(counts, body, compressed.map(<[u8]>::len));
            return compressed.map_or((body, false), |of| (of, true));
        };
        let key = OfGroup {
            message,
            listener: packing.listener,
            agreement: packing.agreement,
        };
        let place = self.of_groups.entry(key).or_insert_with(|| {
            let compressed = self.contexts.compress(&packing.scheme, body);
            count(counts, body, compressed.map(<[u8]>::len));
            let compressed = compressed?;
            let start = self.bytes.len();
            self.bytes.extend_from_slice(compressed);
            Some(start..self.bytes.len())
        });
        match place {
            Some(place) => (&self.bytes[place.clone()], true),
            None => (body, false),
        }
    }

    /// The turn's messages are written.
    #[inline]
    pub fn forget_groups(&mut self) {
        if !self.of_groups.is_empty() {
            self.of_groups.clear();
            self.bytes.clear();
        }
    }

    /// After a burst.
    pub fn shrink(&mut self) {
        self.contexts.shrink();
        self.inflated = Vec::new();
        self.of_groups = HashMap::new();
        self.bytes = Vec::new();
    }
}

fn count(counts: &Counts, body: &[u8], compressed: Option<usize>) {
    match compressed {
        Some(length) => {
            counts.compressed.add(1);
            counts.compressed_from_bytes.add(body.len() as u64);
            counts.compressed_to_bytes.add(length as u64);
        }
        None => counts.not_shorter.add(1),
    }
}

impl<B: Back> Reactor<B> {
    /// What messages to this connection may be compressed with.
    #[inline]
    pub(super) fn agreement(&self, at: u32) -> Option<Agreement> {
        let connection = self.connections.get(at as usize)?.as_ref()?;
        connection.peer.compression()
    }

    /// Inflates the payload that lies there in the arena, to `tail`, which moves behind it. Gives its new place.
    pub(super) fn inflate(
        &mut self,
        protocol: &Protocol,
        peer: &Peer,
        payload: Range<usize>,
        tail: &mut usize,
    ) -> Result<Range<usize>, WireError> {
        let scheme = peer.compression().and_then(|of| protocol.scheme(of));
        let scheme = scheme.ok_or(WireError::CompressionUnsupported)?;
        let Compression {
            contexts, inflated, ..
        } = &mut self.compression;
        inflated.clear();
        let payload = &self.batch.arena[payload];
        contexts.inflate(&scheme, payload, inflated)?;
        let counts = &self.statistics.counts;
        counts.inflated.add(1);
        counts.inflated_from_bytes.add(payload.len() as u64);
        counts.inflated_to_bytes.add(inflated.len() as u64);
        Ok(self.batch.append_at(tail, inflated))
    }

    /// Whether a session may have more inflated, with so much in hand that is not counted yet. One read of
    /// 64 KiB can hold what becomes 60 MB.
    pub(super) fn may_inflate(&mut self, handle: Handle, in_hand: usize) -> bool {
        let session = self.sessions.live(handle);
        let its = session.map_or(0, |session| session.unhandled);
        its + in_hand < self.limits.inbound_session_bytes
            && self.unhandled + in_hand < self.limits.inbound_total_bytes
    }
}
