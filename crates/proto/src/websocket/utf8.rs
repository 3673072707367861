//! UTF-8 that comes in pieces, cut anywhere: refused at the first byte that cannot be right.

/// The longest beginning of a character that is not whole.
const PENDING_LIMIT: usize = 3;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Utf8 {
    pending: [u8; PENDING_LIMIT],
    length: u8,
}

impl Utf8 {
    /// Whether what has come until now can be the beginning of valid text.
    #[inline]
    pub fn take(&mut self, mut piece: &[u8]) -> bool {
        while self.length > 0 {
            let Some((&next, rest)) = piece.split_first() else {
                return true;
            };
            let length = usize::from(self.length);
            let mut character = [0; PENDING_LIMIT + 1];
            character[..length].copy_from_slice(&self.pending[..length]);
            character[length] = next;
            piece = rest;
            if !self.keep_end(&character[..=length]) {
                return false;
            }
        }
        self.keep_end(piece)
    }

    /// Whether the text may end here.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.length == 0
    }

    /// Checks `piece`, which begins with a character, and keeps the last one if it is not whole.
    #[inline]
    fn keep_end(&mut self, piece: &[u8]) -> bool {
        let Err(error) = std::str::from_utf8(piece) else {
            self.length = 0;
            return true;
        };
        let end = &piece[error.valid_up_to()..];
        if error.error_len().is_some() || end.len() > PENDING_LIMIT {
            return false;
        }
        self.pending[..end.len()].copy_from_slice(end);
        self.length = end.len() as u8;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes are taken, one by one, before one is refused.
    fn taken(bytes: &[u8]) -> usize {
        let mut text = Utf8::default();
        bytes
            .iter()
            .position(|byte| !text.take(&[*byte]))
            .unwrap_or(bytes.len())
    }

    #[test]
    fn any_cut_of_text_is_taken() {
        let text = "aé€😀\u{10ffff}z".as_bytes();
        for cut in 0..=text.len() {
            let mut checked = Utf8::default();
            assert!(checked.take(&text[..cut]) && checked.take(&text[cut..]));
            assert!(checked.is_whole());
        }
        assert_eq!(taken(text), text.len());
    }

    #[test]
    fn a_wrong_byte_is_refused_when_it_comes() {
        assert_eq!(taken(b"a\xff"), 1);
        assert_eq!(taken(b"\xc0\xaf"), 0); // '/' in two bytes
        assert_eq!(taken(b"\xe0\x80\x80"), 1); // too long by the second byte
        assert_eq!(taken(b"\xed\xa0\x80"), 1); // a surrogate
        assert_eq!(taken(b"\xf4\x90\x80\x80"), 1); // above U+10FFFF
        assert_eq!(taken(b"\xe2\x82a"), 2);
    }

    #[test]
    fn half_a_character_is_no_end() {
        let mut text = Utf8::default();
        assert!(text.take(b"\xe2\x82") && !text.is_whole());
        assert!(text.take(b"") && !text.is_whole());
        assert!(text.take(b"\xac") && text.is_whole());
    }
}
