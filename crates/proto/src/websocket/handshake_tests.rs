//! In a file of their own: handshake.rs is long enough without them.
