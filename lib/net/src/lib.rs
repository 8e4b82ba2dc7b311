//! net.
#![forbid(unsafe_code)]
