//! In a file of their own: deflate.rs is long enough without them.
