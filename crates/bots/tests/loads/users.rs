//! `photinus-bots users`, `world` and `bare-forward`: users, their world, and what forwards between them.

use std::io::Write;
use std::net::TcpStream;
use std::process::Output;

use serde_json::Value;

use crate::server::{bots, bots_to, payloads, read_short_frame, report, serve, Serving};

/// What was said in the windows of a load of users.
fn windows(output: &Output) -> Vec<Value> {
    report(output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let (windows, begins): (Vec<_>, Vec<_>) = lines
        .map(Result::unwrap)
        .partition(|line| line["begins"].is_null());
    assert_eq!(windows.len(), begins.len(), "each is announced: {text}");
    windows
}

#[test]
fn users_come_play_and_go_through_a_proxy_to_their_world() {
    let answers = payloads("answers.jsonl");
    for (name, encrypted) in [("proxy-plain", false), ("proxy-tls", true)] {
        let world = Serving::start(&["world", "--answers", &answers]);
        let arguments = ["bare-forward", "--compress", "--upstream", &world.url];
        let proxy = match encrypted {
            true => Serving::start_tls(&arguments, name),
            false => Serving::start(&arguments),
        };
        // So many that in each second somebody says something, whose room has fifty.
        let arguments = "users --protocol length4 --zlib payload --ramp 0,90,20 --seconds 1";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let windows = windows(&bots_to(&arguments, &proxy.url));
        let count = |window: usize, name: &str| windows[window][name].as_u64().unwrap();
        assert_eq!(count(0, "bundles") + count(0, "sent"), 0, "{windows:?}");
        assert!(windows[0]["p99_us"].is_null(), "{windows:?}");
        for (window, users) in [(1, 90), (2, 20)] {
            assert_eq!(count(window, "users"), users, "{windows:?}");
            assert_eq!(count(window, "unanswered"), 0, "{windows:?}");
            assert_eq!(count(window, "missed"), 0, "{windows:?}");
            assert!(count(window, "answers") > 0, "{windows:?}");
            assert!(windows[window]["p50_us"].as_f64().unwrap() > 0.0);
            // Ten a second each; a machine under load makes a window longer, and not what is in it more.
            let seconds = windows[window]["seconds"].as_f64().unwrap();
            let expected = users as f64 * 10.0 * seconds;
            let share = count(window, "bundles") as f64 / expected;
            assert!((0.5..1.5).contains(&share), "{share}: {windows:?}");
        }
        assert!(count(1, "said") >= 40, "{windows:?}");
    }
}

#[test]
fn a_world_that_does_not_compress_is_told_from_one_that_does() {
    let world = Serving::start(&["world", "--answers", &payloads("plain-answers.jsonl")]);
    let proxy = Serving::start(&["bare-forward", "--upstream", &world.url]);
    let arguments = "users --protocol length4 --ramp 20 --seconds 0.5 --zlib";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let plain = windows(&bots_to(&[&arguments[..], &["none"]].concat(), &proxy.url));
    assert!(plain[0]["answers"].as_u64().unwrap() > 0, "{plain:?}");
    let output = bots_to(&[&arguments[..], &["payload"]].concat(), &proxy.url);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("not agreed on"), "{error}");
}

/// Nanoseconds of the clock that all processes share.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A world that speaks photinus: a bundle for each move, an answer, off by so much, for each question.
fn photinus_world(mut stream: TcpStream, off: u32) {
    let send = |stream: &mut TcpStream, kind: u8, body: &[u8]| {
        let length = body.len() as u16;
        let head = [kind, length as u8 | 0x80, (length >> 7) as u8];
        // The shorter form where that is due.
        let head = if length < 128 {
            vec![kind, length as u8]
        } else {
            head.to_vec()
        };
        stream.write_all(&[&head, body].concat()).is_ok()
    };
    let mut bundles = 0_u32;
    while let Some(frame) = read_short_frame(&mut stream) {
        let going_on = match frame[0] {
            1 => send(&mut stream, 2, &[2, 1, 0]) && send(&mut stream, 5, b"bundle"),
            0x26 => {
                assert_eq!(frame.len(), 3 + 24, "a move on route 0");
                let bundle = [
                    &[0][..],
                    &monotonic().to_be_bytes(),
                    &bundles.to_be_bytes(),
                    &[7; 188],
                ];
                bundles += 1;
                send(&mut stream, 6, &bundle.concat())
            }
            7 => {
                let (id, body) = (frame[2], &frame[4..]);
                let sequence = u32::from_be_bytes(*body[8..].first_chunk().unwrap()) + off;
                let now = monotonic();
                let json = format!(
                    r#"{{"seq":{sequence},"in":{now},"out":{now},"of":"{}"}}"#,
                    "x".repeat(100)
                );
                send(&mut stream, 8, &[&[id], json.as_bytes()].concat())
            }
            _ => true,
        };
        if !going_on {
            return;
        }
    }
}

#[test]
fn users_speak_photinus() {
    let arguments = "users --protocol photinus --ramp 8,4 --seconds 1";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let to = serve(|stream| photinus_world(stream, 0));
    let found = windows(&bots(&arguments, to));
    for (window, users) in found.iter().zip([8, 4]) {
        assert_eq!(window["users"], users, "{window}");
        assert!(window["answers"].as_u64().unwrap() > 0, "{window}");
        assert!(window["bundles"].as_u64().unwrap() > users, "{window}");
        assert_eq!(window["missed"], 0, "{window}");
    }
    let output = bots(&arguments, serve(|stream| photinus_world(stream, 1)));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("answer 1 came when 0 was due"), "{error}");
}
