#![no_main]
//! Two ends of a link, against the plainest of models: queues of what was pushed. Their pipe is cut at any byte. Then one of
//! them hears whatever there is, and what it makes of that depends on no cut.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::Stream;
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority, HEADER_BYTES};
use photinus_proto::error::WireError;
use photinus_proto::link::{Link, LinkLimits, Step, Verdict, LANES, LENGTH_BYTES};
use std::collections::VecDeque;

#[derive(Debug, Arbitrary)]
struct Input {
    kept_bytes: u16,
    max_frame: u16,
    ack_bytes: u16,
    ops: Vec<Op>,
    heard: Stream,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Push {
        end: bool,
        first: u8,
        flags: u8,
        destination: u32,
        size: u16,
    },
    Write {
        end: bool,
        most: u16,
    },
    Read {
        end: bool,
        most: u16,
    },
    /// So much of what is under way to either end still comes out.
    Cut {
        most: [u16; 2],
    },
    Reconnect,
    Pass {
        ms: u16,
    },
}

struct End {
    link: Link,
    input: Vec<u8>,
    coming: Vec<u8>,
    due: [VecDeque<(Header, usize)>; LANES],
}

struct Pair {
    limits: LinkLimits,
    ends: [End; 2],
    now_ms: u64,
    connected: bool,
}

fuzz_target!(|input: Input| {
    let limits = LinkLimits {
        kept_bytes: usize::from(input.kept_bytes),
        max_frame: usize::from(input.max_frame),
        silence_ms: 3000,
        ping_ms: 500,
        ack_bytes: usize::from(input.ack_bytes),
    };
    let end = || End {
        link: Link::new(limits, 0),
        input: Vec::new(),
        coming: Vec::new(),
        due: Default::default(),
    };
    let mut pair = Pair {
        limits,
        ends: [end(), end()],
        now_ms: 0,
        connected: false,
    };
    for op in &input.ops {
        pair.carry_out(op);
    }
    pair.settle();
    for end in &pair.ends {
        assert_eq!(end.link.kept(), 0);
        assert!(end.input.is_empty() && end.due.iter().all(VecDeque::is_empty));
    }
    hear(limits, &input.heard);
});

impl Pair {
    fn carry_out(&mut self, op: &Op) {
        match *op {
            Op::Push {
                end,
                first,
                flags,
                destination,
                size,
            } => {
                let header = Header {
                    kind: Kind::ALL[usize::from(first >> 5)],
                    hops: first >> 3 & 3,
                    priority: Priority::ALL[usize::from(first >> 1 & 3)],
                    ext: first & 1 != 0,
                    flags: Flags::from_bits(flags & 31).unwrap(),
                    destination,
                    source: 1,
                };
                let size = usize::from(size);
                let payload = vec![size as u8; size];
                let before = self.ends[usize::from(end)].link.kept();
                let link = &mut self.ends[usize::from(end)].link;
                let pushed = link.push(header, &[&payload[..size / 2], &payload[size / 2..]]);
                let cost = if pushed.is_ok() {
                    LENGTH_BYTES + HEADER_BYTES + size
                } else {
                    0
                };
                assert_eq!(link.kept(), before + cost);
                assert!(link.kept() <= self.limits.kept_bytes);
                assert!(pushed.is_err() || size <= link.max_payload());
                if pushed.is_ok() {
                    let lane = header.priority as usize;
                    self.ends[usize::from(!end)].due[lane].push_back((header, size));
                }
            }
            Op::Write { end, most } => {
                self.write(usize::from(end), usize::from(most));
            }
            Op::Read { end, most } => self.read(usize::from(end), usize::from(most)),
            Op::Cut { most } => {
                for (end, most) in most.into_iter().enumerate() {
                    self.read(end, usize::from(most));
                    let of = &mut self.ends[end];
                    of.link.handle_cut(self.now_ms);
                    of.input.clear();
                    of.coming.clear();
                }
                self.connected = false;
            }
            Op::Reconnect if !self.connected => {
                let received = [0, 1].map(|end: usize| self.ends[end].link.received());
                for end in 0..2 {
                    let link = &mut self.ends[end].link;
                    link.handle_connected(received[1 - end], self.now_ms)
                        .unwrap();
                }
                self.connected = true;
            }
            Op::Reconnect => {}
            Op::Pass { ms } => {
                self.now_ms += u64::from(ms);
                for end in &mut self.ends {
                    let next = end.link.next_ms().unwrap();
                    let verdict = end.link.handle_timeout(self.now_ms);
                    assert!(next <= self.now_ms || verdict == Verdict::Fine);
                    assert!(verdict != Verdict::Lost || !self.connected);
                }
            }
        }
    }

