//! What ends by the clock: handshakes, half frames, silent peers.

use crate::world::{
    frame, pomelo, World, ACK, HEARTBEAT, HEARTBEAT_MS, HELLO, LENGTH, POMELO, SAY,
};
use photinus_engine::connection::By;
use photinus_engine::limits::Limits;

#[test]
fn a_handshake_has_its_time() {
    let limits = Limits::default();
    let handshake_ms = limits.handshake_ms;
    let mut world = World::new(limits);
    let mut silent = world.connect(POMELO);
    let mut half = world.connect(POMELO);
    half.write(HELLO);
    world.turn();
    let mut done = world.connect(POMELO);
    done.write(&[HELLO, ACK].concat());
    world.pass(handshake_ms - 100);
    assert_eq!(world.count("connections"), 3);
    world.pass(100);
    for client in [&mut silent, &mut half, &mut done] {
        client.read();
    }
    assert!(silent.ended && half.ended && !done.ended);
    assert_eq!(world.count("closed_handshake_timeout"), 2);
    assert_eq!(world.drain().len(), 1, "only one was a session");
}

#[test]
fn half_a_frame_then_silence() {
    let limits = Limits::default();
    let frame_ms = limits.frame_ms;
    let mut world = World::new(limits);
    let (_idle, _) = world.join(LENGTH);
    let (mut client, _) = world.join(LENGTH);
    client.write(&frame(b"a whole one")[..5]);
    world.turn();
    world.pass(frame_ms - 100);
    assert!(world.drain().is_empty());
    world.pass(100);
    assert_eq!(
        world.drain()[0].end(),
        Some((By::Protocol, "frame-timeout"))
    );
    client.read();
    assert!(client.ended);
    assert_eq!(
        (world.count("sessions"), world.count("closed_frame_timeout")),
        (1, 1)
    );
}

#[test]
fn a_client_whose_reads_always_end_in_a_frame_lives() {
    let limits = Limits::default();
    let frame_ms = limits.frame_ms;
    let mut world = World::new(limits);
    let (client, _) = world.join(LENGTH);
    let bytes = frame(b"12345678");
    client.write(&bytes[..6]);
    for _ in 0..50 {
        world.pass(frame_ms / 2);
        client.write(&[&bytes[6..], &bytes[..6]].concat());
        world.turn();
    }
    assert_eq!(world.drain().len(), 50);
    // But each single one has its time, to within that time again.
    world.pass(2 * frame_ms);
    assert_eq!(world.drain().len(), 1);
    assert_eq!(world.count("sessions"), 0);
}

#[test]
fn an_acknowledgement_in_two_pieces_leaves_no_clock_behind() {
    let limits = Limits::default();
    let wait_ms = 2 * limits.frame_ms.max(limits.handshake_ms);
    let mut world = World::new(limits);
    let client = world.connect(POMELO);
    client.write(&[HELLO, &ACK[..2]].concat());
    world.turn();
    client.write(&ACK[2..]);
    world.turn();
    assert_eq!(world.drain().len(), 1);
    world.pass(wait_ms);
    assert!(world.drain().is_empty());
    assert_eq!(world.count("sessions"), 1);
}

#[test]
fn a_frame_that_we_did_not_read_is_not_late() {
    let limits = Limits {
        inbound_session_bytes: 1_024,
        frame_ms: 1_000,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let (client, _) = world.join(LENGTH);
    // Half of a frame stays with us, and then the session is paused.
    client.write(&[frame(&[1; 2_000]), frame(&[2; 500])[..100].to_vec()].concat());
    world.turn();
    client.write(&frame(&[2; 500])[100..200]);
    world.turn();
    assert_eq!(world.count("paused_now"), 1);
    world.pass(950);
    assert_eq!(world.count("closed_frame_timeout"), 0);
    // Handled at last. The rest of the frame is under way: it has its time from now on.
    let batches = world.take();
    world.give_back(batches);
    world.turn();
    world.pass(900);
    client.write(&frame(&[2; 500])[200..]);
    let seen = world.drain();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].body, [2; 500]);
}

#[test]
fn heartbeats_are_sent_by_the_clock() {
    let mut world = World::new(Limits::default());
    let (mut client, _) = world.join(POMELO);
    let mut beats = 0;
    for _ in 0..100 {
        world.pass(1_000);
        let came = client.packages();
        assert!(came.iter().all(|of| of == HEARTBEAT));
        beats += came.len();
        if !came.is_empty() {
            client.write(HEARTBEAT);
        }
    }
    assert_eq!(beats, 10);
    assert!(world.drain().is_empty(), "Python hears nothing of it");
    assert_eq!(world.count("sessions"), 1);
}

#[test]
fn one_that_is_silent_for_three_intervals_is_gone() {
    let mut world = World::new(Limits::default());
    let (mut client, _) = world.join(POMELO);
    let (speaker, _) = world.join(POMELO);
    let began = world.now_ms();
    world.pass(2 * HEARTBEAT_MS);
    speaker.write(&pomelo(None, SAY.0, b"anything is a sign of life"));
    assert_eq!(world.drain().len(), 1);
    let mut seen = Vec::new();
    while seen.is_empty() {
        assert!(world.now_ms() - began <= 4 * HEARTBEAT_MS + 100);
        world.pass(100);
        seen = world.drain();
    }
    assert_eq!(seen[0].end(), Some((By::Network, "heartbeat")));
    client.read();
    assert!(client.ended);
    assert_eq!(
        (world.count("sessions"), world.count("closed_heartbeat")),
        (1, 1)
    );
}

#[test]
fn one_that_speaks_at_every_second_interval_and_a_little_late_is_there() {
    let mut world = World::new(Limits::default());
    let (client, _) = world.join(POMELO);
    for _ in 0..10 {
        world.pass(2 * HEARTBEAT_MS + 100);
        client.write(HEARTBEAT);
        world.turn();
    }
    assert_eq!(world.count("sessions"), 1);
}

#[test]
fn one_that_we_do_not_read_is_not_taken_for_silent() {
    let mut world = World::new(Limits {
        inbound_session_bytes: 1_024,
        ..Limits::default()
    });
    let (mut client, _) = world.join(POMELO);
    for _ in 0..3 {
        client.write(&pomelo(None, SAY.0, &[0; 1_000]));
        world.turn();
    }
    assert_eq!(world.count("paused_now"), 1);
    world.pass(10 * HEARTBEAT_MS);
    assert_eq!(world.count("sessions"), 1);
    assert_eq!(client.packages().len(), 10, "ours go on meanwhile");
    assert_eq!(world.drain().len(), 3);
    world.pass(HEARTBEAT_MS);
    assert_eq!(world.count("sessions"), 1, "it has its time from now on");
    world.pass(4 * HEARTBEAT_MS);
    assert_eq!(world.count("sessions"), 0);
}

#[test]
fn no_heartbeats_pile_up_before_one_that_does_not_read() {
    let mut world = World::new(Limits::default());
    let (client, handle) = world.join(POMELO);
    for _ in 0..5 {
        world.send(handle, &[0; 30_000]);
    }
    world.flush();
    let waiting = world.count("waiting_out_bytes");
    assert!(waiting > 0);
    for _ in 0..10 {
        world.pass(HEARTBEAT_MS);
        client.write(HEARTBEAT);
        world.turn();
    }
    assert_eq!(world.count("waiting_out_bytes"), waiting);
    assert_eq!(world.count("sessions"), 1);
}
