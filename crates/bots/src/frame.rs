//! The frame that is sent again and again: a big-endian u32 length, then the payload, in which eight
//! bytes tell which connection and which packet of it this is. So an answer that came to the wrong
//! connection, out of order or damaged is seen at the cost of comparing one short slice.

use std::io;

pub const HEADER: usize = 4;
const MARK: usize = 8;

/// A frame with a hole in it for the mark.
pub struct Template {
    frame: Vec<u8>,
    mark: Option<usize>,
}

impl Template {
    /// A frame of `size` bytes in all, length field included: the mark, then bytes of every value.
    pub fn filled(size: usize) -> io::Result<Template> {
        if size < HEADER + MARK {
            return Err(wrong(format!(
                "a frame has at least {} bytes (4 of length, 8 of sequence), not {size}",
                HEADER + MARK
            )));
        }
        let payload: Vec<u8> = (0..size - HEADER).map(|at| (at * 37) as u8).collect();
        Template::of_payload(&payload, Some(0))
    }

    /// A frame of `size` bytes that asks a broadcast server for `broadcasts` of itself to everybody
    /// else; 0 asks for this one frame back.
    pub fn broadcast(size: usize, broadcasts: u8) -> io::Result<Template> {
        let mut template = Template::filled(size.max(HEADER + 1 + MARK))?;
        template.frame[HEADER] = broadcasts;
        template.mark = Some(HEADER + 1);
        Ok(template)
    }

    /// A frame around a payload made elsewhere; `mark` is where in it eight bytes may be replaced.
    pub fn of_payload(payload: &[u8], mark: Option<usize>) -> io::Result<Template> {
        let length = u32::try_from(payload.len()).map_err(|_| wrong("payload over 4 GiB"))?;
        if mark.is_some_and(|at| at + MARK > payload.len()) {
            return Err(wrong(format!(
                "the sequence's 8 bytes do not fit into a payload of {} bytes there",
                payload.len()
            )));
        }
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(payload);
        Ok(Template {
            frame,
            mark: mark.map(|at| at + HEADER),
        })
    }

    pub fn len(&self) -> usize {
        self.frame.len()
    }

    pub fn append(&self, connection: u32, sequence: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        if let Some(at) = self.mark {
            out[start + at..start + at + MARK].copy_from_slice(&mark(connection, sequence));
        }
    }

    /// Whether `frame` is what [`Template::append`] wrote for the same numbers.
    #[inline]
    pub fn matches(&self, frame: &[u8], connection: u32, sequence: u32) -> bool {
        match self.mark {
            None => frame == self.frame,
            Some(at) => {
                frame.len() == self.frame.len()
                    && frame[at..at + MARK] == mark(connection, sequence)
                    && frame[..at] == self.frame[..at]
                    && frame[at + MARK..] == self.frame[at + MARK..]
            }
        }
    }
}

/// At least 2^32, so that a msgpack uint64 in this place keeps its width when encoded again.
#[inline]
fn mark(connection: u32, sequence: u32) -> [u8; MARK] {
    (((u64::from(connection) + 1) << 32) | u64::from(sequence)).to_be_bytes()
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_the_whole_frame() {
        let template = Template::filled(64).unwrap();
        let mut out = Vec::new();
        template.append(3, 9, &mut out);
        assert_eq!(out.len(), 64);
        assert_eq!(u32::from_be_bytes(out[..4].try_into().unwrap()), 60);
        assert!(Template::filled(11).is_err());
    }

    #[test]
    fn only_the_same_bytes_for_the_same_numbers_match() {
        let template = Template::filled(64).unwrap();
        let mut out = Vec::new();
        template.append(3, 9, &mut out);
        assert!(template.matches(&out, 3, 9));
        assert!(!template.matches(&out, 3, 10), "out of order");
        assert!(!template.matches(&out, 4, 9), "another connection's");
        assert!(!template.matches(&out[..63], 3, 9), "short");
        for at in [0, 12, 63] {
            let mut damaged = out.clone();
            damaged[at] ^= 1;
            assert!(!template.matches(&damaged, 3, 9), "damaged at {at}");
        }
    }

    #[test]
    fn a_payload_of_its_own_with_and_without_a_mark() {
        let marked = Template::of_payload(&[7; 20], Some(12)).unwrap();
        let mut out = Vec::new();
        marked.append(0, 1, &mut out);
        assert_eq!(out[4..16], [7; 12]);
        assert_eq!(out[16..24], [0, 0, 0, 1, 0, 0, 0, 1]);
        let fixed = Template::of_payload(&[7; 20], None).unwrap();
        out.clear();
        fixed.append(0, 1, &mut out);
        assert!(fixed.matches(&out, 5, 5));
        assert!(Template::of_payload(&[7; 20], Some(13)).is_err());
    }

    #[test]
    fn a_broadcast_frame_says_how_many() {
        let template = Template::broadcast(200, 4).unwrap();
        let mut out = Vec::new();
        template.append(0, 0, &mut out);
        assert_eq!((out.len(), out[4]), (200, 4));
        assert!(template.matches(&out, 0, 0));
    }
}
