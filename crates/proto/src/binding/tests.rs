//! Each transition once. What they come to together is in tests/binding.

use super::*;
use std::sync::Arc;
use Action::*;

const OLD: char = 'a';
const NEW: char = 'b';
const THIRD: char = 'c';

type Actions = Vec<Action<char>>;

fn did(with: impl FnOnce(&mut Actions)) -> Actions {
    let mut actions = Vec::new();
    with(&mut actions);
    actions
}

fn state(text: &str) -> Option<Arc<[u8]>> {
    Some(text.as_bytes().into())
}

fn arrive(to: char, epoch: u16, state: Option<Arc<[u8]>>, gap: bool) -> Action<char> {
    SendArrive {
        to,
        epoch,
        state,
        gap,
    }
}

fn failed(back_at: Option<char>, reason: Reason) -> Action<char> {
    MoveFailed {
        to: NEW,
        back_at,
        reason,
    }
}

/// FENCE was sent at 100 ms.
fn leaving() -> Binding<char> {
    let mut of = Binding::new(OLD, 7);
    assert_eq!(
        did(|to| of.handle_move(NEW, 100, to)),
        [Hold, SendFence { to: OLD, epoch: 7 }]
    );
    of
}

/// ARRIVE was sent at 200 ms.
fn arriving() -> Binding<char> {
    let mut of = leaving();
    assert_eq!(
        did(|to| of.handle_fenced(OLD, 7, b"x", 200, to)),
        [arrive(NEW, 8, state("x"), false), Release]
    );
    of
}

/// The move was given up at 5,100 ms, and the old owner has not answered.
fn taken_back() -> Binding<char> {
    let mut of = leaving();
    assert_eq!(of.next_ms(), Some(100 + STEP_MS));
    assert_eq!(did(|to| of.handle_timeout(99 + STEP_MS, to)), []);
    assert_eq!(
        did(|to| of.handle_timeout(100 + STEP_MS, to)),
        [
            arrive(OLD, 8, None, false),
            Release,
            failed(Some(OLD), Reason::TimedOut)
        ]
    );
    of
}

#[test]
fn a_move() {
    let mut of = leaving();
    assert_eq!((of.forward(), of.is_held()), (None, true));
    assert!(of.delivers(OLD, 7) && !of.delivers(NEW, 8));
    of = arriving();
    assert_eq!(of.forward(), Some((NEW, 8)));
    assert!(!of.delivers(OLD, 7) && of.delivers(NEW, 8));
    assert_eq!(
        did(|to| of.handle_arrived(NEW, 8, to)),
        [
            SendDetach { to: OLD, epoch: 7 },
            Moved { at: NEW, epoch: 8 }
        ]
    );
    assert_eq!(
        (of.is_moving(), of.next_ms(), of.state()),
        (false, None, None)
    );
    assert_eq!(of, Binding::new(NEW, 8));
}

#[test]
fn whose_an_epoch_is() {
    let owners = |of: &Binding<char>| of.owners().collect::<String>();
    let of = Binding::new(OLD, 7);
    assert_eq!(
        (of.owner(7), of.owner(6), owners(&of)),
        (Some(OLD), None, "a".into())
    );
    let of = leaving();
    assert_eq!(
        (of.owner(7), of.owner(8), owners(&of)),
        (Some(OLD), None, "ab".into())
    );
    let of = arriving();
    assert_eq!((of.owner(7), of.owner(8)), (Some(OLD), Some(NEW)));
    assert_eq!((of.at(), owners(&of)), (Some(NEW), "ba".into()));
    let mut of = taken_back();
    assert_eq!(
        (of.owner(7), of.owner(8), owners(&of)),
        (Some(OLD), Some(OLD), "a".into())
    );
    of.handle_fenced(OLD, 7, b"", 0, &mut Vec::new());
    assert_eq!((of.owner(7), of.owner(8)), (None, Some(OLD)));
    // What the one that refused had is not the old owner's.
    let mut of = arriving();
    of.handle_refused(NEW, 8, 0, &mut Vec::new());
    assert_eq!(
        (of.owner(7), of.owner(8), of.owner(9)),
        (None, None, Some(OLD))
    );
    of.handle_lost(OLD, 0, &mut Vec::new());
    assert_eq!((of.at(), of.owner(9), owners(&of)), (None, None, "".into()));
}

