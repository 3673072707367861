//! Sessions that outlive their connection, case by case; `sequences.rs` has them in random order.

use crate::player::{frame, hello, message, Player};
use crate::world::{packets, Seen, World, HEARTBEAT_MS, WINDOW_MS};
use photinus_engine::connection::By;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_engine::outbox::{Action, Marks, OutRoute, What};

pub const NEWS: u32 = 0;
pub const POSITION: u32 = 1;

pub fn world(limits: Limits) -> World {
    let mut world = World::new(limits);
    world.name_route(NEWS, "news", None);
    world.name_route(POSITION, "position", None);
    world.flush();
    world
}

pub fn push(world: &mut World, to: Handle, route: u32, marks: Marks, body: &[u8]) {
    let what = What::Push(OutRoute::Named(route));
    world.post(Action::Send { to, what, marks }, body);
}

fn tell(world: &mut World, to: Handle, numbers: std::ops::Range<u32>) {
    for number in numbers {
        push(world, to, NEWS, Marks::NONE, &number.to_be_bytes());
    }
    world.flush();
}

fn join(world: &mut World) -> (Player, Handle) {
    let mut player = Player::default();
    player.connect(world);
    let seen = world.drain();
    let opened = seen.iter().find(|seen| seen.event == Event::Opened);
    let handle = opened.unwrap().handle;
    player.read();
    assert!(player.welcome && player.token.is_some());
    world.drain();
    (player, handle)
}

/// The player comes back, and reads.
fn come_back(world: &mut World, player: &mut Player) -> Vec<Seen> {
    player.connect(world);
    let mut seen = world.drain();
    player.read();
    seen.extend(world.drain());
    seen
}

fn events(seen: &[Seen]) -> Vec<Event> {
    let of = seen.iter().filter(|seen| !seen.is_packet());
    of.map(|seen| seen.event).collect()
}

/// The numbers of the messages that the application got.
fn said(seen: &[Seen]) -> Vec<u32> {
    let bodies = packets(seen).into_iter();
    bodies
        .map(|body| u32::from_be_bytes(body.try_into().unwrap()))
        .collect()
}

#[test]
fn what_was_lost_on_the_way_comes_again_in_both_directions() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    player.say(3);
    tell(&mut world, handle, 0..5);
    assert_eq!(said(&world.drain()), [0, 1, 2]);
    player.cut(); // it has read nothing of that
    player.say(2);
    assert_eq!(events(&world.drain()), [Event::Cut]);
    assert_eq!((world.count("detached"), world.count("sessions")), (1, 1));
    tell(&mut world, handle, 5..8);
    let seen = come_back(&mut world, &mut player);
    assert_eq!(events(&seen), [Event::Resumed]);
    assert_eq!(seen[0].number, 0, "no gap");
    assert_eq!(said(&seen), [3, 4]);
    assert_eq!((player.received, player.acknowledged), (8, 3));
    assert_eq!(world.count("kept_bytes"), 0, "it has said that it has all");
    assert_eq!((world.count("cut"), world.count("resumed")), (1, 1));
}

#[test]
fn who_leaves_behind_many_frames_and_is_gone_has_left() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    player.say(300); // more than are received without an acknowledgement, which nobody reads any more
    player.leave();
    let seen = world.drain();
    assert_eq!(said(&seen).len(), 300);
    assert_eq!(seen.last().unwrap().end(), Some((By::Client, "left")));
    assert_eq!(seen.last().unwrap().handle, handle);
    world.assert_at_rest();
}

#[test]
fn half_a_frame_was_never_received() {
    let mut world = world(Limits::default());
    let (mut player, _) = join(&mut world);
    player.say(1);
    let half = message(1);
    player.sent = 2;
    player
        .client
        .as_ref()
        .unwrap()
        .write(&half[..half.len() - 1]);
    assert_eq!(said(&world.drain()), [0]);
    player.cut();
    world.drain();
    assert_eq!(said(&come_back(&mut world, &mut player)), [1]);
}

#[test]
fn a_frame_that_is_not_finished_in_time_is_a_cut() {
    let limits = Limits::default();
    let mut world = world(Limits {
        frame_ms: 1_000,
        ..limits
    });
    let (mut player, _) = join(&mut world);
    player.client.as_ref().unwrap().write(&[6, 5, 0]);
    world.pass(1_200);
    assert_eq!(events(&world.drain()), [Event::Cut]);
    let seen = come_back(&mut world, &mut player);
    assert_eq!(events(&seen), [Event::Resumed]);
}

