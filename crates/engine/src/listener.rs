//! A listener's URL: `SCHEME://host:port/path?protocol=NAME&option=value`. The scheme says what lies
//! between the socket and the protocol: `tcp` nothing, `tls`, `ws` WebSocket, `wss` both. And where a node is
//! dialled for a link: `tcp://host:port` or `tls://host:port`.

use crate::layers::{Door, Trusted};
use photinus_proto::codec::Protocol;
use photinus_proto::compress::Dictionary;
use photinus_proto::websocket::{self, Content};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};

/// The least that one message of a WebSocket may hold, whatever a packet may: several of them.
const LEAST_MESSAGE: usize = 64 << 10;

#[derive(Debug)]
pub struct ListenUrl {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    pub door: Door,
    /// Of links: they may cross the network without TLS.
    pub plain: bool,
    scheme: &'static str,
    /// What stood behind the address: the path, and the query with its `?`.
    rest: String,
}

impl ListenUrl {
    /// The error says what is wrong, and what was expected.
    pub fn parse(url: &str, max_payload: usize) -> Result<ListenUrl, String> {
        let wrong = |what: &str| format!("listener {url:?}: {what}");
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("expected tcp://HOST:PORT?protocol=NAME"));
        };
        let Some(scheme) = ["tcp", "tls", "ws", "wss"]
            .into_iter()
            .find(|of| *of == scheme)
        else {
            return Err(wrong(&format!(
                "the scheme {scheme:?} is not served; expected tcp, tls, ws or wss"
            )));
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (address, path) = match place.find('/') {
            Some(at) => place.split_at(at),
            None => (place, ""),
        };
        let over_websocket = matches!(scheme, "ws" | "wss");
        if !over_websocket && !matches!(path, "" | "/") {
            return Err(wrong(&format!(
                "only ws and wss have a path, and not {scheme} (given {path:?})"
            )));
        }
        let (host, port) = host_and_port(address, &wrong)?;
        let mut name = "photinus";
        let mut plain = false;
        let mut trusted = None;
        let mut options = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(&format!("expected key=value, not {pair:?}")));
            };
            match key {
                "protocol" => name = value,
                "proxy" if trusted.is_some() => {
                    return Err(wrong(
                        "option \"proxy\" is given twice: expected once, with commas",
                    ));
                }
                "proxy" => {
                    let parsed = Trusted::parse(value).ok_or_else(|| {
                        wrong(&format!(
                            "option \"proxy\" is {value:?}: expected addresses or networks of load \
                             balancers, as 10.0.0.0/8, separated by commas"
                        ))
                    })?;
                    trusted = Some(parsed);
                }
                _ => options.push((key, value)),
            }
        }
        if name == "link" {
            if over_websocket || trusted.is_some() {
                return Err(wrong(
                    "links are for tcp and tls only, and for no balancer: nodes speak to each other directly",
                ));
            }
            plain = take_plain(&mut options, scheme == "tls").map_err(|what| wrong(&what))?;
        }
        let websocket = match over_websocket {
            false => None,
            true => {
                let stream = (4 * max_payload).max(LEAST_MESSAGE);
                let (content, most) = match name {
                    "plain" => (Content::Messages, max_payload),
                    "pomelo" => (Content::Packages, stream),
                    _ => (Content::Stream, stream),
                };
                let options = websocket::Options::from_url(content, most, path, &mut options);
                Some(options.map_err(|error| wrong(&error.to_string()))?)
            }
        };
        let protocol = Protocol::from_options(name, &options, max_payload)
            .map_err(|error| wrong(&error.to_string()))?;
        if protocol.needs_websocket() && !over_websocket {
            return Err(wrong(&format!(
                "protocol {name} is for ws and wss only, and not for {scheme}"
            )));
        }
        Ok(ListenUrl {
            host: host.to_owned(),
            port,
            protocol,
            door: Door {
                tls: matches!(scheme, "tls" | "wss"),
                websocket,
                trusted: trusted.unwrap_or_default(),
            },
            plain,
            scheme,
            rest: rest[address.len()..].to_owned(),
        })
    }

    /// Reads the dictionary that the URL names, if it names one. The error says what was expected.
    pub fn read_dictionary(&mut self) -> Result<(), String> {
        let Some(path) = self.protocol.dictionary_file() else {
            return Ok(());
        };
        let read = read_at_most(path, Dictionary::LIMIT + 1).map_err(|error| {
            format!(
                "option \"dictionary\" of protocol {} is {path:?}: expected a file made by zstd --train, that can be \
                 read: {error}",
                self.protocol.name()
            )
        });
        let set = read.and_then(|bytes| {
            let set = self.protocol.set_dictionary(&bytes);
            set.map_err(|error| error.to_string())
        });
        set.map_err(|error| format!("listener {:?}: {error}", self.bound(self.port)))
    }

    /// Its connections cost so much of a processor's time that the loop's thread should not lead them.
    pub fn is_heavy(&self) -> bool {
        self.door.tls || self.protocol.compresses() || self.is_link()
    }

    /// For other nodes, and not for clients.
    pub fn is_link(&self) -> bool {
        matches!(self.protocol, Protocol::Link)
    }

    /// The same with the port that was really bound.
    pub fn bound(&self, port: u16) -> String {
        let ListenUrl {
            scheme, host, rest, ..
        } = self;
        match host.contains(':') {
            true => format!("{scheme}://[{host}]:{port}{rest}"),
            false => format!("{scheme}://{host}:{port}{rest}"),
        }
    }
}

