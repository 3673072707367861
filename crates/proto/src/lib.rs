//! Bytes to packets and back, without IO, threads or clocks.
//!
//! A listener speaks one [`codec::Protocol`]; a connection of it holds one [`codec::Peer`], the few
//! bytes a protocol remembers about the other side. The caller owns every buffer: input is handed in
//! as a slice, output is appended to a `Vec` of the caller's.
//!
//! The specification is docs/protocol.md; numbers such as "4.3" in the comments are its sections.

#![forbid(unsafe_code)]

pub mod binding;
pub mod bluenet;
pub mod codec;
pub mod compress;
pub mod error;
mod json;
pub mod link;
mod number;
pub mod planted;
pub mod proxy_header;
pub mod resume;
pub mod websocket;
