//! One lane of a link: the frames that the other end is not known to have, as they stand on the wire, and how far
//! they were handed to the connection.
//!
//! Rules:
//! 1. What is kept begins with a frame and ends with one; there is no hole. Where frames begin is read from their
//!    own lengths, so that nothing stands beside them.
//! 2. Bytes are handed to a connection in order. A frame of which the last byte was handed over may be
//!    acknowledged, others cannot: the other end never had one whole.
//! 3. With the next connection all that is kept is handed over again.
//! 4. It lies in one piece, so that it is written in one. What was acknowledged is dropped when it is more than what
//!    is still kept: at most one byte is moved for each that is dropped.

use super::{LaneStatistics, LENGTH_BYTES, WRITE_BYTES};
use crate::error::WireError;

#[derive(Debug, Default)]
pub struct Lane {
    /// What is kept, behind `gone` bytes that no longer are.
    bytes: Vec<u8>,
    gone: usize,
    /// The number of the first frame that is kept.
    first: u32,
    /// The number of the first that was not wholly written.
    whole: u32,
    /// Where that begins in what is kept.
    boundary: usize,
    /// How much of it was written; beyond `boundary` if a frame was begun.
    written: usize,
    /// The most that was kept since the lane was last [trimmed](Lane::trim).
    peak: usize,
    /// Of the other direction.
    pub received: u32,
    pub statistics: LaneStatistics,
}