#[test]
fn epochs_wrap() {
    let mut of = Binding::new(OLD, 4095);
    of.handle_move(NEW, 0, &mut Vec::new());
    of.handle_fenced(OLD, 4095, b"", 0, &mut Vec::new());
    assert_eq!((of.forward(), of.next_epoch()), (Some((NEW, 0)), 1));
    let done = did(|to| of.handle_arrived(NEW, 0, to));
    assert_eq!(
        done[0],
        SendDetach {
            to: OLD,
            epoch: 4095
        }
    );
}

#[test]
fn one_move_at_a_time() {
    let mut of = Binding::new(OLD, 7);
    let here = Moved { at: OLD, epoch: 7 };
    assert_eq!(did(|to| of.handle_move(OLD, 0, to)), [here]);
    for mut of in [leaving(), arriving()] {
        assert_eq!(did(|to| of.handle_move(NEW, 300, to)), []);
        let at = if of.is_held() { OLD } else { NEW };
        assert_eq!(
            did(|to| of.handle_move(THIRD, 300, to)),
            [MoveFailed {
                to: THIRD,
                back_at: Some(at),
                reason: Reason::Busy
            }]
        );
    }
    let back = Moved { at: OLD, epoch: 8 };
    assert_eq!(did(|to| taken_back().handle_move(OLD, 300, to)), [back]);
}

#[test]
fn answers_to_other_epochs_and_of_others_are_not_heard() {
    let mut of = leaving();
    assert_eq!(did(|to| of.handle_fenced(OLD, 6, b"", 0, to)), []);
    assert_eq!(did(|to| of.handle_fenced(NEW, 7, b"", 0, to)), []);
    assert_eq!(did(|to| of.handle_arrived(OLD, 7, to)), []);
    assert_eq!(did(|to| of.handle_refused(NEW, 7, 0, to)), []);
    assert_eq!(of, leaving());
    let mut of = arriving();
    assert_eq!(did(|to| of.handle_fenced(OLD, 7, b"y", 0, to)), []);
    assert_eq!(did(|to| of.handle_arrived(NEW, 7, to)), []);
    assert_eq!(did(|to| of.handle_refused(OLD, 7, 0, to)), []);
    assert_eq!(did(|to| of.handle_lost(THIRD, 0, to)), []);
    assert_eq!(of, arriving());
}

#[test]
fn the_new_owner_does_not_take_it() {
    let refused = [
        arrive(OLD, 9, state("x"), false),
        failed(Some(OLD), Reason::Refused),
    ];
    let mut of = arriving();
    assert_eq!(did(|to| of.handle_refused(NEW, 8, 300, to)), refused);
    assert_eq!((of.forward(), of.next_ms()), (Some((OLD, 9)), None));
    assert_eq!(did(|to| of.handle_arrived(OLD, 9, to)), []);
    assert_eq!(of, Binding::new(OLD, 9));
    // A packet was sent to it.
    let mut of = arriving();
    of.forward();
    let done = did(|to| of.handle_refused(NEW, 8, 300, to));
    assert_eq!(done[0], arrive(OLD, 9, state("x"), true));
}

#[test]
fn the_new_owner_does_not_answer() {
    let mut of = arriving();
    assert_eq!(
        did(|to| of.handle_timeout(200 + STEP_MS, to)),
        [
            SendDetach { to: NEW, epoch: 8 },
            arrive(OLD, 9, state("x"), true),
            failed(Some(OLD), Reason::TimedOut)
        ]
    );
    assert!(!of.delivers(NEW, 8));
    assert_eq!(did(|to| of.handle_arrived(NEW, 8, to)), []);
}

#[test]
fn the_new_owner_is_lost() {
    let mut of = leaving();
    assert_eq!(
        did(|to| of.handle_lost(NEW, 150, to)),
        [
            arrive(OLD, 8, None, false),
            Release,
            failed(Some(OLD), Reason::Lost)
        ]
    );
    let mut of = arriving();
    assert_eq!(
        did(|to| of.handle_lost(NEW, 300, to)),
        [
            arrive(OLD, 9, state("x"), true),
            failed(Some(OLD), Reason::Lost)
        ]
    );
}