#[test]
fn a_session_ends_when_its_window_is_over() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    player.cut();
    world.drain();
    world.pass(WINDOW_MS - 1_000);
    assert_eq!(world.drain(), []);
    tell(&mut world, handle, 0..3);
    world.pass(1_100);
    let seen = world.drain();
    assert_eq!(seen[0].end(), Some((By::Client, "left")));
    assert_eq!(world.count("resume_expired"), 1);
    world.pass(2_000);
    player.connect(&world);
    world.drain();
    player.read();
    assert_eq!(player.end.as_deref(), Some("resume-unknown"));
    world.pass(3_000);
    world.assert_at_rest();
}

#[test]
fn a_later_cut_has_a_window_of_its_own() {
    let mut world = world(Limits::default());
    let (mut player, _) = join(&mut world);
    for _ in 0..3 {
        player.cut();
        world.drain();
        world.pass(WINDOW_MS - 5_000);
        let seen = come_back(&mut world, &mut player);
        assert_eq!(events(&seen), [Event::Resumed]);
    }
    assert_eq!(world.count("resume_expired"), 0);
}

#[test]
fn who_leaves_ends_its_session_at_once() {
    let mut world = world(Limits::default());
    let (mut player, _) = join(&mut world);
    player.say(1);
    player.leave();
    let seen = world.drain();
    assert_eq!(said(&seen), [0]);
    assert_eq!(seen[1].end(), Some((By::Client, "left")));
    world.pass(2_000);
    world.assert_at_rest();
}

#[test]
fn silence_is_a_cut() {
    let mut world = world(Limits::default());
    let (mut player, _) = join(&mut world);
    world.pass(3 * HEARTBEAT_MS + 1_000);
    assert_eq!(events(&world.drain()), [Event::Cut]);
    let seen = come_back(&mut world, &mut player);
    assert_eq!(events(&seen), [Event::Resumed]);
    for _ in 0..10 {
        world.pass(HEARTBEAT_MS);
        player.read();
    }
    assert_eq!(world.drain(), [], "who answers heartbeats stays");
}

#[test]
fn a_resume_takes_the_place_of_a_connection_that_is_still_open() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    tell(&mut world, handle, 0..2);
    let mut old = player.client.take().unwrap();
    let seen = come_back(&mut world, &mut player);
    assert_eq!(events(&seen), [Event::Cut, Event::Resumed]);
    // What it says now is not heard, and its end touches nothing.
    assert!(old.link.write(&message(0)).is_err());
    old.read();
    assert!(old.ended);
    old.link.close();
    player.say(1);
    tell(&mut world, handle, 2..4);
    assert_eq!(said(&world.drain()), [0]);
    player.read();
    assert_eq!(player.received, 4);
}

#[test]
fn past_the_buffer_there_is_a_gap() {
    let mut world = world(Limits {
        resume_session_bytes: 2_000,
        ..Limits::default()
    });
    let (mut player, handle) = join(&mut world);
    player.cut();
    world.drain();
    tell(&mut world, handle, 0..500);
    assert!(world.count("kept_bytes") <= 2_000);
    player.say(2);
    let seen = come_back(&mut world, &mut player);
    assert_eq!((seen[0].event, seen[0].number), (Event::Resumed, 1));
    assert_eq!(said(&seen), [0, 1], "what it has sent comes all the same");
    assert_eq!((player.gaps, player.received), (1, 500));
    tell(&mut world, handle, 500..502);
    player.read();
    assert_eq!(player.received, 502);
    assert_eq!(world.count("resumed_with_gap"), 1);
}

#[test]
fn the_buffers_of_all_are_bounded() {
    let mut world = world(Limits {
        resume_session_bytes: 10_000,
        resume_total_bytes: 15_000,
        ..Limits::default()
    });
    let mut players: Vec<_> = (0..4).map(|_| join(&mut world)).collect();
    for (player, handle) in &mut players {
        player.cut();
        for number in 0..60u32 {
            let body = [&number.to_be_bytes()[..], &[0; 100]].concat();
            push(&mut world, *handle, NEWS, Marks::NONE, &body);
        }
        world.flush();
        assert!(world.count("kept_bytes") <= 15_000);
    }
    assert!(world.count("resume_dropped") > 0);
}

#[test]
fn of_droppable_messages_the_newest_waits() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    push(&mut world, handle, POSITION, Marks::DROPPABLE, b"0");
    world.flush();
    player.read();
    assert_eq!(player.droppable, [b"0"]);
    player.cut();
    world.drain();
    for at in [b"1", b"2", b"3"] {
        push(&mut world, handle, POSITION, Marks::DROPPABLE, at);
        world.flush();
    }
    tell(&mut world, handle, 0..1);
    come_back(&mut world, &mut player);
    assert_eq!(player.droppable, [b"0", b"3"]);
    assert_eq!((player.received, world.count("dropped_stale")), (1, 2));
    assert_eq!(world.count("waiting_out_bytes"), 0);
}

