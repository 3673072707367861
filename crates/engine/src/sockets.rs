//! The back that serves: TCP sockets, the system's poller and clock.

use crate::back::{Back, Ready, Source, Stream};
use crate::limits::EVENTS_A_TURN;
use crate::system;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::sync::Arc;
use std::time::Duration;

const MAILBOX: usize = usize::MAX;
/// Listeners' tokens count down from here, connections' up from 0.
const LISTENERS: usize = usize::MAX / 2;

pub struct Sockets {
    poll: Poll,
    events: Events,
    listeners: Vec<Option<TcpListener>>,
}

impl Sockets {
    pub fn new() -> io::Result<(Sockets, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(MAILBOX))?);
        let events = Events::with_capacity(EVENTS_A_TURN);
        Ok((
            Sockets {
                poll,
                events,
                listeners: Vec::new(),
            },
            waker,
        ))
    }
}

impl Back for Sockets {
    type Stream = TcpStream;

    #[inline]
    fn now(&self) -> u64 {
        system::monotonic_ns()
    }

    fn poll(&mut self, ready: &mut Vec<Ready>, timeout: Option<u64>) -> io::Result<()> {
        match self
            .poll
            .poll(&mut self.events, timeout.map(Duration::from_nanos))
        {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let source = match event.token().0 {
                MAILBOX => Source::Mailbox,
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

    fn accept(&mut self, listener: usize) -> io::Result<(TcpStream, String)> {
        let Some(Some(listener)) = self.listeners.get(listener) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let (stream, address) = listener.accept()?;
        // Merging is done here, a turn at a time; Nagle's would only delay it. A peer that is gone
        // already makes this fail, and the first read tells.
        let _ = stream.set_nodelay(true);
        Ok((stream, address.to_string()))
    }

    fn watch(&mut self, stream: &mut TcpStream, connection: u32) -> io::Result<()> {
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

    fn finish(&mut self) {
        // A peer that is gone already has nothing to be told.
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}
