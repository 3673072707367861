//! `photinus-bots receive`: broadcasts, counted to the last member.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use crate::server::{bots, read_frame, report, serve};

#[test]
fn broadcasts_are_counted_to_the_last_member() {
    let members: Arc<Mutex<Vec<(SocketAddr, TcpStream)>>> = Arc::default();
    let broadcasting = move |mut stream: TcpStream| {
        let address = stream.peer_addr().unwrap();
        members
            .lock()
            .unwrap()
            .push((address, stream.try_clone().unwrap()));
        while let Some(frame) = read_frame(&mut stream) {
            if frame[4] == 0 && stream.write_all(&frame).is_err() {
                return;
            }
            for _ in 0..frame[4] {
                for (other, member) in members.lock().unwrap().iter_mut() {
                    if *other != address && member.write_all(&frame).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let arguments = [
        "receive",
        "--connections",
        "20",
        "--broadcasts",
        "3",
        "--seconds",
        "0.2",
    ];
    let report = report(&bots(&arguments, serve(broadcasting)));
    let bursts = report["bursts"].as_u64().unwrap();
    assert!(bursts > 0, "{report}");
    assert_eq!(report["deliveries"], bursts * 60, "{report}");
}

#[test]
fn nobody_waits_for_slow_readers() {
    // (whether it has greeted, its stream): slow readers say nothing, and this server sends them nothing.
    let members: Arc<Mutex<Vec<(bool, TcpStream)>>> = Arc::default();
    let seen = Arc::clone(&members);
    let broadcasting = move |mut stream: TcpStream| {
        let mine = {
            let mut members = members.lock().unwrap();
            members.push((false, stream.try_clone().unwrap()));
            members.len() - 1
        };
        while let Some(frame) = read_frame(&mut stream) {
            let mut members = members.lock().unwrap();
            members[mine].0 = true;
            if frame[4] == 0 && stream.write_all(&frame).is_err() {
                return;
            }
            for _ in 0..frame[4] {
                for (other, (greeted, member)) in members.iter_mut().enumerate() {
                    if *greeted && other != mine && member.write_all(&frame).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let arguments = "receive --connections 5 --slow 2 --seconds 0.2";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let report = report(&bots(&arguments, serve(broadcasting)));
    let bursts = report["bursts"].as_u64().unwrap();
    assert!(bursts > 0, "{report}");
    assert_eq!(report["deliveries"], bursts * 5, "{report}");
    let members = seen.lock().unwrap();
    assert_eq!(members.iter().filter(|(greeted, _)| !greeted).count(), 2);
}

#[test]
fn broadcasts_reach_members_on_several_servers() {
    // Two doors to one room.
    let members: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let broadcasting = move |mut stream: TcpStream| {
        let mine = {
            let mut members = members.lock().unwrap();
            members.push(stream.try_clone().unwrap());
            members.len() - 1
        };
        while let Some(frame) = read_frame(&mut stream) {
            if frame[4] == 0 && stream.write_all(&frame).is_err() {
                return;
            }
            for _ in 0..frame[4] {
                for (other, member) in members.lock().unwrap().iter_mut().enumerate() {
                    if other != mine && member.write_all(&frame).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let (one, other) = (serve(broadcasting.clone()), serve(broadcasting));
    let own = std::process::id().to_string();
    let other = other.to_string();
    let arguments = ["receive", "--connections", "10", "--seconds", "0.2"];
    let arguments = [&arguments[..], &["--also-to", &other, "--beside", &own]].concat();
    let report = report(&bots(&arguments, one));
    let bursts = report["bursts"].as_u64().unwrap();
    assert!(bursts > 0, "{report}");
    assert_eq!(report["deliveries"], bursts * 10, "{report}");
    assert!(
        report["beside"][0]["cpu_us"].as_f64().unwrap() > 0.0,
        "{report}"
    );
}
