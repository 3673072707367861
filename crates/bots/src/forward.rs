//! A bare native proxy: TLS and zlib towards clients, one plain connection to what is behind it (frames of
//! [`crate::link`]). No sessions, limits, heartbeats, acknowledgements or threads: the floor that a
//! proxy with the same encryption and compression is compared with.
//!
//! A client's payload begins with a byte that tells its kind, which stays as it is; what is behind it is compressed if
//! it has at least 256 bytes with that byte and becomes shorter. All that goes to one connection in one turn is one
//! write, and one record. Prints `ready tls://HOST:PORT`; the end of stdin, SIGTERM or SIGINT ends it.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::Args;
use flate2::{Compress, Compression, FlushCompress, Status};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConnection;

use crate::ask::Inflater;
use crate::control::{self, Control, SAID};
use crate::lane::LONGEST_FRAME;
use crate::link::{self, CAME, CLIENT_HEAD, NOTICE, TO_LIST, TO_ONE};
use crate::{bare, connect};

const LISTENER: Token = Token(usize::MAX - 1);
const UPSTREAM: Token = Token(usize::MAX - 2);

/// The least payload worth compressing, as Photinus has it.
const THRESHOLD: usize = 256;

/// What a zlib stream begins with at any level (RFC 1950, 2.2).
const ZLIB: u8 = 0x78;

const READ_SIZE: usize = 256 * 1024;

/// A client that has gone, as those behind are told.
const GONE: u8 = b'C';

#[derive(Args)]
pub struct Options {
    /// What is behind it, as HOST:PORT or tcp://HOST:PORT
    #[arg(long)]
    upstream: String,
    /// PEM file: the server's certificate; without it clients speak plain TCP
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM file: its private key
    #[arg(long)]
    key: Option<PathBuf>,
    /// Compress with zlib, and inflate
    #[arg(long)]
    compress: bool,
}

pub fn run(options: &Options) -> io::Result<()> {
    let config = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => Some(bare::server_config(certificate, key)?),
        _ => None,
    };
    connect::allow_all_descriptors()?;
    let mut poll = Poll::new()?;
    let control = control::listen(poll.registry())?;
    let mut stream = connect::open_one(connect::resolve(&options.upstream)?.address, 0)?;
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut stream, UPSTREAM, both)?;
    let mut proxy = Proxy::new(Pipe::new(stream), options.compress);
    let mut listener = bare::listen()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let scheme = if config.is_some() { "tls" } else { "tcp" };
    println!("ready {scheme}://{}", listener.local_addr()?);

    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
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
                LISTENER => accept(&listener, |mut stream| {
                    let index = proxy.free();
                    let registry = poll.registry();
                    registry.register(&mut stream, Token(index), both)?;
                    let tls = config.clone().map(ServerConnection::new).transpose();
                    proxy.admit(index, Pipe::new(stream), tls.map_err(io::Error::other)?);
                    Ok(())
                })?,
                UPSTREAM => {
                    if !proxy.read_upstream()? {
                        return Err(io::Error::other("the upstream is gone"));
                    }
                }
                Token(index) => proxy.read_client(index),
            }
        }
        proxy.write_all()?;
    }
}

fn accept(
    listener: &TcpListener,
    mut admit: impl FnMut(TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true)?;
                admit(stream)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The client has gone again.
            Err(_) => {}
        }
    }
}

/// A socket, and what waits for it.
struct Pipe {
    stream: TcpStream,
    waiting: Vec<u8>,
}

impl Pipe {
    fn new(stream: TcpStream) -> Pipe {
        Pipe {
            stream,
            waiting: Vec::new(),
        }
    }

    /// Writes what waits, as much as the socket takes.
    fn write(&mut self) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.waiting.len() {
            match self.stream.write(&self.waiting[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.waiting.drain(..taken);
        Ok(())
    }
}

struct Client {
    pipe: Pipe,
    tls: Option<ServerConnection>,
    /// A frame's beginning whose rest has not come.
    begun: Vec<u8>,
    /// Frames that go to it at the end of the turn.
    out: Vec<u8>,
    touched: bool,
}

struct Proxy {
    upstream: Pipe,
    begun: Vec<u8>,
    clients: Vec<Option<Client>>,
    vacant: Vec<usize>,
    touched: Vec<usize>,
    compressor: Option<Compressor>,
    inflater: Inflater,
    input: Box<[u8]>,
    plain: Vec<u8>,
}

impl Proxy {
    fn new(upstream: Pipe, compress: bool) -> Proxy {
        Proxy {
            upstream,
            begun: Vec::new(),
            clients: Vec::new(),
            vacant: Vec::new(),
            touched: Vec::new(),
            compressor: compress.then(Compressor::new),
            inflater: Inflater::new(),
            input: vec![0; READ_SIZE].into_boxed_slice(),
            plain: Vec::new(),
        }
    }

    fn free(&mut self) -> usize {
        self.vacant.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        })
    }

    fn admit(&mut self, index: usize, pipe: Pipe, tls: Option<ServerConnection>) {
        self.clients[index] = Some(Client {
            pipe,
            tls,
            begun: Vec::new(),
            out: Vec::new(),
            touched: false,
        });
        self.notice(index, CAME);
    }

    fn notice(&mut self, index: usize, what: u8) {
        link::append(
            NOTICE,
            0,
            index as u32,
            &[&[what]],
            &mut self.upstream.waiting,
        );
    }

