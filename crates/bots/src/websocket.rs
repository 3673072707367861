//! The client's side of WebSocket (RFC 6455), as far as a load needs it: binary messages, and answers to
//! pings. No extension is offered, so that bytes are as they are.

use std::io;
use std::sync::Arc;

/// The example of RFC 6455, 1.3: one key is as good as another where no cache lies between.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The same for every message: a mask guards proxies that take it for HTTP, and there are none.
const MASK: [u8; 4] = [0x9d, 0x31, 0x5e, 0x77];

/// A server's answer to the upgrade is shorter.
const LONGEST_ANSWER: usize = 4096;

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The request that begins a WebSocket to this host and path.
pub fn upgrade(host: &str, path: &str) -> Vec<u8> {
    let path = if path.is_empty() { "/" } else { path };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Appends one binary message.
pub fn message(payload: &[u8], out: &mut Vec<u8>) {
    frame(BINARY, payload, out);
}

fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    let mut words = out[start..].chunks_exact_mut(4);
    for word in &mut words {
        (0..4).for_each(|at| word[at] ^= MASK[at]);
    }
    let rest = words.into_remainder();
    (0..rest.len()).for_each(|at| rest[at] ^= MASK[at]);
}

/// What has come of a connection.
pub struct WebSocket {
    state: State,
    /// A beginning: of the answer, of a frame's head, or of a frame that is not a message's.
    begun: Vec<u8>,
}

enum State {
    /// The request is yet to be sent.
    New(Arc<[u8]>),
    Upgrading,
    /// Before a frame's head.
    Head,
    /// So many bytes of a message are to come.
    Payload(u64),
    /// So many bytes of a ping, a pong or a close.
    Control(u8, usize),
}

