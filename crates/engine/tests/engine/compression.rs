//! Payloads that are compressed: agreed on, bounded, and once for a group.

use crate::world::{packets, pomelo, Client, Seen, World, ACK, HELLO, PHOTINUS, POMELO};
use photinus_engine::connection::By;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_engine::memory::PIPE_BYTES;
use photinus_engine::outbox::{Action, FormatSet, Marks, OutRoute, What};
use photinus_proto::compress::{Algorithm, Contexts, Dictionary, Scheme};

const ZIPPED: &str = "tcp://memory:11?protocol=pomelo&heartbeat=0&compress=zlib&threshold=100";
const TRAINED: &str = concat!(
    "tcp://memory:12?protocol=photinus&resume=30&compress=zstd,snappy,zlib&threshold=100&dictionary=",
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/wire/game.dictionary"
);
const DICTIONARY: &[u8] = include_bytes!("../../../../tests/wire/game.dictionary");
const DICTIONARY_ID: [u8; 4] = 0x5048_0001_u32.to_be_bytes();

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: memory\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
      Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

// Bits of flags and heads (4.5, 4.7, 5.2).
const POMELO_COMPRESSED: u8 = 0x10;
const COMPRESSED: u8 = 0x10;
const DROPPABLE: u8 = 0x20;
const MESSAGE: u8 = 6;

/// With the two listeners above, and the name `news` for pushes.
fn world(limits: Limits) -> World {
    let mut world = World::new(limits);
    for url in [ZIPPED, TRAINED] {
        assert_eq!(world.engine.listen(url).unwrap(), url);
    }
    world.name_route(0, "news", None);
    world.flush();
    world
}

fn scheme(algorithm: Algorithm, dictionary: Option<&Dictionary>) -> Scheme<'_> {
    Scheme {
        algorithm,
        dictionary,
        threshold: 0,
        limit: 1 << 24,
    }
}

fn zlib(payload: &[u8]) -> Vec<u8> {
    let compressed = Contexts::default()
        .compress(&scheme(Algorithm::Zlib, None), payload)
        .unwrap()
        .to_vec();
    compressed
}

fn inflate(scheme: &Scheme<'_>, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Contexts::default()
        .inflate(scheme, payload, &mut out)
        .unwrap();
    out
}

/// A pomelo package with bit 4.
fn compressed(id: Option<u8>, payload: &[u8]) -> Vec<u8> {
    let mut package = pomelo(id, "say", payload);
    package[4] |= POMELO_COMPRESSED;
    package
}

/// A client whose session is open.
fn join(world: &mut World, url: &str, hello: &[u8]) -> (Client, Handle) {
    let mut client = world.connect(url);
    client.write(hello);
    let seen = world.drain();
    let opened = seen.iter().find(|seen| seen.event == Event::Opened);
    let handle = opened.expect("a session's opening").handle;
    client.read();
    (client, handle)
}

fn join_zipped(world: &mut World) -> (Client, Handle) {
    let (mut client, handle) = join(world, ZIPPED, &[HELLO, ACK].concat());
    client.got.clear();
    (client, handle)
}

/// A photinus client that has these algorithms and dictionaries; its welcome stays in `got`.
fn join_trained(world: &mut World, algorithms: &[u8], ids: &[u8]) -> (Client, Handle) {
    let mut fields = vec![1, 1, 1, 3, algorithms.len() as u8];
    fields.extend(algorithms);
    fields.extend([4, ids.len() as u8]);
    fields.extend(ids);
    let hello = [&[1, fields.len() as u8], &fields[..]].concat();
    join(world, TRAINED, &hello)
}

/// Heads and bodies of the photinus frames that have come; none is longer than two digits can say.
fn frames(client: &mut Client) -> Vec<(u8, Vec<u8>)> {
    client.read();
    let mut all = Vec::new();
    let got = std::mem::take(&mut client.got);
    let mut rest = &got[..];
    while let [head, low, more @ ..] = rest {
        let (length, more) = match low {
            0..0x80 => (usize::from(*low), more),
            _ => {
                assert!(more[0] < 0x80);
                (
                    usize::from(*low & 0x7f) | usize::from(more[0]) << 7,
                    &more[1..],
                )
            }
        };
        all.push((*head, more[..length].to_vec()));
        rest = &more[length..];
    }
    all
}

