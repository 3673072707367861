//! What may lie between a socket and the protocol: a PROXY header, TLS, WebSocket, in this order.
//!
//! No IO: [`Layers::read`] takes what the socket gave and appends the protocol's bytes, as if those had
//! been read; [`Layers::write`] appends what the socket is to be given for them. What the layers have to
//! say by themselves (handshakes, pongs, closes) comes out of `read`, too. A connection of plain TCP
//! has no layers at all.

mod certificates;
mod proxy;
mod tls;

pub use certificates::{Certificates, ClientCertificates, LinkTls, Prepared, TlsError};
use photinus_proto::proxy_header;
use photinus_proto::websocket::{self, code, Form, Shared, Status};
pub use proxy::Trusted;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use tls::Tls;

/// What a listener has between its sockets and its protocol.
#[derive(Debug, Default)]
pub struct Door {
    pub tls: bool,
    pub websocket: Option<websocket::Options>,
    /// Balancers that say who their client is.
    pub trusted: Trusted,
}

impl Door {
    /// Nothing ever lies between.
    pub fn is_plain(&self) -> bool {
        !self.tls && self.websocket.is_none() && self.trusted == Trusted::default()
    }

    /// For a connection from this address; `None`: there is nothing between.
    pub fn layers(
        &self,
        address: Option<SocketAddr>,
        certificates: Option<&Arc<rustls::ServerConfig>>,
    ) -> Result<Option<Box<Layers>>, &'static str> {
        let proxy = address.is_some_and(|of| self.trusted.has(of.ip()));
        if !proxy && !self.tls && self.websocket.is_none() {
            return Ok(None);
        }
        let tls = match (self.tls, certificates) {
            (false, _) => None,
            (true, None) => return Err("no-certificate"),
            (true, Some(config)) => Some(Tls::server(config.clone()).map_err(|_| "bad-tls")?),
        };
        Ok(Some(Box::new(Layers {
            proxy: proxy.then(Box::default),
            tls,
            websocket: self.websocket.as_ref().map(websocket::Options::peer),
            failed: false,
        })))
    }
}

/// One connection's.
pub struct Layers {
    proxy: Option<Box<proxy_header::Parser>>,
    tls: Option<Tls>,
    websocket: Option<websocket::Peer>,
    failed: bool,
}

/// Buffers and contexts that all connections of a reactor use in turn.
pub struct Tools {
    websocket: Shared,
    /// There is a secret in what is written now: it is not compressed.
    pub secret: bool,
    /// What TLS has decrypted, for WebSocket.
    decrypted: Vec<u8>,
    /// What WebSocket has written, for TLS.
    framed: Vec<u8>,
}

impl Default for Tools {
    fn default() -> Self {
        Tools {
            websocket: Shared::new(),
            secret: false,
            decrypted: Vec::new(),
            framed: Vec::new(),
        }
    }
}

impl Tools {
    /// How messages are framed now for whoever has this form.
    fn form(&self, form: Form) -> Form {
        match self.secret {
            true => form.without_deflate(),
            false => form,
        }
    }

    /// After a burst.
    pub fn shrink(&mut self) {
        self.decrypted = Vec::new();
        self.framed = Vec::new();
    }
}

/// What came of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// The client has said its last.
    pub ended: bool,
    /// There is more, which needs no bytes of the socket's to come out.
    pub more: bool,
    /// Who the client really is, as a balancer in front of us says.
    pub source: Option<SocketAddr>,
}

