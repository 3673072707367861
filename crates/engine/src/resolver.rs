//! Names of nodes, looked up on a thread of its own: to ask the system may take many seconds, and no reactor waits.
//!
//! The thread is there from the first name on, and as long as somebody could ask. It is never waited for.

use crate::listener::DialUrl;
use crate::lock::lock;
use crate::outbox::Handover;
use crate::shared::Mailbox;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};

pub struct Resolver {
    questions: Sender<Question>,
    /// Until the thread is there.
    waiting: Mutex<Option<Receiver<Question>>>,
}

/// Whose dial wants to know; it has one question at a time.
pub struct Question {
    pub reactor: usize,
    pub dial: u32,
    pub serial: u32,
    pub url: DialUrl,
}

impl Default for Resolver {
    fn default() -> Resolver {
        let (questions, waiting) = channel();
        Resolver {
            questions,
            waiting: Mutex::new(Some(waiting)),
        }
    }
}

impl Resolver {
    /// The answer comes into the reactor's mailbox. Needs that [`start`](Resolver::start) was called.
    pub fn ask(&self, question: Question) {
        // Fails only when the thread has panicked, and then what was found before is tried on.
        let _ = self.questions.send(question);
    }

    /// Has names looked up from now on. A second call does nothing.
    pub fn start(&self, mailboxes: Arc<[Mailbox]>) -> io::Result<()> {
        let mut waiting = lock(&self.waiting);
        let Some(questions) = waiting.take() else {
            return Ok(());
        };
        std::thread::Builder::new()
            .name("photinus-names".to_owned())
            .spawn(move || {
                crate::system::block_signals();
                for question in questions {
                    let found = look_up(&question.url).unwrap_or_default();
                    let allowed = found.into_iter().filter(|of| question.url.may_reach(*of));
                    let answer = Handover::Found {
                        dial: question.dial,
                        serial: question.serial,
                        addresses: allowed.map(|of| of.to_string()).collect(),
                    };
                    mailboxes[question.reactor].post(answer, 1);
                }
            })?;
        Ok(())
    }
}

/// Blocks, for as long as the system takes.
pub fn look_up(url: &DialUrl) -> io::Result<Vec<SocketAddr>> {
    Ok((url.host.as_str(), url.port).to_socket_addrs()?.collect())
}