/// The pushes among them: their heads, and what stands behind the route's number.
fn pushes(client: &mut Client) -> Vec<(u8, Vec<u8>)> {
    let all = frames(client).into_iter();
    all.filter(|(head, _)| head & 0x0f == MESSAGE)
        .map(|(head, body)| (head, body[1..].to_vec()))
        .collect()
}

fn push(world: &mut World, to: Handle, marks: Marks, payload: &[u8]) {
    let what = What::Push(OutRoute::Named(0));
    world.post(Action::Send { to, what, marks }, payload);
}

fn broadcast(world: &mut World, marks: Marks, payload: &[u8]) {
    let action = Action::GroupSend {
        group: 1,
        but: Handle::NONE,
        format: FormatSet::ANY,
        route: OutRoute::Named(0),
        marks,
    };
    world.post(action, payload);
}

fn text(length: usize) -> Vec<u8> {
    b"all the news that is fit to be sent, ".repeat(length / 37 + 1)[..length].to_vec()
}

fn ends(seen: &[Seen]) -> Vec<(By, &str)> {
    seen.iter().filter_map(Seen::end).collect()
}

#[test]
fn a_pomelo_request_is_inflated_and_its_answer_compressed() {
    let mut world = world(Limits::default());
    let (mut client, handle) = join_zipped(&mut world);
    client.write(&compressed(Some(3), &zlib(&text(900))));
    client.write(&pomelo(Some(4), "say", b"plain"));
    let seen = world.drain();
    assert_eq!(packets(&seen), [&text(900)[..], b"plain"]);
    assert_eq!((seen[0].id, seen[1].id), (3, 4));
    assert_eq!(world.count("inflated"), 1);
    assert_eq!(world.count("inflated_to_bytes"), 900);
    for (id, length) in [(3, 99), (4, 100)] {
        let what = What::Response { id };
        let marks = Marks::NONE;
        world.post(
            Action::Send {
                to: handle,
                what,
                marks,
            },
            &text(length),
        );
    }
    push(&mut world, handle, Marks::NONE, &text(500));
    push(&mut world, handle, Marks::SECRET, &text(500));
    world.flush();
    let got = client.packages();
    assert_eq!(&got[0][4..6], [0x04, 3]);
    assert_eq!(got[0][6..], text(99));
    let zlib = scheme(Algorithm::Zlib, None);
    assert_eq!(&got[1][4..6], [0x04 | POMELO_COMPRESSED, 4]);
    assert_eq!(inflate(&zlib, &got[1][6..]), text(100));
    assert_eq!(got[2][4], 0x06 | POMELO_COMPRESSED);
    assert_eq!(inflate(&zlib, &got[2][10..]), text(500));
    assert_eq!((got[3][4], &got[3][10..]), (0x06, &text(500)[..]));
    assert_eq!(world.count("compressed"), 2);
    assert_eq!(world.count("compressed_from_bytes"), 600);
    assert!(world.count("compressed_to_bytes") < 200);
}

#[test]
fn what_does_not_become_shorter_is_sent_as_it_is() {
    let mut world = world(Limits::default());
    let (mut client, handle) = join_zipped(&mut world);
    let noise = zlib(&text(10_000));
    assert!(noise.len() >= 100);
    push(&mut world, handle, Marks::NONE, &noise);
    world.flush();
    let got = client.packages();
    assert_eq!((got[0][4], &got[0][10..]), (0x06, &noise[..]));
    assert_eq!(
        (world.count("compressed"), world.count("not_shorter")),
        (0, 1)
    );
}

#[test]
fn without_the_option_a_compressed_request_ends_its_connection() {
    let mut world = world(Limits::default());
    let (client, _) = world.join(POMELO);
    client.write(&compressed(Some(1), &zlib(&text(900))));
    let seen = world.drain();
    assert_eq!(ends(&seen), [(By::Protocol, "compression-unsupported")]);
    assert!(packets(&seen).is_empty());
}

