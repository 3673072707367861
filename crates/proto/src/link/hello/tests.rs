use super::message::{is_name, say, write_counts, HELLO, PROOF, PROOF_BYTES, REFUSED};
use super::*;
use crate::link::LANES;
use std::sync::Arc;

const LINK: u64 = 0x0102_0304_0506_0708;

fn identity(node: &str) -> Identity {
    Identity {
        cluster: "game".to_owned(),
        node: node.to_owned(),
        generation: 7,
        roles: Roles::WORLD,
        schema: 0xfeed,
        secret: b"between us".to_vec(),
    }
}

/// The HELLO of a dialler with this identity, and the dialler.
fn dialling(identity: Identity) -> (Dialling, Vec<u8>) {
    let mut out = Vec::new();
    let dialling = Dialling::new(Arc::new(identity), LINK, [1; NONCE_BYTES], &mut out);
    (dialling, out)
}

fn accepting(identity: Identity) -> Accepting {
    Accepting::new(Arc::new(identity), [2; NONCE_BYTES])
}

/// Both sides, after the acceptor has answered; with its answer.
fn answered() -> (Dialling, Accepting, Vec<u8>) {
    let (dialling, hello) = dialling(identity("proxy-1"));
    let mut accepting = accepting(identity("world-1"));
    let mut answer = Vec::new();
    let consumed = hello.len();
    assert_eq!(
        accepting.handle_bytes(&hello, &mut answer),
        Ok(Accepted::Answered { consumed })
    );
    (dialling, accepting, answer)
}

/// What the acceptor makes of a dialler's HELLO.
fn accepted(hello: &[u8]) -> (Result<Accepted, WireError>, Vec<u8>) {
    let mut out = Vec::new();
    let outcome = accepting(identity("world-1")).handle_bytes(hello, &mut out);
    (outcome, out)
}

fn refused_by_us(consumed: usize, reason: Reason) -> Result<Accepted, WireError> {
    Ok(Accepted::Refused {
        consumed,
        reason,
        by: By::Us,
    })
}

#[test]
fn both_sides_come_to_a_link() {
    let (mut dialling, mut accepting, answer) = answered();
    let mut proof = Vec::new();
    let Ok(Dialled::Proved { consumed, peer }) = dialling.handle_bytes(&answer, &mut proof) else {
        panic!("no proof");
    };
    assert_eq!(consumed, answer.len());
    assert_eq!(
        (peer.node.as_str(), peer.generation, peer.link),
        ("world-1", 7, LINK)
    );
    dialling.prove([1, 2, 3, u32::MAX], true, &mut proof);
    let mut welcome = Vec::new();
    let Ok(Accepted::Proved {
        consumed,
        peer,
        received,
        resumes,
    }) = accepting.handle_bytes(&proof, &mut welcome)
    else {
        panic!("no proof");
    };
    assert_eq!(consumed, proof.len());
    assert_eq!((received, resumes), ([1, 2, 3, u32::MAX], true));
    assert_eq!(
        peer,
        PeerHello {
            node: "proxy-1".to_owned(),
            generation: 7,
            roles: Roles::WORLD,
            schema: 0xfeed,
            link: LINK,
        }
    );
    accepting.welcome([5, 6, 7, 8], true, &mut welcome);
    let consumed = welcome.len();
    welcome.extend(b"frames");
    assert_eq!(
        dialling.handle_bytes(&welcome, &mut proof),
        Ok(Dialled::Welcome {
            consumed,
            received: [5, 6, 7, 8],
            resumed: true,
        })
    );
    for _ in 0..2 {
        assert_eq!(
            dialling.handle_bytes(b"frames", &mut proof),
            Err(WireError::BadHandshake),
            "they are for the link"
        );
    }
}

#[test]
fn half_a_message_is_waited_for() {
    let (mut dialling, hello) = dialling(identity("proxy-1"));
    let mut accepting = accepting(identity("world-1"));
    let mut out = Vec::new();
    for cut in 0..hello.len() {
        let need = if cut < 2 { 2 } else { hello.len() };
        assert_eq!(
            accepting.handle_bytes(&hello[..cut], &mut out),
            Ok(Accepted::Incomplete { need })
        );
    }
    accepting.handle_bytes(&hello, &mut out).unwrap();
    let mut none = Vec::new();
    for cut in 0..out.len() {
        let need = if cut < 2 { 2 } else { out.len() };
        assert_eq!(
            dialling.handle_bytes(&out[..cut], &mut none),
            Ok(Dialled::Incomplete { need })
        );
    }
    assert!(none.is_empty());
}

