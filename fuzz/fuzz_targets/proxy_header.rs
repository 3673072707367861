#![no_main]
//! PROXY headers, as they come or nearly right: what is read depends on no cut, is what a simpler reader finds in the
//! whole, and takes nothing from behind the header.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::Stream;
use photinus_proto::error::WireError;
use photinus_proto::proxy_header::{Parser, Step};
use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[derive(Debug, Arbitrary)]
struct Input {
    header: Header,
    behind: Stream,
}

#[derive(Debug, Arbitrary)]
enum Header {
    Line(Line),
    Words(String),
    Binary {
        command: u8,
        family: u8,
        length: Option<u16>,
        rest: Vec<u8>,
    },
    /// Only what stands behind it.
    None,
}

#[derive(Debug, Arbitrary)]
struct Line {
    wide: bool,
    source: IpAddr,
    destination: IpAddr,
    ports: (u16, u16),
}

fuzz_target!(|input: Input| {
    let mut bytes = match &input.header {
        Header::Line(line) => format!(
            "PROXY {} {} {} {} {}\r\n",
            if line.wide { "TCP6" } else { "TCP4" },
            line.source,
            line.destination,
            line.ports.0,
            line.ports.1
        )
        .into_bytes(),
        Header::Words(words) => format!("PROXY {words}\r\n").into_bytes(),
        Header::Binary {
            command,
            family,
            length,
            rest,
        } => {
            let length = length.unwrap_or(rest.len() as u16).to_be_bytes();
            [SIGNATURE, &[*command, *family], &length, rest].concat()
        }
        Header::None => Vec::new(),
    };
    bytes.extend(&input.behind.bytes);
    let whole = drive(&bytes, &[]);
    let pieces: Vec<usize> = input
        .behind
        .pieces
        .iter()
        .map(|piece| usize::from(*piece))
        .collect();
    assert_eq!(drive(&bytes, &pieces), whole);
    if let Ok(Some((taken, source))) = whole {
        assert_eq!(source, simple(&bytes[..taken]));
    }
    if let Header::Line(line) = &input.header {
        let right = line.source.is_ipv6() == line.wide && line.destination.is_ipv6() == line.wide;
        let source = SocketAddr::new(line.source, line.ports.0);
        assert_eq!(
            matches!(whole, Ok(Some((_, Some(read)))) if read == source),
            right
        );
    }
});

/// How many bytes the header takes, and whom it names; `None`: it is not whole.
type Read = Result<Option<(usize, Option<SocketAddr>)>, WireError>;

fn drive(bytes: &[u8], pieces: &[usize]) -> Read {
    let mut parser = Parser::new();
    let (mut start, mut come) = (0, 0);
    for piece in pieces.iter().copied().chain([bytes.len()]) {
        come = bytes.len().min(come + piece);
        match parser.take(&bytes[start..come]) {
            Ok(Step::Incomplete) => start = come,
            Ok(Step::Done { taken, source }) => {
                assert!(start + taken <= come);
                assert_eq!(parser.held_bytes(), 0);
                return Ok(Some((start + taken, source)));
            }
            Err(error) => {
                assert_eq!(parser.take(b"PROXY UNKNOWN\r\n"), Err(error));
                assert_eq!(parser.held_bytes(), 0);
                return Err(error);
            }
        }
    }
    Ok(None)
}

/// The source of a whole header that is right.
fn simple(header: &[u8]) -> Option<SocketAddr> {
    if let Some(rest) = header.strip_prefix(SIGNATURE) {
        let port = |at: usize| u16::from(rest[at]) << 8 | u16::from(rest[at + 1]);
        assert_eq!(usize::from(port(2)), rest.len() - 4);
        let named = rest[0] == 0x21;
        return match rest[1] {
            0x11 if named => Some(SocketAddr::new(
                <[u8; 4]>::try_from(&rest[4..8]).unwrap().into(),
                port(12),
            )),
            0x21 if named => Some(SocketAddr::new(
                <[u8; 16]>::try_from(&rest[4..20]).unwrap().into(),
                port(36),
            )),
            _ => None,
        };
    }
    let words: Vec<&str> = std::str::from_utf8(header)
        .unwrap()
        .trim_end()
        .split(' ')
        .collect();
    if words[1] == "UNKNOWN" {
        return None;
    }
    Some(SocketAddr::new(
        words[2].parse().unwrap(),
        words[4].parse().unwrap(),
    ))
}