#[test]
fn bombs_and_garbage_end_their_connection_alone() {
    let whole = zlib(&text(900));
    let two = [&whole[..], &whole].concat();
    for (payload, reason) in [
        (&zlib(&vec![0; 2_000_000])[..], "too-long"),
        (&whole[..whole.len() - 1], "bad-compression"),
        (&two, "bad-compression"),
        (b"no stream of zlib's", "bad-compression"),
        (b"", "bad-compression"),
    ] {
        let mut world = world(Limits::default());
        let (bystander, _) = join_zipped(&mut world);
        let (client, _) = join_zipped(&mut world);
        client.write(&compressed(None, &whole));
        client.write(&compressed(None, payload));
        client.write(&compressed(None, &whole));
        bystander.write(&compressed(None, &whole));
        let seen = world.drain();
        assert_eq!(ends(&seen), [(By::Protocol, reason)]);
        assert_eq!(packets(&seen), [text(900), text(900)], "one of each");
        assert_eq!(world.count("sessions"), 1);
    }
}

#[test]
fn a_read_full_of_bombs_is_inflated_as_it_is_handled() {
    let limits = Limits::default();
    let (budget, largest) = (limits.inbound_session_bytes, limits.max_payload);
    let mut world = world(limits);
    let (client, _) = join_zipped(&mut world);
    let bodies: Vec<_> = (0..60u8).map(|number| vec![number; 60_000]).collect();
    let frames = bodies.iter().map(|body| compressed(None, &zlib(body)));
    let wire: Vec<u8> = frames.flatten().collect();
    assert!(wire.len() < PIPE_BYTES, "{}", wire.len());
    client.write(&wire);
    let mut got = Vec::new();
    while got.len() < bodies.len() {
        for _ in 0..3 {
            world.turn();
        }
        let unhandled = world.count("unhandled_bytes") as usize;
        assert!(unhandled <= budget + largest + wire.len(), "{unhandled}");
        assert!(world.count("paused_now") == 1 || got.len() + 5 > bodies.len());
        let batches = world.take();
        let seen = crate::world::read(&batches);
        assert!(seen.iter().all(Seen::is_packet), "{seen:?}");
        got.extend(seen.into_iter().map(|seen| seen.body));
        world.give_back(batches);
    }
    assert_eq!(got, bodies);
    client.write(&pomelo(None, "say", b"and on"));
    assert_eq!(packets(&world.drain()), [b"and on"]);
    assert_eq!(world.count("partial_bytes"), 0);
}

#[test]
fn frames_that_wait_for_room_are_handled_though_their_client_has_left() {
    let mut world = world(Limits::default());
    let (client, _) = join_zipped(&mut world);
    for number in 0..20u8 {
        client.write(&compressed(None, &zlib(&[number; 60_000])));
    }
    client.link.close();
    let seen = world.drain();
    assert_eq!(packets(&seen).len(), 20);
    assert_eq!(ends(&seen), [(By::Client, "left")]);
    world.assert_at_rest();
}

#[test]
fn and_though_its_goodbye_came_in_the_same_read() {
    let mut world = world(Limits::default());
    let url = "ws://memory:14?protocol=pomelo&compress=zlib&heartbeat=0";
    world.engine.listen(url).unwrap();
    // Masked with zeros.
    let message = |bytes: &[u8]| {
        let length = bytes.len() as u16;
        let head = match length {
            0..126 => vec![0x82, 0x80 | length as u8],
            _ => [&[0x82, 0xfe], &length.to_be_bytes()[..]].concat(),
        };
        [&head[..], &[0; 4], bytes].concat()
    };
    let opening = [UPGRADE, &message(&[HELLO, ACK].concat())].concat();
    let (client, _) = join(&mut world, url, &opening);
    let bodies: Vec<_> = (0..20u8).map(|number| vec![number; 60_000]).collect();
    let frames = bodies.iter().map(|body| compressed(None, &zlib(body)));
    let wire: Vec<u8> = frames.flatten().collect();
    client.write(&[&message(&wire), &b"\x88\x80\0\0\0\0"[..]].concat());
    world.turn();
    assert_eq!(world.count("sessions"), 1, "it is not handled yet");
    let seen = world.drain();
    assert_eq!(packets(&seen), bodies);
    assert_eq!(ends(&seen), [(By::Client, "left")]);
    world.assert_at_rest();
}

#[test]
fn what_it_becomes_counts_against_the_rate() {
    let limits = Limits {
        session_bytes_per_s: 100_000,
        ..Limits::default()
    };
    let mut world = world(limits);
    let (client, _) = join_zipped(&mut world);
    for number in 0..20u8 {
        client.write(&compressed(None, &zlib(&[number; 60_000])));
    }
    let seen = world.drain();
    assert_eq!(ends(&seen), [(By::Protocol, "flood")]);
    assert!(packets(&seen).len() < 17);
}

