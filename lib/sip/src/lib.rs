//! sip.
#![forbid(unsafe_code)]

pub mod overload;
pub mod proxy;
pub mod registrar;
pub mod table;
pub mod timers;
pub mod transaction;
pub mod wheel;
