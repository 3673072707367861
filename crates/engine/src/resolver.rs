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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::time::{Duration, Instant};

    /// What a name was found to be.
    fn found(url: &str) -> Vec<String> {
        let resolver = Resolver::default();
        let mailboxes: Arc<[Mailbox]> = [Mailbox::new(None)].into();
        resolver.start(mailboxes.clone()).unwrap();
        resolver.start(mailboxes.clone()).unwrap();
        resolver.ask(Question {
            reactor: 0,
            dial: 5,
            serial: 6,
            url: DialUrl::parse(url).unwrap(),
        });
        let began = Instant::now();
        let mut mail = VecDeque::new();
        while mail.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "no answer");
            mailboxes[0].queue.take(&mut mail);
            std::thread::yield_now();
        }
        match mail.pop_front() {
            Some(Handover::Found {
                dial: 5,
                serial: 6,
                addresses,
            }) => addresses,
            _ => panic!("another answer"),
        }
    }

    #[test]
    fn a_name_is_found_and_what_is_none_is_answered_too() {
        let near = found("tcp://localhost:7801");
        assert!(!near.is_empty());
        assert!(near.iter().all(|of| of.ends_with(":7801")), "{near:?}");
        // No name has a blank in it: nobody is asked.
        assert_eq!(found("tcp://no name:1"), [""; 0]);
    }

    #[test]
    fn an_address_that_plain_tcp_may_not_reach_is_none() {
        assert_eq!(found("tcp://192.0.2.1:1"), [""; 0]);
        assert_eq!(found("tcp://192.0.2.1:1?plain=1"), ["192.0.2.1:1"]);
        assert_eq!(found("tls://192.0.2.1:1"), ["192.0.2.1:1"]);
    }
}