#[test]
fn each_photinus_client_gets_what_it_can() {
    let mut world = world(Limits::default());
    let dictionary = Dictionary::read(DICTIONARY).unwrap();
    for (algorithms, ids, agreed, with) in [
        (&[1, 2, 3][..], &DICTIONARY_ID[..], Some(3), true),
        (&[3], &[0, 0, 0, 9], Some(3), false),
        (&[3, 1], &[], Some(3), false),
        (&[1, 2], &DICTIONARY_ID, Some(2), false),
        (&[1], &[], Some(1), false),
        (&[], &DICTIONARY_ID, None, false),
    ] {
        let (mut client, handle) = join_trained(&mut world, algorithms, ids);
        let (head, welcome) = frames(&mut client).remove(0);
        assert_eq!(head, 2);
        let compression = agreed.map(|of| [8, 2, of, 100]);
        let named = [&[9, 4], &DICTIONARY_ID[..]].concat();
        let has = |field: &[u8]| welcome.windows(field.len()).any(|of| of == field);
        assert!(compression.is_none_or(|field| has(&field)), "{welcome:?}");
        assert_eq!(has(&named), with);
        push(&mut world, handle, Marks::NONE, &text(400));
        push(&mut world, handle, Marks::DROPPABLE, &text(401));
        push(&mut world, handle, Marks::SECRET, &text(402));
        world.flush();
        let got = pushes(&mut client);
        let heads: Vec<u8> = got.iter().map(|(head, _)| *head).collect();
        let Some(agreed) = agreed else {
            assert_eq!(heads, [MESSAGE, MESSAGE | DROPPABLE, MESSAGE]);
            continue;
        };
        let packed = MESSAGE | COMPRESSED;
        assert_eq!(heads, [packed, packed | DROPPABLE, MESSAGE]);
        let algorithm = [Algorithm::Zlib, Algorithm::Snappy, Algorithm::Zstd][agreed as usize - 1];
        let scheme = scheme(algorithm, with.then_some(&dictionary));
        assert_eq!(inflate(&scheme, &got[0].1), text(400));
        assert_eq!(inflate(&scheme, &got[1].1), text(401));
        assert_eq!(got[2].1, text(402));
        // And the other way.
        client.write(b"\x05\x03say");
        let theirs = Contexts::default()
            .compress(&scheme, &text(300))
            .unwrap()
            .to_vec();
        let frame = [
            &[MESSAGE | COMPRESSED, theirs.len() as u8 + 1, 0],
            &theirs[..],
        ]
        .concat();
        client.write(&frame);
        assert_eq!(packets(&world.drain()), [text(300)]);
    }
}

#[test]
fn a_broadcast_is_compressed_once_for_all_that_have_agreed_alike() {
    let mut world = world(Limits::default());
    let mut members = Vec::new();
    // Each next to one with another agreement.
    for _ in 0..10 {
        members.push(join_trained(&mut world, &[3], &DICTIONARY_ID));
        members.push(join_trained(&mut world, &[1], &[]));
        members.push(join_trained(&mut world, &[3], &[]));
        members.push(join_trained(&mut world, &[], &[]));
        members.push(join_zipped(&mut world));
    }
    for (_, handle) in &members {
        world.add(1, *handle);
    }
    world.flush();
    broadcast(&mut world, Marks::NONE, &text(600)); // alone in its turn
    world.flush();
    assert_eq!(world.count("compressed"), 4);
    broadcast(&mut world, Marks::NONE, &text(700));
    broadcast(&mut world, Marks::SECRET, &text(701));
    broadcast(&mut world, Marks::NONE, &text(10));
    push(&mut world, members[0].1, Marks::NONE, &text(800));
    world.flush();
    assert_eq!(world.count("compressed"), 9, "two a kind, and one alone");
    assert_eq!(world.count("packets_out"), 4 * 50 + 1);
    let dictionary = Dictionary::read(DICTIONARY).unwrap();
    let zlib = scheme(Algorithm::Zlib, None);
    let zstd = scheme(Algorithm::Zstd, Some(&dictionary));
    let mut expected = vec![text(600), text(700), text(701), text(10), text(800)];
    for (number, (client, _)) in members.iter_mut().enumerate() {
        let got = match number % 5 {
            4 => {
                let packages = client.packages().into_iter();
                let got = packages.map(|package| (package[4], package[10..].to_vec()));
                got.collect()
            }
            _ => pushes(client),
        };
        let scheme = match number % 5 {
            1 | 4 => &zlib,
            _ => &zstd,
        };
        let bodies = got.into_iter().map(|(head, body)| match head & COMPRESSED {
            0 => body,
            _ => inflate(scheme, &body),
        });
        assert_eq!(bodies.collect::<Vec<_>>(), expected, "{number}");
        expected.truncate(4);
    }
}

