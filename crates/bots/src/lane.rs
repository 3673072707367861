//! Connections under load: one poller, one reading buffer, and for each connection only what is
//! unfinished, in either direction.
//!
//! Order of calls: [`Lanes::open`], which comes back when the handshakes of TLS and WebSocket are done;
//! then [`Lanes::wait`] and, for each event, [`Lanes::read`], which hands out whole frames;
//! [`Lanes::write`] whenever. A connection that fails is closed and its error kept, once; whoever reads
//! or writes it later finds it closed, until it is opened again ([`Lanes::reopen`]).

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::connect::{self, Target};
use crate::door::Door;

/// One read takes all that a socket's default receive buffer holds.
const READ_SIZE: usize = 256 * 1024;

/// A longer frame is an error of the server's: nothing here asks for one.
pub const LONGEST_FRAME: usize = READ_SIZE / 2;

/// What may wait for a socket that takes nothing, a connection. Far above what any load has in
/// flight, so that reaching it means a server that reads no more.
const MOST_WAITING: usize = 8 * 1024 * 1024;

/// Handshakes of TLS and WebSocket that are begun before those begun earlier are waited for: far below what
/// a server takes for an attack, and enough that it never waits for the load.
const HANDSHAKES_AT_ONCE: usize = 256;

/// A handshake that takes longer will not be done.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);

/// Nanoseconds since the load began: half the size of an `Instant`, and one is kept a packet.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    #[inline]
    pub fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Tells a frame's whole length from its beginning: `None` if that is not there yet.
pub type Measure = fn(&[u8]) -> io::Result<Option<usize>>;

/// The frames of `length4`.
pub fn length4(input: &[u8]) -> io::Result<Option<usize>> {
    let Some(header) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    Ok(Some(4 + u32::from_be_bytes(*header) as usize))
}

struct Lane {
    stream: TcpStream,
    door: Option<Box<Door>>,
    open: bool,
    /// A frame's beginning whose rest has not come.
    begun: Vec<u8>,
    /// What the socket did not take.
    waiting: Vec<u8>,
}

/// What all connections use in turn.
struct Tools {
    input: Box<[u8]>,
    /// The frames' bytes, where a door has made them out of the input.
    plain: Vec<u8>,
    /// What goes to a socket.
    output: Vec<u8>,
}

pub struct Lanes {
    /// The connections are spread over them, in turn.
    targets: Vec<Target>,
    poll: Poll,
    lanes: Vec<Lane>,
    tools: Tools,
    measure: Measure,
    pub lost: usize,
    pub first_error: Option<String>,
}

impl Lanes {
    pub fn open(target: &Target, count: usize, measure: Measure) -> io::Result<Lanes> {
        Lanes::open_on(std::slice::from_ref(target), count, measure)
    }

    /// As [`Lanes::open`], on several servers.
    pub fn open_on(targets: &[Target], count: usize, measure: Measure) -> io::Result<Lanes> {
        let mut lanes = Lanes {
            targets: targets.to_vec(),
            poll: Poll::new()?,
            lanes: Vec::with_capacity(count),
            tools: Tools {
                input: vec![0; READ_SIZE].into_boxed_slice(),
                plain: Vec::new(),
                output: Vec::new(),
            },
            measure,
            lost: 0,
            first_error: None,
        };
        let mut ready = 0;
        let addresses = |index: usize| targets[index % targets.len()].address;
        connect::open_all(addresses, count, |index, stream| {
            let lane = lanes.lane(index, stream)?;
            lanes.lanes.push(lane);
            lanes.write(index, &[]);
            if index + 1 - ready >= HANDSHAKES_AT_ONCE {
                lanes.shake_hands(ready)?;
                ready = index + 1;
            }
            Ok(())
        })?;
        lanes.shake_hands(ready)?;
        Ok(lanes)
    }

    /// Opens a connection that was closed, anew, or the one that is the next; what is written before its
    /// handshakes are done is sent after them.
    pub fn reopen(&mut self, index: usize) -> io::Result<()> {
        let stream = connect::open_one(self.target(index).address, index)?;
        let lane = self.lane(index, stream)?;
        match self.lanes.get_mut(index) {
            Some(closed) => *closed = lane,
            None => self.lanes.push(lane),
        }
        self.write(index, &[]);
        Ok(())
    }

