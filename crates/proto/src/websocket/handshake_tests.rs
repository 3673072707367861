//! In a file of their own: handshake.rs is long enough without them.

use super::super::{Content, Options, Peer, Shared, Status};
use super::{path, HEADER_LIMIT, HEAD_LIMIT};
use crate::error::WireError;

/// RFC 6455, 1.2.
const LINES: &[&str] = &[
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Origin: http://example.com",
    "Sec-WebSocket-Protocol: chat, superchat",
    "Sec-WebSocket-Version: 13",
];

fn request(lines: &[&str]) -> String {
    format!("GET /chat HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

/// The same with the line that begins as `line` does in its place, and without it if there is nothing
/// behind its colon.
fn with(line: &str) -> String {
    let name = &line[..=line.find(':').unwrap()];
    let mut lines: Vec<&str> = LINES
        .iter()
        .copied()
        .filter(|other| !other.starts_with(name))
        .collect();
    if line != name {
        lines.push(line);
    }
    request(&lines)
}

fn any() -> Options {
    Options::new(Content::Stream, 100)
}

/// The answer, and what became of it: the same wherever the request is cut.
fn answer(options: &Options, request: &[u8]) -> (Result<Status, WireError>, String) {
    let take = |pieces: &[&[u8]]| {
        let mut peer = options.peer();
        let (mut out, mut reply) = (Vec::new(), Vec::new());
        let mut status = Ok(Status::Opening);
        for piece in pieces {
            let step = options.decode(&mut peer, &mut Shared::new(), piece, &mut out, &mut reply);
            status = step.map(|step| step.status);
        }
        assert_eq!(
            (peer.held_bytes() > 0, out),
            (status == Ok(Status::Opening), vec![])
        );
        (status, String::from_utf8(reply).unwrap())
    };
    let whole = take(&[request]);
    for cut in 0..request.len() {
        assert_eq!(
            take(&[&request[..cut], &request[cut..]]),
            whole,
            "cut at {cut}"
        );
    }
    let bytes: Vec<&[u8]> = request.chunks(1).collect();
    assert_eq!(take(&bytes), whole);
    whole
}

fn accepted(options: &Options, request: &str) -> String {
    let (status, reply) = answer(options, request.as_bytes());
    assert_eq!(status, Ok(Status::Open), "{request}{reply}");
    let reply = reply.strip_suffix("\r\n\r\n").unwrap().to_owned();
    assert!(reply.starts_with(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    ));
    reply
}

/// The status of the refusal. Its head and its text are checked here.
fn refused(options: &Options, request: &str, error: WireError) -> u16 {
    let (status, reply) = answer(options, request.as_bytes());
    assert_eq!(status, Err(error), "{request}{reply}");
    let (head, text) = reply.split_once("\r\n\r\n").unwrap();
    let length = format!("\r\nContent-Length: {}", text.len());
    assert!(
        head.contains("\r\nConnection: close") && head.contains(&length),
        "{head}"
    );
    assert!(text.ends_with('\n') && text.len() > 10, "{text}");
    reply["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

#[test]
fn the_example_of_the_rfc() {
    let reply = accepted(&any(), &request(LINES));
    assert_eq!(reply.lines().count(), 4, "nothing else was agreed: {reply}");
}

#[test]
fn names_and_words_are_read_in_any_case() {
    let lower: Vec<String> = LINES
        .iter()
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            format!("{}:{value}", name.to_lowercase())
        })
        .collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    accepted(&any(), &request(&lower));
    accepted(&any(), &with("Upgrade: WebSocket"));
    accepted(&any(), &with("Upgrade: h2c , websocket"));
    accepted(&any(), &with("Connection: keep-alive, upgrade"));
    accepted(
        &any(),
        &with("Connection: keep-alive\r\nConnection: UPGRADE"),
    );
    accepted(&any(), &with("Content-Length: 0"));
}

#[test]
fn what_is_no_websocket_is_refused_with_what_was_expected() {
    let refused = |request: &str| refused(&any(), request, WireError::BadUpgrade);
    for line in [
        "Upgrade:",
        "Upgrade: h2c",
        "Connection:",
        "Connection: keep-alive",
        "Sec-WebSocket-Version: 8",
    ] {
        assert_eq!(refused(&with(line)), 426, "{line}");
    }
    for line in [
        "Host:",
        "Host: a\r\nHost: b",
        "Sec-WebSocket-Version:",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==",
        "Sec-WebSocket-Key: ????????????????????????",
        "Origin: http://a\r\nOrigin: http://b",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Bad Name: x",
        "Null: \0",
        "Bare: line feed\n",
        "Blank: line\n\nEnd: of another kind",
    ] {
        assert_eq!(refused(&with(line)), 400, "{line}");
    }
    let get = request(LINES);
    assert_eq!(refused(&get.replace("HTTP/1.1", "HTTP/1.0")), 505);
    assert_eq!(refused(&get.replace("HTTP/1.1", "HTTP/2.0")), 505);
    assert_eq!(refused(&get.replace("GET", "POST")), 405);
    assert_eq!(refused(&get.replace("GET", "GETS")), 405);
    assert_eq!(refused("\x16\x03\x01"), 400);
    assert_eq!(refused("\r\n"), 400);
    assert_eq!(refused("G@"), 400);
}

#[test]
fn whoever_speaks_another_version_is_told_ours() {
    let (_, reply) = answer(&any(), with("Sec-WebSocket-Version: 8").as_bytes());
    assert!(reply.contains("\r\nSec-WebSocket-Version: 13\r\n"));
    assert!(reply.contains("\r\nUpgrade: websocket\r\nSec"));
}

#[test]
fn a_head_has_a_limit() {
    let refused = |request: &str| refused(&any(), request, WireError::TooLong);
    let line = format!("Cookie: {}", "x".repeat(HEAD_LIMIT));
    let long = with(&line);
    let spare = long.len() - HEAD_LIMIT;
    let line = &line[..line.len() - spare];
    let longest = with(line);
    assert_eq!(longest.len(), HEAD_LIMIT);
    let options = any();
    let mut peer = options.peer();
    let take = |peer: &mut Peer, bytes: &str| {
        let (mut out, mut reply) = (Vec::new(), Vec::new());
        let step = options.decode(
            peer,
            &mut Shared::new(),
            bytes.as_bytes(),
            &mut out,
            &mut reply,
        );
        (step.map(|step| step.status), reply)
    };
    assert_eq!(take(&mut peer, &longest).0, Ok(Status::Open));
    let mut peer = options.peer();
    assert_eq!(
        take(&mut peer, &long[..HEAD_LIMIT - 1]).0,
        Ok(Status::Opening)
    );
    assert!(peer.held_bytes() <= 2 * HEAD_LIMIT);
    let (status, reply) = take(&mut peer, "x");
    assert_eq!(status, Err(WireError::TooLong));
    assert!(reply.starts_with(b"HTTP/1.1 431 "));
    let lines = |count: usize| "X: y\r\n".repeat(count - LINES.len() - 1) + "A: b";
    accepted(&any(), &with(&lines(HEADER_LIMIT)));
    assert_eq!(refused(&with(&lines(HEADER_LIMIT + 1))), 431);
}

#[test]
fn paths() {
    let mut options = any();
    options.path = Some("/chat".into());
    let get = request(LINES);
    accepted(&options, &get);
    accepted(&options, &get.replace("/chat", "/chat?token=a/b"));
    accepted(
        &options,
        &get.replace("/chat", "ws://server.example.com/chat?x"),
    );
    for other in [
        "/",
        "/chat/",
        "/Chat",
        "/chat/../chat",
        "*",
        "/?/chat",
        "/x://y/chat",
    ] {
        let request = get.replace("/chat", other);
        assert_eq!(
            refused(&options, &request, WireError::BadPath),
            404,
            "{other}"
        );
    }
    assert_eq!(path("http://host"), "/");
    assert_eq!(path("http://host?query"), "/");
}

#[test]
fn origins() {
    let mut options = any();
    options.origins = ["https://game.example".into(), "null".into()].into();
    accepted(&options, &with("Origin: https://game.example"));
    accepted(&options, &with("Origin: https://Game.Example"));
    accepted(&options, &with("Origin: null"));
    // Not from a page: nothing is protected by refusing what anyone can write.
    accepted(&options, &with("Origin:"));
    for other in [
        "http://game.example",
        "https://game.example.evil",
        "https://game.example:444",
        "\u{ff}",
    ] {
        let request = with(&format!("Origin: {other}"));
        assert_eq!(
            refused(&options, &request, WireError::BadOrigin),
            403,
            "{other}"
        );
    }
}

#[test]
fn a_subprotocol_is_agreed_on_if_there_is_one() {
    let mut options = any();
    options.subprotocol = Some("superchat".into());
    let reply = accepted(&options, &request(LINES));
    assert!(reply.ends_with("\r\nSec-WebSocket-Protocol: superchat"));
    options.subprotocol = Some("Chat".into());
    assert!(!accepted(&options, &request(LINES)).contains("Protocol:"));
    assert!(!accepted(&options, &with("Sec-WebSocket-Protocol:")).contains("Protocol:"));
}

#[test]
fn compression_is_agreed_on_if_the_listener_has_it() {
    let request = with(
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=1, foo\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10",
    );
    assert!(!accepted(&any(), &request).contains("Extensions"));
    let mut options = any();
    options.deflate = true;
    assert!(accepted(&options, &request).ends_with(
        "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
         client_no_context_takeover; server_max_window_bits=10"
    ));
    assert!(!accepted(&options, &self::request(LINES)).contains("Extensions"));
}

#[test]
fn whoever_is_turned_away_during_the_handshake_hears_it_in_http() {
    let options = any();
    let mut peer = options.peer();
    let mut said = Vec::new();
    peer.ping(&mut said);
    peer.close(1013, "the server is full", &mut said);
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503 ") && said.ends_with("\r\n\r\nthe server is full\n"));
}