#[test]
fn a_hello_that_claims_more_than_there_is_room_for_is_refused_at_its_length() {
    assert_eq!(accepted(&[0x02, 0x01]).0, Err(WireError::TooLong));
    assert_eq!(accepted(&[0, 0]).0, Err(WireError::BadHandshake));
    assert_eq!(accepted(b"GET / HTTP/1.1").0, Err(WireError::TooLong));
    let (_, mut hello) = dialling(identity("proxy-1"));
    hello[3] = b'p';
    assert_eq!(accepted(&hello).0, Err(WireError::BadMagic));
    hello[2] = PROOF;
    assert_eq!(accepted(&hello[..3]).0, Err(WireError::BadHandshake));
}

#[test]
fn a_hello_whose_fields_do_not_fill_it_is_refused() {
    let (_, hello) = dialling(identity("proxy-1"));
    for length in 0..hello.len() + 3 {
        let mut wrong = hello.clone();
        wrong.resize(length.max(3), 0);
        let fields = (wrong.len() - 2) as u16;
        wrong[..2].copy_from_slice(&fields.to_be_bytes());
        if wrong.len() != hello.len() {
            assert_eq!(accepted(&wrong).0, Err(WireError::BadHandshake), "{length}");
        }
    }
}

#[test]
fn names_that_cannot_stand_in_a_log_are_refused() {
    for name in [&b""[..], &[0xff], b"a\nb", &[b'x'; 65]] {
        assert!(!std::str::from_utf8(name).is_ok_and(is_name));
        let mut hello = Vec::new();
        say(&mut hello, HELLO, |out| {
            out.extend(b"PHLK\0\x01\x04game");
            out.push(name.len() as u8);
            out.extend(name);
            out.extend([0; 8]);
            out.push(1);
            out.extend([0; 8 + 8 + NONCE_BYTES]);
        });
        assert_eq!(accepted(&hello).0, Err(WireError::BadHandshake), "{name:?}");
    }
    assert!(is_name(&"x".repeat(64)));
}

#[test]
fn roles_that_there_are_not_are_refused() {
    let (_, hello) = dialling(identity("proxy-1"));
    let at = hello.len() - NONCE_BYTES - 8 - 8 - 1;
    for (roles, fine) in [(0, false), (1, true), (3, true), (4, false), (0xff, false)] {
        let mut hello = hello.clone();
        hello[at] = roles;
        assert_eq!(accepted(&hello).0.is_ok(), fine, "{roles}");
    }
}

#[test]
fn another_version_is_told_so_whatever_else_it_says() {
    let mut hello = Vec::new();
    say(&mut hello, HELLO, |out| {
        out.extend(b"PHLK\0\x02 and all that is new")
    });
    let (outcome, out) = accepted(&hello);
    assert_eq!(outcome, refused_by_us(hello.len(), Reason::Version));
    assert_eq!(out, [0, 2, REFUSED, Reason::Version as u8]);
    let (mut dialling, _) = dialling(identity("proxy-1"));
    assert_eq!(
        dialling.handle_bytes(&out, &mut Vec::new()),
        Ok(Dialled::Refused {
            consumed: 4,
            reason: Reason::Version,
            by: By::Peer,
        })
    );
}

#[test]
fn another_cluster_is_told_so_and_nothing_else() {
    let (_, hello) = dialling(Identity {
        cluster: "gamf".to_owned(),
        ..identity("proxy-1")
    });
    let (outcome, out) = accepted(&hello);
    assert_eq!(outcome, refused_by_us(hello.len(), Reason::Cluster));
    assert_eq!(out, [0, 2, REFUSED, Reason::Cluster as u8]);
}

#[test]
fn an_acceptor_without_the_secret_gets_no_proof() {
    let (mut dialling, hello) = dialling(identity("proxy-1"));
    let mut accepting = accepting(Identity {
        secret: b"between them".to_vec(),
        ..identity("world-1")
    });
    let (mut answer, mut out) = (Vec::new(), Vec::new());
    accepting.handle_bytes(&hello, &mut answer).unwrap();
    assert_eq!(
        dialling.handle_bytes(&answer, &mut out),
        Ok(Dialled::Refused {
            consumed: answer.len(),
            reason: Reason::Secret,
            by: By::Us,
        })
    );
    assert_eq!(out, [0, 2, REFUSED, Reason::Secret as u8]);
    assert_eq!(
        accepting.handle_bytes(&out, &mut Vec::new()),
        Ok(Accepted::Refused {
            consumed: 4,
            reason: Reason::Secret,
            by: By::Peer,
        })
    );
}

/// A PROOF that is right, before one byte or the other is changed.
fn proof_of(dialling: &mut Dialling, answer: &[u8]) -> Vec<u8> {
    let mut proof = Vec::new();
    dialling.handle_bytes(answer, &mut proof).unwrap();
    dialling.prove([9; LANES], true, &mut proof);
    proof
}

