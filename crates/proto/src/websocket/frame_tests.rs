//! In a file of their own: frame.rs is long enough without them.
