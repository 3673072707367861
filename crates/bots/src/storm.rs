//! Full TLS handshakes, one after the other on each of some connections: what newcomers in great numbers
//! cost a server, and what those who are in feel of them.
//!
//! A handshake counts when the server has closed after it: so both have done all of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::{ClientConfig, ClientConnection};
use serde_json::{json, Map, Value};
use socket2::SockRef;

use crate::door;

/// Steps of handshakes between two looks at the echoes: each takes this thread some 100 us.
const STEPS: usize = 1;

/// More failures than this, and the server is not one to be measured.
const MOST_FAILURES: u64 = 1000;

pub struct Storm {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    poll: Poll,
    events: Events,
    shakes: Vec<Shake>,
    from: u64,
    until: u64,
    done: u64,
    failed: u64,
    first_error: Option<String>,
}

/// One handshake.
struct Shake {
    stream: TcpStream,
    tls: ClientConnection,
    /// Whether the client has said goodbye.
    left: bool,
}

impl Storm {
    pub fn begin(address: SocketAddr, in_flight: usize) -> io::Result<Storm> {
        let (poll, config) = (Poll::new()?, door::client_config()?);
        let shakes = (0..in_flight)
            .map(|index| Shake::begin(address, &config, &poll, index))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Storm {
            address,
            config,
            poll,
            events: Events::with_capacity(STEPS),
            shakes,
            from: u64::MAX,
            until: u64::MAX,
            done: 0,
            failed: 0,
            first_error: None,
        })
    }

    /// Those that end in this time are counted.
    pub fn count(&mut self, from: u64, until: u64) {
        (self.from, self.until) = (from, until);
        (self.done, self.failed) = (0, 0);
    }

    /// A step or none, without waiting.
    pub fn turn(&mut self, now: u64) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let index = event.token().0;
            let counts = u64::from((self.from..self.until).contains(&now));
            match self.shakes[index].step() {
                Ok(false) => continue,
                Ok(true) => self.done += counts,
                Err(error) => {
                    self.failed += counts;
                    self.first_error.get_or_insert_with(|| error.to_string());
                }
            }
            if self.failed > MOST_FAILURES {
                let why = self.first_error.as_deref().unwrap_or_default();
                return Err(io::Error::other(format!("handshakes fail: {why}")));
            }
            self.shakes[index].end();
            self.shakes[index] = Shake::begin(self.address, &self.config, &self.poll, index)?;
        }
        Ok(())
    }

    pub fn report(&self, seconds: f64, into: &mut Map<String, Value>) {
        let rate = (self.done as f64 / seconds).round();
        into.insert("handshakes".into(), json!(self.done));
        into.insert("handshakes_per_s".into(), json!(rate));
        into.insert("handshakes_failed".into(), json!(self.failed));
        into.insert("first_handshake_error".into(), json!(self.first_error));
    }
}

impl Shake {
    fn begin(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        poll: &Poll,
        index: usize,
    ) -> io::Result<Shake> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        poll.registry().register(
            &mut stream,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        Ok(Shake {
            stream,
            tls: door::begin_tls(config)?,
            left: false,
        })
    }

    /// Goes on as far as it can; whether it is over.
    fn step(&mut self) -> io::Result<bool> {
        loop {
            if !self.tls.is_handshaking() && !self.left {
                self.tls.send_close_notify();
                self.left = true;
            }
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.stream) {
                    Err(error) if is_early(&error) => return Ok(false),
                    outcome => outcome?,
                };
            }
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) if self.left => return Ok(true),
                Ok(0) => return Err(io::Error::other("the server closed in the handshake")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // It was not connected yet, or it was closed by a reset after the goodbye.
                Err(error) if is_early(&error) => return Ok(false),
                Err(_) if self.left => return Ok(true),
                Err(error) => return Err(error),
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            if state.peer_has_closed() {
                return Ok(self.left);
            }
        }
    }

    /// Leaves no port in TIME_WAIT: there are some 28,000 of them, and a storm would have them all.
    fn end(&self) {
        // It cannot fail on an open socket, and if it did the next handshakes would tell.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}
