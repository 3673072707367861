//! The back for tests: connections in memory, time passed in, nothing runs by itself.
//!
//! Each engine has a [`Hub`] in a [`Network`](network::Network): its own, or one that it shares with the other
//! nodes of a cluster, which then have one clock and can dial each other. A pipe holds [`PIPE_BYTES`] each way,
//! as a socket buffer would, so a client that never reads blocks its server and a server that does not read
//! blocks its client.

mod network;
mod pipe;

use crate::back::{Address, Back, Ready, Source, Stream};
pub use network::{Network, Way};
pub use pipe::PIPE_BYTES;
use pipe::{Flight, Place};
use std::io;

pub struct Memory {
    hub: Hub,
}

/// One engine's place in a network.
#[derive(Clone)]
pub struct Hub {
    network: Network,
    number: usize,
}

/// A reactor's end of a pipe.
pub struct MemoryStream {
    network: Network,
    place: Place,
    is_reset: bool,
}

/// The client's end, held by a test.
pub struct MemoryConnection {
    network: Network,
    place: Place,
    number: u64,
}

impl Hub {
    /// In this network under this name, which is what the network's controls call it. A name that was
    /// there before belongs to the new one from now on.
    pub fn new(network: &Network, name: &str) -> Hub {
        Hub {
            network: network.clone(),
            number: network.lock().add_hub(name),
        }
    }

    pub fn back(&self) -> Memory {
        Memory { hub: self.clone() }
    }

    pub fn set_now(&self, nanoseconds: u64) {
        self.network.set_now(nanoseconds);
    }

    pub fn now(&self) -> u64 {
        self.network.now()
    }

    /// Others reach it at `address` (`HOST:PORT`), unless another node is there already.
    pub fn listen(&self, listener: usize, address: &str) -> io::Result<()> {
        self.network.lock().listen(self.number, listener, address)
    }

    /// `None`: nothing listens there (any more).
    pub fn connect(&self, listener: usize) -> Option<MemoryConnection> {
        let (place, number) = self.network.lock().connect(self.number, listener)?;
        Some(MemoryConnection {
            network: self.network.clone(),
            place,
            number,
        })
    }

    /// Is there something that the next poll will tell?
    pub fn has_events(&self) -> bool {
        self.network.lock().has_events(self.number)
    }

    fn stream(&self, place: Place) -> MemoryStream {
        MemoryStream {
            network: self.network.clone(),
            place,
            is_reset: false,
        }
    }
}

impl Back for Memory {
    type Stream = MemoryStream;

    fn now(&self) -> u64 {
        self.hub.now()
    }

    fn poll(&mut self, ready: &mut Vec<Ready>, _timeout: Option<u64>) -> io::Result<()> {
        let (listeners, connections) = self.hub.network.lock().take_touched(self.hub.number);
        let sources = listeners.into_iter().map(Source::Listener);
        let sources = sources.chain(connections.into_iter().map(Source::Connection));
        ready.extend(sources.map(|source| Ready {
            source,
            readable: true,
            writable: true,
            // Not looked up: to find that there is none costs no system call here.
            ended: true,
        }));
        Ok(())
    }

    fn listen(&mut self, _listener: usize, _socket: mio::net::TcpListener) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn accept(&mut self, listener: usize) -> io::Result<(MemoryStream, Address)> {
        let accepted = self.hub.network.lock().accept(self.hub.number, listener);
        let (place, number) = accepted.ok_or(io::ErrorKind::WouldBlock)?;
        Ok((self.hub.stream(place), Address::Memory(number)))
    }

    fn dial(&mut self, address: &str) -> io::Result<MemoryStream> {
        let place = self.hub.network.lock().dial(self.hub.number, address)?;
        Ok(self.hub.stream(place))
    }

    fn watch(&mut self, stream: &mut MemoryStream, connection: u32) -> io::Result<()> {
        let mut net = self.hub.network.lock();
        net.watch(stream.place, Some(connection));
        net.touch(stream.place);
        Ok(())
    }

    fn forget(&mut self, stream: &mut MemoryStream) {
        self.hub.network.lock().watch(stream.place, None);
    }

    fn stop_listening(&mut self) {
        self.hub.network.lock().stop_listening(self.hub.number);
    }

    fn adopt(&mut self, _socket: mio::net::TcpStream) -> Option<MemoryStream> {
        None
    }

    fn part_with(&mut self, stream: MemoryStream) -> Result<mio::net::TcpStream, MemoryStream> {
        Err(stream)
    }
}

impl Stream for MemoryStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.network.lock().read(self.place, into)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.network.lock().write(self.place, bytes)
    }

    fn finish(&mut self) {
        self.network.lock().send(self.place, Flight::End);
    }

    fn reset(mut self) {
        self.is_reset = true;
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let last = match self.is_reset {
            true => Flight::Reset(io::ErrorKind::ConnectionReset),
            false => Flight::Gone,
        };
        self.network.lock().let_go(self.place, last);
    }
}

impl MemoryConnection {
    /// The server calls it `memory:NUMBER`.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How much of `bytes` the pipe took.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut net = self.network.lock();
        match net.write(self.place, bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Ok(count) => Ok(count),
        }
    }

    /// What has come, at most `limit` bytes; `None`: nothing more will come.
    pub fn read(&self, limit: usize) -> Option<Vec<u8>> {
        let mut net = self.network.lock();
        let mut bytes = vec![0; net.waiting(self.place).min(limit)];
        match net.read(self.place, &mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Vec::new()),
            Ok(0) if limit > 0 => None,
            Err(_) => None,
            Ok(_) => Some(bytes),
        }
    }

    /// What has come already can still be read.
    pub fn close(&self) {
        self.network.lock().close(self.place, Flight::Gone);
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.network.lock().let_go(self.place, Flight::Gone);
    }
}
