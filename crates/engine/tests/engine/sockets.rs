//! The same engine on sockets, led by threads of its own.

use crate::world::frame;
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Batch, Event};
use photinus_engine::limits::Limits;
use photinus_engine::outbox::{Action, Marks, OutBatch, OutRoute, What};
use photinus_engine::system::{self, Sleeper};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const THREADS: usize = 3;
const CLIENTS: usize = 200;
const MESSAGES: usize = 50;
/// Nothing on a loopback takes so long: a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What Python's thread does, in short: sleeps until there is something, echoes, gives back.
struct Application {
    engine: Engine,
    sleeper: Sleeper,
    /// What the sleeper watches besides; nobody gives it.
    _never: system::Event,
    opened: Vec<Handle>,
    closed: Vec<Handle>,
    packets: usize,
    drained: usize,
}

impl Application {
    fn new(threads: usize) -> (Application, String) {
        let engine = Engine::sockets(threads, Limits::default()).unwrap();
        let url = engine.listen("tcp://127.0.0.1:0?protocol=length4").unwrap();
        let address = url["tcp://".len()..].split('?').next().unwrap().to_owned();
        let never = system::Event::new().unwrap();
        let python = engine.shared.python.as_raw_fd();
        let application = Application {
            sleeper: Sleeper::new(python, never.as_raw_fd()).unwrap(),
            _never: never,
            engine,
            opened: Vec::new(),
            closed: Vec::new(),
            packets: 0,
            drained: 0,
        };
        (application, address)
    }

    /// Handles what comes until `done`.
    fn run(&mut self, done: impl Fn(&Application) -> bool) {
        let began = std::time::Instant::now();
        while !done(self) {
            assert!(began.elapsed() < PATIENCE, "nothing came");
            let mut batches = VecDeque::new();
            self.engine.take_inbox(&mut batches).unwrap();
            if batches.is_empty() && self.engine.shared.inbox.prepare_sleep(false) {
                // A tenth of a second at most: `done` may hang on something else.
                self.sleeper.sleep(100);
            }
            for batch in batches {
                self.handle(batch);
            }
        }
    }

    fn handle(&mut self, batch: Box<Batch>) {
        let reactor = batch.reactor;
        let mut out = self.engine.spare(reactor);
        for item in &batch.items {
            let to = item.handle;
            match item.event {
                Event::Opened => self.opened.push(to),
                Event::Closed => {
                    self.closed.push(to);
                    out.push(Action::Free { to }, b"");
                }
                Event::Packet(_) => {
                    self.packets += 1;
                    let what = What::Push(OutRoute::Number(0));
                    out.push(
                        Action::Send {
                            to,
                            what,
                            marks: Marks::NONE,
                        },
                        batch.body(item),
                    );
                }
                Event::Drained => self.drained += 1,
                other => panic!("{other:?} without resumes and links"),
            }
        }
        self.hand_over(reactor, out);
        self.engine.give_back(batch);
    }

