//! What nodes say to one another (docs/bluenet.md): packets behind a header of ten bytes, which is all that
//! forwarding looks at. How they cross a connection, and outlive it, is [`crate::link`].

pub mod control;
pub mod header;
pub mod message;
