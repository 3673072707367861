//! A node that says what a test has it say: it greets as any other, and then its frames are whatever is asked for.

use crate::cluster::Cluster;
use photinus_engine::memory::MemoryConnection;
use photinus_proto::bluenet::control::Control;
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::link::hello::{Dialled, Dialling, Identity, Roles};
use photinus_proto::link::{Link, LinkLimits, Step};
use std::sync::Arc;

pub struct Scripted {
    pub socket: MemoryConnection,
    link: Link,
    got: Vec<u8>,
    now_ms: u64,
    /// What has come, oldest first.
    pub heard: Vec<(Header, Vec<u8>)>,
    pub ended: bool,
}

impl Scripted {
    /// Linked with this member, which listens for links, under this name.
    pub fn link(cluster: &mut Cluster, member: usize, name: &str, roles: Roles) -> Scripted {
        let engine = &cluster.members[member].engine;
        let listeners = engine.shared.listeners();
        let url = listeners
            .iter()
            .map(|of| of.url.clone())
            .find(|of| of.contains("protocol=link"));
        let socket = engine.connect(&url.unwrap()).unwrap();
        let identity = Identity {
            cluster: "test".to_owned(),
            node: name.to_owned(),
            generation: 1,
            roles,
            schema: 0,
            secret: b"secret".to_vec(),
        };
        let mut out = Vec::new();
        let mut hello = Dialling::new(Arc::new(identity), 77, [7; 16], &mut out);
        let now_ms = cluster.now_ms;
        let mut link = Link::new(LinkLimits::default(), now_ms);
        let mut got = Vec::new();
        for _ in 0..20 {
            assert_eq!(socket.write(&out).unwrap(), out.len());
            out.clear();
            cluster.settle();
            got.extend(socket.read(1 << 20).expect("it is closed"));
            match hello.handle_bytes(&got, &mut out).unwrap() {
                Dialled::Incomplete { .. } => {}
                Dialled::Proved { consumed, .. } => {
                    got.drain(..consumed);
                    hello.prove(link.received(), false, &mut out);
                }
                Dialled::Welcome {
                    consumed, received, ..
                } => {
                    got.drain(..consumed);
                    link.handle_connected(received, now_ms).unwrap();
                    let mut scripted = Scripted {
                        socket,
                        link,
                        got,
                        now_ms,
                        heard: Vec::new(),
                        ended: false,
                    };
                    scripted.turn(cluster);
                    return scripted;
                }
                Dialled::Refused { .. } => break,
            }
        }
        panic!("it is not welcomed");
    }

    pub fn say(&mut self, header: Header, payload: &[u8]) {
        self.link.push(header, &[payload]).unwrap();
    }

    pub fn control(&mut self, destination: u32, source: u32, control: Control<'_>) {
        let mut payload = Vec::new();
        control.encode(&mut payload);
        let header = Header::new(Kind::Control, Priority::Usual, destination, source);
        self.say(header, &payload);
    }

    /// Writes what was said, lets the cluster have its turns, and reads.
    pub fn turn(&mut self, cluster: &mut Cluster) {
        for _ in 0..100 {
            self.now_ms = cluster.now_ms;
            self.link.handle_timeout(self.now_ms);
            while !self.ended {
                let bytes = self.link.poll_write(self.now_ms);
                if bytes.is_empty() {
                    break;
                }
                let Ok(count) = self.socket.write(bytes) else {
                    self.ended = true;
                    break;
                };
                self.link.handle_written(count);
                cluster.settle();
                if count == 0 {
                    break; // it is not read
                }
            }
            cluster.settle();
            match self.socket.read(1 << 20) {
                None => self.ended = true,
                Some(bytes) if bytes.is_empty() => return,
                Some(bytes) => self.got.extend(bytes),
            }
            loop {
                match self.link.handle_bytes(&self.got, self.now_ms).unwrap() {
                    Step::Incomplete { .. } => break,
                    Step::Own { consumed } => {
                        self.got.drain(..consumed);
                    }
                    Step::Frame {
                        consumed,
                        header,
                        payload,
                    } => {
                        self.heard.push((header, self.got[payload].to_vec()));
                        self.got.drain(..consumed);
                    }
                }
            }
            if self.ended {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// The payloads of what came in control frames that these are the beginning of.
    pub fn controls(&self, begin: &[u8]) -> Vec<(Header, Vec<u8>)> {
        let all = self.heard.iter();
        let its = all.filter(|(header, of)| header.kind == Kind::Control && of.starts_with(begin));
        its.cloned().collect()
    }
}
