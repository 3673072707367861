//! `photinus-bots echo`, in closed and open loops and through every door.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::server::{bots, bots_to, echo, read_frame, report, serve, Serving};

#[test]
fn a_closed_loop_counts_echoes_and_starves_nobody() {
    let arguments = [
        "echo",
        "--connections",
        "8",
        "--depth",
        "4",
        "--seconds",
        "0.2",
    ];
    let report = report(&bots(&arguments, serve(echo)));
    assert_eq!(report["errors"], 0, "{report}");
    assert!(report["echoes"].as_u64().unwrap() > 8, "{report}");
    assert!(report["least_echoes"].as_u64().unwrap() > 0, "{report}");
    assert!(
        report["p50_us"].as_f64() <= report["p99_us"].as_f64(),
        "{report}"
    );
    assert!(
        report["p99_us"].as_f64() <= report["max_us"].as_f64(),
        "{report}"
    );
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let arguments = [
        "echo",
        "--connections",
        "5",
        "--rate",
        "2000",
        "--seconds",
        "0.5",
    ];
    let report = report(&bots(&arguments, serve(echo)));
    assert_eq!(report["errors"], 0, "{report}");
    let rate = report["echoes_per_s"].as_f64().unwrap();
    assert!((1_000.0..3_000.0).contains(&rate), "{report}");
}

#[test]
fn an_open_loop_charges_a_pause_to_every_packet_that_was_due() {
    let paused = |mut stream: TcpStream| {
        let mut count = 0;
        while let Some(frame) = read_frame(&mut stream) {
            count += 1;
            if count == 400 {
                thread::sleep(Duration::from_millis(200));
            }
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    };
    let arguments = [
        "echo",
        "--rate",
        "1000",
        "--seconds",
        "0.8",
        "--warmup",
        "0.1",
    ];
    let report = report(&bots(&arguments, serve(paused)));
    assert_eq!(report["errors"], 0, "{report}");
    // A quarter of the window's packets was due in the pause; a loop that waits for the answer
    // before it sends again would see one slow packet in hundreds.
    assert!(report["p99_us"].as_f64().unwrap() > 100_000.0, "{report}");
}

#[test]
fn an_answer_that_differs_is_an_error() {
    let damaging = |mut stream: TcpStream| {
        while let Some(mut frame) = read_frame(&mut stream) {
            frame[40] ^= 1;
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    };
    let output = bots(&["echo", "--seconds", "0.2"], serve(damaging));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("connection 1: answer 0 differs"), "{error}");
}

#[test]
fn wrong_use_and_a_missing_server_are_told_apart() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let missing = bots(&["echo"], nobody);
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8_lossy(&missing.stderr);
    assert!(error.contains("connection 1 of 1"), "{error}");
    assert_eq!(
        bots(&["echo", "--connections", "0"], nobody).status.code(),
        Some(2)
    );
}

#[test]
fn echoes_go_through_tls() {
    let server = Serving::start_tls(&["bare"], "echoes");
    for pace in [&["--depth", "16"][..], &["--rate", "2000"]] {
        let arguments = [&["echo", "--connections", "7", "--seconds", "0.2"], pace].concat();
        let report = report(&bots_to(&arguments, &server.url));
        assert_eq!(report["errors"], 0, "{report}");
        assert!(report["least_echoes"].as_u64().unwrap() > 0, "{report}");
    }
}

#[test]
fn handshakes_are_counted_beside_echoes() {
    let server = Serving::start_tls(&["bare"], "storm");
    let arguments = "echo --connections 3 --rate 500 --seconds 0.5 --storm 4";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let report = report(&bots_to(&arguments, &server.url));
    assert_eq!(report["errors"], 0, "{report}");
    assert_eq!(report["handshakes_failed"], 0, "{report}");
    assert!(report["handshakes"].as_u64().unwrap() > 4, "{report}");
    assert!(report["echoes"].as_u64().unwrap() > 100, "{report}");
}

#[test]
fn a_server_without_tls_fails_its_handshakes() {
    // It ends by itself, so that the load need not wait for a handshake that never comes.
    let plain = serve(|mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
    });
    let output = bots_to(&["echo"], &format!("tls://{plain}"));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("connection 1"), "{error}");
}

/// Gives each message back by itself, and tells how many there were in each read.
fn websocket_echo(mut stream: TcpStream, messages: &Mutex<Vec<usize>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return;
        }
        request.push(byte[0]);
    }
    assert!(request.starts_with(b"GET /play HTTP/1.1\r\n"));
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(answer.as_bytes()).unwrap();
    let mut head = [0; 2];
    while stream.read_exact(&mut head).is_ok() {
        assert_eq!(head[0], 0x82, "a whole binary message");
        assert_eq!(head[1] & 0x80, 0x80, "masked");
        let mut length = usize::from(head[1] & 0x7f);
        let mut answer = vec![0x82];
        if length == 126 {
            let mut long = [0; 2];
            stream.read_exact(&mut long).unwrap();
            length = usize::from(u16::from_be_bytes(long));
            answer.extend_from_slice(&[&[126][..], &long].concat());
        } else {
            answer.push(length as u8);
        }
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).unwrap();
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        (0..length).for_each(|at| payload[at] ^= mask[at % 4]);
        messages.lock().unwrap().push(length);
        answer.extend_from_slice(&payload);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

#[test]
fn echoes_go_through_websocket_each_in_a_message_or_several_in_one() {
    for (more, expected) in [(&[][..], 64), (&["--one-message"], 4 * 64)] {
        let messages: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = Arc::clone(&messages);
        let address = serve(move |stream| websocket_echo(stream, &seen));
        let arguments = [&["echo", "--depth", "4", "--seconds", "0.2"], more].concat();
        let report = report(&bots_to(&arguments, &format!("ws://{address}/play")));
        assert_eq!(report["errors"], 0, "{report}");
        assert!(report["echoes"].as_u64().unwrap() > 4, "{report}");
        let messages = messages.lock().unwrap();
        assert_eq!(messages[0], expected);
        if more.is_empty() {
            assert!(messages.iter().all(|length| *length == expected));
        }
    }
}