impl WebSocket {
    pub fn new(upgrade: Arc<[u8]>) -> WebSocket {
        WebSocket {
            state: State::New(upgrade),
            begun: Vec::new(),
        }
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::New(_) | State::Upgrading)
    }

    /// The request to send, the first time.
    pub fn begin(&mut self) -> Option<Arc<[u8]>> {
        if !matches!(self.state, State::New(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Upgrading) {
            State::New(upgrade) => Some(upgrade),
            _ => None,
        }
    }

    /// Appends what the messages hold to `plain`, and answers to pings to `output`.
    pub fn read(
        &mut self,
        mut input: &[u8],
        plain: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> io::Result<()> {
        while !input.is_empty() {
            match self.state {
                State::New(_) => return Err(wrong("something before it was asked")),
                State::Upgrading => input = self.read_answer(input)?,
                State::Head => input = self.read_head(input)?,
                State::Payload(left) => {
                    let here = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    plain.extend_from_slice(&input[..here]);
                    self.state = match left - here as u64 {
                        0 => State::Head,
                        left => State::Payload(left),
                    };
                    input = &input[here..];
                }
                State::Control(opcode, length) => {
                    let here = input.len().min(length - self.begun.len());
                    self.begun.extend_from_slice(&input[..here]);
                    input = &input[here..];
                    if self.begun.len() == length {
                        self.handle_control(opcode, output)?;
                    }
                }
            }
            // A control frame without payload is whole with its head.
            if let State::Control(opcode, 0) = self.state {
                self.handle_control(opcode, output)?;
            }
        }
        Ok(())
    }

    fn read_answer<'a>(&mut self, input: &'a [u8]) -> io::Result<&'a [u8]> {
        let known = self.begun.len();
        self.begun.extend_from_slice(input);
        let end = self.begun.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            return match self.begun.len() {
                0..=LONGEST_ANSWER => Ok(&[]),
                _ => Err(wrong("an answer that does not end")),
            };
        };
        let answer = String::from_utf8_lossy(&self.begun[..end]).into_owned();
        self.begun.clear();
        if !answer.starts_with("HTTP/1.1 101 ") || !answer.contains(ACCEPT) {
            return Err(wrong(&format!(
                "{:?} for an answer",
                answer.lines().next().unwrap_or_default()
            )));
        }
        self.state = State::Head;
        Ok(&input[end + 4 - known..])
    }

    fn read_head<'a>(&mut self, input: &'a [u8]) -> io::Result<&'a [u8]> {
        // The usual: the whole head is here, and nothing has to be kept.
        let known = self.begun.len();
        let mut kept = [0; 10];
        kept[..known].copy_from_slice(&self.begun);
        let more = input.len().min(kept.len() - known);
        kept[known..known + more].copy_from_slice(&input[..more]);
        let head = &kept[..known + more];
        let Some((opcode, length, used)) = parse_head(head)? else {
            self.begun.extend_from_slice(&input[..more]);
            return Ok(&input[more..]);
        };
        self.begun.clear();
        self.state = match opcode {
            0..=BINARY if length == 0 => State::Head,
            0..=BINARY => State::Payload(length),
            CLOSE | PING | PONG if length <= 125 => State::Control(opcode, length as usize),
            _ => return Err(wrong("a frame of an unknown kind")),
        };
        Ok(&input[used - known..])
    }

    fn handle_control(&mut self, opcode: u8, output: &mut Vec<u8>) -> io::Result<()> {
        self.state = State::Head;
        let payload = std::mem::take(&mut self.begun);
        match opcode {
            CLOSE => Err(io::Error::other(format!(
                "closed by the server{}",
                match payload.first_chunk() {
                    Some(code) => format!(" ({})", u16::from_be_bytes(*code)),
                    None => String::new(),
                }
            ))),
            PING => {
                frame(PONG, &payload, output);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A frame's opcode, the length of its payload and that of its head; `None`: it is not there yet.
fn parse_head(head: &[u8]) -> io::Result<Option<(u8, u64, usize)>> {
    let [first, second, rest @ ..] = head else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(wrong("a frame of an extension that was not offered"));
    }
    let opcode = first & 0x0f;
    Ok(match second {
        0x80.. => return Err(wrong("a masked frame")),
        126 => rest
            .first_chunk()
            .map(|length| (opcode, u64::from(u16::from_be_bytes(*length)), 4)),
        127 => rest
            .first_chunk()
            .map(|length| (opcode, u64::from_be_bytes(*length), 10)),
        length => Some((opcode, u64::from(*length), 2)),
    })
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server sent {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn begun() -> WebSocket {
        let mut socket = WebSocket::new(upgrade("localhost", "").into());
        assert!(socket
            .begin()
            .unwrap()
            .starts_with(b"GET / HTTP/1.1\r\nHost: localhost\r\n"));
        assert!(socket.begin().is_none());
        socket
    }

    #[test]
    fn what_is_sent_is_masked() {
        let mut out = Vec::new();
        message(b"hello", &mut out);
        assert_eq!(&out[..6], &[0x82, 0x85, 0x9d, 0x31, 0x5e, 0x77]);
        let hello: Vec<u8> = (0..5).map(|at| out[6 + at] ^ MASK[at % 4]).collect();
        assert_eq!(hello, b"hello");
        out.clear();
        message(&[0; 300], &mut out);
        assert_eq!(&out[..4], &[0x82, 0xfe, 0x01, 0x2c]);
        out.clear();
        message(&[0; 70_000], &mut out);
        assert_eq!(&out[..10], &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn what_comes_is_read_however_it_was_cut() {
        let mut stream = ANSWER.to_vec();
        stream.extend_from_slice(b"\x82\x02ab\x89\x01p\x89\x00\x02\x01c\x80\x00\x82\x7e\x01\x00");
        stream.extend_from_slice(&[b'd'; 256]);
        for cut in 0..=stream.len() {
            let mut socket = begun();
            let (mut plain, mut output) = (Vec::new(), Vec::new());
            socket
                .read(&stream[..cut], &mut plain, &mut output)
                .unwrap();
            socket
                .read(&stream[cut..], &mut plain, &mut output)
                .unwrap();
            assert!(socket.is_open());
            assert_eq!(plain, [&b"abc"[..], &[b'd'; 256]].concat(), "cut at {cut}");
            assert_eq!(
                output,
                b"\x8a\x81\x9d\x31\x5e\x77\xed\x8a\x80\x9d\x31\x5e\x77"
            );
        }
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        for (wrong, expected) in [
            (&b"\x82\x81abcdx"[..], "masked"),
            (b"\xc2\x01x", "extension"),
            (b"\x83\x01x", "unknown kind"),
            (b"\x88\x02\x03\xe9", "closed by the server (1001)"),
            (b"\x88\x00", "closed by the server"),
        ] {
            let mut socket = begun();
            let stream = [ANSWER, wrong].concat();
            let error = socket
                .read(&stream, &mut Vec::new(), &mut Vec::new())
                .unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let refused = begun().read(
            b"HTTP/1.1 403 Forbidden\r\n\r\n",
            &mut Vec::new(),
            &mut Vec::new(),
        );
        assert!(refused.unwrap_err().to_string().contains("403"));
    }
}