impl Lane {
    #[inline]
    pub fn push(&mut self, head: &[u8], parts: &[&[u8]]) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(head);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.statistics.pushed_frames += 1;
        self.statistics.pushed_bytes += (self.bytes.len() - before) as u64;
    }

    /// Counts a frame of so many bytes from the other end.
    #[inline]
    pub fn receive(&mut self, bytes: usize) {
        self.received = self.received.wrapping_add(1);
        self.statistics.received_frames += 1;
        self.statistics.received_bytes += bytes as u64;
    }

    #[inline]
    pub fn has_more(&self) -> bool {
        self.written < self.kept().len()
    }

    #[inline]
    pub fn has_begun(&self) -> bool {
        self.written > self.boundary
    }

    /// The next bytes to write. If not `all`: of the frame that was begun only.
    #[inline]
    pub fn unwritten(&self, all: bool) -> &[u8] {
        let rest = &self.kept()[self.written..];
        let most = if all {
            WRITE_BYTES
        } else {
            let (_, end) = self.walk(self.boundary, 1, usize::MAX);
            WRITE_BYTES.min(end - self.written)
        };
        &rest[..rest.len().min(most)]
    }

    #[inline]
    pub fn handle_written(&mut self, count: usize) {
        self.written += count;
        debug_assert!(self.written <= self.kept().len());
        let (frames, end) = self.walk(self.boundary, u32::MAX, self.written);
        self.whole = self.whole.wrapping_add(frames);
        self.boundary = end;
    }

    /// The other end has received so many. Says how many bytes are kept no longer.
    pub fn acknowledge(&mut self, received: u32) -> Result<usize, WireError> {
        let frames = received.wrapping_sub(self.first);
        if frames > self.whole.wrapping_sub(self.first) {
            return Err(WireError::BadFrame);
        }
        if frames == 0 {
            return Ok(0);
        }
        self.peak = self.peak.max(self.bytes.len());
        let (_, bytes) = self.walk(0, frames, self.boundary);
        self.first = received;
        self.boundary -= bytes;
        self.written -= bytes;
        self.gone += bytes;
        if self.gone > self.kept().len() {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        Ok(bytes)
    }

    /// Gives memory back of which less than half was used since the last time. Called now and then, so that steady
    /// traffic allocates nothing, and a lane that has fallen silent holds on to nothing.
    pub fn trim(&mut self) {
        let peak = self.peak.max(self.bytes.len());
        if self.bytes.capacity() / 2 > peak {
            self.bytes.shrink_to(peak);
        }
        self.peak = self.bytes.len();
    }

    /// Nothing of what is kept was written, to the connection that comes.
    pub fn rewind(&mut self) {
        self.statistics.resent_frames += u64::from(self.whole.wrapping_sub(self.first));
        self.whole = self.first;
        (self.boundary, self.written) = (0, 0);
    }

    /// Over whole frames, from where one begins: at most so many, and none that ends behind `until`. Says how many
    /// they were, and where the last of them ends.
    #[inline]
    fn walk(&self, from: usize, most: u32, until: usize) -> (u32, usize) {
        let kept = self.kept();
        let until = until.min(kept.len());
        let (mut frames, mut end) = (0, from);
        while frames < most && end < until {
            let Some(&[a, b, c]) = kept[end..until].first_chunk::<LENGTH_BYTES>() else {
                break;
            };
            let next = end + LENGTH_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
            if next > until {
                break;
            }
            (frames, end) = (frames + 1, next);
        }
        (frames, end)
    }

    #[inline]
    fn kept(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(size: usize) -> Vec<u8> {
        let mut frame = (size as u32).to_be_bytes()[1..].to_vec();
        frame.extend((0..size).map(|at| at as u8));
        frame
    }

    fn write(lane: &mut Lane, most: usize) -> Vec<u8> {
        let bytes = lane.unwritten(true).to_vec();
        let bytes = &bytes[..bytes.len().min(most)];
        lane.handle_written(bytes.len());
        bytes.to_vec()
    }

    #[test]
    fn frames_are_told_apart_wherever_the_first_begins() {
        let mut lane = Lane::default();
        let mut expected = Vec::new();
        let (mut out, mut acknowledged) = (Vec::new(), 0);
        for round in 0..1000 {
            let frame = frame(10 + round % 17);
            lane.push(&frame[..3], &[&frame[3..7], &frame[7..]]);
            expected.extend(&frame);
            out.extend(write(&mut lane, 1 + round % 60));
            // All but the last three.
            if lane.whole > acknowledged + 3 {
                acknowledged = lane.whole - 3;
                lane.acknowledge(acknowledged).unwrap();
            }
        }
        while lane.has_more() {
            out.extend(write(&mut lane, usize::MAX));
        }
        assert_eq!(out, expected);
        assert_eq!((lane.whole, lane.has_begun()), (1000, false));
        assert!(
            lane.bytes.capacity() < expected.len() / 10,
            "{}",
            lane.bytes.capacity()
        );
    }

    #[test]
    fn only_what_was_begun_can_be_asked_for() {
        let mut lane = Lane::default();
        for size in [40, 30] {
            lane.push(&frame(size), &[]);
        }
        assert_eq!(write(&mut lane, 5).len(), 5);
        assert!(lane.has_begun());
        assert_eq!(lane.unwritten(false).len(), 43 - 5);
        assert_eq!(lane.unwritten(true).len(), 43 - 5 + 33);
    }

    #[test]
    fn counts_wrap() {
        let mut lane = Lane {
            first: u32::MAX - 1,
            whole: u32::MAX - 1,
            received: u32::MAX,
            ..Lane::default()
        };
        for _ in 0..4 {
            lane.push(&frame(10), &[]);
        }
        write(&mut lane, usize::MAX);
        assert_eq!(lane.whole, 2);
        assert_eq!(lane.acknowledge(3), Err(WireError::BadFrame));
        assert_eq!(lane.acknowledge(u32::MAX - 2), Err(WireError::BadFrame));
        assert_eq!(lane.acknowledge(u32::MAX), Ok(13));
        assert_eq!(lane.acknowledge(1), Ok(26));
        lane.rewind();
        assert_eq!((lane.whole, lane.statistics.resent_frames), (1, 1));
        assert_eq!(write(&mut lane, usize::MAX), frame(10));
        lane.receive(13);
        assert_eq!(lane.received, 0);
    }

    #[test]
    fn a_lane_that_fell_silent_holds_on_to_nothing() {
        let mut lane = Lane::default();
        for acknowledged in [100, 200] {
            for _ in 0..100 {
                lane.push(&frame(10_000), &[]);
            }
            while lane.has_more() {
                write(&mut lane, usize::MAX);
            }
            assert_eq!(lane.acknowledge(acknowledged), Ok(1_000_300));
            lane.trim();
            assert!(lane.bytes.capacity() >= 1_000_300, "it is used");
        }
        lane.push(&frame(10), &[]);
        lane.trim();
        assert!(lane.bytes.capacity() < 1000);
        assert_eq!(write(&mut lane, usize::MAX), frame(10));
        lane.acknowledge(201).unwrap();
        lane.trim();
        lane.trim();
        assert_eq!(lane.bytes.capacity(), 0);
    }
}