impl Layers {
    /// Of a link that this node dials over TLS: the other end's certificate must be for this host.
    pub fn dialling(tls: &LinkTls, host: &str) -> Result<Box<Layers>, &'static str> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| "bad-name")?;
        let tls = Tls::client(tls.dialling.clone(), name).map_err(|_| "bad-tls")?;
        Ok(Box::new(Layers {
            proxy: None,
            tls: Some(tls),
            websocket: None,
            failed: false,
        }))
    }

    /// Everything between is done shaking hands.
    pub fn are_open(&self) -> bool {
        !self.failed
            && self.proxy.is_none()
            && self.tls.as_ref().is_none_or(Tls::is_open)
            && self.websocket.as_ref().is_none_or(websocket::Peer::is_open)
    }

    /// The next bytes may cost a TLS handshake's arithmetic.
    pub fn is_costly(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_open())
    }

    /// Bytes that wait for their rest.
    pub fn held_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, Tls::held_bytes)
            + self.websocket.as_ref().map_or(0, |of| of.held_bytes())
            + self.proxy.as_ref().map_or(0, |of| of.held_bytes())
    }

    /// Something has been begun, and is not whole.
    pub fn are_amid(&self) -> bool {
        self.tls.as_ref().is_some_and(|of| of.held_bytes() > 0)
            || self
                .websocket
                .as_ref()
                .is_some_and(websocket::Peer::is_amid)
    }

    /// A member of a group whose messages are framed so; `None`: not over WebSocket.
    pub fn form(&self) -> Option<Form> {
        self.websocket.as_ref().map(websocket::Peer::form)
    }

    /// Takes all of `input` (which is decrypted in place). The protocol's bytes are appended to `out`, what is to
    /// be written at once to `wire`. The error is a word for the counters; `wire` then holds what is
    /// still to be said, and the connection is to be closed.
    pub fn read(
        &mut self,
        door: &Door,
        tools: &mut Tools,
        input: &mut [u8],
        out: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Passed, &'static str> {
        if self.failed {
            return Err("failed");
        }
        let read = self.pass(door, tools, input, out, wire);
        self.failed |= read.is_err();
        read
    }

    fn pass(
        &mut self,
        door: &Door,
        tools: &mut Tools,
        mut input: &mut [u8],
        out: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Passed, &'static str> {
        let mut passed = Passed::default();
        if let Some(parser) = &mut self.proxy {
            match parser.take(input).map_err(|error| error.reason())? {
                proxy_header::Step::Incomplete => return Ok(passed),
                proxy_header::Step::Done { taken, source } => {
                    passed.source = source;
                    self.proxy = None;
                    input = &mut input[taken..];
                }
            }
        }
        let Some(options) = &door.websocket else {
            match &mut self.tls {
                Some(tls) => passed.ended = tls.read(input, out, wire)?,
                None => out.extend_from_slice(input),
            }
            return Ok(passed);
        };
        let Some(websocket) = &mut self.websocket else {
            return Ok(passed);
        };
        let Some(tls) = &mut self.tls else {
            let step = options
                .decode(websocket, &mut tools.websocket, input, out, wire)
                .map_err(|error| error.reason())?;
            passed.ended = step.status == Status::Closed;
            passed.more = step.more;
            return Ok(passed);
        };
        tools.decrypted.clear();
        tools.framed.clear();
        let ended = tls.read(input, &mut tools.decrypted, wire)?;
        if tools.decrypted.is_empty() && !websocket.is_amid() {
            passed.ended = ended;
            return Ok(passed);
        }
        let step = options.decode(
            websocket,
            &mut tools.websocket,
            &tools.decrypted,
            out,
            &mut tools.framed,
        );
        if !tools.framed.is_empty() {
            tls.write(&tools.framed, wire);
        }
        let step = step.map_err(|error| error.reason())?;
        passed.ended = ended || step.status == Status::Closed;
        passed.more = step.more;
        Ok(passed)
    }

    /// Appends what the socket is to be given for what the protocol says.
    pub fn write(&mut self, door: &Door, tools: &mut Tools, bytes: &[u8], wire: &mut Vec<u8>) {
        let (Some(options), Some(websocket)) = (&door.websocket, &self.websocket) else {
            return self.encrypt(bytes, wire);
        };
        let form = tools.form(websocket.form());
        if self.tls.is_none() {
            return options.encode(form, &mut tools.websocket, bytes, wire);
        }
        let mut framed = std::mem::take(&mut tools.framed);
        framed.clear();
        options.encode(form, &mut tools.websocket, bytes, &mut framed);
        self.encrypt(&framed, wire);
        tools.framed = framed;
    }

    /// The messages of a WebSocket, which all connections of this listener that have the same form may be
    /// sent.
    pub fn frame(door: &Door, form: Form, tools: &mut Tools, bytes: &[u8], framed: &mut Vec<u8>) {
        if let Some(options) = &door.websocket {
            let form = tools.form(form);
            options.encode(form, &mut tools.websocket, bytes, framed);
        }
    }

    /// Appends what has been [framed](Layers::frame), or needs no frame.
    pub fn encrypt(&mut self, bytes: &[u8], wire: &mut Vec<u8>) {
        match &mut self.tls {
            Some(tls) => tls.write(bytes, wire),
            None => wire.extend_from_slice(bytes),
        }
    }

    /// Appends the last that each layer says.
    pub fn close(&mut self, going_away: bool, reason: &str, wire: &mut Vec<u8>) {
        let mut framed = Vec::new();
        if let (Some(websocket), false) = (&mut self.websocket, self.failed) {
            let code = if going_away {
                code::GOING_AWAY
            } else {
                code::POLICY
            };
            websocket.close(code, reason, &mut framed);
        }
        match &mut self.tls {
            Some(tls) => {
                if !framed.is_empty() {
                    tls.write(&framed, wire);
                }
                tls.close(wire);
            }
            None => wire.append(&mut framed),
        }
    }

    /// The client's certificate in DER, if it has shown one.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.peer_certificate()
    }
}
