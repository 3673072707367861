//! The client's side of the pomelo protocol, as far as players need it.
//!
//! A package is u8 type | u24 length | body. The body of a data package is a message: flag byte
//! (bits 1-3 the type, bit 0 a route by number, bit 4 compressed, bit 5 an error answer), the LEB128
//! id of requests and responses, the route (u8 length, text) of requests, notifies and pushes, then
//! the payload.

use std::io;

use crate::lane::LONGEST_FRAME;

const HEADER: usize = 4;

const HANDSHAKE: u8 = 1;
const HANDSHAKE_ACK: u8 = 2;
const HEARTBEAT: u8 = 3;
const DATA: u8 = 4;
const KICK: u8 = 5;

const REQUEST: u8 = 0;
const NOTIFY: u8 = 1;
const RESPONSE: u8 = 2;
const PUSH: u8 = 3;

const ROUTE_BY_NUMBER: u8 = 0x01;
const COMPRESSED: u8 = 0x10;
const ERROR: u8 = 0x20;

/// What a server's package means to a player.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived<'a> {
    Handshake(&'a [u8]),
    Heartbeat,
    Kick(&'a [u8]),
    Response {
        id: u32,
        error: bool,
        compressed: bool,
        body: &'a [u8],
    },
    Push {
        route: &'a str,
        body: &'a [u8],
    },
}

/// The whole length of the package that `input` begins with.
pub fn measure(input: &[u8]) -> io::Result<Option<usize>> {
    let Some([_, high, middle, low]) = input.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    Ok(Some(
        HEADER + u32::from_be_bytes([0, *high, *middle, *low]) as usize,
    ))
}

/// Reads one whole package.
pub fn parse(package: &[u8]) -> io::Result<Arrived<'_>> {
    let (kind, body) = match package {
        [kind, _, _, _, body @ ..] => (*kind, body),
        _ => return Err(wrong("a package shorter than its header")),
    };
    match kind {
        HANDSHAKE => Ok(Arrived::Handshake(body)),
        HEARTBEAT => Ok(Arrived::Heartbeat),
        KICK => Ok(Arrived::Kick(body)),
        DATA => parse_message(body),
        _ => Err(wrong("a package of unknown type")),
    }
}

fn parse_message(body: &[u8]) -> io::Result<Arrived<'_>> {
    let (&flag, rest) = body
        .split_first()
        .ok_or_else(|| wrong("an empty message"))?;
    let kind = (flag >> 1) & 7;
    if flag & COMPRESSED != 0 && kind != RESPONSE {
        return Err(wrong("a compressed message that is no answer"));
    }
    match kind {
        RESPONSE => {
            let (id, body) = take_id(rest)?;
            Ok(Arrived::Response {
                id,
                error: flag & ERROR != 0,
                compressed: flag & COMPRESSED != 0,
                body,
            })
        }
        PUSH if flag & ROUTE_BY_NUMBER != 0 => Err(wrong("a push by number without a dictionary")),
        PUSH => {
            let (&length, rest) = rest
                .split_first()
                .ok_or_else(|| wrong("a push without route"))?;
            let (route, body) = rest
                .split_at_checked(length as usize)
                .ok_or_else(|| wrong("a push with half a route"))?;
            let route = std::str::from_utf8(route).map_err(|_| wrong("a route that is no text"))?;
            Ok(Arrived::Push { route, body })
        }
        _ => Err(wrong("a message that only clients send")),
    }
}

fn take_id(input: &[u8]) -> io::Result<(u32, &[u8])> {
    let mut id: u32 = 0;
    for (at, byte) in input.iter().enumerate().take(5) {
        id |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((id, &input[at + 1..]));
        }
    }
    Err(wrong("a response whose id does not end"))
}

pub fn handshake(out: &mut Vec<u8>) {
    let body = concat!(
        r#"{"sys":{"type":"photinus-bots","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""},"user":{}}"#
    );
    package(HANDSHAKE, body.as_bytes(), out);
}

pub fn handshake_ack(out: &mut Vec<u8>) {
    package(HANDSHAKE_ACK, &[], out);
}

pub fn heartbeat(out: &mut Vec<u8>) {
    package(HEARTBEAT, &[], out);
}

pub fn request(id: u32, route: &str, compressed: bool, body: &[u8], out: &mut Vec<u8>) {
    let flag = if compressed { COMPRESSED } else { 0 };
    let mut message = vec![REQUEST << 1 | flag];
    let mut rest = id;
    while rest >= 0x80 {
        message.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    message.push(rest as u8);
    append_route(route, &mut message);
    message.extend_from_slice(body);
    package(DATA, &message, out);
}

pub fn notify(route: &str, body: &[u8], out: &mut Vec<u8>) {
    let mut message = vec![NOTIFY << 1];
    append_route(route, &mut message);
    message.extend_from_slice(body);
    package(DATA, &message, out);
}

fn append_route(route: &str, message: &mut Vec<u8>) {
    let length = u8::try_from(route.len()).expect("the bots' routes are short constants");
    message.push(length);
    message.extend_from_slice(route.as_bytes());
}

fn package(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() <= LONGEST_FRAME, "the bots' messages are short");
    let [_, high, middle, low] = (body.len() as u32).to_be_bytes();
    out.extend_from_slice(&[kind, high, middle, low]);
    out.extend_from_slice(body);
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

    #[test]
    fn what_is_sent_has_the_documented_bytes() {
        let mut out = Vec::new();
        request(300, "login", false, b"{}", &mut out);
        assert_eq!(out, b"\x04\x00\x00\x0b\x00\xac\x02\x05login{}");
        out.clear();
        notify("walk", b"{}", &mut out);
        assert_eq!(out, b"\x04\x00\x00\x08\x02\x04walk{}");
        out.clear();
        handshake_ack(&mut out);
        heartbeat(&mut out);
        assert_eq!(out, b"\x02\x00\x00\x00\x03\x00\x00\x00");
        assert_eq!(measure(&out).unwrap(), Some(4));
        assert_eq!(measure(&out[..3]).unwrap(), None);
    }

    #[test]
    fn what_comes_is_read() {
        assert_eq!(
            parse(b"\x04\x00\x00\x05\x04\xac\x02{}").unwrap(),
            Arrived::Response {
                id: 300,
                error: false,
                compressed: false,
                body: b"{}"
            }
        );
        assert_eq!(
            parse(b"\x04\x00\x00\x04\x34\x01{}").unwrap(),
            Arrived::Response {
                id: 1,
                error: true,
                compressed: true,
                body: b"{}"
            }
        );
        assert_eq!(
            parse(b"\x04\x00\x00\x08\x06\x04said{}").unwrap(),
            Arrived::Push {
                route: "said",
                body: b"{}"
            }
        );
        assert_eq!(parse(b"\x03\x00\x00\x00").unwrap(), Arrived::Heartbeat);
        assert_eq!(parse(b"\x05\x00\x00\x02{}").unwrap(), Arrived::Kick(b"{}"));
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        for package in [
            &b"\x09\x00\x00\x00"[..],
            b"\x04\x00\x00\x00",
            b"\x04\x00\x00\x02\x06\x09",
            b"\x04\x00\x00\x03\x07\x00\x01",
            b"\x04\x00\x00\x03\x04\xff\xff",
            b"\x04\x00\x00\x02\x16\x00",
            b"\x04\x00\x00\x02\x00\x01",
        ] {
            assert!(parse(package).is_err(), "{package:?}");
        }
    }
}
