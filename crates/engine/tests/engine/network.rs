//! The memory back's network, between two backs that no engine stands on.

use photinus_engine::back::{Address, Back, Ready, Source, Stream};
use photinus_engine::memory::{Hub, Memory, MemoryStream, Network};
use std::io::ErrorKind;

const PLACE: &str = "memory:1";

/// Two nodes, of which `b` listens.
struct Two {
    network: Network,
    a: Memory,
    b: Memory,
}

impl Two {
    fn new() -> Two {
        let network = Network::default();
        let [a, b] = ["a", "b"].map(|name| Hub::new(&network, name));
        b.listen(0, PLACE).unwrap();
        let (a, b) = (a.back(), b.back());
        Two { network, a, b }
    }

    /// A connection, from `a`'s end to `b`'s, under the number 7 at both.
    fn connected(&mut self) -> (MemoryStream, MemoryStream) {
        let mut from = self.a.dial(PLACE).unwrap();
        assert_eq!(told(&mut self.b), [Source::Listener(0)]);
        let (mut to, address) = self.b.accept(0).unwrap();
        assert!(matches!(address, Address::Memory(1)));
        self.a.watch(&mut from, 7).unwrap();
        self.b.watch(&mut to, 7).unwrap();
        told(&mut self.a);
        told(&mut self.b);
        (from, to)
    }
}

fn told(back: &mut Memory) -> Vec<Source> {
    let mut ready: Vec<Ready> = Vec::new();
    back.poll(&mut ready, Some(0)).unwrap();
    ready.into_iter().map(|of| of.source).collect()
}

