//! One end of a link between two nodes (docs/bluenet.md, 2, 4 and 5): frames in, frames out, and what makes them
//! outlive the connection that they cross.
//!
//! Rules:
//! 1. A frame belongs to the lane of its priority. Within a lane order holds and nothing is lost or doubled;
//!    between lanes nothing is promised, but that the higher one goes first. A frame that was begun is finished.
//! 2. A frame is encoded once, into its lane, when it is pushed. There it stays until the other end is known to
//!    have it, and from there it is written, the second time like the first.
//! 3. Frames are counted, in each lane apart, and no number is ever written beside one: both ends count. A frame
//!    is received when it is whole. Counts are modulo 2^32; what is kept is far less than half of that.
//! 4. What the link says for itself, acknowledgements and pings, is never counted, kept or sent again: the next
//!    one says more than the last. It goes before all lanes.
//! 5. A peer that breaks the protocol ends the link, not just its connection: the error is kept, and every later
//!    call that could fail returns it.
//!
//! Order of calls: [`Link::push`] at any time. [`Link::handle_connected`] when hellos were exchanged
//! ([`hello`]); then [`Link::handle_bytes`] over what has come, again and again until it says
//! [`Step::Incomplete`]; [`Link::poll_write`] and [`Link::handle_written`] until there is nothing left or the socket
//! takes no more; [`Link::handle_timeout`] when [`Link::next_ms`] is there, after what has come was read. When the
//! connection has ended: [`Link::handle_cut`], and `handle_connected` again with the next.

pub mod hello;
mod lane;
mod own;

use crate::bluenet::header::{Header, HEADER_BYTES};
use crate::error::WireError;
use crate::planted::{is_planted, Planted};
use lane::Lane;
use own::{Own, OWN_MOST_BYTES};
use std::fmt;
use std::ops::Range;

/// One a priority (5).
pub const LANES: usize = 4;

/// Bytes of a frame before its header: the length of what follows, big-endian.
pub const LENGTH_BYTES: usize = 3;

/// No link takes a longer frame, header included, whatever it is told: the length has no more bits.
pub const LONGEST_FRAME: usize = (1 << 24) - 1;

/// What one write is given at most: a socket's buffer hardly takes more, and what was given cannot be overtaken.
pub const WRITE_BYTES: usize = 64 << 10;

/// The control lane's own share of what may be kept, as a divisor: a link full of packets can still say why.
const CONTROL_SHARE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLimits {
    /// What is kept of all lanes, in bytes: half a second of a full gigabit, while a connection is made again.
    pub kept_bytes: usize,
    /// Of header and payload of one frame.
    pub max_frame: usize,
    /// A peer of which nothing was heard for so long is lost.
    pub silence_ms: u64,
    /// Between two pings: six may go unanswered before the peer is lost.
    pub ping_ms: u64,
    /// Received in so many bytes, an acknowledgement is due: two writes of the other end.
    pub ack_bytes: usize,
}

impl Default for LinkLimits {
    fn default() -> Self {
        LinkLimits {
            kept_bytes: 64 << 20,
            max_frame: 1 << 20,
            silence_ms: 3000,
            ping_ms: 500,
            ack_bytes: 128 << 10,
        }
    }
}

/// See the module. Between two generations of two nodes; it outlives connections.
#[derive(Debug)]
pub struct Link {
    limits: LinkLimits,
    lanes: [Lane; LANES],
    own: Own,
    /// The lane of which a frame has been begun.
    begun: Option<usize>,
    /// The lane of the bytes that were given last; `None`: the link's own.
    given: Option<usize>,
    kept: usize,
    /// What came since the last acknowledgement.
    unacknowledged: usize,
    connection: Connection,
    /// When something came last; before that, when the link was made.
    heard_ms: u64,
    /// A finer clock, for round trips.
    clock_us: u64,
    round_trip_us: Option<u32>,
    cuts: u64,
    failed: Option<WireError>,
    /// By a planted fault, a frame that has begun to come was counted.
    early: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    None,
    Open { ping_ms: u64 },
}

