//! Every bound of the engine, with its default and why that number.

use crate::handle::{REACTORS, SLOTS_A_REACTOR};

/// Declares each limit once: its name, default, and the values that it may be given.
macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $default:expr, $least:expr => $most:expr;)*) => {
        /// Bounds of one engine. Sizes in bytes, times in milliseconds.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $($(#[$doc])* pub $name: $kind),* }

        impl Default for Limits {
            fn default() -> Self {
                Limits { $($name: $default),* }
            }
        }

        impl Limits {
            /// Sets one limit by its name. The error says what was expected.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
                let (least, most) = match name {
                    $(stringify!($name) => ($least, $most),)*
                    _ => {
                        let names = NAMES.join(", ");
                        return Err(format!("there is no limit {name:?}; there are {names}"));
                    }
                };
                if !(least..=most).contains(&value) {
                    return Err(format!("limit {name}: expected {least} to {most}, not {value}"));
                }
                match name {
                    $(stringify!($name) => self.$name = value as $kind,)*
                    _ => unreachable!("a name that was found above"),
                }
                Ok(())
            }
        }

        pub const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

/// All that pomelo's 24-bit length can count, and the longest message that tests of WebSocket's conformance send.
const LARGEST_PAYLOAD: u64 = 16 << 20;
/// A larger number of bytes is a mistake in the unit.
const LARGEST: u64 = 1 << 40;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// More is faster than any machine: a mistake in the unit.
const FASTEST: u64 = 1 << 30;
const EVERY_SESSION: u64 = SLOTS_A_REACTOR as u64 * REACTORS as u64;

limits! {
    /// Largest payload that a client may send in one packet. 64 KiB: game packets are below 1 KiB, a snapshot
    /// below this; a client that declares more is wrong or hostile.
    max_payload: usize = 64 << 10, 16 => LARGEST_PAYLOAD;
    /// Sessions at once. 20,000 open files are what a process commonly may have.
    sessions: usize = 19_000, 1 => EVERY_SESSION;
    /// Connections at once, counted from their acceptance: sessions, handshakes, those that wait. 0: as many
    /// as there may be open files, less [`RESERVED_FILES`].
    connections: usize = 0, 0 => EVERY_SESSION;
    /// Connections at once from one address (of IPv6: one /64, which is what a customer is given); 0: any
    /// number. 256: a school or an internet cafe behind one address gets in; one machine alone
    /// needs 75 addresses to take all sessions.
    connections_per_address: usize = 256, 0 => EVERY_SESSION;
    /// New connections a second from one address, with [`ACCEPT_BURST_S`] seconds' worth at once; 0: any number.
    /// 64: so all 256 of an address may come back at once after an interruption.
    accepts_per_address: u64 = 64, 0 => FASTEST;
    /// Whether the two above also hold for loopback addresses. They do not: who connects from this machine is
    /// a reverse proxy, for many others, or somebody who could do worse.
    limit_loopback: u64 = 0, 0 => 1;
    /// Connections at once whose handshake is not done. 1,024: as many as come in a storm after a restart while
    /// one round trip lasts, at 10,000 a second; with 16 KiB each for TLS they take 16 MiB.
    handshakes: usize = 1024, 1 => EVERY_SESSION;
    /// Frames a second from one session, with [`SESSION_BURST_S`] seconds' worth at once; 0: any number.
    /// 10,000: a hundred times what a client sends that tells three things with each picture of its display,
    /// and what a test on the same machine reaches that waits for each answer; one session alone takes a
    /// tenth of a loop whose handlers need 10 us.
    session_packets_per_s: u64 = 10_000, 0 => FASTEST;
    /// The same in bytes. 4 MiB: no player's line sends so much.
    session_bytes_per_s: u64 = 4 << 20, 0 => LARGEST;
    /// What one session may have unhandled in the inbox; past it its socket is not read.
    /// 256 KiB: four of the largest packets, or some 2,600 of 64 bytes.
    inbound_session_bytes: usize = 256 << 10, 1024 => LARGEST;
    /// The same for all sessions of a reactor together. 64 MiB: a second of 500 k packets/s.
    inbound_total_bytes: usize = 64 << 20, 1024 => LARGEST;
    /// What may wait for one slow reader before its policy acts. 1 MiB: seconds of ordinary traffic.
    outbound_session_bytes: usize = 1 << 20, 1024 => LARGEST;
    /// The same for all sessions of a reactor together.
    outbound_total_bytes: usize = 256 << 20, 1024 => LARGEST;
    /// What Python may have handed over that a reactor has not yet looked at; past it `send` waits.
    outbox_bytes: usize = 64 << 20, 1024 => LARGEST;
    /// How long the oldest packet may wait for Python, for [`INTERVAL_NS`](crate::overload::INTERVAL_NS) on end,
    /// before droppable messages of clients are dropped; 0: they never are. 100 ms: the next such message comes
    /// sooner than that.
    overload_drop_ms: u64 = 100, 0 => DAY_MS;
    /// The same before new sessions have to wait; 0: they never do. 500 ms: longer than the pauses that every
    /// game has now and then, and what players notice: those who are in come first.
    overload_wait_ms: u64 = 500, 0 => DAY_MS;
    /// How many may stand in line for a session, while there are as many as there may be or Python is
    /// behind; more are refused. 1,000: five seconds of admissions. 0: nobody waits.
    login_queue: usize = 1_000, 0 => EVERY_SESSION;
    /// What is kept of what was sent to one session that can be resumed, until its client is known to have
    /// it; past it the oldest is dropped, and whoever would need that has a gap. 128 KiB: half a minute of
    /// ordinary traffic, which is the usual window.
    resume_session_bytes: usize = 128 << 10, 1024 => LARGEST;
    /// The same for all sessions of a reactor together; past it all that is kept of one is dropped.
    resume_total_bytes: usize = 256 << 20, 1024 => LARGEST;
    /// A connection that has not finished its handshake by then is closed.
    handshake_ms: u64 = 5_000, 1 => DAY_MS;
    /// A frame that was begun is finished by then, or its connection is closed.
    frame_ms: u64 = 10_000, 1 => DAY_MS;
    /// What a link keeps of what it was given, until the other node is known to have it; past it the peer is
    /// lost. 64 MiB: half a second of a full gigabit, while a connection is made again.
    link_kept_bytes: usize = 64 << 20, 4096 => LARGEST;
    /// Longest frame between nodes, its header included. 1 MiB: a frame that was begun is not overtaken, and this
    /// one takes 8 ms of a gigabit.
    link_frame_bytes: usize = 1 << 20, 4096 => 16 << 20;
    /// A node of which nothing was heard for so long is lost. 3 s: a switch or a virtual machine's move
    /// interrupts for one or two, and players notice after that.
    link_silence_ms: u64 = 3_000, 100 => DAY_MS;
    /// Between two pings of a link. 500 ms: six may be lost before the peer is.
    link_ping_ms: u64 = 500, 10 => DAY_MS;
    /// How long a closing connection may take to read what was sent to it last.
    linger_ms: u64 = 2_000, 1 => DAY_MS;
}