    fn hand_over(&self, reactor: usize, out: OutBatch) {
        if self.engine.hand_over(reactor, out) {
            self.engine.wake(reactor);
        }
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[test]
fn two_hundred_clients_get_their_echoes_in_order() {
    let (mut application, address) = Application::new(THREADS);
    application.engine.start().unwrap();
    let clients = std::thread::spawn(move || {
        let mut streams: Vec<_> = (0..CLIENTS).map(|_| connect(&address)).collect();
        let payload = |client: usize, number: usize| {
            // Some longer than a read.
            let size = if number == 25 { 65_536 } else { 20 + number };
            let mut payload = format!("{client} {number} ").into_bytes();
            payload.resize(size, b'.');
            frame(&payload)
        };
        for number in 0..MESSAGES {
            for (client, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&payload(client, number)).unwrap();
            }
            if number % 5 == 4 {
                // What the sockets' buffers hold is bounded; so is how far one runs ahead.
                for (client, stream) in streams.iter_mut().enumerate() {
                    for number in number - 4..=number {
                        let expected = payload(client, number);
                        let mut got = vec![0; expected.len()];
                        stream.read_exact(&mut got).unwrap();
                        assert!(got == expected, "client {client}, message {number}");
                    }
                }
            }
        }
        // One last message and the end at once, as from a script.
        for mut stream in streams {
            stream.write_all(&frame(b"bye")).unwrap();
        }
    });
    application.run(|of| of.closed.len() == CLIENTS);
    clients.join().unwrap();
    let unique: HashSet<_> = application.opened.iter().map(|of| of.0).collect();
    assert_eq!(unique.len(), CLIENTS);
    let mut by_reactor = HashMap::<_, usize>::new();
    for handle in &application.opened {
        *by_reactor.entry(handle.reactor()).or_default() += 1;
    }
    assert_eq!(by_reactor.len(), THREADS, "{by_reactor:?}");
    assert!(
        by_reactor.values().all(|count| *count >= CLIENTS / 6),
        "{by_reactor:?}"
    );
    let counts: HashMap<_, _> = application.engine.counts().into_iter().collect();
    assert_eq!(counts["packets_in"], (CLIENTS * (MESSAGES + 1)) as u64);
    application.engine.shut_down();
    let counts: HashMap<_, _> = application.engine.counts().into_iter().collect();
    assert_eq!((counts["sessions"], counts["connections"]), (0, 0));
    assert_eq!(
        (counts["unhandled_bytes"], counts["waiting_out_bytes"]),
        (0, 0)
    );
}

/// Sends for as long as it is not told the end; gives what it was sent.
fn flood(mut stream: TcpStream) -> JoinHandle<Vec<u8>> {
    let ended = Arc::new(AtomicBool::new(false));
    let mut sending = stream.try_clone().unwrap();
    std::thread::spawn({
        let ended = ended.clone();
        move || while !ended.load(SeqCst) && sending.write_all(&frame(b"on and on")).is_ok() {}
    });
    std::thread::spawn(move || {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        ended.store(true, SeqCst);
        got
    })
}

#[test]
fn a_drain_over_several_reactors_then_the_end() {
    let (mut application, address) = Application::new(THREADS);
    application.engine.start().unwrap();
    // Clients that never stop sending do not lose what is sent to them before the end.
    let clients: Vec<_> = (0..9).map(|_| connect(&address)).map(flood).collect();
    application.run(|of| of.opened.len() == 9 && of.packets > 1_000);
    for handle in application.opened.clone() {
        let what = What::Push(OutRoute::Number(0));
        let mut out = application.engine.spare(handle.reactor());
        out.push(
            Action::Send {
                to: handle,
                what,
                marks: Marks::NONE,
            },
            b"the last",
        );
        application.hand_over(handle.reactor(), out);
    }
    application.engine.drain("shutdown");
    application.run(|of| of.drained == THREADS);
    for client in clients {
        assert!(client.join().unwrap().ends_with(&frame(b"the last")));
    }
    assert_eq!(application.closed.len(), 9);
    assert!(
        TcpStream::connect(&address).is_err(),
        "nobody listens any more"
    );
    application.engine.shut_down();
    application.engine.shut_down();
}

#[test]
fn a_crowd_is_let_in_however_long_we_were_busy() {
    // Nobody accepts yet: the system holds them. Past its backlog no connect comes through.
    let (mut application, address) = Application::new(2);
    let began = std::time::Instant::now();
    let streams: Vec<_> = (0..500).map(|_| connect(&address)).collect();
    assert!(began.elapsed() < PATIENCE);
    application.engine.start().unwrap();
    application.run(|of| of.opened.len() == 500);
    drop(streams);
    application.run(|of| of.closed.len() == 500);
}

#[test]
fn an_engine_that_was_never_started_lets_its_port_go() {
    let (application, address) = Application::new(2);
    let url = format!("tcp://{address}?protocol=length4");
    let other = Engine::sockets(1, Limits::default()).unwrap();
    assert!(other.listen(&url).is_err(), "it is taken");
    application.engine.shut_down();
    assert_eq!(other.listen(&url).unwrap(), url);
}

#[test]
fn a_shut_down_ends_all_connections_at_once() {
    let (mut application, address) = Application::new(2);
    application.engine.start().unwrap();
    application.engine.start().unwrap();
    let mut streams: Vec<_> = (0..20).map(|_| connect(&address)).collect();
    application.run(|of| of.opened.len() == 20);
    application.engine.shut_down();
    for stream in &mut streams {
        assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)));
    }
    application.run(|of| of.closed.len() == 20);
}
