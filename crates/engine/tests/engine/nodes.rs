//! Nodes with links: engines on sockets, each with what its Python would do, and a relay that cuts what goes through.

use crate::world::{read, Seen};
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Batch, Event};
use photinus_engine::limits::Limits;
use photinus_engine::outbox::{Action, OutBatch};
use photinus_proto::bluenet::header::{Kind, Priority};
use photinus_proto::link::hello::{Identity, Roles};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Nothing on a loopback takes so long: a test that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const LISTEN: &str = "tcp://127.0.0.1:0?protocol=link";

pub struct Node {
    pub engine: Engine,
    /// All that came, but frames.
    pub events: Vec<Seen>,
    pub frames: Vec<Seen>,
    out: OutBatch,
}

pub fn identity(node: &str, generation: u64) -> Identity {
    Identity {
        cluster: "test".to_owned(),
        node: node.to_owned(),
        generation,
        roles: Roles::WORLD,
        schema: 0,
        secret: b"of the cluster".to_vec(),
    }
}

impl Node {
    /// Started, with one reactor.
    pub fn new(identity: Identity, limits: Limits) -> Node {
        let engine = Engine::sockets(1, limits).unwrap();
        engine.join(identity).unwrap();
        engine.start().unwrap();
        Node::with(engine)
    }

    pub fn named(name: &str) -> Node {
        Node::new(identity(name, 1), Limits::default())
    }

    pub fn with(engine: Engine) -> Node {
        Node {
            engine,
            events: Vec::new(),
            frames: Vec::new(),
            out: OutBatch::default(),
        }
    }

    /// `HOST:PORT` of a new listener for links.
    pub fn listen(&self) -> String {
        place(&self.engine.listen(LISTEN).unwrap())
    }

    pub fn dial(&self, node: &str, place: &str) {
        self.engine.dial(node, &format!("tcp://{place}")).unwrap();
    }

    /// Takes what has come. `true`: there was something.
    pub fn take(&mut self) -> bool {
        let mut batches: VecDeque<Box<Batch>> = VecDeque::new();
        self.engine.take_inbox(&mut batches).unwrap();
        let any = !batches.is_empty();
        for seen in read(&batches) {
            match seen.event {
                Event::Frame => self.frames.push(seen),
                _ => self.events.push(seen),
            }
        }
        for batch in batches {
            self.engine.give_back(batch);
        }
        any
    }

    /// Waits until there is a link to this node, and gives its handle.
    pub fn linked(&mut self, node: &str) -> Handle {
        self.wait("a link", |of| of.link(node).is_some());
        self.link(node).unwrap()
    }

    /// The newest link to this node.
    pub fn link(&self, node: &str) -> Option<Handle> {
        let is_it = |of: &&Seen| {
            let name = of.body.split(|byte| *byte == b' ').next();
            of.event == Event::LinkUp && name == Some(node.as_bytes())
        };
        let handle = self.events.iter().rfind(is_it)?.handle;
        let lost = |of: &Seen| of.event == Event::LinkLost && of.handle == handle;
        (!self.events.iter().any(lost)).then_some(handle)
    }

    /// Why links were lost.
    pub fn lost(&self) -> Vec<String> {
        let lost = self.events.iter().filter(|of| of.event == Event::LinkLost);
        lost.map(|of| String::from_utf8_lossy(&of.body).into_owned())
            .collect()
    }

    pub fn wait(&mut self, what: &str, mut done: impl FnMut(&Node) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(
                began.elapsed() < PATIENCE,
                "{what} did not come: {} frames, lost {:?}, {:?}, {:?}",
                self.frames.len(),
                self.lost(),
                self.engine.wire_errors(),
                self.engine.links()
            );
            if !self.take() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    pub fn wait_for_error(&mut self, reason: &str) {
        self.wait(reason, |of| of.errors(reason) > 0);
    }

    pub fn errors(&self, reason: &str) -> u64 {
        self.engine
            .wire_errors()
            .get(reason)
            .copied()
            .unwrap_or_default()
    }

    pub fn count(&self, name: &str) -> u64 {
        let counts = self.engine.counts();
        let found = counts.iter().find(|(of, _)| *of == name);
        found.unwrap_or_else(|| panic!("no count {name}")).1
    }

    /// A frame to a service of the other end's, from no session: it is for the application.
    pub fn push(&mut self, link: Handle, priority: Priority, payload: &[u8]) {
        let action = Action::Frame {
            link,
            kind: Kind::Service,
            priority,
            request: false,
            destination: 7,
            source: 0,
        };
        self.out.push(action, payload);
    }

    pub fn flush(&mut self, link: Handle) {
        let reactor = link.reactor();
        let out = std::mem::take(&mut self.out);
        if self.engine.hand_over(reactor, out) {
            self.engine.wake(reactor);
        }
    }

    /// The numbers that have come as frames of this priority.
    pub fn numbers(&self, priority: Priority) -> Vec<u32> {
        let of_it = |of: &&Seen| of.route >> 3 & 3 == priority as u32;
        let frames = self.frames.iter().filter(of_it);
        frames
            .map(|of| u32::from_be_bytes(*of.body.first_chunk().unwrap()))
            .collect()
    }
}

/// `HOST:PORT` of a URL.
pub fn place(url: &str) -> String {
    let rest = url.split("://").nth(1).unwrap();
    rest.split('?').next().unwrap().to_owned()
}
