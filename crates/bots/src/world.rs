//! The world behind a proxy, as cheap as it can be, for the proxies that are compared (frames of [`crate::link`]): it sends
//! every client a bundle ten times a second, answers what is asked with some 600 bytes of JSON, and tells
//! the fifty in a room what one of them says.
//!
//! Prints `ready tcp://HOST:PORT`; the end of stdin, SIGTERM or SIGINT ends it, and so does its proxy's leaving.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock::monotonic;
use crate::control::{self, Control, SAID};
use crate::link::{self, CAME, NOTICE, TO_ONE};
use crate::traffic::{self, Kind, BUNDLE_BYTES, BUNDLE_EVERY, ROOM};
use crate::{bare, usage};

const LISTENER: Token = Token(usize::MAX - 1);
const PROXY: Token = Token(0);

/// Bundles are spread over so many moments of their interval.
const MOMENTS: usize = 20;

const READ_SIZE: usize = 256 * 1024;

#[derive(Args)]
pub struct Options {
    /// What answers hold: each line of this file a value of JSON, in turn
    #[arg(long)]
    answers: PathBuf,
    /// Run on this CPU only
    #[arg(long)]
    cpu: Option<usize>,
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    let mut poll = Poll::new()?;
    let control = control::listen(poll.registry())?;
    let mut listener = bare::listen()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("ready tcp://{}", listener.local_addr()?);

    let mut world = World::new(options)?;
    let mut events = Events::with_capacity(64);
    let mut proxy: Option<Proxy> = None;
    loop {
        let wait = Duration::from_nanos(world.next_at.saturating_sub(monotonic()));
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                SAID => {
                    if control.try_iter().any(|said| matches!(said, Control::Stop)) {
                        return Ok(());
                    }
                }
                LISTENER => {
                    let (mut stream, _) = listener.accept()?;
                    stream.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, PROXY, interest)?;
                    proxy = Some(Proxy::new(stream));
                }
                _ => {
                    if let Some(proxy) = &mut proxy {
                        if !proxy.read(&mut world)? {
                            return Ok(());
                        }
                    }
                }
            }
        }
        world.send_bundles(monotonic());
        if let Some(proxy) = &mut proxy {
            proxy.write(&mut world.out)?;
        }
    }
}

/// The connection that everybody comes through.
struct Proxy {
    stream: TcpStream,
    input: Vec<u8>,
    begun: usize,
}

impl Proxy {
    fn new(stream: TcpStream) -> Proxy {
        Proxy {
            stream,
            input: vec![0; 2 * READ_SIZE],
            begun: 0,
        }
    }

    /// Takes all that has come; `false` when the proxy has left.
    fn read(&mut self, world: &mut World) -> io::Result<bool> {
        loop {
            let end = self.begun + READ_SIZE;
            let count = match self.stream.read(&mut self.input[self.begun..end]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.begun + count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            };
            let now = monotonic();
            let mut at = 0;
            while let Some(length) = link::measure(&self.input[at..count])? {
                if length > READ_SIZE {
                    return Err(io::Error::other(format!("a frame of {length} bytes came")));
                }
                let Some(frame) = self.input[..count].get(at..at + length) else {
                    break;
                };
                world.hear(&link::parse(frame), now)?;
                at += length;
            }
            self.input.copy_within(at..count, 0);
            self.begun = count - at;
        }
    }

    /// Writes what the socket takes; the rest stays.
    fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut taken = 0;
        while taken < out.len() {
            match self.stream.write(&out[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.drain(..taken);
        Ok(())
    }
}

struct User {
    room: usize,
    moment: usize,
}

struct World {
    answers: Vec<String>,
    users: HashMap<u32, User>,
    rooms: Vec<Vec<u32>>,
    /// Who gets a bundle at which moment, with the sequence of the next.
    moments: Vec<Vec<(u32, u32)>>,
    moment: usize,
    next_at: u64,
    /// What goes to the proxy at the end of the turn.
    out: Vec<u8>,
    body: Vec<u8>,
}

impl World {
    fn new(options: &Options) -> io::Result<World> {
        let place = options.answers.display();
        let text = fs::read_to_string(&options.answers)
            .map_err(|error| io::Error::new(error.kind(), format!("--answers {place}: {error}")))?;
        let answers: Vec<String> = text.lines().map(str::to_owned).collect();
        if answers.is_empty() {
            return Err(io::Error::other(format!("--answers {place}: no line")));
        }
        Ok(World {
            answers,
            users: HashMap::new(),
            rooms: Vec::new(),
            moments: vec![Vec::new(); MOMENTS],
            moment: 0,
            next_at: monotonic(),
            out: Vec::new(),
            body: Vec::new(),
        })
    }

    fn hear(&mut self, frame: &link::Frame<'_>, now: u64) -> io::Result<()> {
        let handle = frame.source;
        if frame.kind == NOTICE {
            match frame.payload.first() {
                Some(&CAME) => self.let_in(handle),
                _ => self.let_go(handle),
            }
            return Ok(());
        }
        let Some((&kind, body)) = frame.payload.split_first() else {
            return Err(io::Error::other("an empty message came"));
        };
        match Kind::of_byte(kind)? {
            Kind::Move => {
                traffic::read(body, traffic::MOVE_BYTES)?;
            }
            Kind::Ask => {
                let (_, sequence) = traffic::read(body, traffic::ASK_BYTES)?;
                let of = &self.answers[sequence as usize % self.answers.len()];
                self.body.clear();
                traffic::append_answer(sequence, now, monotonic(), of, &mut self.body);
                let parts = [&[Kind::Answer as u8][..], &self.body];
                link::append(TO_ONE, handle, 0, &parts, &mut self.out);
            }
            Kind::Say => {
                traffic::read(body, traffic::SAY_BYTES)?;
                if let Some(user) = self.users.get(&handle) {
                    self.body.clear();
                    self.body.push(Kind::Said as u8);
                    self.body.extend_from_slice(body);
                    link::append_list(&self.rooms[user.room], &self.body, &mut self.out);
                }
            }
            kind => return Err(io::Error::other(format!("a user said {kind:?}"))),
        }
        Ok(())
    }

    fn let_in(&mut self, handle: u32) {
        let room = match self.rooms.iter().position(|room| room.len() < ROOM) {
            Some(room) => room,
            None => {
                self.rooms.push(Vec::with_capacity(ROOM));
                self.rooms.len() - 1
            }
        };
        self.rooms[room].push(handle);
        let fewest = (0..MOMENTS).min_by_key(|moment| self.moments[*moment].len());
        let moment = fewest.expect("there are moments");
        self.moments[moment].push((handle, 0));
        self.users.insert(handle, User { room, moment });
    }

    fn let_go(&mut self, handle: u32) {
        if let Some(user) = self.users.remove(&handle) {
            self.rooms[user.room].retain(|each| *each != handle);
            self.moments[user.moment].retain(|(each, _)| *each != handle);
        }
    }

    /// Those that are due by now.
    fn send_bundles(&mut self, now: u64) {
        while self.next_at <= now {
            for (handle, sequence) in &mut self.moments[self.moment] {
                self.body.clear();
                self.body.push(Kind::Bundle as u8);
                traffic::append(monotonic(), *sequence, BUNDLE_BYTES, &mut self.body);
                *sequence = sequence.wrapping_add(1);
                link::append(TO_ONE, *handle, 0, &[&self.body], &mut self.out);
            }
            self.moment = (self.moment + 1) % MOMENTS;
            self.next_at += BUNDLE_EVERY / MOMENTS as u64;
        }
    }
}