/// Nothing of the frame was taken: it is longer than [`LinkLimits::max_frame`], or there is no room for it until
/// the other end has acknowledged more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the link keeps as much as it may, or the frame is too long for it")
    }
}

impl std::error::Error for Full {}

/// What the first of the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No whole frame. With `need` bytes, counted from the first, one gets further.
    Incomplete { need: usize },
    /// A frame of `consumed` bytes; its payload stands in `payload` of the input. It has been counted.
    Frame {
        consumed: usize,
        header: Header,
        payload: Range<usize>,
    },
    /// What was for the link itself.
    Own { consumed: usize },
}

/// What time has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// The connection says nothing: it is to be cut, and there is still time to make another.
    Silent,
    /// Nothing was heard for too long and there is no connection, or the link has ended with an error: whatever is
    /// kept will not arrive.
    Lost,
}

/// Since the link was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkStatistics {
    pub lanes: [LaneStatistics; LANES],
    /// Bytes that are kept now.
    pub kept: usize,
    /// Connections that have ended.
    pub cuts: u64,
}

/// Bytes are those on the wire, framing included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneStatistics {
    pub pushed_frames: u64,
    pub pushed_bytes: u64,
    pub received_frames: u64,
    pub received_bytes: u64,
    /// Frames that were handed to a connection, and again to a later one.
    pub resent_frames: u64,
}

impl Link {
    /// `now_ms` is of the clock of all later calls; any will do that never goes back.
    pub fn new(limits: LinkLimits, now_ms: u64) -> Link {
        Link {
            limits: LinkLimits {
                max_frame: limits.max_frame.clamp(OWN_MOST_BYTES, LONGEST_FRAME),
                ..limits
            },
            lanes: Default::default(),
            own: Own::default(),
            begun: None,
            given: None,
            kept: 0,
            unacknowledged: 0,
            connection: Connection::None,
            heard_ms: now_ms,
            clock_us: 0,
            round_trip_us: None,
            cuts: 0,
            failed: None,
            early: false,
        }
    }

    /// How many frames of each lane have come, modulo 2^32: what a hello tells the other end.
    pub fn received(&self) -> [u32; LANES] {
        self.lanes.each_ref().map(|lane| lane.received)
    }

    pub fn is_connected(&self) -> bool {
        self.connection != Connection::None
    }

    /// What a payload may have: longer ones are [`Full`].
    pub fn max_payload(&self) -> usize {
        self.limits.max_frame - HEADER_BYTES
    }