fn read(stream: &mut MemoryStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = vec![0; 100];
    let count = stream.read(&mut bytes).map_err(|error| error.kind())?;
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn both_ends_are_streams_and_are_told_of() {
    let mut two = Two::new();
    let (mut from, mut to) = two.connected();
    assert_eq!(from.write(b"there").unwrap(), 5);
    assert_eq!(told(&mut two.b), [Source::Connection(7)]);
    assert_eq!(read(&mut to).unwrap(), b"there");
    assert_eq!(
        told(&mut two.a),
        [Source::Connection(7)],
        "there is room again"
    );
    assert_eq!(read(&mut to), Err(ErrorKind::WouldBlock));
    assert_eq!(to.write(b"back").unwrap(), 4);
    drop(to);
    assert_eq!(read(&mut from).unwrap(), b"back");
    assert_eq!(read(&mut from).unwrap(), b"", "the end");
    assert_eq!(
        from.write(b"late").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

#[test]
fn what_is_sent_takes_its_time_and_keeps_its_order() {
    let mut two = Two::new();
    let (mut from, mut to) = two.connected();
    two.network.delay("a", "b", 500);
    from.write(b"one").unwrap();
    two.network.delay("a", "b", 100);
    from.write(b"two").unwrap();
    assert_eq!(two.network.next_arrival(), Some(500));
    two.network.set_now(499);
    assert_eq!(read(&mut to), Err(ErrorKind::WouldBlock));
    assert!(!two.network.has_events());
    two.network.set_now(500);
    assert!(two.network.has_events());
    assert_eq!(read(&mut to).unwrap(), b"onetwo", "none overtakes");
    to.write(b"back").unwrap();
    assert_eq!(read(&mut from).unwrap(), b"back", "this way takes no time");
}

#[test]
fn a_dialled_connection_can_be_used_when_both_ways_were_gone() {
    let mut two = Two::new();
    two.network.delay("a", "b", 30);
    two.network.delay("b", "a", 20);
    let mut from = two.a.dial(PLACE).unwrap();
    two.a.watch(&mut from, 3).unwrap();
    told(&mut two.a);
    two.network.set_now(30);
    assert_eq!(told(&mut two.b), [Source::Listener(0)]);
    let would_block = from.write(b"early").unwrap_err().kind();
    assert_eq!(would_block, ErrorKind::WouldBlock);
    two.network.set_now(50);
    assert_eq!(told(&mut two.a), [Source::Connection(3)]);
    assert_eq!(from.write(b"now").unwrap(), 3);
}

#[test]
fn on_a_narrow_road_it_comes_in_pieces() {
    let mut two = Two::new();
    let (mut from, mut to) = two.connected();
    two.network.narrow("a", "b", 3);
    two.network.delay("a", "b", 10);
    assert_eq!(from.write(b"pieces").unwrap(), 3);
    let full = from.write(b"ces").unwrap_err().kind();
    assert_eq!(full, ErrorKind::WouldBlock, "until the first is read");
    two.network.set_now(10);
    assert_eq!(read(&mut to).unwrap(), b"pie");
    assert_eq!(told(&mut two.a), [Source::Connection(7)]);
    assert_eq!(from.write(b"ces").unwrap(), 3);
}

#[test]
fn who_is_refused_is_told() {
    let mut two = Two::new();
    let kind = |dialled: std::io::Result<MemoryStream>| dialled.err().map(|of| of.kind());
    let nowhere = two.a.dial("memory:9");
    assert_eq!(kind(nowhere), Some(ErrorKind::ConnectionRefused));
    two.network.refuse("a", "b", true);
    let refused = two.a.dial(PLACE);
    assert_eq!(kind(refused), Some(ErrorKind::ConnectionRefused));
    two.network.delay("a", "b", 10);
    let mut later = two.a.dial(PLACE).unwrap();
    two.network.set_now(10);
    assert_eq!(read(&mut later), Err(ErrorKind::ConnectionRefused));
    two.network.refuse("a", "b", false);
    two.network.delay("a", "b", 0);
    two.b.stop_listening();
    let stopped = two.a.dial(PLACE);
    assert_eq!(kind(stopped), Some(ErrorKind::ConnectionRefused));
}

#[test]
fn a_cut_loses_what_was_not_read_and_resets_both_ends() {
    let mut two = Two::new();
    two.network.record();
    let (mut from, mut to) = two.connected();
    from.write(b"read").unwrap();
    assert_eq!(read(&mut to).unwrap(), b"read");
    from.write(b"lost").unwrap();
    let ways = two.network.cut("b", "a");
    let there = ways.iter().find(|way| way.from == "a").unwrap();
    assert_eq!((&there.written[..], there.read), (&b"readlost"[..], 4));
    assert_eq!(there.to, "b");
    for (end, back) in [(&mut from, &mut two.a), (&mut to, &mut two.b)] {
        assert!(told(back).contains(&Source::Connection(7)));
        assert_eq!(read(end), Err(ErrorKind::ConnectionReset));
        assert!(end.write(b"x").is_err());
    }
    assert!(two.network.cut("a", "b").is_empty(), "it is cut already");
}

#[test]
fn what_is_frozen_is_held_and_comes_later() {
    let mut two = Two::new();
    let (mut from, mut to) = two.connected();
    two.network.freeze("a", "b", true);
    from.write(b"held").unwrap();
    from.finish();
    two.network.set_now(1_000_000);
    assert_eq!(read(&mut to), Err(ErrorKind::WouldBlock));
    assert_eq!(two.network.next_arrival(), None);
    two.network.freeze("a", "b", false);
    assert_eq!(read(&mut to).unwrap(), b"held");
    assert_eq!(read(&mut to).unwrap(), b"");
}

#[test]
fn a_killed_node_resets_its_peers_and_another_takes_its_place() {
    let mut two = Two::new();
    let (mut from, to) = two.connected();
    two.network.kill("b");
    assert_eq!(told(&mut two.a), [Source::Connection(7)]);
    assert_eq!(read(&mut from), Err(ErrorKind::ConnectionReset));
    assert!(two.a.dial(PLACE).is_err());
    drop(to); // nobody hears of it any more
    let next = Hub::new(&two.network, "b");
    next.listen(0, PLACE).unwrap();
    two.b = next.back();
    two.connected();
}

#[test]
fn of_a_vanished_node_nothing_is_heard() {
    let mut two = Two::new();
    let (mut from, to) = two.connected();
    two.network.vanish("b");
    drop(to);
    assert_eq!(read(&mut from), Err(ErrorKind::WouldBlock));
    let mut hangs = two.a.dial(PLACE).unwrap();
    two.network.set_now(1_000_000);
    assert_eq!(read(&mut hangs), Err(ErrorKind::WouldBlock));
    let bytes = vec![0; 100_000];
    assert_eq!(from.write(&bytes).unwrap(), 64 << 10);
    let full = from.write(&bytes).unwrap_err().kind();
    assert_eq!(full, ErrorKind::WouldBlock);
}

#[test]
fn one_address_is_one_nodes() {
    let two = Two::new();
    let other = Hub::new(&two.network, "c");
    let taken = other.listen(0, PLACE).unwrap_err().kind();
    assert_eq!(taken, ErrorKind::AddrInUse);
}
