#![no_main]
//! Two nodes that greet each other while somebody between them changes what they say: they come to a link if nothing was
//! changed and both have the secret, and never otherwise. And either of them hears whatever there is: what it makes of that
//! depends on no cut.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::Stream;
use photinus_proto::error::WireError;
use photinus_proto::link::hello::{
    Accepted, Accepting, By, Dialled, Dialling, Identity, Reason, Roles, MOST_MESSAGE_BYTES,
};
use photinus_proto::link::LANES;
use std::sync::Arc;

#[derive(Debug, Arbitrary)]
struct Input {
    dialler: Node,
    acceptor: Node,
    link: u64,
    received: [[u32; LANES]; 2],
    resumes: bool,
    resumed: bool,
    /// Where in the first three messages, taken together, which bits are turned.
    changes: Vec<(u16, u8)>,
    heard: Stream,
}

#[derive(Debug, Arbitrary)]
struct Node {
    other_cluster: bool,
    other_secret: bool,
    name: String,
    generation: u64,
    roles: u8,
    schema: u64,
    nonce: [u8; 16],
}

impl Node {
    fn identity(&self) -> Arc<Identity> {
        let of = Identity {
            cluster: if self.other_cluster { "b" } else { "a" }.to_owned(),
            node: self.name.clone(),
            generation: self.generation,
            roles: Roles::from_bits(self.roles % 3 + 1).unwrap(),
            schema: self.schema,
            secret: if self.other_secret { "ours" } else { "theirs" }.into(),
        };
        let node = match of.is_valid() {
            true => of.node.clone(),
            false => "node".to_owned(),
        };
        Arc::new(Identity { node, ..of })
    }
}

fuzz_target!(|input: Input| {
    converse(&input);
    hear(&input);
});

/// What comes of it; `None`: somebody found a message malformed, or waits for more.
fn converse(input: &Input) -> Option<()> {
    let (dialler, acceptor) = (input.dialler.identity(), input.acceptor.identity());
    let right = dialler.cluster == acceptor.cluster && dialler.secret == acceptor.secret;
    let mut said = 0;
    let mut changed = false;
    let mut change = |message: &mut [u8]| {
        let right = message.to_vec();
        for (at, bits) in &input.changes {
            if let Some(byte) = usize::from(*at)
                .checked_sub(said)
                .and_then(|at| message.get_mut(at))
            {
                *byte ^= bits;
            }
        }
        changed |= right != message;
        said += message.len();
        changed
    };
    let [mut hello, mut answer, mut proof, mut welcome, mut nothing] = [const { Vec::new() }; 5];
    let mut dialling = Dialling::new(dialler.clone(), input.link, input.dialler.nonce, &mut hello);
    let mut accepting = Accepting::new(acceptor.clone(), input.acceptor.nonce);
    change(&mut hello);
    match accepting.handle_bytes(&hello, &mut answer).ok()? {
        Accepted::Answered { consumed } => assert_eq!(consumed, hello.len()),
        Accepted::Refused { reason, by, .. } => {
            return assert!(reason != Reason::Secret || by == By::Peer).into();
        }
        step => return assert!(matches!(step, Accepted::Incomplete { .. })).into(),
    }
    let whole = answer.len();
    let changed = change(&mut answer);
    match dialling.handle_bytes(&answer, &mut proof).ok()? {
        Dialled::Proved { consumed, peer } => {
            assert!(right && !changed);
            assert_eq!(consumed, whole);
            assert_eq!(
                (peer.node.as_str(), peer.generation),
                (acceptor.node.as_str(), acceptor.generation)
            );
            assert_eq!(
                (peer.roles, peer.schema, peer.link),
                (acceptor.roles, acceptor.schema, input.link)
            );
        }
        _ => return assert!(!right || changed).into(),
    }
    dialling.prove(input.received[0], input.resumes, &mut proof);
    let changed = change(&mut proof);
    match accepting.handle_bytes(&proof, &mut welcome).ok()? {
        Accepted::Proved {
            peer,
            received,
            resumes,
            ..
        } => {
            assert!(!changed);
            assert_eq!((received, resumes), (input.received[0], input.resumes));
            assert_eq!(
                (peer.node.as_str(), peer.generation),
                (dialler.node.as_str(), dialler.generation)
            );
        }
        _ => return assert!(changed).into(),
    }
    accepting.welcome(input.received[1], input.resumed, &mut welcome);
    let outcome = dialling.handle_bytes(&welcome, &mut nothing);
    let consumed = welcome.len();
    match input.resumes && !input.resumed {
        true => assert_eq!(outcome, Err(WireError::BadHandshake)),
        false => assert_eq!(
            outcome,
            Ok(Dialled::Welcome {
                consumed,
                received: input.received[1],
                resumed: input.resumed,
            })
        ),
    }
    Some(())
}

fn hear(input: &Input) {
    let pieces: Vec<usize> = input
        .heard
        .pieces
        .iter()
        .map(|piece| usize::from(*piece))
        .collect();
    let bytes = &input.heard.bytes;
    let accept = |pieces: &[usize]| {
        let mut accepting = Accepting::new(input.acceptor.identity(), input.acceptor.nonce);
        let mut out = Vec::new();
        let outcome = first(bytes, pieces, |bytes| {
            match accepting.handle_bytes(bytes, &mut out)? {
                Accepted::Incomplete { need } => Ok(Err(need)),
                step => Ok(Ok(format!("{step:?}"))),
            }
        });
        if let Err(error) = outcome {
            assert_eq!(accepting.handle_bytes(&[], &mut out), Err(error));
            assert!(out.is_empty());
        }
        (outcome, out)
    };
    assert_eq!(accept(&pieces), accept(&[]));
    let dial = |pieces: &[usize]| {
        let mut out = Vec::new();
        let mut dialling = Dialling::new(
            input.dialler.identity(),
            input.link,
            input.dialler.nonce,
            &mut out,
        );
        let outcome = first(bytes, pieces, |bytes| {
            match dialling.handle_bytes(bytes, &mut out)? {
                Dialled::Incomplete { need } => Ok(Err(need)),
                Dialled::Proved { .. } => panic!("by whom?"),
                step => Ok(Ok(format!("{step:?}"))),
            }
        });
        (outcome, out)
    };
    assert_eq!(dial(&pieces), dial(&[]));
}

/// The first step, of bytes that come in these pieces.
fn first(
    bytes: &[u8],
    pieces: &[usize],
    mut handle: impl FnMut(&[u8]) -> Result<Result<String, usize>, WireError>,
) -> Result<Option<String>, WireError> {
    let mut come = 0;
    for piece in pieces.iter().copied().chain([bytes.len()]) {
        come = bytes.len().min(come + piece);
        match handle(&bytes[..come])? {
            Ok(step) => return Ok(Some(step)),
            Err(need) => assert!(need > come && need <= 2 + MOST_MESSAGE_BYTES),
        }
    }
    Ok(None)
}