    /// More than half of what may be kept: callers stop reading what they would push here.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.kept > self.limits.kept_bytes / 2
    }

    /// Bytes that are kept, of all lanes.
    #[inline]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Of the last ping that was answered.
    pub fn round_trip_us(&self) -> Option<u32> {
        self.round_trip_us
    }

    pub fn statistics(&self) -> LinkStatistics {
        LinkStatistics {
            lanes: self.lanes.each_ref().map(|lane| lane.statistics),
            kept: self.kept,
            cuts: self.cuts,
        }
    }

    /// A connection: its peer has received so many of each lane, and gets what it lacks. An error if it claims to
    /// have what was never sent, or lacks what it had acknowledged.
    pub fn handle_connected(
        &mut self,
        peer_received: [u32; LANES],
        now_ms: u64,
    ) -> Result<(), WireError> {
        self.check()?;
        self.disconnect();
        self.acknowledge(peer_received)?;
        self.lanes.iter_mut().for_each(Lane::rewind);
        self.connection = Connection::Open { ping_ms: now_ms };
        self.heard_ms = now_ms;
        // Its hello has said how many have come.
        self.unacknowledged = 0;
        Ok(())
    }

    /// The connection has ended. What of a frame came over it is to be forgotten: the whole of it comes again.
    pub fn handle_cut(&mut self, now_ms: u64) {
        if self.is_connected() {
            // However late a silence was noticed, there is the other half of the time to make another connection.
            let noticed = now_ms.saturating_sub(self.limits.silence_ms / 2);
            self.heard_ms = self.heard_ms.max(noticed);
        }
        self.disconnect();
    }

    /// Takes a frame whose payload is `parts`, one behind the other.
    ///
    /// # Panics
    ///
    /// If the header is the link's own ([`Header::is_link`]): the other end would not count the frame, and all that
    /// follow would have other numbers there.
    #[inline]
    pub fn push(&mut self, header: Header, parts: &[&[u8]]) -> Result<(), Full> {
        assert!(!header.is_link(), "a header of the link's own");
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let length = HEADER_BYTES + payload;
        let number = header.priority as usize;
        let room = match number + 1 {
            LANES => self.limits.kept_bytes,
            _ => self.limits.kept_bytes - self.limits.kept_bytes / CONTROL_SHARE,
        };
        if length > self.limits.max_frame || self.kept + LENGTH_BYTES + length > room {
            return Err(Full);
        }
        self.kept += LENGTH_BYTES + length;
        self.lanes[number].push(&head(length, header), parts);
        Ok(())
    }

    /// A finer clock, in microseconds, for [`round_trip_us`](Link::round_trip_us): to be told before bytes are handled
    /// or polled. Without it round trips are in whole milliseconds.
    pub fn set_clock_us(&mut self, now_us: u64) {
        self.clock_us = now_us;
    }

    /// The next bytes for the connection; none: there is nothing to write. What of them was taken is to be told
    /// ([`handle_written`](Link::handle_written)) before anything else is done with the link.
    #[inline]
    pub fn poll_write(&mut self, now_ms: u64) -> &[u8] {
        if self.connection == Connection::None || self.failed.is_some() {
            return &[];
        }
        if self.begun.is_none() {
            let received = self.received();
            let stamp = self.stamp(now_ms);
            if self.own.encode(received, stamp) {
                self.unacknowledged = 0;
            }
        }
        // Above the lane of the frame that was begun, is there something that waits for its end?
        let highest = (0..LANES).rev().find(|&lane| self.lanes[lane].has_more());
        let (lane, all) = match (self.begun, highest) {
            (Some(begun), higher) => (begun, higher == Some(begun) && !self.own.is_due()),
            (None, _) if !self.own.unwritten().is_empty() => {
                self.given = None;
                return self.own.unwritten();
            }
            (None, Some(lane)) => (lane, true),
            (None, None) => return &[],
        };
        self.given = Some(lane);
        self.lanes[lane].unwritten(all)
    }

    /// The connection has taken `count` of the bytes that were polled last.
    #[inline]
    pub fn handle_written(&mut self, count: usize) {
        let Some(number) = self.given else {
            return self.own.handle_written(count);
        };
        let lane = &mut self.lanes[number];
        lane.handle_written(count);
        self.begun = lane.has_begun().then_some(number);
    }

    /// Reads the first frame of what has come and was not consumed yet.
    #[inline]
    pub fn handle_bytes(&mut self, bytes: &[u8], now_ms: u64) -> Result<Step, WireError> {
        self.check()?;
        if !bytes.is_empty() {
            self.heard_ms = now_ms;
        }
        let step = self.read(bytes, now_ms);
        if let Err(error) = step {
            self.failed = Some(error);
        }
        step
    }

    /// Something has come that is gathered until it is worth [`handle_bytes`](Link::handle_bytes): the peer is there.
    #[inline]
    pub fn handle_heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// When [`handle_timeout`](Link::handle_timeout) is due, in the milliseconds of `now_ms`; never again if the link
    /// has ended with an error.
    pub fn next_ms(&self) -> Option<u64> {
        if self.failed.is_some() {
            return None;
        }
        Some(match self.connection {
            Connection::Open { ping_ms } => ping_ms.min(self.silent_ms()),
            Connection::None => self.heard_ms + self.limits.silence_ms,
        })
    }

    /// To be called when [`next_ms`](Link::next_ms) has come, or at any time; whatever has come is read before. After
    /// it there may be something to write.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Verdict {
        if self.failed.is_some() {
            return Verdict::Lost;
        }
        match &mut self.connection {
            Connection::None if now_ms >= self.heard_ms + self.limits.silence_ms => Verdict::Lost,
            Connection::None => Verdict::Fine,
            Connection::Open { ping_ms } => {
                if now_ms >= *ping_ms {
                    *ping_ms = now_ms + self.limits.ping_ms;
                    self.own.ping_due = true;
                    self.lanes.iter_mut().for_each(Lane::trim);
                }
                if now_ms >= self.silent_ms() {
                    return Verdict::Silent;
                }
                Verdict::Fine
            }
        }
    }

    /// A connection that says nothing is cut in the middle of what the peer has: the other half is for the next.
    fn silent_ms(&self) -> u64 {
        self.heard_ms + self.limits.silence_ms / 2
    }

    fn stamp(&self, now_ms: u64) -> u64 {
        match self.clock_us {
            0 => now_ms * 1000,
            clock => clock,
        }
    }

    #[inline]
    fn read(&mut self, bytes: &[u8], now_ms: u64) -> Result<Step, WireError> {
        let Some(&[a, b, c]) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(Step::Incomplete { need: LENGTH_BYTES });
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length < HEADER_BYTES {
            return Err(WireError::BadFrame);
        }
        if length > self.limits.max_frame {
            return Err(WireError::TooLong);
        }
        let consumed = LENGTH_BYTES + length;
        if bytes.len() < LENGTH_BYTES + HEADER_BYTES {
            return Ok(Step::Incomplete { need: consumed });
        }
        // A bad one is not waited for.
        let header = Header::decode(&bytes[LENGTH_BYTES..])?;
        if bytes.len() < consumed {
            if is_planted(Planted::EarlyAcknowledgement) && !header.is_link() && !self.early {
                self.lanes[header.priority as usize].receive(consumed);
                self.early = true;
            }
            return Ok(Step::Incomplete { need: consumed });
        }
        let payload = LENGTH_BYTES + HEADER_BYTES..consumed;
        if header.is_link() {
            self.hear_own(header, &bytes[payload], now_ms)?;
            return Ok(Step::Own { consumed });
        }
        if !std::mem::take(&mut self.early) {
            self.lanes[header.priority as usize].receive(consumed);
        }
        self.unacknowledged += consumed;
        if self.unacknowledged >= self.limits.ack_bytes {
            self.own.ack_due = true;
        }
        Ok(Step::Frame {
            consumed,
            header,
            payload,
        })
    }

    fn hear_own(&mut self, header: Header, payload: &[u8], now_ms: u64) -> Result<(), WireError> {
        let said = own::read(header, payload)?;
        self.acknowledge(said.received)?;
        match said.stamp {
            own::Stamp::None => {}
            own::Stamp::Ping(stamp) => self.own.pong_due = Some(stamp),
            own::Stamp::Pong(stamp) => {
                // A stamp that was never given is a clock that says nothing.
                if let Some(took) = self.stamp(now_ms).checked_sub(stamp) {
                    self.round_trip_us = Some(u32::try_from(took).unwrap_or(u32::MAX));
                }
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, received: [u32; LANES]) -> Result<(), WireError> {
        for (lane, received) in self.lanes.iter_mut().zip(received) {
            match lane.acknowledge(received) {
                Ok(bytes) => self.kept -= bytes,
                Err(error) => {
                    self.failed = Some(error);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn disconnect(&mut self) {
        if std::mem::replace(&mut self.connection, Connection::None) != Connection::None {
            self.cuts += 1;
        }
        self.own = Own::default();
        (self.begun, self.given) = (None, None);
        self.early = false;
    }

    fn check(&self) -> Result<(), WireError> {
        self.failed.map_or(Ok(()), Err)
    }
}

/// What stands before the payload of a frame whose header and payload have `length` bytes.
#[inline]
fn head(length: usize, header: Header) -> [u8; LENGTH_BYTES + HEADER_BYTES] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g, h, i, j, k, l, m] = header.encode();
    [a, b, c, d, e, f, g, h, i, j, k, l, m]
}

#[cfg(test)]
mod tests;
