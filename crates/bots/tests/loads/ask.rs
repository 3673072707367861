//! `photinus-bots ask`: requests, compressed or not.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::server::{bots, payloads, report, serve};

/// Answers every request with its own payload, whatever that is; `mark` says what the answers are said to be.
fn answer(mut stream: TcpStream, mark: Option<u8>) {
    let mut header = [0; 4];
    while stream.read_exact(&mut header).is_ok() {
        let kind = std::mem::take(&mut header[0]);
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let answer = match kind {
            1 => br#"{"code":200,"sys":{}}"#.to_vec(),
            4 => {
                let payload = &body[3 + usize::from(body[2])..];
                [&[mark.unwrap_or(body[0] | 4), body[1]], payload].concat()
            }
            _ => continue,
        };
        let mut package = (answer.len() as u32).to_be_bytes();
        package[0] = kind;
        if stream.write_all(&[&package, &answer[..]].concat()).is_err() {
            return;
        }
    }
}

#[test]
fn what_is_asked_is_answered_compressed_or_not_by_count_or_by_rate() {
    let payloads = payloads("asked.jsonl");
    for more in ["--depth 8", "--depth 8 --compress", "--rate 300 --compress"] {
        let arguments = "ask --protocol pomelo --connections 3 --seconds 0.3 --payloads";
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        arguments.push(&payloads);
        arguments.extend(more.split(' '));
        let report = report(&bots(&arguments, serve(|stream| answer(stream, None))));
        assert!(report["echoes"].as_u64().unwrap() > 30, "{report}");
        let compressed = report["sent_bytes"].as_u64().unwrap() < 100;
        assert_eq!(compressed, more.contains("--compress"), "{report}");
    }
}

#[test]
fn an_answer_that_is_not_as_agreed_on_is_an_error() {
    let payloads = payloads("wrong.jsonl");
    for (mark, expected) in [(0x04, "not agreed on"), (0x24, "is an error")] {
        let arguments = [
            "ask",
            "--protocol",
            "pomelo",
            "--compress",
            "--payloads",
            &payloads,
        ];
        let to = serve(move |stream| answer(stream, Some(mark)));
        let output = bots(&arguments, to);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(expected), "{error}");
    }
}
