//! Where a server is, and opening many connections to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::door::{Door, Way};

/// A loopback connection that takes longer was dropped by a full accept queue more than once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections from one source address; the kernel's ephemeral ports are some 28,000, of which a
/// part may still rest in TIME_WAIT from the run before.
const PER_SOURCE: usize = 8_000;

/// Descriptors beside the connections: standard streams, poller, waker, /proc files.
const SPARE_DESCRIPTORS: u64 = 64;

/// A server: its address, and what lies between a socket to it and its frames.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    way: Way,
}

impl Target {
    /// For a new connection; `None` where frames are what the socket carries.
    pub fn door(&self) -> io::Result<Option<Box<Door>>> {
        Door::new(&self.way)
    }

    /// What is written at once goes into one WebSocket message, however many frames it holds.
    pub fn join_messages(&mut self) {
        self.way.joins_messages = true;
    }
}

/// Reads `HOST:PORT`, or a URL `SCHEME://HOST:PORT/PATH?…` whose query is the server's business.
/// The scheme is tcp, tls, ws or wss.
pub fn resolve(target: &str) -> io::Result<Target> {
    let wrong = |why: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cannot connect to {target:?}: {why}"),
        )
    };
    let (scheme, rest) = target.split_once("://").unwrap_or(("tcp", target));
    let rest = rest.split('?').next().unwrap_or(rest);
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (tls, websocket) = match scheme {
        "tcp" => (false, false),
        "tls" => (true, false),
        "ws" => (false, true),
        "wss" => (true, true),
        _ => return Err(wrong("expected tcp, tls, ws or wss")),
    };
    let address = place
        .to_socket_addrs()
        .map_err(|error| {
            wrong(&format!(
                "{error} (expected HOST:PORT or SCHEME://HOST:PORT)"
            ))
        })?
        .next()
        .ok_or_else(|| wrong("the name has no address"))?;
    let way = Way::new(tls, websocket.then_some((place, path)))?;
    Ok(Target { address, way })
}

/// Raises the soft limit of open files so that `connections` fit.
pub fn allow_descriptors(connections: usize) -> io::Result<()> {
    use rustix::process::{getrlimit, setrlimit, Resource};
    let needed = connections as u64 + SPARE_DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(io::Error::other(format!(
            "{connections} connections need {needed} open files, the hard limit is {}",
            limit.maximum.unwrap_or(0)
        )));
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit).map_err(io::Error::from)
}

/// Raises the soft limit of open files to the hard one, for who does not know how many will come.
pub fn allow_all_descriptors() -> io::Result<()> {
    use rustix::process::{getrlimit, setrlimit, Resource};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(io::Error::from)
}

/// Opens `count` connections, one after the other so that no accept queue overflows, and hands each
/// over as non-blocking.
pub fn open_all(
    to: impl Fn(usize) -> SocketAddr,
    count: usize,
    mut opened: impl FnMut(usize, mio::net::TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    allow_descriptors(count)?;
    for index in 0..count {
        let to = to(index);
        let stream = open_one(to, index).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("connection {} of {count} to {to}: {error}", index + 1),
            )
        })?;
        opened(index, stream)?;
    }
    Ok(())
}

/// Opens the connection that has this number, again.
pub fn open_one(to: SocketAddr, index: usize) -> io::Result<mio::net::TcpStream> {
    open(to, source(to.ip(), index))
}

/// The address that connection `index` is bound to. The first ones are left to the kernel, which may
/// use ports again that rest in TIME_WAIT from the run before.
fn source(to: IpAddr, index: usize) -> Option<IpAddr> {
    match to {
        IpAddr::V4(address) if address.is_loopback() && cfg!(target_os = "linux") => {
            match u8::try_from(index / PER_SOURCE).unwrap_or(u8::MAX - 1) {
                0 => None,
                host => Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + host))),
            }
        }
        _ => None,
    }
}

fn open(to: SocketAddr, from: Option<IpAddr>) -> io::Result<mio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(address) = from {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(address, 0).into())?;
    }
    socket.connect_timeout(&to.into(), CONNECT_TIMEOUT)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_or_a_url() {
        let expected: SocketAddr = "127.0.0.1:3010".parse().unwrap();
        for target in [
            "127.0.0.1:3010",
            "tcp://127.0.0.1:3010",
            "tcp://127.0.0.1:3010?protocol=pomelo",
            "wss://127.0.0.1:3010/play?protocol=pomelo",
        ] {
            assert_eq!(resolve(target).unwrap().address, expected, "{target}");
        }
        assert!(resolve("tcp://[::1]:9?x=1").unwrap().address.is_ipv6());
        for (wrong, expected) in [("127.0.0.1", "HOST:PORT"), ("udp://127.0.0.1:1", "wss")] {
            let error = resolve(wrong).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn many_loopback_connections_come_from_several_addresses() {
        let to: IpAddr = "127.0.0.1".parse().unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(source(to, 7_999), None);
            assert_eq!(source(to, 8_000), Some("127.0.0.2".parse().unwrap()));
        }
        assert_eq!(source("10.0.0.1".parse().unwrap(), 8_000), None);
    }
}
