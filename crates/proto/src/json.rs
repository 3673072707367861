//! As much JSON as a handshake takes: is it one object (RFC 8259), and how a string is written.
//!
//! A parser of the ecosystem would build or skip values; here nothing is read out of the handshake,
//! and a check that takes no memory and no stack for what a stranger sends is a hundred lines.

/// Handshakes nest three deep. The limit is the width of the word that remembers the way back.
const DEPTH_LIMIT: u32 = 64;

/// Whether `text` is one JSON object, in valid UTF-8, that nests at most 64 deep.
pub fn is_object(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && Scan { rest: text }.object().is_some()
}

/// Appends `text` in quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Each method takes what it names off the front of `rest`; `None`: it is not there.
struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn object(mut self) -> Option<()> {
        self.space();
        if self.rest.first() != Some(&b'{') {
            return None;
        }
        // One bit a level, the innermost lowest: 1 in an object, 0 in an array.
        let mut levels = 0u64;
        let mut depth = 0;
        loop {
            // A value is due.
            self.space();
            let first = *self.rest.first()?;
            if first == b'{' || first == b'[' {
                if depth == DEPTH_LIMIT {
                    return None;
                }
                depth += 1;
                levels = levels << 1 | u64::from(first == b'{');
                self.byte();
                self.space();
                if self.rest.first() != Some(&closing(levels)) {
                    if first == b'{' {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(first)?;
            }
            // A comma is due, or the end of as many levels as there are closings.
            loop {
                self.space();
                let byte = self.byte()?;
                if byte == b',' {
                    if levels & 1 == 1 {
                        self.key()?;
                    }
                    break;
                }
                if byte != closing(levels) {
                    return None;
                }
                levels >>= 1;
                depth -= 1;
                if depth == 0 {
                    self.space();
                    return self.rest.is_empty().then_some(());
                }
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.space();
        self.string()?;
        self.space();
        (self.byte()? == b':').then_some(())
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        if self.byte()? != b'"' {
            return None;
        }
        loop {
            match self.byte()? {
                b'"' => return Some(()),
                b'\\' => match self.byte()? {
                    b'u' => {
                        let digits = self.rest.first_chunk::<4>()?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.rest = &self.rest[4..];
                    }
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    _ => return None,
                },
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.skip(b"-");
        if !self.skip(b"0") {
            self.digits()?;
        }
        if self.skip(b".") {
            self.digits()?;
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        (count > 0).then_some(())
    }

    fn space(&mut self) {
        while self.skip(b" \t\n\r") {}
    }

    /// Takes one byte if it is one of these.
    fn skip(&mut self, any: &[u8]) -> bool {
        let found = self.rest.first().is_some_and(|byte| any.contains(byte));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }
}

fn closing(levels: u64) -> u8 {
    if levels & 1 == 1 {
        b'}'
    } else {
        b']'
    }
}

#[cfg(test)]
mod tests {
    use super::{is_object, write_string};

    #[test]
    fn objects() {
        for text in [
            "{}",
            " \t\r\n{ } \n",
            r#"{"sys":{"type":"socket","version":"1.1.1"},"user":{}}"#,
            r#"{"a":[],"b":[{}],"c":[1,-0,0.5,1e9,-12.25E-3],"d":[true,false,null]}"#,
            r#"{ "a" : [ 1 , { "b" : "\u00e9\"\\\/\b\f\n\r\t" } ] , "é" : "😀" }"#,
            r#"{"a":1,"a":2,"":"\ud800"}"#,
        ] {
            assert!(is_object(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn anything_else() {
        for text in [
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "null",
            "{",
            "}",
            "{}}",
            "{} {}",
            "{]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":[1}",
            "{\"a\":{\"b\":1]}",
            "{a:1}",
            "{'a':1}",
            "{1:1}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":NaN}",
            "{\"a\":tru}",
            "{\"a\":truest}",
            "{\"a\":\"b}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\u{1f}\"}",
            "{}\0",
            "\u{feff}{}",
            "{\u{a0}}",
        ] {
            assert!(!is_object(text.as_bytes()), "{text}");
        }
        assert!(!is_object(b"{\"\xff\":1}"));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let arrays = depth - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays))
        };
        assert!(is_object(nested(64).as_bytes()));
        assert!(!is_object(nested(65).as_bytes()));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let text: String = (0..0x80u8).map(char::from).chain("é😀".chars()).collect();
        let mut out = b"{\"a\":".to_vec();
        write_string(&text, &mut out);
        out.push(b'}');
        assert!(is_object(&out));
    }
}
