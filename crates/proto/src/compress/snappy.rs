//! snappy: one block, as its `format_description.txt` has it.

use snap::raw::{decompress_len, max_compress_len, Decoder, Encoder};

use super::make_room;
use crate::error::WireError;

/// No element of a block makes more of its bytes: a copy of 64 bytes takes three at best.
const GREATEST_GAIN: usize = 22;

#[derive(Default)]
pub(super) struct Snappy {
    encoder: Option<Encoder>,
}

impl Snappy {
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        make_room(out, max_compress_len(payload.len()));
        let encoder = self.encoder.get_or_insert_with(Encoder::new);
        encoder.compress(payload, out).ok()
    }

    /// A block begins with the length of what it holds: it is believed within the limit, and as far as
    /// the bytes that have come can make so much.
    pub fn inflate(
        &mut self,
        payload: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let length = decompress_len(payload).map_err(|_| WireError::BadCompression)?;
        if payload.is_empty() {
            return Err(WireError::BadCompression); // the crate takes it for a block of nothing
        }
        if length > limit {
            return Err(WireError::TooLong);
        }
        if length > payload.len() * GREATEST_GAIN {
            return Err(WireError::BadCompression);
        }
        let start = out.len();
        out.resize(start + length, 0);
        // Has to come to exactly this length with exactly these bytes.
        match Decoder::new().decompress(payload, &mut out[start..]) {
            Ok(_) => Ok(()),
            Err(_) => Err(WireError::BadCompression),
        }
    }
}
