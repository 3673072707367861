//! A session's handle: 20 bits of slot, 12 bits of generation, as the BlueNet header carries it.
//!
//! Of the slot, 4 bits name the reactor and 16 the place in its table: a node holds at most
//! 16 x 65,536 sessions, and whoever holds a handle knows which reactor to speak to without a lock.
//! A slot rests before it is used again (`session.rs`), so the same handle comes back after 4,096
//! rests at the earliest.

pub const LOCAL_BITS: u32 = 16;
pub const GENERATION_BITS: u32 = 12;
pub const REACTORS: usize = 16;
pub const SLOTS_A_REACTOR: usize = 1 << LOCAL_BITS;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

impl Handle {
    /// Never a real session's: generation 0 is not given out.
    pub const NONE: Handle = Handle(0);

    pub fn new(reactor: usize, local: u32, generation: u16) -> Handle {
        debug_assert!(reactor < REACTORS && (local as usize) < SLOTS_A_REACTOR);
        let slot = (reactor as u32) << LOCAL_BITS | local;
        Handle(slot << GENERATION_BITS | u32::from(generation) & GENERATION_MASK)
    }

    #[inline]
    pub fn reactor(self) -> usize {
        (self.0 >> (GENERATION_BITS + LOCAL_BITS)) as usize
    }

    /// Place in its reactor's table.
    #[inline]
    pub fn local(self) -> u32 {
        self.0 >> GENERATION_BITS & (SLOTS_A_REACTOR as u32 - 1)
    }

    #[inline]
    pub fn generation(self) -> u16 {
        (self.0 & GENERATION_MASK) as u16
    }

    /// The generation after this one; 0 is skipped.
    pub fn next_generation(generation: u16) -> u16 {
        match (generation + 1) & GENERATION_MASK as u16 {
            0 => 1,
            next => next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let handle = Handle::new(15, 65_535, 4095);
        assert_eq!(
            (handle.reactor(), handle.local(), handle.generation()),
            (15, 65_535, 4095)
        );
        let handle = Handle::new(3, 7, 1);
        assert_eq!(
            (handle.reactor(), handle.local(), handle.generation()),
            (3, 7, 1)
        );
    }

    #[test]
    fn generation_skips_zero() {
        assert_eq!(Handle::next_generation(4095), 1);
        assert_eq!(Handle::next_generation(1), 2);
    }
}
