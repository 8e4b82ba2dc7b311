//! The load generator: all callers and callees, or all registering users, in one thread over batched sockets.
//!
//! It belongs to the benchmark and is part of the library because the system tests need traffic too: under a kill, a change of
//! routes, a lossy wire.

pub mod calls;
pub mod feedback;
pub mod port;
pub mod refusals;
pub mod registers;
pub mod storm;
pub mod text;
