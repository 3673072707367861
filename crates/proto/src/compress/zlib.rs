//! zlib: one stream of RFC 1950.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::make_room;
use crate::error::WireError;

/// Room for the first of what is inflated: most messages of games fit.
const FIRST_ROOM: usize = 4096;

/// The server's time is dearer than its bytes: a KiB of JSON takes 6 us at level 1 and becomes 463 bytes, at
/// zlib's usual 6 it takes 14 us and becomes 331; and 40 us where each payload has a context of its own.
const LEVEL: Compression = Compression::fast();

#[derive(Default)]
pub(super) struct Zlib {
    deflater: Option<Compress>,
    inflater: Option<Decompress>,
}

impl Zlib {
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let deflater = self
            .deflater
            .get_or_insert_with(|| Compress::new(LEVEL, true));
        deflater.reset();
        // Nine bits are the most that a literal takes at this level.
        make_room(out, payload.len() + payload.len() / 8 + 64);
        let status = deflater.compress(payload, out, FlushCompress::Finish);
        if !matches!(status, Ok(Status::StreamEnd)) {
            // Should it not have finished, it must not be used again: zlib-rs 0.6 keeps where its
            // pending output began across a reset, and runs out of room there later.
            self.deflater = None;
            return None;
        }
        Some(deflater.total_out() as usize)
    }

    pub fn inflate(
        &mut self,
        payload: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(true));
        inflater.reset(true);
        let inflated = inflate(inflater, payload, out.len() + limit, out);
        if inflated.is_err() {
            // What was left in the middle of something broken is not worth trusting a reset.
            self.inflater = None;
        }
        inflated
    }
}

/// `end` is the length that `out` must not pass.
fn inflate(
    inflater: &mut Decompress,
    payload: &[u8],
    end: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    loop {
        if out.len() == out.capacity() {
            // One byte past the limit shows that there is more, and nothing is taken beyond that.
            let more = (out.capacity() / 2).max(FIRST_ROOM);
            out.reserve_exact(more.min(end + 1 - out.len()));
        }
        let taken = inflater.total_in() as usize;
        let status = inflater
            .decompress_vec(&payload[taken..], out, FlushDecompress::None)
            .map_err(|_| WireError::BadCompression)?;
        if out.len() > end {
            return Err(WireError::TooLong);
        }
        match status {
            Status::StreamEnd if inflater.total_in() == payload.len() as u64 => return Ok(()),
            Status::StreamEnd => return Err(WireError::BadCompression),
            _ if out.len() == out.capacity() => {}
            // It wants more, and there is none.
            _ => return Err(WireError::BadCompression),
        }
    }
}
