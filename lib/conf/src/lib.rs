//! conf.
#![forbid(unsafe_code)]
