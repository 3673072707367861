//! `photinus-bots game`: players of the demo world.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::server::{bots, report, serve};

/// A world that answers every request, and pushes to its sender what a notify said.
fn world(mut stream: TcpStream) {
    let mut send = {
        let mut out = stream.try_clone().unwrap();
        move |kind: u8, body: &[u8]| {
            let mut package = (body.len() as u32).to_be_bytes();
            package[0] = kind;
            out.write_all(&[&package, body].concat()).is_ok()
        }
    };
    let mut header = [0; 4];
    while stream.read_exact(&mut header).is_ok() {
        let kind = std::mem::take(&mut header[0]);
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let going_on = match (kind, body.first()) {
            (1, _) => send(1, br#"{"code":200,"sys":{"heartbeat":1}}"#),
            (2, _) => send(3, b""),
            (4, Some(0)) => send(4, &[&[4, body[1]], &b"{}"[..]].concat()),
            (4, Some(2)) => send(4, b"\x06\x06walked{}"),
            _ => true,
        };
        if !going_on {
            return;
        }
    }
}

#[test]
fn players_log_in_walk_and_hear() {
    let mut bots = Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(["game", "--count", "10", "--seconds", "2.5"])
        .args(["--to", &format!("tcp://{}?protocol=pomelo", serve(world))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept open: its end would end the load.
    let stdin = bots.stdin.take();
    let output = bots.wait_with_output().unwrap();
    drop(stdin);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        lines.lines().count() >= 2,
        "one a second, and the total: {lines}"
    );
    let total = report(&output);
    assert_eq!(total["total"], true, "{lines}");
    assert_eq!(total["connected"], 10, "{lines}");
    assert_eq!(total["errors"], 0, "{lines}");
    assert!(total["answers"].as_u64().unwrap() >= 10, "{lines}");
    // Four steps a second each, from a random first moment on.
    assert!(total["pushes"].as_u64().unwrap() >= 20, "{lines}");
}

#[test]
fn players_end_with_stdin() {
    let output = bots(&["game", "--count", "3"], serve(world));
    assert_eq!(report(&output)["total"], true);
}

#[test]
fn a_termination_signal_ends_players_cleanly() {
    use rustix::process::{kill_process, Pid, Signal};
    let mut bots = Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(["game", "--count", "3", "--to", &serve(world).to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bots.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    kill_process(Pid::from_child(&bots), Signal::TERM).unwrap();
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("\"total\":true"), "{last}");
    assert!(bots.wait().unwrap().success());
}