/// Received in so many bytes, an acknowledgement of a link is due: two writes of the other end.
pub const LINK_ACK_BYTES: usize = 128 << 10;
/// After a link's connection has failed the next is tried after this, twice as much each time up to the most, and a
/// quarter more or less, so that not all come back at once. A node that is there again is found within a second.
pub const LINK_BACK_OFF_MS: u64 = 50;
pub const LINK_BACK_OFF_MOST_MS: u64 = 1_000;
/// A link's connection that has lasted so long is replaced at once when it breaks; one that was of any use, after the
/// least wait; whoever welcomes us and says nothing is asked again no quicker than one who refuses.
pub const LINK_STEADY_MS: u64 = 1_000;
/// A link is looked at again after this when nothing was heard of it, but something is there that was not read.
pub const LINK_LOOK_MS: u64 = 100;
/// How much of one link is written in one turn; then everybody else has a turn.
pub const LINK_BYTES_A_TURN: usize = 1 << 20;
/// Each of a link connection's two buffers in the system: what is in there cannot be overtaken. 128 KiB are a
/// millisecond of a gigabit, which is more than a round trip between machines that are near each other; and a frame of
/// high priority on a link that is full waited a third as long as with the system's own sizes, at the same rate.
pub const LINK_SOCKET_BYTES: i32 = 128 << 10;
/// What may wait there that was not sent yet. 32 KiB: a quarter of a millisecond of a gigabit, so that the wire never
/// runs dry while the reactor is woken.
pub const LINK_UNSENT_BYTES: i32 = 32 << 10;
/// How often statistics are shown what links have done.
pub const LINK_REPORT_MS: u64 = 100;
/// Nodes of which the newest generation is remembered: more than a cluster has.
pub const LINK_NODES: usize = 4_096;
/// Names of pushes that one node may tell another: each is kept as long as the process lives, and told to clients of
/// the photinus protocol. 16,384: a hundred times what a large game has, and 16 MiB at worst.
pub const LINK_NAMES: u32 = 1 << 14;
/// Groups of one node that another may have members of. 262,144: more than a node has sessions.
pub const LINK_GROUPS: usize = 1 << 18;
/// How many seconds' worth of its rate an address may connect at once: all that it may have open.
pub const ACCEPT_BURST_S: u64 = 4;
/// How many seconds' worth of its rate a session may send at once: what a mobile client has kept for as
/// long as its network was away.
pub const SESSION_BURST_S: u64 = 10;
/// What a client is told who is turned away: by then some have left, and it has not become impatient.
pub const RETRY_AFTER_MS: u32 = 5_000;
/// Open files that are no connections: listeners, pollers, the application's own files and databases.
pub const RESERVED_FILES: u64 = 256;
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
/// How long a turn goes on with TLS handshakes, once everybody who is in has been served: some three full
/// ones of ECDSA. Players wait half a millisecond longer at most, whatever storm there is; with twice as much
/// their p99 was 5 ms, and there were no more handshakes a second.
pub const HANDSHAKE_NS_A_TURN: u64 = 500_000;
/// When accepting failed for want of descriptors, it is tried again after this.
pub const ACCEPT_RETRY_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_sets_its_limit() {
        for name in NAMES {
            let mut limits = Limits::default();
            let values = [4096, 1].map(|value| limits.set(name, value).is_ok());
            assert!(values.contains(&true), "{name}");
            assert_ne!(limits, Limits::default(), "{name}");
        }
    }

    #[test]
    fn errors_name_what_was_expected() {
        let mut limits = Limits::default();
        let unknown = limits.set("nonsense", 0).unwrap_err();
        assert!(unknown.contains("max_payload"), "{unknown}");
        let out_of_range = limits.set("sessions", 0).unwrap_err();
        assert!(out_of_range.contains("expected 1 to"), "{out_of_range}");
    }

    #[test]
    fn an_address_may_open_all_its_connections_at_once() {
        let limits = Limits::default();
        let burst = limits.accepts_per_address * ACCEPT_BURST_S;
        assert!(burst >= limits.connections_per_address as u64);
    }
}