    fn target(&self, index: usize) -> &Target {
        &self.targets[index % self.targets.len()]
    }

    fn lane(&self, index: usize, mut stream: TcpStream) -> io::Result<Lane> {
        let registry = self.poll.registry();
        registry.register(&mut stream, Token(index), Interest::READABLE)?;
        Ok(Lane {
            stream,
            door: self.target(index).door()?,
            open: true,
            begun: Vec::new(),
            waiting: Vec::new(),
        })
    }

    /// Waits until all connections from this one on are through their doors.
    fn shake_hands(&mut self, from: usize) -> io::Result<()> {
        let end = Instant::now() + HANDSHAKE_PATIENCE;
        let mut events = Events::with_capacity(HANDSHAKES_AT_ONCE);
        while let Some(at) = (from..self.len())
            .rev()
            .find(|&index| !self.is_through(index))
        {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("connection {}: the handshake did not end", at + 1);
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            self.wait(&mut events, Some(left))?;
            for event in &events {
                self.read(event, |_| Err(io::Error::other("a frame came unasked for")));
            }
            if let Some(error) = &self.first_error {
                return Err(io::Error::other(error.clone()));
            }
        }
        Ok(())
    }

    /// Whether its handshakes are done.
    pub fn is_through(&self, index: usize) -> bool {
        let door = self.lanes[index].door.as_ref();
        door.is_none_or(|door| door.is_open())
    }

    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    pub fn is_open(&self, index: usize) -> bool {
        self.lanes[index].open
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for events; a signal in between is no error.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Serves one event of a connection: writes what waited, reads what is there, and calls `frame`
    /// for each whole frame, which says no by an error.
    pub fn read(&mut self, event: &Event, mut frame: impl FnMut(&[u8]) -> io::Result<()>) {
        let index = event.token().0;
        if event.is_writable() {
            self.write(index, &[]);
        }
        let lane = &mut self.lanes[index];
        if !lane.open {
            return;
        }
        // Edge-triggered: unless the end has been announced, a read that does not fill the buffer
        // has emptied the socket, and asking again would cost a system call a packet.
        let to_the_end = event.is_read_closed() || event.is_error();
        let outcome = lane.read(&mut self.tools, self.measure, to_the_end, &mut frame);
        if let Err(error) = outcome {
            self.fail(index, &error);
        } else if !self.tools.output.is_empty() {
            self.send_output(index);
        }
    }

    /// Sends `bytes`, or keeps what the socket does not take until it does.
    pub fn write(&mut self, index: usize, bytes: &[u8]) {
        let lane = &mut self.lanes[index];
        if !lane.open {
            return;
        }
        let Some(door) = &mut lane.door else {
            if let Err(error) = lane.write(bytes, Token(index), self.poll.registry()) {
                self.fail(index, &error);
            }
            return;
        };
        self.tools.output.clear();
        match door.write(bytes, self.measure, &mut self.tools.output) {
            Ok(()) => self.send_output(index),
            Err(error) => self.fail(index, &error),
        }
    }

    /// Gives the socket what a door has made.
    fn send_output(&mut self, index: usize) {
        let Lanes {
            poll, tools, lanes, ..
        } = self;
        if let Err(error) = lanes[index].write(&tools.output, Token(index), poll.registry()) {
            self.fail(index, &error);
        }
        self.tools.output.clear();
    }

    /// Bytes that the connection's socket has not taken yet.
    pub fn waiting(&self, index: usize) -> usize {
        self.lanes[index].waiting.len()
    }

    pub fn fail(&mut self, index: usize, error: &io::Error) {
        self.lost += 1;
        self.first_error
            .get_or_insert_with(|| format!("connection {}: {error}", index + 1));
        self.close(index);
    }

    pub fn close(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        lane.open = false;
        lane.door = None;
        lane.begun = Vec::new();
        lane.waiting = Vec::new();
        // An error means that it is closed already.
        let _ = self.poll.registry().deregister(&mut lane.stream);
        let _ = lane.stream.shutdown(Shutdown::Both);
    }
}

impl Lane {
    /// What a door has to say by itself is left in `tools.output`.
    fn read(
        &mut self,
        tools: &mut Tools,
        measure: Measure,
        to_the_end: bool,
        frame: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        tools.output.clear();
        loop {
            // A door keeps its own beginnings; those of frames come before what it makes.
            let kept = if self.door.is_none() {
                self.begun.len()
            } else {
                0
            };
            tools.input[..kept].copy_from_slice(&self.begun[..kept]);
            let space = tools.input.len() - kept;
            let count = match self.stream.read(&mut tools.input[kept..]) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let came = match &mut self.door {
                None => &tools.input[..kept + count],
                Some(door) => {
                    tools.plain.clear();
                    tools.plain.append(&mut self.begun);
                    door.read(&tools.input[..count], &mut tools.plain, &mut tools.output)?;
                    &tools.plain
                }
            };
            self.begun.clear();
            let used = split(came, measure, frame)?;
            self.begun.extend_from_slice(&came[used..]);
            if count < space && !to_the_end {
                return Ok(());
            }
        }
    }

