//! Compression of payloads (5.7): what both sides agree on in a handshake.

/// How a payload is compressed; the numbers are those of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    Zlib = 1,
    Snappy = 2,
    Zstd = 3,
}

impl Algorithm {
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn from_name(name: &str) -> Option<Algorithm> {
        match name {
            "zlib" => Some(Algorithm::Zlib),
            "snappy" => Some(Algorithm::Snappy),
            "zstd" => Some(Algorithm::Zstd),
            _ => None,
        }
    }

    /// Names separated by commas, each at most once. `None`: something else.
    pub fn list(names: &str) -> Option<Box<[Algorithm]>> {
        let mut list = Vec::new();
        for name in names.split(',') {
            let algorithm = Algorithm::from_name(name)?;
            if list.contains(&algorithm) {
                return None;
            }
            list.push(algorithm);
        }
        Some(list.into())
    }
}
