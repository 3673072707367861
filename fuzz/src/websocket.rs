//! What holds for the WebSocket layer and any input: the promises of `websocket::Options::decode`.

use photinus_proto::error::WireError;
use photinus_proto::websocket::{Options, Peer, Shared, Status};

#[derive(Debug, PartialEq)]
pub struct Heard {
    pub out: Vec<u8>,
    pub reply: Vec<u8>,
    pub status: Result<Status, WireError>,
}

/// All that one connection says, in these pieces (the rest in one). `shared` has served others.
pub fn hear(options: &Options, shared: &mut Shared, bytes: &[u8], pieces: &[u8]) -> (Heard, Peer) {
    let mut peer = options.peer();
    let (mut out, mut reply) = (Vec::new(), Vec::new());
    let mut status = Ok(Status::Opening);
    let mut come = 0;
    for piece in pieces
        .iter()
        .map(|piece| usize::from(*piece))
        .chain([bytes.len()])
    {
        let start = come;
        come = bytes.len().min(come + piece);
        let mut input = &bytes[start..come];
        loop {
            match options.decode(&mut peer, shared, input, &mut out, &mut reply) {
                Ok(step) => {
                    status = Ok(step.status);
                    if !step.more {
                        break;
                    }
                    input = &[];
                }
                Err(error) => {
                    let before = (out.len(), reply.len());
                    let again = options.decode(&mut peer, shared, b"more", &mut out, &mut reply);
                    assert_eq!(again, Err(error));
                    assert_eq!((out.len(), reply.len()), before);
                    assert_eq!(peer.held_bytes(), 0);
                    return (
                        Heard {
                            out,
                            reply,
                            status: Err(error),
                        },
                        peer,
                    );
                }
            }
        }
        if !peer.is_amid() {
            assert_eq!(peer.held_bytes(), 0, "it owns no memory between messages");
        }
    }
    (Heard { out, reply, status }, peer)
}