    fn write(&mut self, bytes: &[u8], token: Token, registry: &Registry) -> io::Result<()> {
        let was_waiting = !self.waiting.is_empty();
        let mut rest = bytes;
        if was_waiting {
            self.waiting.extend_from_slice(bytes);
            let taken = send(&mut self.stream, &self.waiting)?;
            self.waiting.drain(..taken);
        } else {
            let taken = send(&mut self.stream, rest)?;
            rest = &rest[taken..];
            self.waiting.extend_from_slice(rest);
        }
        if self.waiting.len() > MOST_WAITING {
            return Err(io::Error::other("the server has stopped reading"));
        }
        let waits = !self.waiting.is_empty();
        if waits != was_waiting {
            let interest = match waits {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            registry.reregister(&mut self.stream, token, interest)?;
        }
        Ok(())
    }
}

/// Calls `frame` for every whole frame in `input`; how many bytes they took.
fn split(
    input: &[u8],
    measure: Measure,
    frame: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<usize> {
    let mut at = 0;
    while let Some(length) = measure(&input[at..])? {
        if length > LONGEST_FRAME {
            return Err(io::Error::other(format!("a frame of {length} bytes came")));
        }
        let Some(whole) = input.get(at..at + length) else {
            break;
        };
        frame(whole)?;
        at += length;
    }
    Ok(at)
}

/// Writes until all is taken or the socket takes no more; how many bytes it took.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_at_any_cut() {
        let mut stream = Vec::new();
        for payload in ["", "a", "hello"] {
            stream.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            stream.extend_from_slice(payload.as_bytes());
        }
        for cut in 0..=stream.len() {
            let mut seen = Vec::new();
            let mut collect = |frame: &[u8]| {
                seen.push(frame[4..].to_vec());
                Ok(())
            };
            let used = split(&stream[..cut], length4, &mut collect).unwrap();
            let rest = &stream[used..];
            assert_eq!(split(rest, length4, &mut collect).unwrap(), rest.len());
            assert_eq!(seen, [&b""[..], b"a", b"hello"], "cut at {cut}");
        }
    }

    #[test]
    fn an_over_long_frame_is_refused_before_it_has_come() {
        let error = split(&[0xff; 8], length4, &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("4294967299 bytes"), "{error}");
    }

    #[test]
    fn a_server_is_written_to_read_from_and_missed() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = connect::resolve(&server.local_addr().unwrap().to_string()).unwrap();
        let mut lanes = Lanes::open(&target, 1, length4).unwrap();
        let (mut peer, _) = server.accept().unwrap();
        lanes.write(0, &[0, 0, 0, 1, 7]);
        let mut echo = [0; 5];
        peer.read_exact(&mut echo).unwrap();
        peer.write_all(&echo).unwrap();
        drop(peer);
        let mut frames = Vec::new();
        let mut events = Events::with_capacity(8);
        while lanes.is_open(0) {
            lanes.wait(&mut events, None).unwrap();
            for event in &events {
                lanes.read(event, |frame| {
                    frames.push(frame.to_vec());
                    Ok(())
                });
            }
        }
        assert_eq!(frames, [[0, 0, 0, 1, 7]]);
        let error = lanes.first_error.unwrap();
        assert!(
            error.contains("connection 1: closed by the server"),
            "{error}"
        );
        assert_eq!(lanes.lost, 1);
    }
}
