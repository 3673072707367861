//! What lies between a socket and the frames, from the client's side: TLS, WebSocket, both, one in the other.
//!
//! No IO. Order of calls: [`Door::write`] with nothing, for what begins the handshake; [`Door::read`] with
//! all that comes; [`Door::write`] whenever: what is written before [`Door::is_open`] waits in the door.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::lane::Measure;
use crate::websocket::WebSocket;

/// What all connections to one server have in common.
#[derive(Clone)]
pub struct Way {
    tls: Option<Arc<ClientConfig>>,
    /// The request that begins a WebSocket.
    upgrade: Option<Arc<[u8]>>,
    /// Whether frames that are written at once share a WebSocket message.
    pub joins_messages: bool,
}

impl Way {
    /// `websocket` is where to: the authority and the path.
    pub fn new(tls: bool, websocket: Option<(&str, &str)>) -> io::Result<Way> {
        Ok(Way {
            tls: tls.then(client_config).transpose()?,
            upgrade: websocket.map(|(host, path)| crate::websocket::upgrade(host, path).into()),
            joins_messages: false,
        })
    }
}

/// One connection's.
pub struct Door {
    tls: Option<ClientConnection>,
    websocket: Option<WebSocket>,
    joins_messages: bool,
    /// What was written before the handshakes were done.
    early: Vec<u8>,
}

impl Door {
    /// `None` where nothing lies between.
    pub fn new(way: &Way) -> io::Result<Option<Box<Door>>> {
        if way.tls.is_none() && way.upgrade.is_none() {
            return Ok(None);
        }
        let tls = match &way.tls {
            None => None,
            Some(config) => Some(begin_tls(config)?),
        };
        Ok(Some(Box::new(Door {
            tls,
            websocket: way.upgrade.clone().map(WebSocket::new),
            joins_messages: way.joins_messages,
            early: Vec::new(),
        })))
    }

    /// Whether all handshakes are done.
    pub fn is_open(&self) -> bool {
        self.tls_is_open() && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    fn tls_is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Appends to `output` what the socket is to be given for these frames.
    pub fn write(
        &mut self,
        frames: &[u8],
        measure: Measure,
        output: &mut Vec<u8>,
    ) -> io::Result<()> {
        if !self.is_open() {
            self.early.extend_from_slice(frames);
            return self.go_on(output);
        }
        match &mut self.websocket {
            None => self.encrypt(frames, output),
            Some(_) => {
                let mut messages = Vec::with_capacity(frames.len() * 2);
                let mut rest = frames;
                while !rest.is_empty() {
                    let length = match self.joins_messages {
                        true => rest.len(),
                        false => measure(rest)?.unwrap_or(rest.len()),
                    };
                    let (message, others) = rest.split_at(length.min(rest.len()));
                    crate::websocket::message(message, &mut messages);
                    rest = others;
                }
                self.encrypt(&messages, output)
            }
        }
    }

    /// Takes what the socket gave, appends the frames' bytes to `plain` and what is to be said by itself
    /// to `output`.
    pub fn read(
        &mut self,
        input: &[u8],
        plain: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> io::Result<()> {
        let was_open = self.is_open();
        let mut pongs = Vec::new();
        match (&mut self.tls, &mut self.websocket) {
            (None, None) => plain.extend_from_slice(input),
            (None, Some(websocket)) => websocket.read(input, plain, &mut pongs)?,
            (Some(tls), None) => decrypt(tls, input, plain)?,
            (Some(tls), Some(websocket)) => {
                let mut messages = Vec::new();
                decrypt(tls, input, &mut messages)?;
                websocket.read(&messages, plain, &mut pongs)?;
            }
        }
        if !pongs.is_empty() {
            self.encrypt(&pongs, output)?;
        }
        if !was_open || self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            self.go_on(output)?;
        }
        Ok(())
    }

    /// The next step of the handshakes, and after the last one what waited for it.
    fn go_on(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        if self.tls_is_open() {
            if let Some(upgrade) = self.websocket.as_mut().and_then(WebSocket::begin) {
                self.encrypt(&upgrade, output)?;
            }
        }
        self.encrypt(&[], output)?;
        if self.is_open() && !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            // Written as one: where its frames begin and end is forgotten.
            return self.write(&early, |_| Ok(None), output);
        }
        Ok(())
    }

    fn encrypt(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            output.extend_from_slice(bytes);
            return Ok(());
        };
        // All that is written at once is in as few records as hold it.
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(output)?;
        }
        Ok(())
    }
}

fn decrypt(tls: &mut ClientConnection, mut input: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    while !input.is_empty() {
        tls.read_tls(&mut input)?;
        let state = tls
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let start = plain.len();
        plain.resize(start + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut plain[start..])?;
        if state.peer_has_closed() {
            return Err(io::Error::other("closed by the server"));
        }
    }
    Ok(())
}

pub fn begin_tls(config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    let name = ServerName::try_from("localhost").expect("a constant that is a name");
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    tls.set_buffer_limit(None);
    Ok(tls)
}

/// Every handshake is a full one, and the server's certificate is not looked at: its own costs are what is
/// measured, and a load that verifies has less of its CPU left for loading.
pub fn client_config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trusting = Arc::new(Trusting(
        provider
            .signature_verification_algorithms
            .supported_schemes(),
    ));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(trusting)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Takes every certificate.
#[derive(Debug)]
struct Trusting(Vec<SignatureScheme>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
