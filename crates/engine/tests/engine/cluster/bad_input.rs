//! What a node that has gone wrong, or is not one of ours, can say over a link: it costs that link at most, is counted,
//! and nothing of it stays.

use crate::cluster::Cluster;
use crate::scripted::Scripted;
use photinus_engine::inbox::{Event, UNKNOWN_ROUTE};
use photinus_engine::limits::Limits;
use photinus_proto::bluenet::control::{Control, Tag, LINK};
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority};
use photinus_proto::bluenet::message::{PacketHead, PacketRoute};
use photinus_proto::codec;
use photinus_proto::link::hello::Roles;

const HOME: Tag = Tag(1 << 12 | 1);

fn arrive() -> Control<'static> {
    Control::Arrive {
        target: 0,
        protocol: 0,
        fresh: true,
        gap: false,
        address: "192.0.2.1:5",
        state: None,
    }
}

/// Of a proxy's session, in this place and of this generation.
fn theirs(place: u32, generation: u32) -> u32 {
    place << 12 | generation
}

fn wire_errors(cluster: &Cluster, member: usize, reason: &str) -> u64 {
    let errors = cluster.members[member].engine.wire_errors();
    errors.get(reason).copied().unwrap_or(0)
}

#[test]
fn sessions_whose_end_was_never_said_end_when_their_place_is_used_again() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let mut peer = Scripted::link(&mut cluster, 1, "proxy-9", Roles::PROXY);
    for generation in 1..=50 {
        peer.control(HOME.0, theirs(3, generation), arrive());
    }
    peer.turn(&mut cluster);
    assert_eq!(cluster.members[1].count("sessions"), 1);
    peer.socket.close();
    cluster.pass(5_000);
    let world = &cluster.members[1];
    assert_eq!(world.count("sessions"), 0);
    assert_eq!(
        world.count("sessions_opened"),
        world.count("sessions_closed")
    );
    assert_eq!(world.engine.shared.gate.counts()[2], 0);
}

#[test]
fn what_breaks_the_order_costs_the_link_and_nobody_else() {
    type Say = fn(&mut Scripted);
    let cases: [Say; 9] = [
        |of| (0..2).for_each(|_| of.control(HOME.0, theirs(1, 1), arrive())),
        |of| (1..=3).for_each(|epoch| of.control(Tag::new(0, epoch).0, theirs(1, 1), arrive())),
        |of| of.control(Tag::new(9, 1).0, theirs(1, 1), arrive()),
        |of| of.control(HOME.0, 0, arrive()),
        |of| of.control(0, LINK, Control::Routes { entries: &[1] }),
        |of| {
            let (index, number, name) = (1, 7, "said");
            of.control(
                0,
                LINK,
                Control::Name {
                    index,
                    number,
                    name,
                },
            );
        },
        |of| {
            let mut header = Header::new(Kind::Node, Priority::Usual, HOME.0, theirs(1, 1));
            header.ext = true;
            of.say(header, b"\0\0");
        },
        |of| {
            let mut header = Header::new(Kind::Node, Priority::Usual, HOME.0, theirs(1, 1));
            header.hops = 3;
            of.say(header, b"\0\0");
        },
        |of| {
            let mut header = Header::new(Kind::Session, Priority::Usual, 5, 5);
            header.flags = Flags::TRACED;
            of.say(header, b"\x30");
        },
    ];
    for (number, say) in cases.into_iter().enumerate() {
        let mut cluster = Cluster::new(1, 1, &Limits::default());
        let (client, home, _) = cluster.join(0);
        let mut peer = Scripted::link(&mut cluster, 1, "proxy-9", Roles::PROXY);
        say(&mut peer);
        peer.turn(&mut cluster);
        cluster.pass(100);
        peer.turn(&mut cluster);
        assert!(peer.ended, "{number}");
        assert_eq!(wire_errors(&cluster, 1, "bad-frame"), 1, "{number}");
        client.say(b"still here");
        cluster.settle();
        assert_eq!(cluster.members[home].packets(), [b"still here"]);
        assert_eq!(cluster.members[home].count("sessions"), 1, "{number}");
    }
}

