//! The back for tests: connections in memory, time passed in, nothing runs by itself.
//!
//! A pipe holds [`PIPE_BYTES`] each way, as a socket buffer would, so a client that never reads
//! blocks its server and a server that does not read blocks its client.

use crate::back::{Address, Back, Ready, Source, Stream};
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};

/// The order of a default socket buffer.
pub const PIPE_BYTES: usize = 64 << 10;

pub struct Memory {
    hub: Hub,
}

/// The place where clients and the reactor meet.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: u64,
    listeners: Vec<Option<VecDeque<MemoryStream>>>,
    /// Listeners and connections that something happened to since the last poll.
    touched_listeners: BTreeSet<usize>,
    touched: BTreeSet<u32>,
    clients: u64,
}

/// Both directions of one connection, shared by its two ends.
struct Pipe {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Number the server's reactor gave it.
    connection: Option<u32>,
    client_closed: bool,
    /// The server has said that nothing more will come.
    server_finished: bool,
    server_closed: bool,
}

/// The server's end.
pub struct MemoryStream {
    pipe: Arc<Mutex<Pipe>>,
    address: Address,
}

/// The client's end, held by a test.
pub struct MemoryConnection {
    pipe: Arc<Mutex<Pipe>>,
    hub: Hub,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Hub {
    pub fn back(&self) -> Memory {
        Memory { hub: self.clone() }
    }

    pub fn set_now(&self, nanoseconds: u64) {
        let mut state = lock(&self.0);
        state.now = state.now.max(nanoseconds);
    }

    pub fn now(&self) -> u64 {
        lock(&self.0).now
    }

    pub fn listen(&self, listener: usize) {
        let mut state = lock(&self.0);
        if state.listeners.len() <= listener {
            state.listeners.resize_with(listener + 1, || None);
        }
        state.listeners[listener] = Some(VecDeque::new());
    }

    /// `None`: nothing listens there (any more).
    pub fn connect(&self, listener: usize) -> Option<MemoryConnection> {
        let mut state = lock(&self.0);
        state.clients += 1;
        let address = Address::Memory(state.clients);
        let pipe = Arc::new(Mutex::new(Pipe {
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            connection: None,
            client_closed: false,
            server_finished: false,
            server_closed: false,
        }));
        let waiting = state.listeners.get_mut(listener)?.as_mut()?;
        waiting.push_back(MemoryStream {
            pipe: pipe.clone(),
            address,
        });
        state.touched_listeners.insert(listener);
        drop(state);
        Some(MemoryConnection {
            pipe,
            hub: self.clone(),
        })
    }

    /// Is there something that the next poll will tell?
    pub fn has_events(&self) -> bool {
        let state = lock(&self.0);
        !state.touched.is_empty() || !state.touched_listeners.is_empty()
    }

    fn touch(&self, pipe: &Pipe) {
        if let Some(connection) = pipe.connection {
            lock(&self.0).touched.insert(connection);
        }
    }
}

impl Back for Memory {
    type Stream = MemoryStream;

    fn now(&self) -> u64 {
        self.hub.now()
    }

    fn poll(&mut self, ready: &mut Vec<Ready>, _timeout: Option<u64>) -> io::Result<()> {
        let mut state = lock(&self.hub.0);
        let listeners = std::mem::take(&mut state.touched_listeners);
        let connections = std::mem::take(&mut state.touched);
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
        let mut state = lock(&self.hub.0);
        let waiting = state.listeners.get_mut(listener).and_then(Option::as_mut);
        match waiting.and_then(VecDeque::pop_front) {
            Some(stream) => {
                let address = stream.address;
                Ok((stream, address))
            }
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn watch(&mut self, stream: &mut MemoryStream, connection: u32) -> io::Result<()> {
        lock(&stream.pipe).connection = Some(connection);
        lock(&self.hub.0).touched.insert(connection);
        Ok(())
    }

    fn forget(&mut self, stream: &mut MemoryStream) {
        lock(&stream.pipe).connection = None;
    }

    fn stop_listening(&mut self) {
        for listener in &mut lock(&self.hub.0).listeners {
            *listener = None;
        }
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
        let mut pipe = lock(&self.pipe);
        if pipe.to_server.is_empty() && !pipe.client_closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = pipe.to_server.len().min(into.len());
        pipe.to_server.read_exact(&mut into[..count])?;
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = lock(&self.pipe);
        if pipe.client_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(PIPE_BYTES - pipe.to_client.len());
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.to_client.extend(&bytes[..count]);
        Ok(count)
    }

    fn finish(&mut self) {
        lock(&self.pipe).server_finished = true;
    }

    fn reset(self) {
        lock(&self.pipe).to_client.clear();
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        lock(&self.pipe).server_closed = true;
    }
}

impl MemoryConnection {
    /// How much of `bytes` the pipe took.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = lock(&self.pipe);
        if pipe.server_closed || pipe.client_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(PIPE_BYTES - pipe.to_server.len());
        pipe.to_server.extend(&bytes[..count]);
        self.hub.touch(&pipe);
        Ok(count)
    }

    /// What has come, at most `limit` bytes; `None`: nothing more will come.
    pub fn read(&self, limit: usize) -> Option<Vec<u8>> {
        let mut pipe = lock(&self.pipe);
        let count = pipe.to_client.len().min(limit);
        if count == 0 && (pipe.server_finished || pipe.server_closed || pipe.client_closed) {
            return None;
        }
        let mut bytes = vec![0; count];
        pipe.to_client.read_exact(&mut bytes).ok()?;
        // Looking and finding nothing is no event, or a test that polls would never see it quiet.
        if count > 0 {
            self.hub.touch(&pipe);
        }
        Some(bytes)
    }

    pub fn close(&self) {
        let mut pipe = lock(&self.pipe);
        pipe.client_closed = true;
        self.hub.touch(&pipe);
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.close();
    }
}
