//! An owner's half of a move, as docs/bluenet.md, 10 wants it: what a node does with the frames of a proxy about one
//! session. Nodes have it in Python, spread over what waits for what (photinus/cluster/guests.py); here it is in one piece.
//!
//! Rules:
//! 1. Frames are handed in one at a time, in their order: while the application leaves or arrives
//!    ([`is_busy`](Owner::is_busy)) what comes for the session waits, packets and frames alike, in the queue that
//!    its packets wait in anyway. Only the loss of the proxy does not.
//! 2. An answer goes the way of the session's output, behind the last of it.
//! 3. Nothing is said to the client but between ARRIVED and FENCED; what the application sends while it arrives
//!    goes behind ARRIVED, and what it sends after it has left goes nowhere.
//! 4. An application that cannot leave (it raised, or its state is too large) answers REFUSED in place of FENCED,
//!    and waits as if it had left: the proxy gives the binding back.

use photinus_proto::binding::MAX_STATE;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    epoch: u16,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Active,
    /// The application is asked for its state.
    Leaving,
    /// What it left with, if it did.
    Left(Option<Arc<[u8]>>),
    /// The application is given its state.
    Arriving,
    Gone,
}

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Ask the application to leave; call [`Owner::left`] with what it returns.
    Leave,
    /// Give this to the application; call [`Owner::arrived`].
    Arrive {
        state: Option<Arc<[u8]>>,
        gap: bool,
    },
    SendFenced {
        epoch: u16,
        state: Arc<[u8]>,
    },
    SendArrived {
        epoch: u16,
    },
    SendRefused {
        epoch: u16,
    },
    /// The session is no longer this node's. The application is told if it has it.
    Forget {
        told: bool,
    },
}

impl Owner {
    /// One to which the session came without a move.
    pub fn new(epoch: u16) -> Owner {
        Owner {
            epoch,
            stage: Stage::Active,
        }
    }

    /// A session that this node knows nothing of, by an ARRIVE. The answer is carried out first.
    pub fn arriving(epoch: u16, state: Option<&[u8]>, gap: bool) -> (Owner, Answer) {
        let stage = Stage::Left(None);
        let mut owner = Owner { epoch, stage };
        let answer = match (state, gap) {
            // It would begin with what it left with, and has not left.
            (None, false) => {
                owner.stage = Stage::Gone;
                Answer::SendRefused { epoch }
            }
            _ => owner.arrive(state.map(Arc::from), gap),
        };
        (owner, answer)
    }

    /// Whether a packet is handled. If not, it is dropped and counted.
    pub fn accepts(&self, epoch: u16) -> bool {
        self.stage == Stage::Active && epoch == self.epoch
    }

    /// Under which epoch the application's output goes to the client, if it does.
    pub fn speaks(&self) -> Option<u16> {
        matches!(self.stage, Stage::Active | Stage::Leaving).then_some(self.epoch)
    }