#[test]
fn another_nodes_sessions_are_not_its_to_speak_for() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    cluster.members[0]
        .engine
        .listen("tcp://memory:900?protocol=link")
        .unwrap();
    let (mut client, home, session) = cluster.join(0);
    let mut world = Scripted::link(&mut cluster, 0, "world-9", Roles::WORLD);
    let mut proxy = Scripted::link(&mut cluster, 1, "proxy-9", Roles::PROXY);
    let dropped = |of: &Cluster| [0, 1].map(|at| of.members[at].count("dropped_stale_handle"));
    // The session's handle at its proxy.
    let theirs = (1..u32::MAX).map(|of| theirs(0, of)).next().unwrap();
    let header = Header::new(Kind::Session, Priority::Usual, theirs, HOME.0);
    world.say(header, b"\x33\x07forged");
    for control in [
        Control::Fenced { state: b"" },
        Control::Arrived,
        Control::Refused { reason: "no" },
        Control::Data { state: b"mine" },
        Control::GroupAdd { group: 1 },
        Control::Leave {
            request: 1,
            slot: 0,
        },
        Control::Xoff,
    ] {
        world.control(theirs, HOME.0, control);
    }
    world.turn(&mut cluster);
    // What another proxy's session would send.
    proxy.say(
        Header::new(Kind::Node, Priority::Usual, HOME.0, theirs),
        b"\0\0forged",
    );
    for control in [
        Control::Fence,
        Control::Detach,
        Control::Cut,
        Control::Closed { by: 0, reason: "" },
        Control::Done {
            request: 7,
            slot: 0,
            reason: "",
        },
    ] {
        proxy.control(HOME.0, theirs, control);
    }
    proxy.turn(&mut cluster);
    assert_eq!(dropped(&cluster), [8, 1]);
    assert_eq!(proxy.controls(&[40]).len(), 1, "its sender is told");
    assert!(!proxy.ended && !world.ended);
    client.say(b"own");
    cluster.settle();
    assert_eq!(cluster.members[home].packets(), [b"own"]);
    cluster.members[home].send(session, b"answer");
    cluster.settle();
    assert_eq!(client.frames(), [b"answer"]);
    let ends = [Event::Fence, Event::Closed, Event::Cut, Event::Done];
    assert!(!cluster.members[home]
        .seen
        .iter()
        .any(|of| ends.contains(&of.event)));
}

#[test]
fn what_nobody_can_be_told_of_is_counted_and_costs_no_python() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let mut peer = Scripted::link(&mut cluster, 1, "proxy-9", Roles::PROXY);
    peer.control(HOME.0, theirs(1, 1), arrive());
    for kind in [codec::Kind::Notify, codec::Kind::Request] {
        let mut payload = Vec::new();
        PacketHead {
            route: PacketRoute::Unknown,
            kind,
            id: 3,
            number: 0,
        }
        .encode(&mut payload);
        payload.extend(b"nowhere");
        let header = Header::new(Kind::Node, Priority::Usual, HOME.0, theirs(1, 1));
        peer.say(header, &payload);
    }
    peer.turn(&mut cluster);
    let world = &mut cluster.members[1];
    assert_eq!(world.count("unknown_routes"), 1);
    let packets: Vec<_> = world.seen.iter().filter(|of| of.is_packet()).collect();
    let [request] = &packets[..] else {
        panic!("{packets:?}");
    };
    assert_eq!((request.route, request.id), (UNKNOWN_ROUTE, 3));
}

#[test]
fn a_client_that_sends_headers_sends_payloads() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let (client, home, _) = cluster.join(0);
    let mut forged = vec![0, 0, 11];
    forged.extend(Header::new(Kind::Control, Priority::Control, 0, LINK).encode());
    forged.push(40);
    client.say(&forged);
    cluster.settle();
    assert_eq!(cluster.members[home].packets(), [forged]);
    assert_eq!(cluster.members[home].count("dropped_stale_handle"), 0);
}

/// Pseudo-random numbers (xorshift64*), the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % u64::from(bound)) as u32
    }

    fn frame(&mut self) -> (Header, Vec<u8>) {
        const KINDS: [Kind; 8] = [
            Kind::Session,
            Kind::Sessions,
            Kind::Group,
            Kind::Space,
            Kind::Service,
            Kind::App,
            Kind::Node,
            Kind::Control,
        ];
        const PRIORITIES: [Priority; 4] = [
            Priority::Bulk,
            Priority::Usual,
            Priority::High,
            Priority::Control,
        ];
        let tag = Tag::new(self.below(10) as u8, self.below(4) as u16).0;
        let session = theirs(self.below(4), self.below(3));
        let number = self.below(u32::MAX);
        let places = [tag, session, 0, LINK, 77, number];
        let (to, from) = (
            places[self.below(6) as usize],
            places[self.below(6) as usize],
        );
        let kind = KINDS[self.below(8) as usize];
        let mut header = Header::new(kind, PRIORITIES[self.below(4) as usize], to, from);
        if self.below(8) == 0 {
            header.flags = Flags::DROPPABLE.with(Flags::SECRET);
        }
        let mut payload = Vec::new();
        let (request, slot) = (self.below(5), self.below(12) as u8);
        let state = self.below(2) == 0;
        match self.below(16) {
            0..=2 => Control::Arrive {
                target: [0, 77, number][self.below(3) as usize],
                protocol: self.below(11) as u8,
                fresh: self.below(2) == 0,
                gap: self.below(2) == 0,
                address: "192.0.2.1:5",
                state: state.then_some(&b"state"[..]),
            }
            .encode(&mut payload),
            3 => Control::Fence.encode(&mut payload),
            4 => Control::Detach.encode(&mut payload),
            5 => Control::Fenced { state: b"state" }.encode(&mut payload),
            6 => Control::Arrived.encode(&mut payload),
            7 => Control::Refused { reason: "no" }.encode(&mut payload),
            8 => Control::Move {
                request,
                slot,
                node: ["world-2", "world-1", "", "proxy-0"][self.below(4) as usize],
                target: self.below(100),
                class: self.below(3),
            }
            .encode(&mut payload),
            9 => Control::Attach {
                request,
                node: ["world-2", "world-1", "", "proxy-0"][self.below(4) as usize],
                target: self.below(100),
                class: self.below(3),
            }
            .encode(&mut payload),
            10 => Control::GroupAdd { group: request }.encode(&mut payload),
            11 => Control::GroupRemove { group: request }.encode(&mut payload),
            12 => [Control::Xoff, Control::Xon, Control::Gone, Control::Cut][slot as usize % 4]
                .encode(&mut payload),
            13 => Control::Closed {
                by: slot,
                reason: "",
            }
            .encode(&mut payload),
            14 => payload.extend([0x33, 7, b'x']),
            _ => payload.extend((0..self.below(20)).map(|_| number as u8)),
        }
        if self.below(6) == 0 && !payload.is_empty() {
            let at = self.below(payload.len() as u32) as usize;
            payload[at] ^= 1 << self.below(8);
        }
        (header, payload)
    }
}

