//! A node of the cluster that a test speaks for, byte by byte.

use crate::nodes::identity;
use photinus_proto::link::hello::{Dialled, Dialling};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// Named `b`. What it says behind its first words is for the test to choose.
pub struct Peer {
    pub stream: TcpStream,
    hello: Dialling,
    got: Vec<u8>,
}

impl Peer {
    pub fn new(place: &str) -> Peer {
        let mut stream = TcpStream::connect(place).unwrap();
        let mut out = Vec::new();
        let hello = Dialling::new(Arc::new(identity("b", 1)), 77, [7; 16], &mut out);
        stream.write_all(&out).unwrap();
        let mut peer = Peer {
            stream,
            hello,
            got: Vec::new(),
        };
        let answer = peer.step();
        assert!(matches!(answer, Dialled::Proved { .. }), "{answer:?}");
        peer
    }

    pub fn prove(&mut self, received: [u32; 4], resumes: bool) {
        let mut out = Vec::new();
        self.hello.prove(received, resumes, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    pub fn step(&mut self) -> Dialled {
        loop {
            let step = self.hello.handle_bytes(&self.got, &mut Vec::new()).unwrap();
            let Dialled::Incomplete { .. } = step else {
                self.got.clear();
                return step;
            };
            let mut bytes = [0; 1024];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "closed");
            self.got.extend(&bytes[..count]);
        }
    }
}
