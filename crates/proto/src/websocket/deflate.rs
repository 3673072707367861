//! permessage-deflate without context takeover (6.7): every message is a stream of its own, so one
//! inflater and one deflater serve all connections of a reactor.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::WireError;

/// What a sync flush ends with; it is not sent (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Shorter than this, a message gains a few bytes at best, and costs its receiver an inflater's run.
pub(super) const THRESHOLD: usize = 128;

/// Room for the first of what is inflated: most messages of games and chats fit.
const FIRST_ROOM: usize = 4096;

/// A game's messages are short and the server's time is dear: for 1 KB of JSON, level 1 takes a third of
/// the time of zlib's usual 6 and makes 290 bytes of it instead of 230.
const LEVEL: Compression = Compression::fast();

/// What connections of one reactor use in turn. It takes no memory before something is deflated.
#[derive(Debug, Default)]
pub struct Shared {
    inflater: Option<Decompress>,
    deflater: Option<Compress>,
    deflated: Vec<u8>,
}

impl Shared {
    pub fn new() -> Shared {
        Shared::default()
    }

    /// Appends what `message` inflates to; or nothing, if that is more than `limit` bytes or cannot
    /// be inflated.
    pub(super) fn inflate(
        &mut self,
        message: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let start = out.len();
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        inflater.reset(false);
        let inflated = [message, &TAIL]
            .into_iter()
            .try_for_each(|piece| inflate_piece(inflater, piece, start + limit, out));
        if inflated.is_err() {
            out.truncate(start);
            // What was left in the middle of something broken is not worth trusting a reset.
            self.inflater = None;
        }
        inflated
    }

    /// What is to be sent in place of `message`; `None` where that would not be shorter.
    pub(super) fn deflate(&mut self, message: &[u8]) -> Option<&[u8]> {
        let deflater = self
            .deflater
            .get_or_insert_with(|| Compress::new(LEVEL, false));
        deflater.reset();
        let out = &mut self.deflated;
        out.clear();
        // Nine bits are the most that a literal takes at this level; a sync flush is done when it
        // leaves room.
        out.reserve(message.len() + message.len() / 8 + 64);
        let limit = out.capacity();
        let deflated = deflater.compress_vec(message, out, FlushCompress::Sync);
        if deflated.is_err() || out.len() == limit || deflater.total_in() != message.len() as u64 {
            // Should it not have finished, it must not be used again: zlib-rs 0.6 keeps where its
            // pending output began across a reset, and runs out of room there later.
            self.deflater = None;
            return None;
        }
        let deflated = out.strip_suffix(&TAIL)?;
        (deflated.len() < message.len()).then_some(deflated)
    }
}

/// `end` is the length that `out` must not pass.
fn inflate_piece(
    inflater: &mut Decompress,
    mut piece: &[u8],
    end: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    loop {
        if out.len() == out.capacity() {
            // One byte past the limit shows that there is more, and nothing is taken beyond that.
            let more = (out.capacity() / 2).max(FIRST_ROOM);
            out.reserve_exact(more.min(end + 1 - out.len()));
        }
        let (taken, made) = (inflater.total_in(), out.len());
        let status = inflater
            .decompress_vec(piece, out, FlushDecompress::Sync)
            .map_err(|_| WireError::BadCompression)?;
        let taken = (inflater.total_in() - taken) as usize;
        piece = &piece[taken..];
        if out.len() > end {
            return Err(WireError::TooLong);
        }
        match status {
            // A last block may stand anywhere (RFC 7692, 7.2.3.4); what follows begins anew.
            Status::StreamEnd => inflater.reset(false),
            _ if out.len() == out.capacity() => continue,
            _ if taken == 0 && out.len() == made && !piece.is_empty() => {
                return Err(WireError::BadCompression)
            }
            _ => {}
        }
        if piece.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
