//! Links and time: in memory, where the test passes it.

use crate::nodes::{identity, Node};
use photinus_engine::engine::Engine;
use photinus_engine::limits::Limits;
use photinus_engine::memory::Network;
use photinus_proto::bluenet::header::Priority;

const PLACE: &str = "memory:7801";

struct Pair {
    network: Network,
    now_ms: u64,
    a: Node,
    b: Node,
}

fn node(network: &Network, name: &str, generation: u64) -> Node {
    let engine = Engine::memory_in(Limits::default(), network, name).unwrap();
    engine.join(identity(name, generation)).unwrap();
    Node::with(engine)
}

fn listening(network: &Network, generation: u64) -> Node {
    let node = node(network, "a", generation);
    node.engine
        .listen(&format!("tcp://{PLACE}?protocol=link"))
        .unwrap();
    node
}

impl Pair {
    /// `b` dials `a`, and both are linked.
    fn new() -> Pair {
        let network = Network::default();
        let mut pair = Pair {
            a: listening(&network, 1),
            b: node(&network, "b", 1),
            network,
            now_ms: 1_000,
        };
        pair.b.dial("a", PLACE);
        pair.pass(10);
        assert!(pair.a.link("b").is_some() && pair.b.link("a").is_some());
        pair
    }

    fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now_ms += 1;
            loop {
                let now = self.now_ms * 1_000_000;
                let busy = [&self.a, &self.b].map(|of| of.engine.turn(now).unwrap());
                let took = [&mut self.a, &mut self.b].map(Node::take);
                if busy == [false; 2] && took == [false; 2] {
                    break;
                }
            }
        }
    }

    fn freeze(&mut self, frozen: bool) {
        self.network.freeze("a", "b", frozen);
        self.network.freeze("b", "a", frozen);
    }

    fn lost(&self) -> [Vec<String>; 2] {
        [self.a.lost(), self.b.lost()]
    }
}

#[test]
fn an_idle_link_stays_and_knows_its_round_trip() {
    let mut pair = Pair::new();
    pair.network.delay("a", "b", 3_000_000);
    pair.pass(20_000);
    assert_eq!(pair.lost(), [[""; 0]; 2]);
    for node in [&pair.a, &pair.b] {
        let [report] = &node.engine.links()[..] else {
            panic!("{:?}", node.engine.links());
        };
        let round_trip = report.round_trip_us.unwrap();
        assert!((3_000..5_000).contains(&round_trip), "{report:?}");
        assert_eq!(report.cuts, 0);
    }
}

#[test]
fn half_a_second_of_silence_is_nothing() {
    let mut pair = Pair::new();
    pair.freeze(true);
    pair.pass(1_000);
    pair.freeze(false);
    pair.pass(2_000);
    assert_eq!(pair.lost(), [[""; 0]; 2]);
    assert_eq!(pair.a.count("link_cuts"), 0);
}

#[test]
fn two_seconds_of_silence_cost_the_connection_and_nothing_else() {
    let mut pair = Pair::new();
    let link = pair.b.link("a").unwrap();
    pair.freeze(true);
    pair.b.push(link, Priority::Usual, &1u32.to_be_bytes());
    pair.b.flush(link);
    pair.pass(2_000);
    assert_eq!(pair.lost(), [[""; 0]; 2]);
    pair.freeze(false);
    pair.pass(1_100);
    assert_eq!(pair.lost(), [[""; 0]; 2]);
    assert_eq!(pair.a.numbers(Priority::Usual), [1]);
    assert!(pair.b.count("link_silences") > 0);
    assert_eq!(pair.b.link("a"), Some(link));
}

#[test]
fn a_long_frame_that_comes_in_pieces_is_no_silence() {
    let mut pair = Pair::new();
    let link = pair.b.link("a").unwrap();
    let mut body = 1u32.to_be_bytes().to_vec();
    body.resize(1_000_000, b'.');
    pair.b.push(link, Priority::Usual, &body);
    // What is under way is bounded: so much arrives each time.
    pair.network.delay("b", "a", 400_000_000);
    pair.b.flush(link);
    pair.pass(3_500);
    assert_eq!(pair.a.numbers(Priority::Usual), [0; 0], "too quick to tell");
    pair.pass(6_500);
    assert_eq!(pair.a.numbers(Priority::Usual), [1]);
    assert_eq!(pair.a.count("link_cuts"), 0);
}

#[test]
fn three_seconds_of_silence_lose_the_peer() {
    let mut pair = Pair::new();
    let links = [pair.a.link("b"), pair.b.link("a")];
    pair.freeze(true);
    pair.pass(2_900);
    assert_eq!(pair.lost(), [[""; 0]; 2]);
    pair.pass(700);
    assert_eq!(pair.lost(), [["silence"]; 2]);
    pair.freeze(false);
    pair.pass(1_300);
    let fresh = [pair.a.link("b"), pair.b.link("a")];
    assert!(fresh.iter().all(Option::is_some), "{fresh:?}");
    assert!(fresh[0] != links[0] && fresh[1] != links[1]);
}

#[test]
fn whoever_was_started_again_has_another_link() {
    let mut pair = Pair::new();
    let link = pair.b.link("a").unwrap();
    pair.b.push(link, Priority::Usual, &1u32.to_be_bytes());
    pair.b.flush(link);
    pair.pass(10);
    assert_eq!(pair.a.numbers(Priority::Usual), [1]);
    pair.network.kill("a");
    pair.pass(200);
    pair.a = listening(&pair.network, 2);
    pair.pass(1_300);
    assert_eq!(pair.b.lost(), ["restarted"]);
    let fresh = pair.b.link("a").unwrap();
    assert_ne!(fresh, link);
    let up = pair.b.events.iter().rfind(|of| of.handle == fresh).unwrap();
    assert_eq!(up.body, b"a 2");
    // Nothing of the old one comes to the new.
    pair.b.push(fresh, Priority::Usual, &2u32.to_be_bytes());
    pair.b.flush(fresh);
    pair.pass(10);
    assert_eq!(pair.a.numbers(Priority::Usual), [2]);
}

#[test]
fn an_older_generation_is_not_taken_for_the_newer() {
    let mut pair = Pair::new();
    pair.network.kill("a");
    pair.a = listening(&pair.network, 0);
    pair.pass(1_300);
    assert!(pair.b.errors("link-generation") > 0);
    assert!(pair.a.errors("refused-generation") > 0);
    assert_eq!(pair.a.link("b"), None);
}

#[test]
fn whoever_is_not_there_is_asked_less_and_less_often() {
    let network = Network::default();
    let mut pair = Pair {
        a: node(&network, "a", 1),
        b: node(&network, "b", 1),
        network,
        now_ms: 1_000,
    };
    pair.b.dial("a", PLACE);
    pair.pass(10_000);
    // At once, and after 50, 100, 200, 400, 800 ms; then each second, a quarter more or less.
    let tries = pair.b.count("link_dials");
    assert!((12..=18).contains(&tries), "{tries}");
    assert_eq!(pair.b.count("link_dial_failures"), tries);
}
