//! RFC 3261 machines, the proxy core, the registrar core, and the guard against hostile peers. Sans-IO.
#![forbid(unsafe_code)]

pub mod guard;
pub mod overload;
pub mod proxy;
pub mod registrar;
pub mod table;
pub mod timers;
pub mod transaction;
pub mod wheel;
