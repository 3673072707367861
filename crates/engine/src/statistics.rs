//! What the engine counts. Each counter has one writer, the thread that leads its reactor; any
//! thread may read. Nothing the engine refuses, drops or closes goes uncounted.

use crate::histogram::Histogram;
use crate::link::LinkReport;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter or a gauge with a single writer: no read-modify-write instruction.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    #[inline]
    pub fn add(&self, more: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counts {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub struct $name { $($(#[$of])* pub $field: Count),* }

        impl $name {
            /// Each counter with its name, in the order of their declaration.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($field), self.$field.read())),*].into_iter()
            }
        }
    };
}

counts! {
    /// Of one reactor.
    Counts {
        /// Packets read for the application.
        packets_in,
        /// Bytes read from sockets.
        bytes_in,
        /// Messages encoded for connections, each receiver of a group counted.
        packets_out,
        /// Bytes taken by sockets.
        bytes_out,
        /// Times the reactor went round.
        turns,
        /// System calls: waits in the poller, reads, writes, wakes of another thread.
        polls, reads, writes, wakes,
        /// Batches that Python was given.
        batches,
        /// Times the stand-by took the lead from the loop's thread.
        take_overs,
        accepted,
        /// Connections turned away because the session limit was reached.
        refused_full,
        /// The same because Python was behind; and those who were let wait in line.
        refused_overloaded, stood_in_line,
        /// Reset as soon as they were accepted: too many connections, in all or from their address;
        /// too often from there; too many handshakes that are not done.
        refused_connections, refused_address, refused_rate, refused_handshakes,
        /// Accepting failed for want of descriptors or memory.
        accept_failures,
        sessions_opened,
        /// Packets that native applications took.
        native_packets,
        /// Packets of clients sent on to other nodes, and messages sent to clients of theirs.
        forwarded, relayed_out,
        /// The same that came for clients here.
        relayed_in,
        /// Frames for what is not (any more) here, or not theirs who sent them; those that no link took.
        dropped_stale_handle, dropped_link,
        /// Clients not read because the link to their session's owner was crowded.
        paused_link,
        /// Bindings of sessions that were moved; moves that came to nothing; homes that were lost and replaced.
        moved, moves_failed, rehomed,
        /// TLS handshakes that were done.
        tls_handshakes,
        sessions_closed,
        /// Ends by their reason.
        closed_left, closed_reset, closed_kicked, closed_slow, closed_heartbeat,
        closed_handshake_timeout, closed_frame_timeout, closed_protocol, closed_shutdown,
        /// Messages to sessions that had ended.
        dropped_gone,
        /// Droppable messages of clients while Python was behind.
        dropped_overload,
        /// Droppable messages to readers who did not keep up, for which a newer one of their route came.
        dropped_stale,
        /// Messages longer than their protocol can carry.
        dropped_unsendable,
        /// Notifies to routes that nobody handles.
        unknown_routes,
        /// Times a socket was left unread since its session's, or the whole inbox's, budget was used up.
        paused_session, paused_total,
        heartbeats_sent,
        /// Messages that were compressed, one to a group once for all members with the same agreement; what
        /// they were and what they became; those that did not become shorter, and were sent as they are.
        compressed, compressed_from_bytes, compressed_to_bytes, not_shorter,
        /// Payloads that came compressed, and what they were and became.
        inflated, inflated_from_bytes, inflated_to_bytes,
        /// Sessions that lost their connection; that were resumed, whole or with a gap; whose window was over.
        cut, resumed, resumed_with_gap, resume_expired,
        /// Times that what was kept for a session was dropped for want of room.
        resume_dropped,
        /// Links to other nodes that began, and that were lost; connections of theirs that ended; that were cut since
        /// they said nothing.
        links_up, links_lost, link_cuts, link_silences,
        /// Attempts to connect to other nodes, and those that came to no link's connection.
        link_dials, link_dial_failures,
        /// Frames heard from and pushed to links; for which a link had no room; to links that were gone.
        link_frames_in, link_frames_out, link_full, link_gone,
        /// Gauges: now.
        sessions, connections, waiting_out_bytes, unhandled_bytes, partial_bytes, paused_now,
        detached, kept_bytes, in_line, links,
    }
}

/// Of one reactor: counters and the histograms of the stages that its leader sees.
#[derive(Default)]
pub struct Statistics {
    pub counts: Counts,
    /// From the poller's word to the hand-over to Python.
    pub socket_to_inbox: Histogram,
    /// From Python's hand-over to the write call.
    pub outbox_to_write: Histogram,
    /// From the loop's thread leaving its reactor to the stand-by leading it.
    pub take_over: Histogram,
    /// Connections ended by a wire error, by its reason.
    pub wire_errors: std::sync::Mutex<std::collections::BTreeMap<&'static str, u64>>,
    /// Its links, as they were a tenth of a second ago at most.
    pub links: std::sync::Mutex<Vec<LinkReport>>,
}
