//! Every bound of the engine, with its default and why that number.

/// Bounds of one engine. Sizes in bytes, times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload that a client may send in one packet. 64 KiB: game packets are below 1 KiB, a snapshot
    /// below this; a client that declares more is wrong or hostile.
    pub max_payload: usize,
    /// Sessions at once. 20,000 open files are what a process commonly may have.
    pub sessions: usize,
    /// What one session may have unhandled in the inbox; past it its socket is not read.
    /// 256 KiB: four of the largest packets, or some 2,600 of 64 bytes.
    pub inbound_session_bytes: usize,
    /// The same for all sessions of a reactor together. 64 MiB: a second of 500 k packets/s.
    pub inbound_total_bytes: usize,
    /// What may wait for one slow reader before its policy acts. 1 MiB: seconds of ordinary traffic.
    pub outbound_session_bytes: usize,
    /// The same for all sessions of a reactor together.
    pub outbound_total_bytes: usize,
    /// What Python may have handed over that a reactor has not yet looked at; past it `send` waits.
    pub outbox_bytes: usize,
    /// A connection that has not finished its handshake by then is closed.
    pub handshake_ms: u64,
    /// A frame that was begun is finished by then, or its connection is closed.
    pub frame_ms: u64,
    /// How long a closing connection may take to read what was sent to it last.
    pub linger_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_payload: 64 << 10,
            sessions: 19_000,
            inbound_session_bytes: 256 << 10,
            inbound_total_bytes: 64 << 20,
            outbound_session_bytes: 1 << 20,
            outbound_total_bytes: 256 << 20,
            outbox_bytes: 64 << 20,
            handshake_ms: 5_000,
            frame_ms: 10_000,
            linger_ms: 2_000,
        }
    }
}

impl Limits {
    /// Sets one limit by its name. The error says what was expected.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
        if !NAMES.contains(&name) {
            let names = NAMES.join(", ");
            return Err(format!("there is no limit {name:?}; there are {names}"));
        }
        const LARGEST_PAYLOAD: u64 = 16 << 20; // pomelo's 24-bit length
        let (least, most) = match name {
            "max_payload" => (16, LARGEST_PAYLOAD - 1024),
            "sessions" => (
                1,
                crate::handle::SLOTS_A_REACTOR as u64 * crate::handle::REACTORS as u64,
            ),
            "handshake_ms" | "frame_ms" | "linger_ms" => (1, 24 * 3600 * 1000),
            _ => (1024, 1 << 40),
        };
        if !(least..=most).contains(&value) {
            return Err(format!(
                "limit {name}: expected {least} to {most}, not {value}"
            ));
        }
        let size = value as usize;
        match name {
            "max_payload" => self.max_payload = size,
            "sessions" => self.sessions = size,
            "inbound_session_bytes" => self.inbound_session_bytes = size,
            "inbound_total_bytes" => self.inbound_total_bytes = size,
            "outbound_session_bytes" => self.outbound_session_bytes = size,
            "outbound_total_bytes" => self.outbound_total_bytes = size,
            "outbox_bytes" => self.outbox_bytes = size,
            "handshake_ms" => self.handshake_ms = value,
            "frame_ms" => self.frame_ms = value,
            "linger_ms" => self.linger_ms = value,
            _ => unreachable!("a name that is in NAMES"),
        }
        Ok(())
    }
}

pub const NAMES: [&str; 10] = [
    "max_payload",
    "sessions",
    "inbound_session_bytes",
    "inbound_total_bytes",
    "outbound_session_bytes",
    "outbound_total_bytes",
    "outbox_bytes",
    "handshake_ms",
    "frame_ms",
    "linger_ms",
];

/// How much one `read` takes at most: one connection's share of a turn, so that none starves another.
pub const READ_BYTES: usize = 64 << 10;
/// A batch's arena. Four full reads, and small enough to stay in the second-level cache.
pub const ARENA_BYTES: usize = 256 << 10;
/// Arenas and outbox batches kept for reuse; more are given back to the system.
pub const SPARE_BATCHES: usize = 4;
/// The longest text of an event (an address, the reason of an end); more is cut off.
pub const TEXT_BYTES: usize = 1 << 10;
/// How much is encoded for one connection before it is written.
pub const WRITE_BYTES: usize = 64 << 10;
/// What an unhandled packet costs beside its payload (its place in the batch), for the budgets.
pub const PACKET_OVERHEAD: usize = 32;
/// A slot rests so long before it is used again.
pub const QUARANTINE_MS: u64 = 1_000;
/// Events taken in one wait; more are told of by the next.
pub const EVENTS_A_TURN: usize = 1024;
/// The same where the loop's own thread may lead: some half a millisecond of reading and writing.
pub const EVENTS_A_LED_TURN: usize = 128;
/// How long the loop's thread may stay away from its reactor before the stand-by takes over.
pub const LEASE_NS: u64 = 1_000_000;
/// How often the stand-by looks at most. With the lease this is the longest that a reactor is without a
/// leader; each look costs some 10 us.
pub const LOOK_NS: u64 = 1_750_000;
/// The slices of time that the stand-by and the loop's thread ask the scheduler for. On a shared core the
/// stand-by then runs as soon as it wakes; with equal slices it would wait for the next tick, up to 4 ms,
/// whenever the loop's slice ends before a whole one of its own would: each twentieth time.
pub const STAND_BY_SLICE_NS: u64 = 100_000;
pub const LOOP_SLICE_NS: u64 = 6_000_000;
/// After so long without a packet for Python the stand-by sleeps until there is one: an idle server
/// wakes nobody.
pub const PARK_NS: u64 = 20_000_000;
/// Connections taken from a listener in one turn, so that a storm of them does not stop the game.
pub const ACCEPTS_A_TURN: usize = 256;
/// Connections that the system completes before we accept them; the next one's client would try again
/// only after a second. As many as Linux allows by default: everybody comes back at once.
pub const BACKLOG: i32 = 4096;
/// How long a turn goes on with TLS handshakes, once everybody who is in has been served: some five full
/// ones of ECDSA. Players wait a millisecond longer at most, whatever storm there is.
pub const HANDSHAKE_NS_A_TURN: u64 = 1_000_000;
/// When accepting failed for want of descriptors, it is tried again after this.
pub const ACCEPT_RETRY_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_sets_its_limit() {
        for name in NAMES {
            let mut limits = Limits::default();
            limits.set(name, 4096).unwrap();
            assert_ne!(limits, Limits::default(), "{name}");
        }
    }

    #[test]
    fn errors_name_what_was_expected() {
        let mut limits = Limits::default();
        assert!(limits
            .set("nonsense", 0)
            .unwrap_err()
            .contains("max_payload"));
        assert!(limits
            .set("sessions", 0)
            .unwrap_err()
            .contains("expected 1 to"));
    }
}
