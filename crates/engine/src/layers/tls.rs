//! TLS, the server's side and, on links that this node dials, the client's: rustls without buffers of its own,
//! so that an idle connection owns none.
//!
//! rustls remembers positions in what it was given and has not let go of. So it is given exactly that
//! with every call ([`Tls::held`]), also to write; and after an error nothing is asked of it any more.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use std::sync::Arc;

/// A record's most plaintext.
const RECORD_BYTES: usize = 16 << 10;
/// What a record takes beyond its plaintext, in TLS 1.3 and 1.2.
const RECORD_OVERHEAD: usize = 64;
/// The beginning of a record, or of a handshake message in several of them: rustls takes none that is
/// longer than 64 KiB.
const HELD_LIMIT: usize = (64 << 10) + 2 * RECORD_BYTES;

pub struct Tls {
    end: End,
    /// What has come of a record that is not whole, or of a handshake message in several of them.
    held: Vec<u8>,
    ended: bool,
    failed: bool,
}

/// Boxed: a WebSocket or a PROXY header alone should not pay for it.
enum End {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What both ends of rustls do, each under a type of its own.
trait Records {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Tls {
    pub fn server(config: Arc<rustls::ServerConfig>) -> Result<Tls, rustls::Error> {
        let connection = Box::new(UnbufferedServerConnection::new(config)?);
        Ok(Tls::of(End::Server(connection)))
    }

    /// Speaks first: what it says comes out of a `read` of nothing.
    pub fn client(
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Tls, rustls::Error> {
        let connection = Box::new(UnbufferedClientConnection::new(config, name)?);
        Ok(Tls::of(End::Client(connection)))
    }

    fn of(end: End) -> Tls {
        Tls {
            end,
            held: Vec::new(),
            ended: false,
            failed: false,
        }
    }

    pub fn is_open(&self) -> bool {
        !match &self.end {
            End::Server(of) => of.is_handshaking(),
            End::Client(of) => of.is_handshaking(),
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let certificates = match &self.end {
            End::Server(of) => of.peer_certificates(),
            End::Client(of) => of.peer_certificates(),
        };
        Some(certificates?.first()?)
    }

    /// Takes all of `input`. `true`: the peer has said that nothing more will come.
    pub fn read(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<bool, &'static str> {
        if self.failed {
            return Err("bad-tls");
        }
        let mut held = std::mem::take(&mut self.held);
        let processed = if held.is_empty() {
            let processed = self.take(input, out, wire);
            if let Ok(taken) = processed {
                held.extend_from_slice(&input[taken..]);
            }
            processed
        } else {
            held.extend_from_slice(input);
            let processed = self.take(&mut held, out, wire);
            held.drain(..processed.unwrap_or(0));
            processed
        };
        if processed.is_err() || held.len() > HELD_LIMIT {
            self.failed = true;
            return Err("bad-tls");
        }
        if !held.is_empty() {
            self.held = held;
        }
        Ok(self.ended)
    }

    fn take(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, &'static str> {
        match &mut self.end {
            End::Server(of) => take(&mut **of, &mut self.ended, input, out, wire),
            End::Client(of) => take(&mut **of, &mut self.ended, input, out, wire),
        }
    }

    /// Appends the records of these bytes; nothing before the handshake is done.
    pub fn write(&mut self, bytes: &[u8], wire: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        let held = &mut self.held;
        self.ended |= match &mut self.end {
            End::Server(of) => write(&mut **of, held, bytes, wire),
            End::Client(of) => write(&mut **of, held, bytes, wire),
        };
    }

    /// Appends the word that nothing more will come.
    pub fn close(&mut self, wire: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        match &mut self.end {
            End::Server(of) => close(&mut **of, &mut self.held, wire),
            End::Client(of) => close(&mut **of, &mut self.held, wire),
        }
    }
}

/// How many bytes it has taken. Sets `ended` once the peer has said its last.
fn take(
    end: &mut impl Records,
    ended: &mut bool,
    input: &mut [u8],
    out: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> Result<usize, &'static str> {
    let mut taken = 0;
    loop {
        let status = end.process(&mut input[taken..]);
        let mut discard = status.discard;
        let mut done = false;
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(|_| "bad-tls")?;
                    discard += record.discard;
                    out.extend_from_slice(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(wire, RECORD_BYTES, |room| match data.encode(room) {
                    Ok(count) => Ok(count),
                    Err(EncodeError::InsufficientSize(of)) => Err(of.required_size),
                    // Each is encoded once.
                    Err(EncodeError::AlreadyEncoded) => Ok(0),
                });
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                *ended = true;
                done = true;
            }
            // Early data is not offered.
            Ok(_) => done = true,
            Err(_) => {
                say_alert(end, &mut input[taken + discard..], wire);
                return Err("bad-tls");
            }
        }
        taken += discard;
        if done {
            // What is behind a close is not looked at.
            return Ok(if *ended { input.len() } else { taken });
        }
    }
}

/// After an error rustls may have an alert to be sent. `rest` is what it has not let go of.
fn say_alert(end: &mut impl Records, rest: &mut [u8], wire: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = end.process(rest).state {
        append(wire, RECORD_OVERHEAD, |room| match data.encode(room) {
            Ok(count) => Ok(count),
            Err(EncodeError::InsufficientSize(of)) => Err(of.required_size),
            Err(EncodeError::AlreadyEncoded) => Ok(0),
        });
    }
}

/// `true`: the peer has said its last.
fn write(end: &mut impl Records, held: &mut [u8], bytes: &[u8], wire: &mut Vec<u8>) -> bool {
    let records = bytes.len() / RECORD_BYTES + 1;
    let most = bytes.len() + records * RECORD_OVERHEAD;
    let mut ended = false;
    loop {
        match end.process(held).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                append(wire, most, |room| match traffic.encrypt(bytes, room) {
                    Ok(count) => Ok(count),
                    Err(EncryptError::InsufficientSize(of)) => Err(of.required_size),
                    // After 2^64 records.
                    Err(EncryptError::EncryptExhausted) => Ok(0),
                });
                return ended;
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(wire, RECORD_OVERHEAD, |room| match data.encode(room) {
                    Ok(count) => Ok(count),
                    Err(EncodeError::InsufficientSize(of)) => Err(of.required_size),
                    Err(EncodeError::AlreadyEncoded) => Ok(0),
                });
            }
            Ok(ConnectionState::PeerClosed) => ended = true,
            _ => return ended,
        }
    }
}

fn close(end: &mut impl Records, held: &mut [u8], wire: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = end.process(held).state {
        append(wire, RECORD_OVERHEAD, |room| {
            match traffic.queue_close_notify(room) {
                Ok(count) => Ok(count),
                Err(EncryptError::InsufficientSize(of)) => Err(of.required_size),
                Err(EncryptError::EncryptExhausted) => Ok(0),
            }
        });
    }
}

/// Has `fill` write to the end of `wire`; it says how many bytes it wrote, or how many it needs.
fn append(
    wire: &mut Vec<u8>,
    expected: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, usize>,
) {
    let start = wire.len();
    let mut room = expected;
    loop {
        wire.resize(start + room, 0);
        match fill(&mut wire[start..]) {
            Ok(count) => return wire.truncate(start + count),
            Err(needed) => room = needed,
        }
    }
}
