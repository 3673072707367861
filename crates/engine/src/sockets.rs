//! The back that serves: TCP sockets, the system's poller and clock.

use crate::back::{Address, Back, Ready, Source, Stream};
use crate::limits::{LINK_SOCKET_BYTES, LINK_UNSENT_BYTES};
use crate::system::{self, Sleeper};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

const MAILBOX: usize = usize::MAX;
/// The loop's own poller, and the word that there is something in the inbox, while the loop's thread leads.
const LOOP: usize = usize::MAX - 1;
const PYTHON: usize = usize::MAX - 2;
/// Listeners' tokens count down from here, connections' up from 0.
const LISTENERS: usize = usize::MAX / 2;

pub struct Sockets {
    poll: Poll,
    events: Events,
    listeners: Vec<Option<TcpListener>>,
    loop_watch: Option<LoopWatch>,
}

/// What is watched for a loop whose thread leads.
struct LoopWatch {
    /// A loop that was closed and the next one may have the same descriptors.
    sleeper: u64,
    event: RawFd,
    other: RawFd,
    /// The loop's own poller has told something. That is an edge, and it may have more to tell.
    told: bool,
}

impl Sockets {
    pub fn new(events_a_turn: usize) -> io::Result<(Sockets, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(MAILBOX))?);
        let events = Events::with_capacity(events_a_turn);
        Ok((
            Sockets {
                poll,
                events,
                listeners: Vec::new(),
                loop_watch: None,
            },
            waker,
        ))
    }

    /// The loop's thread leads: `poll` ends when its sleep would have ended, too. Both descriptors of
    /// the sleeper must be open until [`ignore_loop`](Self::ignore_loop), or until another is watched.
    pub fn watch_loop(&mut self, sleeper: &Sleeper) -> io::Result<()> {
        let watched = self.loop_watch.as_ref();
        if watched.is_some_and(|of| of.sleeper == sleeper.number()) {
            return Ok(());
        }
        self.ignore_loop();
        let [event, other] = sleeper.descriptors();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&event), Token(PYTHON), Interest::READABLE)?;
        registry.register(&mut SourceFd(&other), Token(LOOP), Interest::READABLE)?;
        self.loop_watch = Some(LoopWatch {
            sleeper: sleeper.number(),
            event,
            other,
            told: false,
        });
        Ok(())
    }

    /// Before anything else is watched: a descriptor that was closed may come back as another's.
    pub fn ignore_loop(&mut self) {
        if let Some(LoopWatch { event, other, .. }) = self.loop_watch.take() {
            for fd in [event, other] {
                // Fails only for one that was closed, and that is not watched any more.
                let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
            }
        }
    }
}

impl Back for Sockets {
    type Stream = TcpStream;

    #[inline]
    fn now(&self) -> u64 {
        system::monotonic_ns()
    }

    fn events_a_turn(&self) -> usize {
        self.events.capacity()
    }

    fn poll(&mut self, ready: &mut Vec<Ready>, timeout: Option<u64>) -> io::Result<()> {
        if let Some(watch) = self.loop_watch.as_mut().filter(|of| of.told) {
            // Watching anew tells of what is still there.
            let (source, registry) = (&mut SourceFd(&watch.other), self.poll.registry());
            registry.reregister(source, Token(LOOP), Interest::READABLE)?;
            watch.told = false;
        }
        match self
            .poll
            .poll(&mut self.events, timeout.map(Duration::from_nanos))
        {
            // A signal, which the interpreter wants to know of.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => ready.push(Ready {
                source: Source::Loop,
                readable: false,
                writable: false,
                ended: false,
            }),
            other => other?,
        }
        for event in &self.events {
            let source = match event.token().0 {
                MAILBOX | PYTHON => Source::Mailbox,
                LOOP => {
                    if let Some(watch) = &mut self.loop_watch {
                        watch.told = true;
                    }
                    Source::Loop
                }
                token if token > LISTENERS / 2 => Source::Listener(LISTENERS - token),
                token => Source::Connection(token as u32),
            };
            ready.push(Ready {
                source,
                readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                writable: event.is_writable(),
                ended: event.is_read_closed() || event.is_error(),
            });
        }
        Ok(())
    }

    fn listen(&mut self, listener: usize, mut socket: TcpListener) -> io::Result<()> {
        let token = Token(LISTENERS - listener);
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE)?;
        if self.listeners.len() <= listener {
            self.listeners.resize_with(listener + 1, || None);
        }
        self.listeners[listener] = Some(socket);
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<(TcpStream, Address)> {
        let Some(Some(listener)) = self.listeners.get(listener) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let (stream, address) = listener.accept()?;
        Ok((stream, Address::Socket(address)))
    }

    /// An address in figures: to look a name up might block.
    fn dial(&mut self, address: &str) -> io::Result<TcpStream> {
        let address = address
            .parse()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        TcpStream::connect(address)
    }

    fn watch(&mut self, stream: &mut TcpStream, connection: u32) -> io::Result<()> {
        // Merging is done here, a turn at a time; Nagle's would only delay it. A peer that is gone
        // already makes this fail, and the first read tells.
        let _ = stream.set_nodelay(true);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(stream, Token(connection as usize), both)
    }

    fn forget(&mut self, stream: &mut TcpStream) {
        // Fails only for a stream that was never watched.
        let _ = self.poll.registry().deregister(stream);
    }

    fn stop_listening(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            let _ = self.poll.registry().deregister(listener);
        }
        self.listeners.clear();
    }

    fn adopt(&mut self, socket: TcpStream) -> Option<TcpStream> {
        Some(socket)
    }

    fn part_with(&mut self, stream: TcpStream) -> Result<TcpStream, TcpStream> {
        Ok(stream)
    }
}

/// rustix makes the system calls itself: libc's `send` and `recv` are points at which a thread may be
/// cancelled, and to say so costs a process with several threads some 30 ns a call.
impl Stream for TcpStream {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self, into, RecvFlags::empty())?.0)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self, bytes, SendFlags::NOSIGNAL)?)
    }

    fn keep_little(&mut self) {
        system::bound_buffers(self, LINK_SOCKET_BYTES, LINK_UNSENT_BYTES);
    }

    fn finish(&mut self) {
        // A peer that is gone already has nothing to be told.
        let _ = self.shutdown(std::net::Shutdown::Write);
    }

    fn reset(self) {
        // Of a peer that is gone already nothing is kept either.
        let _ = rustix::net::sockopt::set_socket_linger(&self, Some(Duration::ZERO));
    }
}
