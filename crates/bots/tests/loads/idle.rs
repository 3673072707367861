//! `photinus-bots idle`: sessions that are held.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::server::{echo, serve};

#[test]
fn idle_sessions_hold_burst_and_end_with_stdin() {
    let to = serve(echo).to_string();
    let mut bots = Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(["idle", "--connections", "30", "--to", &to])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bots.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready 30");
    let mut stdin = bots.stdin.take().unwrap();
    for _ in 0..2 {
        stdin.write_all(b"burst\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "burst done");
    }
    drop(stdin);
    assert!(bots.wait().unwrap().success());
}
