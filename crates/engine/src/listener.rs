//! A listener's URL: `tcp://host:port?protocol=NAME&option=value`.

use photinus_proto::codec::Protocol;

#[derive(Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    /// What stood behind the address, with its `?`.
    query: String,
}

impl ListenUrl {
    /// The error says what is wrong, and what was expected.
    pub fn parse(url: &str, max_payload: usize) -> Result<ListenUrl, String> {
        let wrong = |what: &str| format!("listener {url:?}: {what}");
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("expected tcp://HOST:PORT?protocol=NAME"));
        };
        if scheme != "tcp" {
            return Err(wrong(&format!(
                "the scheme {scheme:?} is not served; expected tcp"
            )));
        }
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let address = address.trim_end_matches('/');
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
        let mut name = "pomelo";
        let mut options = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(&format!("expected key=value, not {pair:?}")));
            };
            if key == "protocol" {
                name = value;
            } else {
                options.push((key, value));
            }
        }
        let protocol = Protocol::from_options(name, &options, max_payload)
            .map_err(|error| wrong(&error.to_string()))?;
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{query}")
        };
        Ok(ListenUrl {
            host: host.to_owned(),
            port,
            protocol,
            query,
        })
    }

    /// The same with the port that was really bound.
    pub fn bound(&self, port: u16) -> String {
        let host = &self.host;
        let query = &self.query;
        match host.contains(':') {
            true => format!("tcp://[{host}]:{port}{query}"),
            false => format!("tcp://{host}:{port}{query}"),
        }
    }
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
        assert_eq!((url.host.as_str(), url.protocol.name()), ("::1", "pomelo"));
        assert_eq!(url.bound(7000), "tcp://[::1]:7000");
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
