//! TLS, the server's side: rustls without buffers of its own, so that an idle connection owns none.

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
    /// What has come of a record that is not whole.
    held: Vec<u8>,
    ended: bool,
}

impl Tls {
    pub fn new(config: Arc<rustls::ServerConfig>) -> Result<Tls, rustls::Error> {
        Ok(Tls {
            connection: Box::new(UnbufferedServerConnection::new(config)?),
            held: Vec::new(),
            ended: false,
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
        if self.held.is_empty() {
            let taken = self.process(input, out, wire)?;
            if taken < input.len() {
                self.held.extend_from_slice(&input[taken..]);
            }
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(input);
            let taken = self.process(&mut held, out, wire)?;
            held.drain(..taken);
            if !held.is_empty() {
                self.held = held;
            }
        }
        if self.held.len() > HELD_LIMIT {
            return Err("bad-tls");
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
                    self.say_alert(wire);
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

    /// After an error rustls has an alert to be sent.
    fn say_alert(&mut self, wire: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.connection.process_tls_records(&mut []).state
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
        let records = bytes.len() / RECORD_BYTES + 1;
        let most = bytes.len() + records * RECORD_OVERHEAD;
        loop {
            match self.connection.process_tls_records(&mut []).state {
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
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.connection.process_tls_records(&mut []).state
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