#[test]
fn what_waits_for_a_slow_reader_is_compressed_when_it_is_written() {
    let mut world = world(Limits::default());
    let (mut client, handle) = join_zipped(&mut world);
    let noise: Vec<u8> = (0..PIPE_BYTES as u32 * 2)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    push(&mut world, handle, Marks::SECRET, &noise);
    world.flush();
    push(&mut world, handle, Marks::NONE, &text(900));
    push(&mut world, handle, Marks::SECRET, &text(901));
    world.flush();
    assert_eq!(world.count("compressed"), 0, "not yet");
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(client.packages());
        world.turn();
    }
    assert_eq!(world.count("compressed"), 1);
    let zlib = scheme(Algorithm::Zlib, None);
    assert_eq!(got[0][10..], noise);
    assert_eq!(inflate(&zlib, &got[1][10..]), text(900));
    assert_eq!(got[2][10..], text(901));
    assert_eq!(world.count("waiting_out_bytes"), 0);
}

#[test]
fn what_is_said_again_after_a_cut_is_compressed_for_the_new_connection() {
    let mut world = world(Limits::default());
    let (mut client, handle) = join_trained(&mut world, &[3], &[]);
    let (_, welcome) = frames(&mut client).remove(0);
    let at = welcome.windows(2).position(|of| of == [10, 20]).unwrap();
    let token = &welcome[at + 2..at + 22];
    push(&mut world, handle, Marks::NONE, &text(600));
    push(&mut world, handle, Marks::SECRET, &text(601));
    world.flush();
    client.link.close();
    world.drain();
    assert_eq!(world.count("detached"), 1);
    let mut fields = vec![1, 1, 1, 3, 1, 1, 5, 21];
    fields.extend(token);
    fields.push(0);
    let mut again = world.connect(TRAINED);
    again.write(&[&[1, fields.len() as u8], &fields[..]].concat());
    world.drain();
    let got = pushes(&mut again);
    assert_eq!(got[0].0, MESSAGE | COMPRESSED);
    let zlib = scheme(Algorithm::Zlib, None);
    assert_eq!(inflate(&zlib, &got[0].1), text(600));
    assert_eq!(got[1], (MESSAGE, text(601)));
    assert_eq!(world.count("resumed"), 1);
}

#[test]
fn whoever_has_agreed_on_nothing_is_sent_nothing_compressed() {
    let mut world = world(Limits::default());
    let (client, _) = join(&mut world, PHOTINUS, &[1, 6, 1, 1, 1, 3, 1, 1]);
    client.write(b"\x05\x03say\x16\x02\x00\x00");
    let seen = world.drain();
    assert_eq!(ends(&seen), [(By::Protocol, "compression-unsupported")]);
}

#[test]
fn a_secret_is_not_deflated_by_websocket_either() {
    let mut world = world(Limits::default());
    let url = "ws://memory:13?protocol=length4&deflate=1";
    world.engine.listen(url).unwrap();
    let (mut client, handle) = join(&mut world, url, UPGRADE);
    assert!(client.got.starts_with(b"HTTP/1.1 101 "));
    let is_deflated = |client: &mut Client| {
        client.read();
        let first = std::mem::take(&mut client.got)[0];
        assert_eq!(first & !0x40, 0x82);
        first & 0x40 != 0
    };
    client.got.clear();
    world.add(1, handle);
    for (secret, deflated) in [(false, true), (true, false), (false, true)] {
        let marks = Marks::new(false, secret);
        let what = What::Response { id: 0 };
        let to = handle;
        world.post(Action::Send { to, what, marks }, &text(600));
        world.flush();
        assert_eq!(is_deflated(&mut client), deflated);
        world.post(
            Action::GroupSend {
                group: 1,
                but: Handle::NONE,
                format: FormatSet::ANY,
                route: OutRoute::Number(1),
                marks,
            },
            &text(600),
        );
        world.flush();
        assert_eq!(is_deflated(&mut client), deflated);
    }
}
