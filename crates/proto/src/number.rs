//! Numbers (5.1): LEB128 in the fewest bytes.

use crate::error::WireError;

/// Reads the number that stands at `at` and moves `at` behind it. `None`: it is not whole.
///
/// `bits` is how many it may have. A longer form than needed is refused, so that each number has one.
#[inline]
pub fn read(input: &[u8], at: &mut usize, bits: u32) -> Result<Option<u64>, WireError> {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let Some(&byte) = input.get(*at + shift as usize / 7) else {
            return Ok(None);
        };
        let part = u64::from(byte & 0x7f);
        let room = bits - shift;
        if room < 7 && part >> room != 0 {
            return Err(WireError::BadFrame);
        }
        value |= part << shift;
        if byte < 0x80 {
            if part == 0 && shift > 0 {
                return Err(WireError::BadFrame);
            }
            *at += shift as usize / 7 + 1;
            return Ok(Some(value));
        }
        shift += 7;
        if shift >= bits {
            return Err(WireError::BadFrame);
        }
    }
}

/// The same where the whole frame is at hand: a number that is not whole is a bad frame.
#[inline]
pub fn read_u32(frame: &[u8], at: &mut usize) -> Result<u32, WireError> {
    match frame.get(*at) {
        Some(&byte) if byte < 0x80 => {
            *at += 1;
            Ok(u32::from(byte))
        }
        _ => Ok(read(frame, at, 32)?.ok_or(WireError::BadFrame)? as u32),
    }
}

pub fn read_u64(frame: &[u8], at: &mut usize) -> Result<u64, WireError> {
    read(frame, at, 64)?.ok_or(WireError::BadFrame)
}

#[inline]
pub fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that it takes.
#[inline]
pub fn size(value: u64) -> usize {
    (63 - (value | 1).leading_zeros() as usize) / 7 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write(value, &mut out);
        out
    }

    #[test]
    fn each_length_is_read_back() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let bytes = written(value);
                assert_eq!(bytes.len(), size(value), "{value}");
                let mut at = 0;
                assert_eq!(read(&bytes, &mut at, 64), Ok(Some(value)));
                assert_eq!(at, bytes.len());
                for cut in 0..bytes.len() {
                    assert_eq!(read(&bytes[..cut], &mut 0, 64), Ok(None));
                }
            }
        }
    }

    #[test]
    fn more_bits_than_allowed_are_refused() {
        for (value, bits, fits) in [
            (u64::from(u32::MAX), 32, true),
            (1 << 32, 32, false),
            ((1 << 28) - 1, 28, true),
            (1 << 28, 28, false),
        ] {
            let bytes = written(value);
            assert_eq!(read(&bytes, &mut 0, bits).is_ok(), fits, "{value}");
        }
        assert!(read(&[0x80; 11], &mut 0, 64).is_err());
        assert!(
            read(&[0x80; 4], &mut 0, 28).is_err(),
            "without waiting for more"
        );
    }

    #[test]
    fn a_longer_form_is_refused() {
        assert!(read(&[0x80, 0], &mut 0, 32).is_err());
        assert!(read(&[0xff, 0], &mut 0, 32).is_err());
        assert_eq!(read(&[0], &mut 0, 32), Ok(Some(0)));
    }
}
