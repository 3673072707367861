//! TLS from a bare loop over rustls: accept, shake hands, give back what comes, close when the client has.
//! No sessions, limits, time-outs or threads: the floor that a server's handshakes are compared with.
//!
//! Prints `ready tls://HOST:PORT`; the end of stdin, SIGTERM or SIGINT ends it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Protocol, Socket, Type};

use crate::control::{self, Control, SAID};

const LISTENER: Token = Token(usize::MAX - 1);

/// As many as servers let wait that mean to take many.
const BACKLOG: i32 = 4096;

#[derive(Args)]
pub struct Options {
    /// PEM file: the server's certificate, and behind it those between it and its authority
    #[arg(long)]
    certificate: PathBuf,
    /// PEM file: its private key
    #[arg(long)]
    key: PathBuf,
}

pub fn run(options: &Options) -> io::Result<()> {
    let config = server_config(&options.certificate, &options.key)?;
    let mut poll = Poll::new()?;
    let control = control::listen(poll.registry())?;
    let mut listener = listen()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("ready tls://{}", listener.local_addr()?);

    let mut served: Vec<Option<Served>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut input = vec![0; 64 * 1024];
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
                LISTENER => loop {
                    let mut stream = match listener.accept() {
                        Ok((stream, _)) => stream,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        // The client has gone again.
                        Err(_) => continue,
                    };
                    let index = free.pop().unwrap_or(served.len());
                    if index == served.len() {
                        served.push(None);
                    }
                    stream.set_nodelay(true)?;
                    poll.registry().register(
                        &mut stream,
                        Token(index),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    let tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                    served[index] = Some(Served { stream, tls });
                },
                Token(index) => {
                    let Some(connection) = served.get_mut(index).and_then(Option::as_mut) else {
                        continue;
                    };
                    // Whatever was wrong, it was the client's, and it is gone.
                    if !matches!(connection.serve(&mut input), Ok(true)) {
                        served[index] = None;
                        free.push(index);
                    }
                }
            }
        }
    }
}

struct Served {
    stream: TcpStream,
    tls: ServerConnection,
}

impl Served {
    /// Reads, answers and writes what the socket takes; `false` when the client has closed.
    fn serve(&mut self, input: &mut [u8]) -> io::Result<bool> {
        let mut goes_on = true;
        loop {
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => goes_on = false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let mut here = state.plaintext_bytes_to_read();
            while here > 0 {
                let count = self.tls.reader().read(input)?;
                self.tls.writer().write_all(&input[..count])?;
                here -= count;
            }
            if state.peer_has_closed() {
                self.tls.send_close_notify();
                goes_on = false;
            }
            if !goes_on {
                break;
            }
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                outcome => outcome?,
            };
        }
        Ok(goes_on)
    }
}

/// At a free port of loopback.
pub fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Versions, ciphers and tickets as Photinus has them.
pub fn server_config(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let certificates = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| wrong(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, secret)
        .map_err(|error| wrong(certificate, &error))?;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    fs::read(file).map_err(|error| wrong(file, &error))
}

fn wrong(file: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", file.display()))
}
