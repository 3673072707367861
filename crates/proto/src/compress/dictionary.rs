//! A dictionary that was trained on an application's messages (RFC 8878, section 5): short ones then
//! become a third of what zstd alone makes of them.

use std::fmt;

use super::zstd::LEVEL;
use zstd_safe::{CDict, DDict};

/// Made ready once, and then read by all connections of a listener.
pub struct Dictionary {
    id: u32,
    pub(super) to_compress: CDict<'static>,
    pub(super) to_inflate: DDict<'static>,
}

impl Dictionary {
    /// `zstd --train` makes them of some 100 KB; larger ones cost every payload more than they save.
    pub const LIMIT: usize = 1 << 20;

    /// What a file of `zstd --train` holds. `None`: something else, or longer than [`Dictionary::LIMIT`]. A
    /// file without an id (any bytes can serve as one) is no use, since both sides could not tell that they
    /// have the same.
    pub fn read(bytes: &[u8]) -> Option<Dictionary> {
        if bytes.len() > Self::LIMIT {
            return None;
        }
        Some(Dictionary {
            id: zstd_safe::get_dict_id_from_dict(bytes)?.get(),
            to_compress: CDict::try_create(bytes, LEVEL)?,
            to_inflate: DDict::try_create(bytes)?,
        })
    }

    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({})", self.id)
    }
}

/// Whoever trains another one gives it another id: that is all that both sides of a wire know of it.
impl PartialEq for Dictionary {
    fn eq(&self, other: &Dictionary) -> bool {
        self.id == other.id
    }
}

impl Eq for Dictionary {}
