//! What a listener allows, and what goes out to its connections.

use super::deflate::{self, Shared};
use super::frame::{self, Kind};
use super::{Content, Form, MESSAGE_HEAD};
use crate::codec::PAYLOAD_LIMIT;
use crate::error::OptionError;

/// A message of a stream may hold the longest packet, its framing, and what else a client says in one
/// turn: as much again as the longest packet is unless configured.
const STREAM_SLACK: usize = 65_536;

/// Of pomelo's packages (4.2): a type, and three bytes that count the body.
const PACKAGE_HEAD: usize = 4;

/// What a listener's connections have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub(super) path: Option<Box<str>>,
    pub(super) origins: Box<[Box<str>]>,
    pub(super) subprotocol: Option<Box<str>>,
    pub(super) deflate: bool,
    /// Bytes of one message of a client's, however many fragments it is in, and inflated.
    pub(super) max_message: usize,
    pub(super) content: Content,
}

impl Options {
    /// `max_payload` bounds, in bytes, the payload of one packet (1.3). Everything else is as open as
    /// it can be: any path, any origin, no compression.
    pub fn new(content: Content, max_payload: usize) -> Options {
        let beside = match content {
            Content::Stream | Content::Packages => STREAM_SLACK,
            Content::Messages => 0,
        };
        Options {
            path: None,
            origins: Box::default(),
            subprotocol: None,
            deflate: false,
            max_message: max_payload.saturating_add(beside).min(PAYLOAD_LIMIT),
            content,
        }
    }

    /// Of a listener's URL (6.1): `path` as it stands there, empty for any. What is WebSocket's of
    /// the query is taken out of `pairs`; the rest is the protocol's.
    pub fn from_url<'a>(
        content: Content,
        max_payload: usize,
        path: &str,
        pairs: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<Options, OptionError> {
        let mut options = Options::new(content, max_payload);
        if !matches!(path, "" | "/") {
            options.path = Some(path.into());
        }
        if let Some(value) = take(pairs, "origins")? {
            let origins = value.split(',').map(origin);
            options.origins = origins.collect::<Option<_>>().ok_or_else(|| {
                OptionError(format!(
                    "option \"origins\" is {value:?}: expected SCHEME://HOST[:PORT] as browsers \
                     send it, or null, and commas between them"
                ))
            })?;
        }
        if let Some(value) = take(pairs, "subprotocol")? {
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if value.is_empty() || !value.bytes().all(token) {
                return Err(OptionError(format!(
                    "option \"subprotocol\" is {value:?}: expected a name of letters, digits and -._"
                )));
            }
            options.subprotocol = Some(value.into());
        }
        if let Some(value) = take(pairs, "deflate")? {
            options.deflate = match value {
                "0" => false,
                "1" => true,
                _ => {
                    return Err(OptionError(format!(
                        "option \"deflate\" is {value:?}: expected 0 or 1"
                    )))
                }
            };
        }
        Ok(options)
    }

    /// Whether connections may need an inflater and a deflater.
    pub fn has_deflate(&self) -> bool {
        self.deflate
    }

