//! Two ends of a link over a pipe that is cut at any byte: whatever was pushed arrives once, in each lane in its
//! order, and nothing stays behind.

use photinus_proto::bluenet::header::{Header, Kind, Priority, HEADER_BYTES};
use photinus_proto::link::{Link, LinkLimits, Step, Verdict, LANES, LENGTH_BYTES};
use proptest::prelude::*;

const LIMITS: LinkLimits = LinkLimits {
    kept_bytes: 6000,
    max_frame: 700,
    silence_ms: 3000,
    ping_ms: 500,
    ack_bytes: 900,
};

#[derive(Debug, Clone)]
enum Op {
    Push {
        end: usize,
        lane: usize,
        size: usize,
    },
    /// The socket takes at most so many bytes.
    Write {
        end: usize,
        most: usize,
    },
    /// So many bytes of those under way come out at this end.
    Read {
        end: usize,
        most: usize,
    },
    /// Of what is under way to each end so many bytes still come out.
    Cut {
        most: [usize; 2],
    },
    Reconnect,
    Pass {
        ms: u64,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let end = 0..2usize;
    let op = prop_oneof![
        6 => (end.clone(), 0..LANES, 0..680usize)
            .prop_map(|(end, lane, size)| Op::Push { end, lane, size }),
        6 => (end.clone(), prop_oneof![1..20usize, 1..3000usize])
            .prop_map(|(end, most)| Op::Write { end, most }),
        6 => (end, prop_oneof![1..20usize, 1..3000usize])
            .prop_map(|(end, most)| Op::Read { end, most }),
        1 => [0..1500usize, 0..1500].prop_map(|most| Op::Cut { most }),
        2 => Just(Op::Reconnect),
        1 => (0..700u64).prop_map(|ms| Op::Pass { ms }),
    ];
    prop::collection::vec(op, 0..200)
}

struct End {
    link: Link,
    /// Came out of the pipe, and is no whole frame yet.
    input: Vec<u8>,
    /// On its way to this end.
    coming: Vec<u8>,
    /// What the other end has pushed for it and has not come, by lanes.
    due: [std::collections::VecDeque<Vec<u8>>; LANES],
    arrived: u32,
}

struct Pair {
    ends: [End; 2],
    now_ms: u64,
    connected: bool,
    pushed: u32,
}

impl Pair {
    fn new() -> Pair {
        let end = || End {
            link: Link::new(LIMITS, 0),
            input: Vec::new(),
            coming: Vec::new(),
            due: Default::default(),
            arrived: 0,
        };
        Pair {
            ends: [end(), end()],
            now_ms: 0,
            connected: false,
            pushed: 0,
        }
    }

    fn carry_out(&mut self, op: &Op) {
        match *op {
            Op::Push { end, lane, size } => {
                self.pushed += 1;
                let mut payload = vec![lane as u8; size];
                let number = self.pushed.to_be_bytes();
                payload.iter_mut().zip(number).for_each(|(at, of)| *at = of);
                let header = Header::new(Kind::Session, Priority::ALL[lane], size as u32, 7);
                let (one, other) = payload.split_at(size / 3);
                if self.ends[end].link.push(header, &[one, other]).is_ok() {
                    self.ends[1 - end].due[lane].push_back(payload);
                }
                assert!(self.ends[end].link.kept() <= LIMITS.kept_bytes);
            }
            Op::Write { end, most } => {
                self.write(end, most);
            }
            Op::Read { end, most } => self.read(end, most),
            Op::Cut { most } if self.connected => {
                for (end, most) in most.into_iter().enumerate() {
                    self.read(end, most);
                    let of = &mut self.ends[end];
                    of.link.handle_cut(self.now_ms);
                    of.input.clear();
                    of.coming.clear();
                }
                self.connected = false;
            }
            Op::Cut { .. } => {}
            Op::Reconnect => {
                if !self.connected {
                    let received = [0, 1].map(|end: usize| self.ends[end].link.received());
                    for end in 0..2 {
                        let of = &mut self.ends[end].link;
                        of.handle_connected(received[1 - end], self.now_ms).unwrap();
                    }
                    self.connected = true;
                }
            }
            Op::Pass { ms } => {
                self.now_ms += ms;
                for end in 0..2 {
                    let of = &mut self.ends[end].link;
                    let next = of.next_ms().unwrap();
                    let verdict = of.handle_timeout(self.now_ms);
                    assert!(next <= self.now_ms || verdict == Verdict::Fine);
                }
            }
        }
    }

    /// Says how many bytes there were.
    fn write(&mut self, end: usize, most: usize) -> usize {
        let link = &mut self.ends[end].link;
        let bytes = link.poll_write(self.now_ms);
        let count = bytes.len().min(most);
        let bytes = bytes[..count].to_vec();
        link.handle_written(count);
        assert!(self.connected || count == 0);
        self.ends[1 - end].coming.extend(bytes);
        count
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
                    assert_eq!(due.as_deref(), Some(&input[payload.clone()]));
                    assert_eq!(header.destination as usize, payload.len());
                    assert_eq!(payload, LENGTH_BYTES + HEADER_BYTES..consumed);
                    of.arrived += 1;
                    at += consumed;
                }
            }
        }
        of.input.drain(..at);
    }

    /// Until everything is there, and both know it.
    fn settle(&mut self) {
        self.carry_out(&Op::Reconnect);
        // Two pings: one says what came, the other is answered behind what was written meanwhile.
        for _ in 0..3 {
            self.carry_out(&Op::Pass { ms: LIMITS.ping_ms });
            while self.write(0, usize::MAX) + self.write(1, usize::MAX) > 0 {
                self.read(0, usize::MAX);
                self.read(1, usize::MAX);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn everything_arrives_once_and_in_order(ops in ops()) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.carry_out(op);
        }
        pair.settle();
        for end in &pair.ends {
            assert_eq!(end.link.kept(), 0);
            assert!(end.input.is_empty() && end.due.iter().all(|due| due.is_empty()));
            let statistics = end.link.statistics();
            let received = statistics.lanes.iter().map(|lane| lane.received_frames);
            assert_eq!(received.sum::<u64>(), u64::from(end.arrived));
        }
        let [one, other] = pair.ends.map(|end| end.link.statistics());
        for lane in 0..LANES {
            let (pushed, came) = (one.lanes[lane], other.lanes[lane]);
            assert_eq!(
                (pushed.pushed_frames, pushed.pushed_bytes),
                (came.received_frames, came.received_bytes)
            );
        }
        assert_eq!(one.cuts, other.cuts);
    }
}
