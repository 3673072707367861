//! The PROXY protocol, versions 1 and 2 (7; HAProxy's `proxy-protocol.txt`): who the client is, said
//! by the load balancer in front of us. Whom to believe is the caller's to decide: anyone can write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::WireError;

/// The longest line of version 1 (2.1: "the buffer of 108 bytes is always enough", with a NUL).
const LINE_LIMIT: usize = 107;
/// Version 2 with all of its TLVs (2.2): what every network carries in one segment.
const BINARY_LIMIT: usize = 536;

const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, and a big-endian u16 that counts the rest.
const BINARY_HEAD: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Reads the header of one connection, however it is cut. It owns no memory once that is done.
#[derive(Debug, Default)]
pub struct Parser {
    held: Vec<u8>,
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All of the input has been taken, and there is more to come.
    Incomplete,
    /// The header ends behind the first `taken` bytes of the input. `source` is the client's address;
    /// `None` if the balancer does not say (it speaks for itself, a health check, or its client has
    /// no address of the internet): then it is that of the connection.
    Done {
        taken: usize,
        source: Option<SocketAddr>,
    },
}

impl Parser {
    pub fn new() -> Parser {
        Parser::default()
    }

    /// Bytes that it holds, for whoever bounds those of all connections.
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// To be called until it is done, or fails; it then fails for good.
    pub fn take(&mut self, input: &[u8]) -> Result<Step, WireError> {
        if self.failed {
            return Err(WireError::BadProxyHeader);
        }
        let before = self.held.len();
        let room = BINARY_LIMIT - before;
        self.held.extend_from_slice(&input[..input.len().min(room)]);
        match parse(&self.held) {
            Some(Found::Incomplete) => Ok(Step::Incomplete),
            Some(Found::Whole(length, source)) => {
                self.held = Vec::new();
                let taken = length - before;
                Ok(Step::Done { taken, source })
            }
            None => {
                self.held = Vec::new();
                self.failed = true;
                Err(WireError::BadProxyHeader)
            }
        }
    }
}

enum Found {
    Incomplete,
    Whole(usize, Option<SocketAddr>),
}

/// `None`: this is no header, whatever comes behind it.
fn parse(input: &[u8]) -> Option<Found> {
    if begins(input, LINE_START) {
        parse_line(input)
    } else if begins(input, SIGNATURE) {
        parse_binary(input)
    } else {
        None
    }
}

/// As far as it has come, or `start` goes.
fn begins(input: &[u8], start: &[u8]) -> bool {
    input.iter().zip(start).all(|(came, due)| came == due)
}

fn parse_line(input: &[u8]) -> Option<Found> {
    let seen = &input[..input.len().min(LINE_LIMIT)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return (seen.len() < LINE_LIMIT).then_some(Found::Incomplete);
    };
    let line = std::str::from_utf8(&seen[..end]).ok()?;
    let mut words = line.strip_suffix('\r')?.split(' ').skip(1);
    let source = match words.next()? {
        // "The receiver must ignore anything presented before the CRLF."
        "UNKNOWN" => return Some(Found::Whole(end + 1, None)),
        "TCP4" => address::<Ipv4Addr>(&mut words)?,
        "TCP6" => address::<Ipv6Addr>(&mut words)?,
        _ => return None,
    };
    match words.next() {
        None => Some(Found::Whole(end + 1, Some(source))),
        Some(_) => None,
    }
}

/// Source and destination, then their ports. The destination has to be right and is not used.
fn address<'a, A>(words: &mut impl Iterator<Item = &'a str>) -> Option<SocketAddr>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let source: A = words.next()?.parse().ok()?;
    let _destination: A = words.next()?.parse().ok()?;
    let source_port = port(words.next()?)?;
    port(words.next()?)?;
    Some(SocketAddr::new(source.into(), source_port))
}

/// Decimal, without a sign or zeros in front.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let leading = word.len() > 1 && word.starts_with('0');
    word.parse().ok().filter(|_| plain && !leading)
}

fn parse_binary(input: &[u8]) -> Option<Found> {
    // What cannot become right is refused when it has come.
    let command = match input.get(12) {
        None => return Some(Found::Incomplete),
        Some(&command @ (LOCAL | PROXY)) => command,
        Some(_) => return None,
    };
    let family = match input.get(13) {
        None => return Some(Found::Incomplete),
        Some(&family) if family >> 4 <= 3 && family & 0x0f <= 2 => family,
        Some(_) => return None,
    };
    let Some(head) = input.first_chunk::<BINARY_HEAD>() else {
        return Some(Found::Incomplete);
    };
    let length = BINARY_HEAD + usize::from(u16::from_be_bytes([head[14], head[15]]));
    let address_length = match (command, family) {
        (PROXY, TCP_OVER_IPV4) => 2 * (4 + 2),
        (PROXY, TCP_OVER_IPV6) => 2 * (16 + 2),
        _ => 0,
    };
    if !(BINARY_HEAD + address_length..=BINARY_LIMIT).contains(&length) {
        return None;
    }
    let Some(rest) = input.get(BINARY_HEAD..length) else {
        return Some(Found::Incomplete);
    };
    // Source, destination, and their ports in the same order; then TLVs, which are not looked at.
    let source = match address_length {
        12 => {
            let (address, rest) = rest.split_first_chunk::<4>()?;
            Some(SocketAddr::new((*address).into(), big_endian(&rest[4..])?))
        }
        36 => {
            let (address, rest) = rest.split_first_chunk::<16>()?;
            Some(SocketAddr::new((*address).into(), big_endian(&rest[16..])?))
        }
        _ => None,
    };
    Some(Found::Whole(length, source))
}