    pub(super) fn allows(&self, origin: &str) -> bool {
        self.origins.is_empty()
            || self
                .origins
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// Appends what the codec has written, `bytes`, as messages: one of all, or, where messages are
    /// packages or packets, one of each. Depends on nothing but the arguments.
    #[inline]
    pub fn encode(&self, form: Form, shared: &mut Shared, bytes: &[u8], out: &mut Vec<u8>) {
        match self.content {
            Content::Stream if bytes.is_empty() => {}
            Content::Stream => write_message(Kind::Binary, form, shared, bytes, out),
            Content::Packages => write_packages(form, shared, bytes, out),
            Content::Messages => write_messages(form, shared, bytes, out),
        }
    }
}

fn write_packages(form: Form, shared: &mut Shared, mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(&[_, high, middle, low]) = bytes.first_chunk() {
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let (package, rest) = bytes.split_at(bytes.len().min(PACKAGE_HEAD + length));
        write_message(Kind::Binary, form, shared, package, out);
        bytes = rest;
    }
}

/// A message is what the client's last one was; before that, what the codec says.
fn write_messages(form: Form, shared: &mut Shared, mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some((head, rest)) = bytes.split_first_chunk::<MESSAGE_HEAD>() {
        let [kind, length @ ..] = *head;
        let (payload, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        let is_text = form.kind.unwrap_or(kind) == Kind::Text as u8;
        // Bytes of the application's that are no text would end the connection at the client.
        let kind = match is_text && std::str::from_utf8(payload).is_ok() {
            true => Kind::Text,
            false => Kind::Binary,
        };
        write_message(kind, form, shared, payload, out);
        bytes = rest;
    }
}

#[inline]
fn write_message(kind: Kind, form: Form, shared: &mut Shared, payload: &[u8], out: &mut Vec<u8>) {
    let length = payload.len();
    // A short message's own length bounds how far it refers back, so that one deflater serves
    // clients with any window; what is longer than a small one goes out as it is.
    let worth = form.window_bits > 0 && length >= deflate::THRESHOLD;
    let widest = form.window_bits == 15;
    if worth && (widest || length <= 1 << form.window_bits) {
        if let Some(deflated) = shared.deflate(payload) {
            frame::write_head(kind, true, deflated.len(), out);
            return out.extend_from_slice(deflated);
        }
    }
    frame::write_head(kind, false, length, out);
    out.extend_from_slice(payload);
}

/// The value of `name` in the URL's query, which then is no longer in it.
fn take<'a>(
    pairs: &mut Vec<(&'a str, &'a str)>,
    name: &str,
) -> Result<Option<&'a str>, OptionError> {
    let Some(at) = pairs.iter().position(|(option, _)| *option == name) else {
        return Ok(None);
    };
    let (_, value) = pairs.remove(at);
    match pairs.iter().any(|(option, _)| *option == name) {
        true => Err(OptionError(format!(
            "option {name:?} is given twice: expected once"
        ))),
        false => Ok(Some(value)),
    }
}

/// `https://HOST[:PORT]` without a path, or `null` (pages in files and sandboxes).
fn origin(text: &str) -> Option<Box<str>> {
    let is_origin = match text.split_once("://") {
        Some((scheme, host)) => {
            !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#'])
        }
        None => text == "null",
    };
    is_origin.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, query: &[(&'static str, &'static str)]) -> Result<(Options, usize), String> {
        let mut pairs = query.to_vec();
        let options = Options::from_url(Content::Stream, 9, path, &mut pairs);
        options
            .map(|options| (options, pairs.len()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_everything_is_open() {
        let open = Options::new(Content::Stream, 9);
        assert_eq!(of("", &[]), Ok((open.clone(), 0)));
        assert_eq!(
            of("/", &[("deflate", "0"), ("format", "json")]),
            Ok((open, 1))
        );
    }

    #[test]
    fn options_of_the_url() {
        let query = [
            ("origins", "https://a.example,http://localhost:8080,null"),
            ("subprotocol", "v1.game"),
            ("deflate", "1"),
        ];
        let (options, left) = of("/game", &query).unwrap();
        assert_eq!((options.path.as_deref(), left), (Some("/game"), 0));
        assert!(options.has_deflate());
        assert_eq!(options.subprotocol.as_deref(), Some("v1.game"));
        assert!(options.allows("null") && options.allows("http://localhost:8080"));
        assert!(!options.allows("http://localhost"));
    }

    #[test]
    fn an_ill_value_is_named_with_what_was_expected() {
        for (option, value) in [
            ("deflate", "yes"),
            ("origins", ""),
            ("origins", "https://a.example/"),
            ("origins", "a.example"),
            ("subprotocol", ""),
            ("subprotocol", "a,b"),
        ] {
            let error = of("", &[(option, value)]).unwrap_err();
            let named = format!("option {option:?} is {value:?}: expected ");
            assert!(error.starts_with(&named), "{error}");
        }
        let error = of("", &[("deflate", "1"), ("deflate", "1")]).unwrap_err();
        assert_eq!(error, "option \"deflate\" is given twice: expected once");
    }
}