#[test]
fn the_old_owner_is_lost() {
    let mut of = leaving();
    assert_eq!(
        did(|to| of.handle_lost(OLD, 150, to)),
        [arrive(NEW, 8, None, true), Release]
    );
    let moved = [Moved { at: NEW, epoch: 8 }];
    assert_eq!(did(|to| of.handle_arrived(NEW, 8, to)), moved);
    let mut of = arriving();
    assert_eq!(did(|to| of.handle_lost(OLD, 300, to)), []);
    assert_eq!(did(|to| of.handle_arrived(NEW, 8, to)), moved);
}

#[test]
fn the_old_owner_does_not_let_it_go() {
    for reason in [Reason::Refused, Reason::TooLarge] {
        let mut of = leaving();
        let done = did(|to| match reason {
            Reason::Refused => of.handle_refused(OLD, 7, 200, to),
            _ => of.handle_fenced(OLD, 7, &[0; MAX_STATE + 1], 200, to),
        });
        assert_eq!(
            done,
            [
                arrive(OLD, 8, None, false),
                Release,
                failed(Some(OLD), reason)
            ]
        );
        assert!(!of.delivers(OLD, 7) && of.delivers(OLD, 8));
    }
}

#[test]
fn the_old_owner_is_stuck_and_answers_late() {
    let mut of = taken_back();
    assert_eq!((of.forward(), of.next_ms()), (Some((OLD, 8)), None));
    assert!(of.delivers(OLD, 7) && of.delivers(OLD, 8));
    assert_eq!(did(|to| of.handle_fenced(OLD, 7, b"late", 9000, to)), []);
    assert!(!of.delivers(OLD, 7) && of.delivers(OLD, 8));
    // Lost before it has arrived: that is what another gets.
    let mut lost = of.clone();
    let tell = TellLost {
        reason: Reason::Lost,
    };
    assert_eq!(did(|to| lost.handle_lost(OLD, 9100, to)), [tell]);
    assert_eq!(
        did(|to| lost.replace(NEW, Some(b"copy"), 9200, to)),
        [arrive(NEW, 9, state("late"), true)]
    );
    assert_eq!(did(|to| of.handle_arrived(OLD, 8, to)), []);
    assert_eq!(of, Binding::new(OLD, 8));
}

#[test]
fn both_are_lost() {
    let mut of = arriving();
    of.handle_lost(OLD, 300, &mut Vec::new());
    assert_eq!(
        did(|to| of.handle_lost(NEW, 400, to)),
        [
            failed(None, Reason::Lost),
            TellLost {
                reason: Reason::Lost
            }
        ]
    );
    assert_eq!((of.is_lost(), of.forward()), (true, None));
    assert_eq!(of.state(), state("x").as_ref());
    assert_eq!(
        did(|to| of.handle_move(NEW, 500, to)),
        [failed(None, Reason::Lost)]
    );
}

#[test]
fn one_that_was_lost_is_replaced() {
    let mut of = Binding::new(OLD, 7);
    let busy = failed(Some(OLD), Reason::Busy);
    assert_eq!(did(|to| of.replace(NEW, None, 0, to)), [busy]);
    of.handle_lost(OLD, 0, &mut Vec::new());
    let large = failed(None, Reason::TooLarge);
    let too_large = [0; MAX_STATE + 1];
    assert_eq!(did(|to| of.replace(NEW, Some(&too_large), 0, to)), [large]);
    assert_eq!(
        did(|to| of.replace(NEW, Some(b"copy"), 0, to)),
        [arrive(NEW, 8, state("copy"), true)]
    );
    // It is stuck, too.
    assert_eq!(
        did(|to| of.handle_timeout(STEP_MS, to)),
        [
            SendDetach { to: NEW, epoch: 8 },
            failed(None, Reason::TimedOut),
            TellLost {
                reason: Reason::TimedOut
            }
        ]
    );
    assert_eq!(
        did(|to| of.replace(THIRD, None, 0, to)),
        [arrive(THIRD, 9, state("copy"), true)]
    );
}

#[test]
fn the_end_is_told_to_all_that_have_something() {
    let detach = |to, epoch| SendDetach { to, epoch };
    let steady = Binding::new(OLD, 7);
    assert_eq!(did(|to| steady.close(to)), [detach(OLD, 7)]);
    assert_eq!(did(|to| leaving().close(to)), [detach(OLD, 7), Release]);
    assert_eq!(
        did(|to| arriving().close(to)),
        [detach(NEW, 8), detach(OLD, 7)]
    );
    assert_eq!(did(|to| taken_back().close(to)), [detach(OLD, 8)]);
}
