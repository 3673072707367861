#![no_main]
//! What a session keeps to outlive its connection, against the plainest of models: all that was ever sent, with
//! its numbers, and the secrets in the order in which they were given.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_proto::resume::{Continuation, Secret, Sent, Tokens, Worth, SECRET_BYTES};

#[derive(Debug, Arbitrary)]
struct Input {
    limit: u16,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Keep(u8, Vec<u8>),
    /// So many of those that were sent; more than that is a peer's lie.
    Acknowledge(u32),
    Resume(u32),
    Forget,
    /// Shows the secret that was given so many welcomes ago, or one that never was.
    Show(u8),
    Renew(u8),
    Arrived,
}

fuzz_target!(|input: Input| {
    let limit = usize::from(input.limit);
    let mut sent = Sent::<u8>::default();
    let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
    // Those from this number on are kept, as far as the model knows: none before it.
    let mut first = 0;
    let mut secrets: Vec<Secret> = vec![secret(0)];
    let mut tokens = Tokens::new(secrets[0]);
    // By their places among `secrets`: what is good, and what was before.
    let (mut current, mut next, mut previous) = (0, None, None);
    for step in input.steps {
        match step {
            Step::Keep(meta, body) => {
                sent.keep(meta, &body, limit);
                all.push((meta, body));
            }
            Step::Acknowledge(received) => {
                let told = sent.acknowledge(received);
                assert_eq!(told.is_ok(), received as usize <= all.len());
                if told.is_ok() {
                    first = first.max(received as usize);
                }
            }
            Step::Resume(received) => {
                let has = all.len() - sent.kept().count();
                match sent.resume(received) {
                    Ok(Continuation::Whole) => {
                        assert!(received as usize >= has);
                        first = received as usize;
                        assert_eq!(sent.kept().count(), all.len() - first);
                    }
                    Ok(Continuation::Gap { next }) => {
                        assert!((received as usize) < has);
                        assert_eq!(next as usize, all.len());
                        first = all.len();
                        assert_eq!(sent.bytes(), 0);
                    }
                    Err(_) => assert!(received as usize > all.len()),
                }
            }
            Step::Forget => sent.forget(),
            Step::Show(ago) => {
                let shown = secrets.len().checked_sub(1 + usize::from(ago));
                let worth = tokens.judge(&shown.map_or(secret(u64::MAX), |at| secrets[at]));
                let good = shown.is_some() && (shown == Some(current) || shown == next);
                let expected = match (good, shown.is_some() && shown == previous) {
                    (true, _) => Worth::Good,
                    (false, true) => Worth::Replayed,
                    (false, false) => Worth::Forged,
                };
                assert_eq!(worth, expected);
            }
            Step::Renew(which) => {
                // Only who has shown a good one is welcomed.
                let shown = match (which % 2, next) {
                    (1, Some(next)) => next,
                    _ => current,
                };
                let given = secret(secrets.len() as u64);
                tokens.renew(&secrets[shown], given);
                if shown != current {
                    previous = Some(std::mem::replace(&mut current, shown));
                }
                secrets.push(given);
                next = Some(secrets.len() - 1);
            }
            Step::Arrived => {
                tokens.arrived();
                if let Some(arrived) = next.take() {
                    previous = Some(std::mem::replace(&mut current, arrived));
                }
            }
        }
        assert!(sent.bytes() <= limit);
        let kept: Vec<_> = sent.kept().map(|(meta, body)| (meta, body.to_vec())).collect();
        assert!(kept.len() <= all.len() - first, "what was acknowledged is not kept");
        assert_eq!(kept, all[all.len() - kept.len()..], "the newest, without a hole");
    }
});

/// Never the same for two numbers.
fn secret(number: u64) -> Secret {
    let mut secret = [7; SECRET_BYTES];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    secret
}
