//! registry.
#![forbid(unsafe_code)]
