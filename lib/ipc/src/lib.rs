//! ipc.
#![forbid(unsafe_code)]