#[test]
fn whatever_a_node_says_nothing_of_it_stays() {
    for seed in 1..=60 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let mut cluster = Cluster::new(1, 1, &Limits::default());
        cluster.members[0]
            .engine
            .listen("tcp://memory:900?protocol=link")
            .unwrap();
        let (mut client, home, session) = cluster.join(0);
        for round in 0..10 {
            let (member, role) = [(0, Roles::WORLD), (1, Roles::PROXY)][round % 2];
            let name = format!("peer-{round}");
            let mut peer = Scripted::link(&mut cluster, member, &name, role);
            for _ in 0..60 {
                let (header, payload) = random.frame();
                // An honest one does not say this by itself, and so it cannot be made to.
                if !header.is_link() && !peer.ended {
                    peer.say(header, &payload);
                    peer.turn(&mut cluster);
                }
            }
            peer.socket.close();
            cluster.pass(4_000);
        }
        client.say(b"still here");
        cluster.members[home].send(session, b"and served");
        cluster.settle();
        let packets = cluster.members[home].packets();
        assert_eq!(
            packets.last().map(Vec::as_slice),
            Some(&b"still here"[..]),
            "{seed}"
        );
        let frames = client.frames();
        assert!(frames.contains(&b"and served".to_vec()), "{seed}");
        client.link.close();
        cluster.pass(1_000);
        for member in &cluster.members {
            for gauge in [
                "sessions",
                "unhandled_bytes",
                "paused_now",
                "detached",
                "waiting_out_bytes",
            ] {
                assert_eq!(member.count(gauge), 0, "{seed}: {gauge} of {}", member.name);
            }
            assert_eq!(member.engine.shared.gate.counts()[2], 0, "{seed}");
            let [opened, closed] =
                ["sessions_opened", "sessions_closed"].map(|of| member.count(of));
            assert_eq!(opened, closed, "{seed}");
        }
    }
}

#[test]
fn what_a_node_says_of_sessions_to_a_stuck_application_is_bounded() {
    let limits = Limits {
        inbound_total_bytes: 64 << 10,
        ..Limits::default()
    };
    const SAID: usize = 20_000;
    let mut cluster = Cluster::new(1, 1, &limits);
    let mut peer = Scripted::link(&mut cluster, 1, "proxy-9", Roles::PROXY);
    peer.control(HOME.0, theirs(1, 1), arrive());
    peer.turn(&mut cluster);
    cluster.members[1].stuck = true;
    for number in 1..=SAID {
        peer.control(HOME.0, theirs(1, 1), Control::Cut);
        if number % 500 == 0 {
            peer.turn(&mut cluster);
        }
    }
    let world = &cluster.members[1];
    let (waiting, read_at_once) = (world.count("unhandled_bytes") as usize, 64 << 10);
    assert!(waiting >= limits.inbound_total_bytes, "{waiting}");
    assert!(
        waiting <= limits.inbound_total_bytes + read_at_once,
        "{waiting}"
    );
    assert_eq!(world.count("paused_total"), 1);
    cluster.members[1].stuck = false;
    for _ in 0..SAID / 500 {
        peer.turn(&mut cluster);
    }
    let world = &cluster.members[1];
    let cuts = world.seen.iter().filter(|of| of.event == Event::Cut);
    assert_eq!(cuts.count(), SAID, "nothing of it is lost");
    assert_eq!(world.count("unhandled_bytes"), 0);
}
