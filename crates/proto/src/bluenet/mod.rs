//! What crosses nodes (docs/bluenet.md): a header that is all that forwarding looks at, and what stands
//! behind it.

pub mod control;
pub mod message;