/// Where a link goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialUrl {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// It may cross the network without TLS.
    pub plain: bool,
}

impl DialUrl {
    /// The error says what is wrong, and what was expected.
    pub fn parse(url: &str) -> Result<DialUrl, String> {
        let wrong = |what: &str| format!("link {url:?}: {what}");
        let split = url.split_once("://");
        let Some((scheme @ ("tcp" | "tls"), rest)) = split else {
            return Err(wrong("expected tcp://HOST:PORT or tls://HOST:PORT"));
        };
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = host_and_port(address, &wrong)?;
        if port == 0 {
            return Err(wrong("expected the port at which the node listens, not 0"));
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut options: Vec<_> = pairs.filter(|pair| *pair != ("protocol", "link")).collect();
        let tls = scheme == "tls";
        let plain = take_plain(&mut options, tls).map_err(|what| wrong(&what))?;
        if let Some((key, value)) = options.first() {
            return Err(wrong(&format!(
                "expected no option but protocol=link and plain=1, not {key}={value}"
            )));
        }
        Ok(DialUrl {
            host: host.to_owned(),
            port,
            tls,
            plain,
        })
    }

    /// There is no name to be looked up.
    pub fn is_figures(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// What is said there without TLS stays on this machine, or whoever gave the URL wants it so.
    pub fn may_reach(&self, address: SocketAddr) -> bool {
        self.tls || self.plain || address.ip().to_canonical().is_loopback()
    }

    /// `HOST:PORT`, as a back dials it.
    pub fn place(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Takes the option `plain=1` out: whoever gives it trusts the network between the nodes.
fn take_plain(options: &mut Vec<(&str, &str)>, tls: bool) -> Result<bool, String> {
    let before = options.len();
    if let Some((_, value)) = options.iter().find(|(key, _)| *key == "plain") {
        if *value != "1" || tls {
            return Err(format!(
                "option \"plain\" is {value:?}: expected 1, and tcp"
            ));
        }
    }
    options.retain(|(key, _)| *key != "plain");
    Ok(options.len() < before)
}

fn host_and_port<'a>(
    address: &'a str,
    wrong: &impl Fn(&str) -> String,
) -> Result<(&'a str, u16), String> {
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(wrong("expected HOST:PORT (port 0 takes a free one)"));
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if inner.is_none() && host.contains(':') {
        return Err(wrong(
            "an IPv6 address stands in brackets, as in tcp://[::1]:7000",
        ));
    }
    let host = inner.unwrap_or(host);
    if host.is_empty() {
        return Err(wrong(
            "expected a host before the port; 0.0.0.0 or [::] is every address",
        ));
    }
    let port = port
        .parse()
        .map_err(|_| wrong(&format!("{port:?} is no port (0 to 65535)")))?;
    Ok((host, port))
}

fn read_at_most(path: &str, bytes: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(bytes as u64)
        .read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families() {
        let url = ListenUrl::parse("tcp://127.0.0.1:0?protocol=length4", 1000).unwrap();
        assert_eq!((url.host.as_str(), url.port), ("127.0.0.1", 0));
        assert_eq!(url.bound(7), "tcp://127.0.0.1:7?protocol=length4");
        let url = ListenUrl::parse("tcp://[::1]:7000", 1000).unwrap();
        assert_eq!(
            (url.host.as_str(), url.protocol.name()),
            ("::1", "photinus")
        );
        assert_eq!(url.bound(7000), "tcp://[::1]:7000");
    }

    #[test]
    fn a_dictionary_is_read_from_its_file() {
        let read = |path: &str, algorithm: &str| {
            let url = format!("tcp://a:1?protocol=photinus&compress={algorithm}&dictionary={path}");
            ListenUrl::parse(&url, 1000)?.read_dictionary()
        };
        let good = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/wire/game.dictionary"
        );
        assert_eq!(read(good, "snappy,zstd"), Ok(()));
        assert!(read(good, "zlib").unwrap_err().contains("compress=zstd"));
        for bad in [
            "/nowhere/at.all",
            "/",
            file!(),
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ] {
            let error = read(bad, "zstd").unwrap_err();
            let told =
                format!("option \"dictionary\" of protocol photinus is {bad:?}: expected a file");
            assert!(
                error.contains(&told) && error.contains("zstd --train"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_link_is_listened_for_and_dialled() {
        let listens = |url| ListenUrl::parse(url, 1000);
        let url = listens("tcp://10.0.0.1:7800?protocol=link&plain=1").unwrap();
        assert!(url.is_link() && url.plain && url.is_heavy());
        assert!(!listens("tls://a:1?protocol=link").unwrap().plain);
        for wrong in [
            "ws://a:1?protocol=link",
            "tcp://a:1?protocol=link&proxy=10.0.0.0/8",
            "tcp://a:1?protocol=link&plain=yes",
            "tls://a:1?protocol=link&plain=1",
            "tcp://a:1?protocol=link&resume=30",
            "tcp://a:1?protocol=link&compress=zstd",
            "tcp://a:1?protocol=length4&plain=1",
        ] {
            assert!(listens(wrong).is_err(), "{wrong}");
        }
        let url = DialUrl::parse("tls://[::1]:7?protocol=link").unwrap();
        assert!((url.tls, url.plain, url.place().as_str()) == (true, false, "[::1]:7"));
        assert!(DialUrl::parse("tcp://a:1?plain=1").unwrap().plain);
        for wrong in [
            "a:1",
            "ws://a:1",
            "tcp://a",
            "tcp://a:0",
            "tcp://a:1?protocol=length4",
            "tls://a:1?plain=1",
        ] {
            assert!(DialUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_say_what_was_expected() {
        let error = |url| ListenUrl::parse(url, 1000).unwrap_err();
        assert!(error("127.0.0.1:1").contains("tcp://HOST:PORT"));
        assert!(error("udp://127.0.0.1:1").contains("expected tcp"));
        assert!(error("tcp://127.0.0.1").contains("HOST:PORT"));
        assert!(error("tcp://::1:80").contains("brackets"));
        assert!(error("tcp://:80").contains("0.0.0.0"));
        assert!(error("tcp://a:99999").contains("65535"));
        assert!(error("tcp://a:1?protocol=morse").contains("morse"));
        assert!(error("tcp://a:1?protocol=length&size=3").contains("size"));
        assert!(error("tcp://a:1?protocol").contains("key=value"));
    }
}
