//! The options of a listener's URL (1.2): each is taken once, and what nobody took is an error.

use super::Format;
use crate::error::OptionError;

/// Shorter payloads hardly become shorter, and cost as much work.
pub(super) const COMPRESS_THRESHOLD: u32 = 256;
const LONGEST_THRESHOLD: u32 = 1 << 24;

pub(super) struct Pairs<'a> {
    protocol: &'a str,
    left: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Pairs<'a> {
    pub fn new(protocol: &'a str, pairs: &[(&'a str, &'a str)]) -> Pairs<'a> {
        Pairs {
            protocol,
            left: pairs.to_vec(),
            known: Vec::new(),
        }
    }

    /// The value of `option`, turned by `parse`; `default` if the URL does not give it.
    pub fn take<T>(
        &mut self,
        option: &'static str,
        default: T,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, OptionError> {
        self.known.push(option);
        let Some(at) = self.left.iter().position(|(name, _)| *name == option) else {
            return Ok(default);
        };
        let (_, value) = self.left.remove(at);
        if self.left.iter().any(|(name, _)| *name == option) {
            return Err(OptionError(format!(
                "option {option:?} of protocol {} is given twice: expected {expected}, once",
                self.protocol
            )));
        }
        parse(value).ok_or_else(|| {
            OptionError(format!(
                "option {option:?} of protocol {} is {value:?}: expected {expected}",
                self.protocol
            ))
        })
    }

    pub fn format(&mut self, default: Format) -> Result<Format, OptionError> {
        self.take("format", default, "json or msgpack", |value| match value {
            "json" => Some(Format::Json),
            "msgpack" => Some(Format::Msgpack),
            _ => None,
        })
    }

    /// Bytes of the least payload worth compressing.
    pub fn threshold(&mut self, default: u32) -> Result<usize, OptionError> {
        let threshold = self.take("threshold", default, "bytes from 0 to 16777216", |value| {
            number(value).filter(|bytes| *bytes <= LONGEST_THRESHOLD)
        })?;
        Ok(threshold as usize)
    }

    pub fn finish(self) -> Result<(), OptionError> {
        match self.left.first() {
            None => Ok(()),
            Some((option, value)) => Err(OptionError(format!(
                "protocol {} has no option {option:?} (given {value:?}): expected one of {}",
                self.protocol,
                self.known.join(", ")
            ))),
        }
    }
}

/// Decimal digits and nothing else: `u32::from_str` would take a sign as well.
pub(super) fn number(value: &str) -> Option<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::number;

    fn text(name: &str, pairs: &[(&str, &str)]) -> String {
        Protocol::from_options(name, pairs, 65536)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_unknown_option_is_named_with_what_there_is() {
        assert_eq!(
            text("length", &[("sise", "2")]),
            "protocol length has no option \"sise\" (given \"2\"): \
             expected one of size, order, counts_itself, format"
        );
        assert_eq!(
            text("length2", &[("size", "4")]),
            "protocol length2 has no option \"size\" (given \"4\"): expected one of format"
        );
        assert_eq!(
            text("pomelo", &[("dictionary", "1")]),
            "protocol pomelo has no option \"dictionary\" (given \"1\"): \
             expected one of heartbeat, compress, threshold, format"
        );
    }

    #[test]
    fn an_ill_value_is_named_with_what_was_expected() {
        assert_eq!(
            text("length", &[("size", "3")]),
            "option \"size\" of protocol length is \"3\": expected 1, 2 or 4"
        );
        for (name, option, value) in [
            ("length", "order", "middle"),
            ("length", "counts_itself", "yes"),
            ("length4", "format", "protobuf"),
            ("firefly", "magic", "00"),
            ("firefly", "magic", "+000000000"),
            ("firefly", "version", "4294967296"),
            ("firefly", "version", "-1"),
            ("pomelo", "heartbeat", "often"),
            ("pomelo", "heartbeat", "86401"),
            ("pomelo", "compress", "zstd"),
            ("pomelo", "threshold", "16777217"),
            ("photinus", "compress", "zlib,zlib"),
            ("photinus", "compress", "brotli"),
            ("photinus", "threshold", "-1"),
            ("photinus", "dictionary", "without-zstd.dictionary"),
        ] {
            let text = text(name, &[(option, value)]);
            assert!(
                text.contains(option) && text.contains(value) && text.contains("expected"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_option_is_given_once() {
        assert_eq!(
            text("length", &[("size", "2"), ("order", "big"), ("size", "2")]),
            "option \"size\" of protocol length is given twice: expected 1, 2 or 4, once"
        );
    }

    #[test]
    fn an_unknown_protocol_is_named_with_what_there_is() {
        assert_eq!(
            text("telnet", &[]),
            "protocol \"telnet\": expected photinus, pomelo, firefly, length, length2, length4, plain or link"
        );
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("4294967295"), Some(u32::MAX));
        for wrong in ["", "+1", "-1", " 1", "1.0", "0x1", "4294967296", "١"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
