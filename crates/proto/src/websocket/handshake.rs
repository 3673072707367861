//! The opening handshake (6.2; RFC 6455, 4): the head of an HTTP/1.1 request, and its answer.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use httparse::{Header, Request, Status};
use sha1::{Digest, Sha1};

use super::extension::Deflate;
use super::Options;
use crate::error::WireError;

/// Bytes of a request's head. Browsers send some 600 and their cookies; other servers (nginx, Apache,
/// Node) draw the line at 8 to 16 KiB.
pub(super) const HEAD_LIMIT: usize = 8192;
/// Lines of a request's head. Browsers send some 15, and proxies in front of us add a few.
const HEADER_LIMIT: usize = 64;

const METHOD: &[u8] = b"GET ";
const END: &[u8] = b"\r\n\r\n";
/// Of RFC 6455, 1.3.
const ACCEPT_SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;

/// What has come of a request's head.
pub(super) enum Head {
    Incomplete,
    /// Its length.
    Whole(usize),
}

/// Looks for the head's end in `held`, of which the first `seen` bytes have been looked at before.
/// What can become no request for a WebSocket is refused at its first wrong byte.
pub(super) fn find_head(held: &[u8], seen: usize, reply: &mut Vec<u8>) -> Result<Head, WireError> {
    let wrong = held.iter().zip(METHOD).find(|(came, due)| came != due);
    if let Some((came, _)) = wrong {
        return Err(if came.is_ascii_uppercase() || *came == b' ' {
            refuse(reply, &METHOD_REFUSED, "expected GET")
        } else {
            refuse(reply, &BAD_REQUEST, "expected an HTTP request")
        });
    }
    let from = seen.saturating_sub(END.len() - 1);
    let end = held[from..]
        .windows(END.len())
        .position(|window| window == END);
    match end {
        Some(at) => Ok(Head::Whole(from + at + END.len())),
        None if held.len() >= HEAD_LIMIT => Err(too_long(reply)),
        None => Ok(Head::Incomplete),
    }
}

/// Answers a whole head; the connection then speaks WebSocket. An error has been answered, too.
pub(super) fn answer(
    options: &Options,
    head: &[u8],
    reply: &mut Vec<u8>,
) -> Result<Option<Deflate>, WireError> {
    let mut places = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut request = Request::new(&mut places);
    match request.parse(head) {
        // An end before the end: a line was ended by a line feed alone.
        Ok(Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(too_long(reply)),
        Err(httparse::Error::Version) => {
            return Err(refuse(reply, &VERSION_REFUSED, "expected HTTP/1.1"))
        }
        _ => return Err(refuse(reply, &BAD_REQUEST, "expected an HTTP request")),
    }
    if request.version != Some(1) {
        return Err(refuse(reply, &VERSION_REFUSED, "expected HTTP/1.1"));
    }
    let headers = Headers(request.headers);
    let accept = match upgrade(&headers) {
        Ok(accept) => accept,
        Err((refusal, text)) => return Err(refuse(reply, refusal, text)),
    };
    let path = path(request.path.unwrap_or_default());
    if options.path.as_deref().is_some_and(|served| served != path) {
        return Err(refuse(
            reply,
            &PATH_REFUSED,
            "there is nothing at this path",
        ));
    }
    match headers.single("Origin") {
        Err(()) => return Err(refuse(reply, &BAD_REQUEST, "expected one Origin")),
        Ok(Some(origin)) if !options.allows(origin) => {
            let text = "pages of this origin may not connect";
            return Err(refuse(reply, &ORIGIN_REFUSED, text));
        }
        // Only browsers send an origin, and they always do.
        Ok(_) => {}
    }
    let deflate = options
        .deflate
        .then(|| {
            headers
                .all("Sec-WebSocket-Extensions")
                .find_map(Deflate::first_served)
        })
        .flatten();
    reply.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Upgrade: websocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    reply.extend_from_slice(accept.as_bytes());
    reply.extend_from_slice(b"\r\n");
    // A browser that asked for some and is given none does not connect, and is not to be told that
    // something is spoken which is not.
    let subprotocol = options.subprotocol.as_deref();
    if let Some(name) = subprotocol.filter(|name| headers.lists("Sec-WebSocket-Protocol", name)) {
        reply.extend_from_slice(b"Sec-WebSocket-Protocol: ");
        reply.extend_from_slice(name.as_bytes());
        reply.extend_from_slice(b"\r\n");
    }
    if let Some(deflate) = deflate {
        deflate.write(reply);
    }
    reply.extend_from_slice(b"\r\n");
    Ok(deflate)
}

/// The value of `Sec-WebSocket-Accept`, if the request has all that RFC 6455, 4.2.1 asks for.
fn upgrade(headers: &Headers<'_>) -> Result<String, (&'static Refusal, &'static str)> {
    if !headers.lists_fold("Upgrade", "websocket") || !headers.lists_fold("Connection", "upgrade") {
        return Err((
            &UPGRADE_REQUIRED,
            "expected Upgrade: websocket and Connection: Upgrade",
        ));
    }
    if !matches!(headers.single("Host"), Ok(Some(_))) {
        return Err((&BAD_REQUEST, "expected one Host"));
    }
    match headers.single("Sec-WebSocket-Version") {
        Ok(Some("13")) => {}
        Ok(Some(_)) => return Err((&UPGRADE_REQUIRED, "expected Sec-WebSocket-Version: 13")),
        _ => return Err((&BAD_REQUEST, "expected one Sec-WebSocket-Version")),
    }
    if headers.all("Content-Length").any(|length| length != "0")
        || headers.all("Transfer-Encoding").next().is_some()
    {
        return Err((&BAD_REQUEST, "expected a request without a body"));
    }
    let key = headers.single("Sec-WebSocket-Key").ok().flatten();
    key.filter(|key| matches!(STANDARD.decode(key), Ok(bytes) if bytes.len() == KEY_BYTES))
        .map(|key| {
            let hash = Sha1::new().chain_update(key).chain_update(ACCEPT_SALT);
            STANDARD.encode(hash.finalize())
        })
        .ok_or((
            &BAD_REQUEST,
            "expected a Sec-WebSocket-Key of 16 bytes in base64",
        ))
}

/// Of a request's target, without the query; proxies may write the whole URL (RFC 9112, 3.2.2).
fn path(target: &str) -> &str {
    let rest = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find(['/', '?']).map_or("", |at| &rest[at..])
        }
        _ => target,
    };
    match rest.split_once('?').map_or(rest, |(path, _)| path) {
        "" => "/",
        path => path,
    }
}

struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    /// The values of all lines of this name. One that is no UTF-8 is as good as empty: nothing that
    /// is looked for is in it.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let lines = self.0.iter();
        lines
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim())
    }

    /// The value of the only line of this name, if there is one; an error if there are more.
    fn single(&self, name: &'static str) -> Result<Option<&'a str>, ()> {
        let mut values = self.all(name);
        let first = values.next();
        values.next().map_or(Ok(first), |_| Err(()))
    }

    fn items(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(str::trim)
    }

    fn lists(&self, name: &'static str, item: &str) -> bool {
        self.items(name).any(|listed| listed == item)
    }

    fn lists_fold(&self, name: &'static str, item: &str) -> bool {
        self.items(name)
            .any(|listed| listed.eq_ignore_ascii_case(item))
    }
}

struct Refusal {
    error: WireError,
    status: &'static str,
    /// Header lines that this status wants.
    lines: &'static str,
}

const BAD_REQUEST: Refusal = Refusal {
    error: WireError::BadUpgrade,
    status: "400 Bad Request",
    lines: "",
};
const METHOD_REFUSED: Refusal = Refusal {
    error: WireError::BadUpgrade,
    status: "405 Method Not Allowed",
    lines: "Allow: GET\r\n",
};
const VERSION_REFUSED: Refusal = Refusal {
    error: WireError::BadUpgrade,
    status: "505 HTTP Version Not Supported",
    lines: "",
};
const UPGRADE_REQUIRED: Refusal = Refusal {
    error: WireError::BadUpgrade,
    status: "426 Upgrade Required",
    lines: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
};
const PATH_REFUSED: Refusal = Refusal {
    error: WireError::BadPath,
    status: "404 Not Found",
    lines: "",
};
const ORIGIN_REFUSED: Refusal = Refusal {
    error: WireError::BadOrigin,
    status: "403 Forbidden",
    lines: "",
};
const TOO_LONG: Refusal = Refusal {
    error: WireError::TooLong,
    status: "431 Request Header Fields Too Large",
    lines: "",
};
const UNAVAILABLE: Refusal = Refusal {
    error: WireError::BadUpgrade,
    status: "503 Service Unavailable",
    lines: "",
};

fn too_long(reply: &mut Vec<u8>) -> WireError {
    let text = format!("expected a head of at most {HEAD_LIMIT} bytes and {HEADER_LIMIT} lines");
    refuse(reply, &TOO_LONG, &text)
}

/// The answer to a client that is turned away for a reason of the server's, `text`.
pub(super) fn turn_away(text: &str, reply: &mut Vec<u8>) {
    refuse(reply, &UNAVAILABLE, text);
}

fn refuse(reply: &mut Vec<u8>, refusal: &Refusal, text: &str) -> WireError {
    let Refusal { status, lines, .. } = refusal;
    let connection = match lines.contains("Upgrade") {
        true => "close, Upgrade",
        false => "close",
    };
    let length = text.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\n\
         {lines}\
         Connection: {connection}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         \r\n\
         {text}\n"
    );
    reply.extend_from_slice(answer.as_bytes());
    refusal.error
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
