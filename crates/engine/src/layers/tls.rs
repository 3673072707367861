//! TLS, the server's side: rustls without buffers of its own, so that an idle connection owns none.
//!
//! rustls remembers positions in what it was given and has not let go of. So it is given exactly that
//! with every call ([`Tls::held`]), also to write; and after an error nothing is asked of it any more.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};
use std::sync::Arc;

/// A record's most plaintext.
const RECORD_BYTES: usize = 16 << 10;
/// What a record takes beyond its plaintext, in TLS 1.3 and 1.2.
const RECORD_OVERHEAD: usize = 64;
/// The beginning of a record, or of a handshake message in several of them: rustls takes none that is
/// longer than 64 KiB.
const HELD_LIMIT: usize = (64 << 10) + 2 * RECORD_BYTES;

pub struct Tls {
    /// Boxed: a WebSocket or a PROXY header alone should not pay for it.
    connection: Box<UnbufferedServerConnection>,
    /// What has come of a record that is not whole, or of a handshake message in several of them.
    held: Vec<u8>,
    ended: bool,
    failed: bool,
}

impl Tls {
    pub fn new(config: Arc<rustls::ServerConfig>) -> Result<Tls, rustls::Error> {
        Ok(Tls {
            connection: Box::new(UnbufferedServerConnection::new(config)?),
            held: Vec::new(),
            ended: false,
            failed: false,
        })
    }

    pub fn is_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    pub fn peer_certificate(&self) -> Option<&[u8]> {
        Some(self.connection.peer_certificates()?.first()?)
    }

    /// Takes all of `input`. `true`: the client has said that nothing more will come.
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
            let processed = self.process(input, out, wire);
            if let Ok(taken) = processed {
                held.extend_from_slice(&input[taken..]);
            }
            processed
        } else {
            held.extend_from_slice(input);
            let processed = self.process(&mut held, out, wire);
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

    /// How many bytes it has taken.
    fn process(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, &'static str> {
        let mut taken = 0;
        loop {
            let status = self.connection.process_tls_records(&mut input[taken..]);
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
                    self.ended = true;
                    done = true;
                }
                // Early data is not offered.
                Ok(_) => done = true,
                Err(_) => {
                    self.say_alert(&mut input[taken + discard..], wire);
                    return Err("bad-tls");
                }
            }
            taken += discard;
            if done {
                // What is behind a close is not looked at.
                return Ok(if self.ended { input.len() } else { taken });
            }
        }
    }

    /// After an error rustls may have an alert to be sent. `rest` is what it has not let go of.
    fn say_alert(&mut self, rest: &mut [u8], wire: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.connection.process_tls_records(rest).state
        {
            append(wire, RECORD_OVERHEAD, |room| match data.encode(room) {
                Ok(count) => Ok(count),
                Err(EncodeError::InsufficientSize(of)) => Err(of.required_size),
                Err(EncodeError::AlreadyEncoded) => Ok(0),
            });
        }
    }

    /// Appends the records of these bytes; nothing before the handshake is done.
    pub fn write(&mut self, bytes: &[u8], wire: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        let records = bytes.len() / RECORD_BYTES + 1;
        let most = bytes.len() + records * RECORD_OVERHEAD;
        loop {
            match self.connection.process_tls_records(&mut self.held).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return append(wire, most, |room| match traffic.encrypt(bytes, room) {
                        Ok(count) => Ok(count),
                        Err(EncryptError::InsufficientSize(of)) => Err(of.required_size),
                        // After 2^64 records.
                        Err(EncryptError::EncryptExhausted) => Ok(0),
                    });
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(wire, RECORD_OVERHEAD, |room| match data.encode(room) {
                        Ok(count) => Ok(count),
                        Err(EncodeError::InsufficientSize(of)) => Err(of.required_size),
                        Err(EncodeError::AlreadyEncoded) => Ok(0),
                    });
                }
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                _ => return,
            }
        }
    }

    /// Appends the word that nothing more will come.
    pub fn close(&mut self, wire: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.connection.process_tls_records(&mut self.held).state
        {
            append(wire, RECORD_OVERHEAD, |room| {
                match traffic.queue_close_notify(room) {
                    Ok(count) => Ok(count),
                    Err(EncryptError::InsufficientSize(of)) => Err(of.required_size),
                    Err(EncryptError::EncryptExhausted) => Ok(0),
                }
            });
        }
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