fn big_endian(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// What any cut of it says, and of the same with a request behind it.
    fn read(header: &[u8]) -> Option<Option<SocketAddr>> {
        let mut followed = header.to_vec();
        followed.extend(b"GET / HTTP/1.1\r\n\r\n");
        let whole = Parser::new().take(&followed);
        for cut in 0..header.len() {
            let mut parser = Parser::new();
            match parser.take(&followed[..cut]) {
                Ok(Step::Incomplete) => {}
                Ok(Step::Done { .. }) => panic!("done after {cut} bytes"),
                Err(error) => {
                    assert_eq!(Err(error), whole);
                    continue;
                }
            }
            let rest = parser.take(&followed[cut..]);
            assert_eq!(parser.held_bytes(), 0);
            assert_eq!(
                rest,
                whole.map(|step| match step {
                    Step::Done { taken, source } => Step::Done {
                        taken: taken - cut,
                        source
                    },
                    Step::Incomplete => Step::Incomplete,
                })
            );
        }
        match whole.ok()? {
            Step::Done { taken, source } => {
                assert_eq!(taken, header.len());
                Some(source)
            }
            Step::Incomplete => None,
        }
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [V2, &[command, family], &length, rest].concat()
    }

    fn source(text: &str) -> Option<Option<SocketAddr>> {
        Some(Some(text.parse().unwrap()))
    }

    #[test]
    fn lines() {
        assert_eq!(
            read(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
            source("192.168.0.1:56324")
        );
        assert_eq!(
            read(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"),
            source("[2001:db8::1]:1")
        );
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Some(None));
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_LIMIT - 16));
        assert_eq!(longest.len(), LINE_LIMIT);
        assert_eq!(read(longest.as_bytes()), Some(None));
    }

    #[test]
    fn ill_lines() {
        for line in [
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
            "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 +1 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 1 65536\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 1 \r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY\r\n",
            "proxy UNKNOWN\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(read(line.as_bytes()), None, "{line:?}");
        }
        let endless = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_LIMIT - 15));
        assert_eq!(read(endless.as_bytes()), None);
    }

    #[test]
    fn binary_headers() {
        let v4 = b"\x0a\0\0\x01\x0a\0\0\x02\x1f\x90\0\x50";
        assert_eq!(read(&binary(0x21, 0x11, v4)), source("10.0.0.1:8080"));
        let tlvs = [&v4[..], b"\x04\0\x02hi", &[0; 400]].concat();
        assert_eq!(read(&binary(0x21, 0x11, &tlvs)), source("10.0.0.1:8080"));
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 80);
        assert_eq!(read(&binary(0x21, 0x21, &v6)), source("[::1]:80"));
        // LOCAL, and families that have no address here: the connection's own.
        assert_eq!(read(&binary(0x20, 0x11, v4)), Some(None));
        assert_eq!(read(&binary(0x20, 0x00, b"")), Some(None));
        assert_eq!(read(&binary(0x21, 0x00, b"")), Some(None));
        assert_eq!(read(&binary(0x21, 0x31, &[0; 216])), Some(None));
        assert_eq!(read(&binary(0x21, 0x12, v4)), Some(None));
        assert_eq!(read(&binary(0x20, 0x00, &[0; 520])), Some(None));
    }

    #[test]
    fn ill_binary_headers() {
        for ill in [
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x41, &[0; 12]),
            binary(0x21, 0x13, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x20, 0x00, &[0; 521]),
            b"\r\n\r\n\0\r\nQUIX".to_vec(),
        ] {
            assert_eq!(read(&ill), None, "{ill:?}");
        }
    }

    #[test]
    fn an_error_is_kept_and_comes_with_the_first_wrong_byte() {
        let mut parser = Parser::new();
        assert_eq!(parser.take(b"PROX"), Ok(Step::Incomplete));
        assert_eq!(parser.take(b"I"), Err(WireError::BadProxyHeader));
        assert_eq!(
            parser.take(b"PROXY UNKNOWN\r\n"),
            Err(WireError::BadProxyHeader)
        );
        assert_eq!(parser.held_bytes(), 0);
    }
}