    /// Whether the application is at work: nothing is handed in.
    pub fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Leaving | Stage::Arriving)
    }

    /// Whether there is nothing left here.
    pub fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// All packets before it have been handled.
    pub fn handle_fence(&mut self, epoch: u16) -> Option<Answer> {
        if !self.accepts(epoch) {
            return None;
        }
        self.stage = Stage::Leaving;
        Some(Answer::Leave)
    }

    /// The application has left with this state; none: it does not leave.
    pub fn left(&mut self, state: Option<&[u8]>) -> Option<Answer> {
        if self.stage != Stage::Leaving {
            return None;
        }
        let epoch = self.epoch;
        let state: Option<Arc<[u8]>> = state.map(Arc::from);
        self.stage = Stage::Left(state.clone());
        Some(match state {
            Some(state) if state.len() <= MAX_STATE => Answer::SendFenced { epoch, state },
            _ => Answer::SendRefused { epoch },
        })
    }

    /// It has the session back.
    pub fn handle_arrive(&mut self, epoch: u16, state: Option<&[u8]>, gap: bool) -> Option<Answer> {
        let Stage::Left(own) = &mut self.stage else {
            return None;
        };
        let own = own.take();
        self.epoch = epoch;
        if (state, gap, &own) == (None, false, &None) {
            // The application never left.
            self.stage = Stage::Active;
            return Some(Answer::SendArrived { epoch });
        }
        Some(self.arrive(state.map(Arc::from).or(own), gap))
    }

    /// The application has taken it, or does not.
    pub fn arrived(&mut self, taken: bool) -> Option<Answer> {
        if self.stage != Stage::Arriving {
            return None;
        }
        let epoch = self.epoch;
        if taken {
            self.stage = Stage::Active;
            return Some(Answer::SendArrived { epoch });
        }
        self.stage = Stage::Gone;
        Some(Answer::SendRefused { epoch })
    }

    /// It is another's, or nobody's.
    pub fn handle_detach(&mut self, epoch: u16) -> Option<Answer> {
        if epoch != self.epoch {
            return None;
        }
        self.handle_lost()
    }

    /// The proxy was lost.
    pub fn handle_lost(&mut self) -> Option<Answer> {
        match std::mem::replace(&mut self.stage, Stage::Gone) {
            Stage::Gone => None,
            // It has left with a state: it knows.
            Stage::Left(Some(_)) => Some(Answer::Forget { told: false }),
            _ => Some(Answer::Forget { told: true }),
        }
    }

    fn arrive(&mut self, state: Option<Arc<[u8]>>, gap: bool) -> Answer {
        self.stage = Stage::Arriving;
        Answer::Arrive { state, gap }
    }
}

#[test]
fn an_owner_leaves_and_gets_it_back() {
    let mut of = Owner::new(7);
    assert!(of.accepts(7) && !of.accepts(8));
    assert_eq!(of.handle_fence(6), None);
    assert_eq!(of.handle_fence(7), Some(Answer::Leave));
    assert_eq!((of.is_busy(), of.speaks()), (true, Some(7)));
    let fenced = Answer::SendFenced {
        epoch: 7,
        state: Arc::from(&b"x"[..]),
    };
    assert_eq!(of.left(Some(b"x")), Some(fenced));
    assert_eq!((of.accepts(7), of.speaks()), (false, None));
    let mut other = of.clone();
    let own = Answer::Arrive {
        state: Some(Arc::from(&b"x"[..])),
        gap: false,
    };
    assert_eq!(of.handle_arrive(8, None, false), Some(own));
    assert_eq!((of.is_busy(), of.speaks()), (true, None));
    assert_eq!(of.arrived(true), Some(Answer::SendArrived { epoch: 8 }));
    assert_eq!(of, Owner::new(8));
    assert_eq!(other.handle_detach(8), None);
    let forget = Answer::Forget { told: false };
    assert_eq!(other.handle_detach(7), Some(forget));
    assert!(other.is_gone());
}

#[test]
fn an_owner_that_cannot_leave_goes_on() {
    for left_with in [None, Some(vec![0; MAX_STATE + 1])] {
        let mut of = Owner::new(7);
        of.handle_fence(7);
        let refused = Answer::SendRefused { epoch: 7 };
        assert_eq!(of.left(left_with.as_deref()), Some(refused));
        assert!(!of.accepts(7));
        let expected = match left_with {
            None => Answer::SendArrived { epoch: 8 },
            Some(own) => Answer::Arrive {
                state: Some(own.into()),
                gap: false,
            },
        };
        assert_eq!(of.handle_arrive(8, None, false), Some(expected));
    }
}

#[test]
fn an_owner_to_which_it_comes() {
    let (mut of, answer) = Owner::arriving(8, Some(b"x"), false);
    let given = Answer::Arrive {
        state: Some(Arc::from(&b"x"[..])),
        gap: false,
    };
    assert_eq!((answer, of.is_busy()), (given, true));
    assert_eq!(of.arrived(false), Some(Answer::SendRefused { epoch: 8 }));
    assert!(of.is_gone() && of.handle_lost().is_none());
    // The link was lost while the application arrived.
    let (mut of, _) = Owner::arriving(8, None, true);
    assert_eq!(of.handle_lost(), Some(Answer::Forget { told: true }));
    assert_eq!(of.arrived(true), None);
    // Told to go on with what it does not have.
    let (of, answer) = Owner::arriving(8, None, false);
    assert_eq!(answer, Answer::SendRefused { epoch: 8 });
    assert!(of.is_gone());
}