    fn read_client(&mut self, index: usize) {
        // Whatever was wrong, it was the client's, and it is gone.
        if !matches!(self.try_client(index), Ok(true)) && self.clients[index].take().is_some() {
            self.vacant.push(index);
            self.notice(index, GONE);
        }
    }

    /// `false` when the client has left.
    fn try_client(&mut self, index: usize) -> io::Result<bool> {
        let Some(client) = self.clients[index].as_mut() else {
            return Ok(false);
        };
        loop {
            self.plain.clear();
            self.plain.append(&mut client.begun);
            let count = match client.pipe.stream.read(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            let goes_on = client.take(&self.input[..count], &mut self.plain)?;
            let mut at = 0;
            while let Some(payload) = client_payload(&self.plain[at..])? {
                at += CLIENT_HEAD + payload.len();
                let out = &mut self.upstream.waiting;
                match (payload.get(1), &self.compressor) {
                    (Some(&ZLIB), Some(_)) => {
                        let inflated = self.inflater.inflate(&payload[1..])?;
                        link::append(TO_ONE, 0, index as u32, &[&payload[..1], inflated], out);
                    }
                    _ => link::append(TO_ONE, 0, index as u32, &[payload], out),
                }
            }
            client.begun.extend_from_slice(&self.plain[at..]);
            // Edge-triggered: a read that does not fill the buffer has emptied the socket.
            if count < self.input.len() || !goes_on {
                if client.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
                    touch(client, index, &mut self.touched);
                }
                client.pipe.write()?;
                return Ok(goes_on);
            }
        }
    }

    fn read_upstream(&mut self) -> io::Result<bool> {
        loop {
            let count = match self.upstream.stream.read(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            self.plain.clear();
            self.plain.append(&mut self.begun);
            self.plain.extend_from_slice(&self.input[..count]);
            let mut at = 0;
            while let Some(length) = link::measure(&self.plain[at..])? {
                let Some(frame) = self.plain.get(at..at + length) else {
                    break;
                };
                at += length;
                let frame = link::parse(frame);
                let split = match frame.kind {
                    TO_LIST => link::split_list(frame.payload),
                    _ => None,
                };
                let payload = split.as_ref().map_or(frame.payload, |(_, payload)| payload);
                let packed;
                let parts: &[&[u8]] = match &mut self.compressor {
                    Some(compressor) if payload.len() >= THRESHOLD => {
                        packed = [&payload[..1], compressor.deflate(&payload[1..])?];
                        &packed
                    }
                    _ => &[payload],
                };
                match split {
                    None => deliver(
                        &mut self.clients,
                        frame.destination,
                        parts,
                        &mut self.touched,
                    ),
                    Some((listed, _)) => listed.for_each(|each| {
                        deliver(&mut self.clients, each, parts, &mut self.touched);
                    }),
                }
            }
            self.begun.extend_from_slice(&self.plain[at..]);
            if count < self.input.len() {
                return Ok(true);
            }
        }
    }

    /// One write a connection.
    fn write_all(&mut self) -> io::Result<()> {
        for index in std::mem::take(&mut self.touched) {
            let Some(client) = self.clients[index].as_mut() else {
                continue;
            };
            client.touched = false;
            if client.write().is_err() {
                self.clients[index] = None;
                self.vacant.push(index);
                self.notice(index, GONE);
            }
        }
        self.upstream.write()
    }
}

impl Client {
    /// Appends what this input is, decrypted; `false` when the client says goodbye.
    fn take(&mut self, mut input: &[u8], plain: &mut Vec<u8>) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(input);
            return Ok(true);
        };
        while !input.is_empty() {
            tls.read_tls(&mut input)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain[start..])?;
            if state.peer_has_closed() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.pipe.waiting.append(&mut self.out);
            return self.pipe.write();
        };
        tls.writer().write_all(&self.out)?;
        self.out.clear();
        while tls.wants_write() {
            tls.write_tls(&mut self.pipe.waiting)?;
        }
        self.pipe.write()
    }
}

fn deliver(
    clients: &mut [Option<Client>],
    destination: u32,
    payload: &[&[u8]],
    touched: &mut Vec<usize>,
) {
    let index = destination as usize;
    // It may have gone meanwhile.
    if let Some(client) = clients.get_mut(index).and_then(Option::as_mut) {
        link::append_client(payload, &mut client.out);
        touch(client, index, touched);
    }
}

fn touch(client: &mut Client, index: usize, touched: &mut Vec<usize>) {
    if !client.touched {
        client.touched = true;
        touched.push(index);
    }
}

/// That of the whole frame which `input` begins with.
fn client_payload(input: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = input.split_first_chunk::<CLIENT_HEAD>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    match length > LONGEST_FRAME {
        true => Err(io::Error::other("a frame that is too long came")),
        false => Ok(rest.get(..length)),
    }
}

struct Compressor {
    zlib: Compress,
    output: Vec<u8>,
}

impl Compressor {
    /// The level of Photinus.
    fn new() -> Compressor {
        Compressor {
            zlib: Compress::new(Compression::fast(), true),
            output: Vec::new(),
        }
    }

    /// The input as a zlib stream, or as it is if that is not longer.
    fn deflate<'a>(&'a mut self, input: &'a [u8]) -> io::Result<&'a [u8]> {
        self.zlib.reset();
        self.output.clear();
        self.output.reserve(input.len());
        let status = self
            .zlib
            .compress_vec(input, &mut self.output, FlushCompress::Finish)?;
        match status == Status::StreamEnd && self.output.len() < input.len() {
            true => Ok(&self.output),
            false => Ok(input),
        }
    }
}
