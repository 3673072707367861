//! zstd: one frame of RFC 8878, with a dictionary if one was agreed on.
//!
//! Frames are inflated in one call each, straight into their place: the streaming calls would take a window as
//! large as a frame's head asks for, 128 MiB of it.

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{CCtx, CompressionLevel, DCtx};

use super::{make_room, Dictionary};
use crate::error::WireError;

/// As with zlib: a KiB of JSON takes 5 us at level 1 and becomes 340 bytes, and no level up to 5 makes fewer than
/// 324 of it (9 us). With a dictionary the same takes 2.6 us.
pub(super) const LEVEL: CompressionLevel = 1;

/// What a frame begins with. The other ones that zstd's library takes (to be skipped, or of its first
/// versions) hold no payload.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// Room for a frame that does not say how much it holds, at first.
const FIRST_ROOM: usize = 4096;
/// How much more there is each time that it was not enough: what was done in vain is then a third at most.
const MORE_ROOM: usize = 4;

#[derive(Default)]
pub(super) struct Zstd {
    compressor: Option<CCtx<'static>>,
    inflater: Option<DCtx<'static>>,
}

impl Zstd {
    pub fn compress(
        &mut self,
        payload: &[u8],
        dictionary: Option<&Dictionary>,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        if self.compressor.is_none() {
            self.compressor = CCtx::try_create();
        }
        let compressor = self.compressor.as_mut()?;
        make_room(out, zstd_safe::compress_bound(payload.len()));
        let compressed = match dictionary {
            Some(of) => compressor.compress_using_cdict(&mut out[..], payload, &of.to_compress),
            None => compressor.compress(&mut out[..], payload, LEVEL),
        };
        compressed.ok()
    }

    pub fn inflate(
        &mut self,
        payload: &[u8],
        dictionary: Option<&Dictionary>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        // One frame and no byte more: the call below would take several.
        let whole = zstd_safe::find_frame_compressed_size(payload);
        if !payload.starts_with(&MAGIC) || whole != Ok(payload.len()) {
            return Err(WireError::BadCompression);
        }
        let told = zstd_safe::get_frame_content_size(payload);
        let told = told.map_err(|_| WireError::BadCompression)?;
        if told.is_some_and(|told| told > limit as u64) {
            return Err(WireError::TooLong);
        }
        let mut room = match told {
            Some(told) => told as usize,
            None => FIRST_ROOM.min(limit),
        };
        if self.inflater.is_none() {
            self.inflater = DCtx::try_create();
        }
        let inflater = self.inflater.as_mut().ok_or(WireError::BadCompression)?;
        let start = out.len();
        loop {
            out.resize(start + room, 0);
            let place = &mut out[start..];
            let inflated = match dictionary {
                Some(of) => inflater.decompress_using_ddict(place, payload, &of.to_inflate),
                None => inflater.decompress(place, payload),
            };
            match inflated {
                Ok(length) => {
                    out.truncate(start + length);
                    return Ok(());
                }
                Err(code) if told.is_none() && is_too_small(code) => match room == limit {
                    true => return Err(WireError::TooLong),
                    false => room = (room * MORE_ROOM).min(limit),
                },
                Err(_) => return Err(WireError::BadCompression),
            }
        }
    }
}

fn is_too_small(code: usize) -> bool {
    zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall)
}