#[test]
fn a_kick_ends_it_with_or_without_a_connection() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    let (mut away, gone) = join(&mut world);
    away.cut();
    world.drain();
    for handle in [handle, gone] {
        tell(&mut world, handle, 0..1);
        world.kick(handle, "enough");
    }
    world.flush();
    player.read();
    assert_eq!(
        (player.received, player.end.as_deref()),
        (1, Some("enough"))
    );
    let seen = world.drain();
    let ends: Vec<_> = seen.iter().filter_map(Seen::end).collect();
    assert_eq!(ends, [(By::Server, "enough"); 2]);
    player.end = None;
    player.cut();
    for player in [&mut player, &mut away] {
        come_back(&mut world, player);
        assert_eq!(player.end.as_deref(), Some("resume-unknown"));
        player.cut();
    }
    world.pass(4_000);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_redirect_is_the_last_that_it_hears() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    tell(&mut world, handle, 0..1);
    let elsewhere = "tcp://192.0.2.1:7000";
    world.post(Action::Redirect { to: handle }, elsewhere.as_bytes());
    world.flush();
    player.read();
    assert_eq!(player.redirected.as_deref(), Some(elsewhere));
    assert_eq!((player.received, player.end), (1, None));
    assert_eq!(world.drain()[0].end(), Some((By::Server, "redirected")));
}

#[test]
fn a_stop_ends_those_who_are_away() {
    let mut world = world(Limits::default());
    let (mut player, _) = join(&mut world);
    player.cut();
    world.drain();
    world.engine.drain("shutdown");
    let seen = world.drain();
    assert_eq!(seen[0].end(), Some((By::Server, "shutdown")));
    assert_eq!(events(&seen), [Event::Closed, Event::Drained]);
}

#[test]
fn tokens_that_are_not_good_harm_their_bearer_alone() {
    let mut world = world(Limits::default());
    let (mut player, handle) = join(&mut world);
    player.cut();
    come_back(&mut world, &mut player);
    let (used, good) = (player.old_tokens[0], player.token.unwrap());
    let mut forged = good;
    forged[19] ^= 1;
    let (mut nobody, mut elsewhere) = (good, good);
    nobody[..4].copy_from_slice(&[0, 0, 0x10, 1]);
    elsewhere[0] = 0xf0; // another reactor, which there is not
    for (token, code) in [
        (used, "resume-replayed"),
        (forged, "resume-forged"),
        (nobody, "resume-unknown"),
        (elsewhere, "resume-unknown"),
    ] {
        let mut thief = Player::default();
        thief.connect_with(&world, Some(token));
        world.drain();
        thief.read();
        assert_eq!(thief.end.as_deref(), Some(code));
        assert!(!thief.welcome);
        assert!(world.engine.wire_errors()[code] > 0);
    }
    player.say(1);
    tell(&mut world, handle, 0..1);
    assert_eq!(said(&world.drain()), [0]);
    player.read();
    assert_eq!(player.received, 1, "its owner has noticed nothing");
}

#[test]
fn a_token_of_another_listener_is_not_taken() {
    let mut world = world(Limits::default());
    let other = "tcp://memory:6?protocol=photinus";
    world.engine.listen(other).unwrap();
    let (player, _) = join(&mut world);
    let mut client = world.connect(other);
    client.write(&hello(Some((player.token.unwrap(), 0))));
    world.drain();
    client.read();
    assert_eq!(client.got, frame(3, b"\x01\x0dresume-forged"));
}

#[test]
fn what_was_never_sent_cannot_have_been_received() {
    let mut world = world(Limits::default());
    let (mut player, _) = join(&mut world);
    player.received = 1;
    player.heartbeat();
    let seen = world.drain();
    assert_eq!(seen[0].end(), Some((By::Protocol, "bad-frame")));
    let (mut player, _) = join(&mut world);
    player.cut();
    player.received = 7;
    come_back(&mut world, &mut player);
    assert!(!player.welcome);
    assert_eq!(player.end.as_deref(), Some("bad-frame"));
}

#[test]
fn the_old_token_is_good_until_the_new_one_has_arrived() {
    let mut world = world(Limits::default());
    let (mut player, _) = join(&mut world);
    for _ in 0..3 {
        player.cut();
        world.drain();
        // The welcome of this one is lost.
        player.connect(&world);
        world.drain();
    }
    player.cut();
    world.drain();
    assert_eq!(
        events(&come_back(&mut world, &mut player)),
        [Event::Resumed]
    );
    assert_eq!((player.resumes, player.gaps), (1, 0));
}
