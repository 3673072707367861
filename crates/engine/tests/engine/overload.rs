//! What happens when Python does not keep up, or there are as many sessions as there may be: droppable messages
//! are dropped, and who comes stands in line.

use crate::player::{frame, Player};
use crate::world::{packets, World, ACK, HELLO, LENGTH, POMELO};
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;

/// How long the loop is stuck: longer than all targets and the interval together.
const STUCK_MS: u64 = 1_000;

fn arrive(world: &World) -> Player {
    let mut player = Player::default();
    player.connect(world);
    player
}

/// A world with one player in it and the loop stuck in what that has said.
fn stuck(
    limits: Limits,
) -> (
    World,
    Player,
    std::collections::VecDeque<Box<photinus_engine::inbox::Batch>>,
) {
    let mut world = World::new(limits);
    let mut player = arrive(&world);
    world.drain();
    player.read();
    player.say(1);
    world.turn();
    let taken = world.take();
    assert_eq!(taken.len(), 1);
    world.pass(STUCK_MS);
    (world, player, taken)
}

fn droppable(body: &[u8]) -> Vec<u8> {
    frame(0x26, &[&[0][..], body].concat())
}

#[test]
fn droppable_messages_go_first_and_only_while_it_lasts() {
    let (mut world, player, taken) = stuck(Limits {
        overload_wait_ms: 0,
        ..Limits::default()
    });
    let client = player.client.as_ref().unwrap();
    client.write(&[droppable(b"late"), frame(6, b"\0kept")].concat());
    world.pass(100);
    world.give_back(taken);
    assert_eq!(packets(&world.drain()), [b"kept"]);
    assert_eq!(world.count("dropped_overload"), 1);
    client.write(&droppable(b"new"));
    assert_eq!(packets(&world.drain()), [b"new"]);
    let mut newcomer = arrive(&world);
    world.drain();
    newcomer.read();
    assert!(newcomer.welcome);
}

#[test]
fn who_comes_stands_in_line_and_is_let_in_when_it_is_over() {
    let (mut world, _player, taken) = stuck(Limits::default());
    let mut players: Vec<_> = (0..5).map(|_| arrive(&world)).collect();
    world.pass(100);
    for (at, player) in players.iter_mut().enumerate() {
        player.read();
        assert_eq!(player.place, Some((at as u32 + 1, None)));
    }
    assert_eq!((world.count("in_line"), world.count("sessions")), (5, 1));
    // Somebody loses patience: the others move up, and are told.
    players.remove(1).cut();
    world.pass(1_100);
    for (at, player) in players.iter_mut().enumerate() {
        player.read();
        assert_eq!(player.place, Some((at as u32 + 1, None)));
        assert!(!player.welcome);
    }
    world.give_back(taken);
    let mut opened = 0;
    for _ in 0..10 {
        world.pass(20);
        opened += world
            .drain()
            .iter()
            .filter(|of| of.event == Event::Opened)
            .count();
    }
    assert_eq!(opened, 4);
    for player in &mut players {
        player.read();
        assert!(player.welcome && player.token.is_some());
    }
    assert_eq!((world.count("in_line"), world.count("sessions")), (0, 5));
    assert_eq!(world.count("stood_in_line"), 5);
}

#[test]
fn the_line_is_not_left_to_the_handshake_deadline_and_moves_by_who_leaves() {
    let mut world = World::new(Limits {
        sessions: 2,
        handshake_ms: 500,
        ..Limits::default()
    });
    let mut inside: Vec<_> = (0..2).map(|_| arrive(&world)).collect();
    world.drain();
    inside.iter_mut().for_each(Player::read);
    let mut players: Vec<_> = (0..3).map(|_| arrive(&world)).collect();
    world.pass(3_000);
    world.drain();
    for player in &mut players {
        player.read();
        assert!(player.client.is_some() && !player.welcome);
    }
    inside.pop().unwrap().leave();
    world.drain();
    world.pass(50);
    world.drain();
    players[0].read();
    assert!(players[0].welcome);
    inside.pop().unwrap().leave();
    world.drain();
    world.pass(1_100);
    world.drain();
    players[1].read();
    players[2].read();
    assert!(players[1].welcome && !players[2].welcome);
    let (place, estimate) = players[2].place.unwrap();
    assert_eq!(place, 1);
    assert!(estimate.is_some_and(|ms| ms > 0), "{estimate:?}");
}

#[test]
fn past_the_line_it_is_refused() {
    let mut world = World::new(Limits {
        sessions: 1,
        login_queue: 1,
        ..Limits::default()
    });
    let _inside = arrive(&world);
    world.drain();
    let mut players: Vec<_> = (0..2).map(|_| arrive(&world)).collect();
    world.drain();
    players.iter_mut().for_each(Player::read);
    assert_eq!(players[0].place, Some((1, None)));
    assert_eq!(players[1].end.as_deref(), Some("full"));
    let (mut world, _player, _taken) = stuck(Limits {
        login_queue: 0,
        ..Limits::default()
    });
    let mut player = arrive(&world);
    world.pass(100);
    player.read();
    assert_eq!(player.end.as_deref(), Some("overloaded"));
    assert_eq!(world.count("refused_overloaded"), 1);
}

#[test]
fn who_resumes_need_not_wait() {
    let (mut world, mut player, taken) = stuck(Limits::default());
    player.cut();
    world.turn();
    player.connect(&world);
    world.pass(100);
    player.read();
    assert_eq!((player.resumes, player.place), (1, None));
    world.give_back(taken);
}

#[test]
fn protocols_without_a_word_for_it_are_turned_away() {
    let (mut world, _player, _taken) = stuck(Limits::default());
    let mut pomelo = world.connect(POMELO);
    pomelo.write(&[HELLO, ACK].concat());
    let mut length = world.connect(LENGTH);
    world.pass(100);
    pomelo.read();
    assert!(pomelo.got.windows(8).any(|of| of == b"\"code\":5"));
    length.read();
    assert!(length.ended && length.got.is_empty());
    assert_eq!(world.count("refused_overloaded"), 2);
}

#[test]
fn who_speaks_in_line_has_not_waited_for_its_answer() {
    let mut world = World::new(Limits {
        sessions: 1,
        ..Limits::default()
    });
    let _inside = arrive(&world);
    world.drain();
    let mut player = arrive(&world);
    world.drain();
    player.read();
    player.client.as_ref().unwrap().write(&frame(5, b"say"));
    world.pass(100);
    assert_eq!(world.engine.wire_errors()["bad-handshake"], 1);
    assert_eq!(world.count("in_line"), 0);
}

#[test]
fn a_stop_dissolves_the_line() {
    let mut world = World::new(Limits {
        sessions: 1,
        ..Limits::default()
    });
    let _inside = arrive(&world);
    world.drain();
    let mut player = arrive(&world);
    world.drain();
    world.engine.drain("shutdown");
    world.drain();
    player.read();
    assert_eq!(player.end.as_deref(), Some("shutdown"));
    assert_eq!(world.count("in_line"), 0);
}