#[test]
fn a_proof_with_any_bit_changed_is_refused() {
    let (mut dialling, _, answer) = answered();
    let proof = proof_of(&mut dialling, &answer);
    for bit in 8 * 4..8 * proof.len() {
        let (_, mut accepting, _) = answered();
        let mut forged = proof.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let mut out = Vec::new();
        assert_eq!(
            accepting.handle_bytes(&forged, &mut out),
            refused_by_us(proof.len(), Reason::Secret),
            "bit {bit}"
        );
        assert_eq!(out, [0, 2, REFUSED, Reason::Secret as u8]);
    }
}

#[test]
fn a_proof_is_good_for_one_connection() {
    let (mut dialling, _, answer) = answered();
    let proof = proof_of(&mut dialling, &answer);
    let (_, hello) = self::dialling(identity("proxy-1"));
    let mut accepting = Accepting::new(Arc::new(identity("world-1")), [3; NONCE_BYTES]);
    accepting.handle_bytes(&hello, &mut Vec::new()).unwrap();
    assert_eq!(
        accepting.handle_bytes(&proof, &mut Vec::new()),
        refused_by_us(proof.len(), Reason::Secret)
    );
}

#[test]
fn an_acceptors_proof_cannot_be_given_back() {
    let (_, mut accepting, answer) = answered();
    let mut given_back = Vec::new();
    say(&mut given_back, PROOF, |out| {
        out.push(0);
        write_counts([0; LANES], out);
        out.extend(&answer[answer.len() - PROOF_BYTES..]);
    });
    assert_eq!(
        accepting.handle_bytes(&given_back, &mut Vec::new()),
        refused_by_us(given_back.len(), Reason::Secret)
    );
}

#[test]
fn the_engine_may_refuse_either_side() {
    for reason in Reason::ALL {
        let (mut dialling, mut accepting, answer) = answered();
        let proof = proof_of(&mut dialling, &answer);
        accepting.handle_bytes(&proof, &mut Vec::new()).unwrap();
        let mut out = Vec::new();
        accepting.refuse(reason, &mut out);
        assert_eq!(
            dialling.handle_bytes(&out, &mut Vec::new()),
            Ok(Dialled::Refused {
                consumed: out.len(),
                reason,
                by: By::Peer,
            })
        );

        let (mut dialling, mut accepting, answer) = answered();
        dialling.handle_bytes(&answer, &mut Vec::new()).unwrap();
        out.clear();
        dialling.refuse(reason, &mut out);
        assert_eq!(
            accepting.handle_bytes(&out, &mut Vec::new()),
            Ok(Accepted::Refused {
                consumed: out.len(),
                reason,
                by: By::Peer,
            })
        );
    }
    for code in [0, Reason::ALL.len() as u8 + 1] {
        let (mut dialling, _) = dialling(identity("proxy-1"));
        assert_eq!(
            dialling.handle_bytes(&[0, 2, REFUSED, code], &mut Vec::new()),
            Err(WireError::BadHandshake)
        );
    }
}

#[test]
fn what_comes_out_of_its_order_is_an_error_that_is_kept() {
    let (_, mut accepting, answer) = answered();
    let (_, hello) = dialling(identity("proxy-1"));
    for bytes in [&answer, &hello] {
        assert_eq!(
            accepting.handle_bytes(bytes, &mut Vec::new()),
            Err(WireError::BadHandshake)
        );
    }
    let (mut dialling, mut accepting, answer) = answered();
    let proof = proof_of(&mut dialling, &answer);
    accepting.handle_bytes(&proof, &mut Vec::new()).unwrap();
    assert_eq!(
        accepting.handle_bytes(&[0], &mut Vec::new()),
        Err(WireError::BadHandshake),
        "before it was welcomed"
    );
}

#[test]
fn who_resumes_is_not_welcomed_as_somebody_new() {
    let (mut dialling, mut accepting, answer) = answered();
    let proof = proof_of(&mut dialling, &answer);
    let mut out = Vec::new();
    accepting.handle_bytes(&proof, &mut out).unwrap();
    accepting.welcome([0; LANES], false, &mut out);
    assert_eq!(
        dialling.handle_bytes(&out, &mut Vec::new()),
        Err(WireError::BadHandshake)
    );
}

#[test]
fn an_answer_for_another_link_is_refused() {
    let (_, _, answer) = answered();
    let mut hello = Vec::new();
    let mut other = Dialling::new(
        Arc::new(identity("proxy-1")),
        LINK + 1,
        [1; NONCE_BYTES],
        &mut hello,
    );
    assert!(matches!(
        other.handle_bytes(&answer, &mut Vec::new()),
        Ok(Dialled::Refused {
            reason: Reason::Secret,
            by: By::Us,
            ..
        })
    ));
}

#[test]
fn nothing_that_is_shown_holds_the_secret() {
    let (dialling, accepting, _) = answered();
    let shown = format!("{dialling:?} {accepting:?}");
    assert!(shown.contains("world-1"));
    assert!(!shown.contains("between us") && !shown.contains("98, 101, 116"));
}
