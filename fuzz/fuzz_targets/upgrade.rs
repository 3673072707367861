#![no_main]
//! Requests for a WebSocket, as they come or nearly right: one answer to each, in HTTP, wherever it was cut; and an open
//! connection only to a request that has all that RFC 6455 asks for.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::websocket::hear;
use photinus_fuzz::Stream;
use photinus_proto::websocket::{Content, Options, Shared, Status};

#[derive(Debug, Arbitrary)]
struct Input {
    deflate: bool,
    path: bool,
    origins: bool,
    subprotocol: bool,
    lines: Vec<Line>,
    /// In front of the lines, where it is wanted as it is.
    bare: bool,
    stream: Stream,
}

#[derive(Debug, Arbitrary)]
enum Line {
    Get,
    Upgrade,
    Connection,
    Host,
    Key,
    Version,
    Origin(bool),
    Protocol(String),
    Extensions(Vec<(u8, Option<u8>)>),
    Other(String, String),
    Broken(Vec<u8>),
    End,
}

const WORDS: [&str; 7] = [
    "permessage-deflate",
    "server_no_context_takeover",
    "client_no_context_takeover",
    "client_max_window_bits",
    "server_max_window_bits",
    ",",
    "x",
];

fn write(line: &Line, out: &mut Vec<u8>) {
    let text = match line {
        Line::Get => "GET /play HTTP/1.1".into(),
        Line::Upgrade => "Upgrade: websocket".into(),
        Line::Connection => "Connection: keep-alive, Upgrade".into(),
        Line::Host => "Host: game.example".into(),
        Line::Key => "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".into(),
        Line::Version => "Sec-WebSocket-Version: 13".into(),
        Line::Origin(right) => format!(
            "Origin: https://{}.example",
            if *right { "game" } else { "evil" }
        ),
        Line::Protocol(name) => format!("Sec-WebSocket-Protocol: {name}"),
        Line::Extensions(words) => {
            let words = words.iter().map(|(word, value)| {
                let word = WORDS[usize::from(*word) % WORDS.len()];
                value.map_or(word.to_owned(), |value| format!("{word}={value}"))
            });
            format!(
                "Sec-WebSocket-Extensions: {}",
                words.collect::<Vec<_>>().join("; ")
            )
        }
        Line::Other(name, value) => format!("{name}: {value}"),
        Line::Broken(bytes) => return out.extend(bytes),
        Line::End => String::new(),
    };
    out.extend(text.as_bytes());
    out.extend(b"\r\n");
}

fuzz_target!(|input: Input| {
    let mut pairs = vec![("deflate", if input.deflate { "1" } else { "0" })];
    if input.origins {
        pairs.push(("origins", "https://game.example"));
    }
    if input.subprotocol {
        pairs.push(("subprotocol", "game"));
    }
    let path = if input.path { "/play" } else { "" };
    let options = Options::from_url(Content::Stream, 1000, path, &mut pairs).unwrap();
    let mut bytes = Vec::new();
    if !input.bare {
        [
            Line::Get,
            Line::Host,
            Line::Upgrade,
            Line::Connection,
            Line::Key,
            Line::Version,
        ]
        .iter()
        .for_each(|line| write(line, &mut bytes));
    }
    input.lines.iter().for_each(|line| write(line, &mut bytes));
    bytes.extend(&input.stream.bytes);
    let mut shared = Shared::new();
    let (whole, _) = hear(&options, &mut shared, &bytes, &[]);
    let (pieces, _) = hear(&options, &mut shared, &bytes, &input.stream.pieces);
    assert_eq!(pieces, whole);
    let text = String::from_utf8_lossy(&whole.reply);
    if text.is_empty() {
        return assert_eq!(whole.status, Ok(Status::Opening));
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let count = |of: &str| head.lines().filter(|line| line.starts_with(of)).count();
    assert_eq!(count("HTTP/1.1 "), 1);
    if head.starts_with("HTTP/1.1 101 ") {
        assert_eq!(count("Sec-WebSocket-Accept: "), 1);
        assert!(input.subprotocol || count("Sec-WebSocket-Protocol: ") == 0);
        assert!(input.deflate || count("Sec-WebSocket-Extensions: ") == 0);
        let asked = String::from_utf8_lossy(&bytes).to_lowercase();
        for due in [
            "get ",
            "websocket",
            "upgrade",
            "host",
            "sec-websocket-key",
            "13",
        ] {
            assert!(asked.contains(due), "{due}");
        }
        assert!(
            !input.origins || !asked.contains("origin: https://evil") || asked.contains("\r\n\r\n")
        );
    } else {
        assert!(whole.status.is_err() && whole.out.is_empty());
        assert_eq!(count("Content-Length: "), 1);
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
});
