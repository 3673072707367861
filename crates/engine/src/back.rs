//! What a reactor stands on: sockets and the system's clock, or memory with time passed in.

use crate::limits::EVENTS_A_TURN;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Where a reactor's events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Connection(u32),
    Listener(usize),
    /// Another thread has put something into the mailbox.
    Mailbox,
    /// The loop's own poller has something, or a signal came; for a reactor led by the loop's thread.
    Loop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub source: Source,
    pub readable: bool,
    pub writable: bool,
    /// Behind what there is to read stands the end, which no later event tells: a read that takes
    /// less than it could has not come to it yet.
    pub ended: bool,
}

/// Readiness is edge-triggered: told once, then again only after a read or a write has said
/// `WouldBlock` (or has taken less than it was offered).
pub trait Back: Send + 'static {
    type Stream: Stream;

    /// Nanoseconds; never goes back.
    fn now(&self) -> u64;

    /// Appends what is ready, waiting at most `timeout` nanoseconds for the first (`None`: for ever).
    fn poll(&mut self, ready: &mut Vec<Ready>, timeout: Option<u64>) -> io::Result<()>;

    /// How many events one `poll` gives at most.
    fn events_a_turn(&self) -> usize {
        EVENTS_A_TURN
    }

    /// Takes connections from this socket, told of under this number.
    fn listen(&mut self, listener: usize, socket: mio::net::TcpListener) -> io::Result<()>;

    /// The next connection that waits at this listener, and where it comes from.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, Address)>;

    /// A connection to `HOST:PORT`, which is begun: it can be written once `poll` tells so.
    fn dial(&mut self, address: &str) -> io::Result<Self::Stream>;

    /// From now on `poll` tells of this stream under this number.
    fn watch(&mut self, stream: &mut Self::Stream, connection: u32) -> io::Result<()>;

    /// Before the stream is dropped.
    fn forget(&mut self, stream: &mut Self::Stream);

    /// No more connections are taken from any listener.
    fn stop_listening(&mut self);

    /// A socket that another reactor accepted. `None`: this back has no sockets.
    fn adopt(&mut self, socket: mio::net::TcpStream) -> Option<Self::Stream>;

    /// For a reactor that shares its listener's connections out.
    fn part_with(&mut self, stream: Self::Stream) -> Result<mio::net::TcpStream, Self::Stream>;
}

pub trait Stream: Send {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// It carries a link: little is to wait in the system, where nothing overtakes it.
    fn keep_little(&mut self) {}
    /// The peer sees the end once it has read what was written.
    fn finish(&mut self);
    /// The end, at once: what was sent is lost, and the system keeps nothing of the connection.
    fn reset(self);
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    Socket(SocketAddr),
    /// A client of the memory back, by its number.
    Memory(u64),
}

impl Address {
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Address::Socket(address) => Some(address.ip()),
            Address::Memory(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Memory(number) => write!(f, "memory:{number}"),
        }
    }
}
