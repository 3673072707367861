//! The agreement on permessage-deflate (6.7; RFC 7692, 7.1).

/// The windows that there are, as the exponent of their size (RFC 7692, 7.1.2).
const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;
const WIDEST_WINDOW: u8 = 15;

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deflate {
    /// The most that the client's inflater looks back: 2 to this many bytes.
    pub window_bits: u8,
}

impl Deflate {
    /// The first of the client's offers that can be served. `offers` is the value of one
    /// `Sec-WebSocket-Extensions`.
    pub fn first_served(offers: &str) -> Option<Deflate> {
        offers.split(',').find_map(Deflate::serve)
    }

    /// One offer. What is unknown, ill-formed or stands twice makes it one that is not served.
    fn serve(offer: &str) -> Option<Deflate> {
        let mut parts = offer.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let mut seen = [false; 4];
        let mut window_bits = WIDEST_WINDOW;
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquote(value.trim_start()))),
                None => (part, None),
            };
            let which = match (name, value) {
                // Both are answered in any case.
                ("server_no_context_takeover", None) => 0,
                ("client_no_context_takeover", None) => 1,
                // The client may be told to use less; it need not, our inflater knows every window.
                ("client_max_window_bits", None) => 2,
                ("client_max_window_bits", Some(value)) => {
                    bits(value)?;
                    2
                }
                ("server_max_window_bits", Some(value)) => {
                    window_bits = bits(value)?;
                    3
                }
                _ => return None,
            };
            if std::mem::replace(&mut seen[which], true) {
                return None;
            }
        }
        Some(Deflate { window_bits })
    }

    /// The line of the answer.
    pub fn write(self, reply: &mut Vec<u8>) {
        reply.extend_from_slice(
            b"Sec-WebSocket-Extensions: permessage-deflate; \
              server_no_context_takeover; client_no_context_takeover",
        );
        if self.window_bits < WIDEST_WINDOW {
            let bits = format!("; server_max_window_bits={}", self.window_bits);
            reply.extend_from_slice(bits.as_bytes());
        }
        reply.extend_from_slice(b"\r\n");
    }
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

fn bits(value: &str) -> Option<u8> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    let bits = value.parse().ok().filter(|_| digits)?;
    WINDOW_BITS.contains(&bits).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(offers: &str) -> Option<u8> {
        Deflate::first_served(offers).map(|deflate| deflate.window_bits)
    }

    #[test]
    fn offers_of_browsers_and_clients() {
        assert_eq!(
            served("permessage-deflate; client_max_window_bits"),
            Some(15)
        );
        assert_eq!(served("permessage-deflate"), Some(15));
        assert_eq!(
            served("x-webkit-deflate-frame, PerMessage-Deflate;client_no_context_takeover"),
            Some(15)
        );
        assert_eq!(
            served(
                "permessage-deflate ; server_no_context_takeover; \
                 client_max_window_bits = \"10\"; server_max_window_bits=\"9\""
            ),
            Some(9)
        );
    }

    #[test]
    fn an_offer_that_cannot_be_served_leaves_it_to_the_next() {
        for ill in [
            "",
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=x",
            "permessage-deflate; client_max_window_bits=300",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; method=lz4",
            "permessage-deflate;",
        ] {
            assert_eq!(served(ill), None, "{ill}");
            let then = format!("{ill}, permessage-deflate; server_max_window_bits=12");
            assert_eq!(served(&then), Some(12), "{ill}");
        }
    }

    #[test]
    fn the_answer_names_what_was_agreed() {
        let line = |window_bits| {
            let mut reply = Vec::new();
            Deflate { window_bits }.write(&mut reply);
            String::from_utf8(reply).unwrap()
        };
        assert_eq!(
            line(15),
            "Sec-WebSocket-Extensions: permessage-deflate; \
             server_no_context_takeover; client_no_context_takeover\r\n"
        );
        assert!(line(9).ends_with("_takeover; server_max_window_bits=9\r\n"));
    }
}