    /// Says how many bytes there were.
    fn write(&mut self, end: usize, most: usize) -> usize {
        let link = &mut self.ends[end].link;
        let bytes = link.poll_write(self.now_ms);
        let bytes = bytes[..bytes.len().min(most)].to_vec();
        link.handle_written(bytes.len());
        assert!(self.connected || bytes.is_empty());
        self.ends[1 - end].coming.extend(&bytes);
        bytes.len()
    }

    fn read(&mut self, end: usize, most: usize) {
        let of = &mut self.ends[end];
        let count = of.coming.len().min(most);
        of.input.extend(of.coming.drain(..count));
        let mut at = 0;
        loop {
            let input = &of.input[at..];
            match of.link.handle_bytes(input, self.now_ms).unwrap() {
                Step::Incomplete { need } => {
                    assert!(need > input.len());
                    break;
                }
                Step::Own { consumed } => at += consumed,
                Step::Frame {
                    consumed,
                    header,
                    payload,
                } => {
                    let due = of.due[header.priority as usize].pop_front();
                    assert_eq!(due, Some((header, payload.len())));
                    assert!(input[payload.clone()]
                        .iter()
                        .all(|byte| *byte == payload.len() as u8));
                    at += consumed;
                }
            }
        }
        of.input.drain(..at);
    }

    fn settle(&mut self) {
        self.carry_out(&Op::Reconnect);
        for _ in 0..3 {
            self.carry_out(&Op::Pass { ms: 500 });
            while self.write(0, usize::MAX) + self.write(1, usize::MAX) > 0 {
                self.read(0, usize::MAX);
                self.read(1, usize::MAX);
            }
        }
    }
}

/// An end that has sent three frames of each lane hears this.
fn hear(limits: LinkLimits, stream: &Stream) {
    let whole = drive(limits, &stream.bytes, &[]);
    let pieces: Vec<usize> = stream
        .pieces
        .iter()
        .map(|piece| usize::from(*piece))
        .collect();
    assert_eq!(drive(limits, &stream.bytes, &pieces), whole);
}

fn drive(limits: LinkLimits, bytes: &[u8], pieces: &[usize]) -> (Vec<Step>, Option<WireError>) {
    let limits = LinkLimits {
        kept_bytes: 1 << 20,
        ..limits
    };
    let mut link = Link::new(limits, 0);
    link.handle_connected([0; LANES], 0).unwrap();
    for priority in [0, 1, 2].into_iter().flat_map(|_| Priority::ALL) {
        link.push(Header::new(Kind::App, priority, 1, 1), &[])
            .unwrap();
    }
    loop {
        let count = link.poll_write(0).len();
        if count == 0 {
            break;
        }
        link.handle_written(count);
    }
    let mut steps = Vec::new();
    let (mut start, mut come) = (0, 0);
    for piece in pieces.iter().copied().chain([bytes.len()]) {
        come = bytes.len().min(come + piece);
        loop {
            let input = &bytes[start..come];
            let step = match link.handle_bytes(input, 0) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(link.handle_bytes(&[], 0), Err(error));
                    assert_eq!(link.poll_write(0), []);
                    assert_eq!(link.handle_timeout(0), Verdict::Lost);
                    return (steps, Some(error));
                }
            };
            match &step {
                Step::Incomplete { need } => {
                    assert!(*need > input.len());
                    assert!(*need <= LENGTH_BYTES + limits.max_frame.max(35));
                    break;
                }
                Step::Own { consumed } => start += consumed,
                Step::Frame {
                    consumed, payload, ..
                } => {
                    assert_eq!(*payload, LENGTH_BYTES + HEADER_BYTES..*consumed);
                    start += consumed;
                }
            }
            assert!(start <= come);
            steps.push(step);
        }
    }
    // What it says for itself is bounded, whatever was asked.
    assert!(link.poll_write(0).len() <= 2 * (LENGTH_BYTES + 35));
    (steps, None)
}
