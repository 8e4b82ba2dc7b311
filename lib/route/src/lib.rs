//! Routing as a resumable machine: facts about a request and answers go in; questions, targets or a reply come out.
//!
//! [`Routing`] decides who a request goes to (RFC 3261 §16.5) and by which next hop (§16.6 step 7), one named stage
//! after the other. [`Walk`] then turns one target into destinations, lazily, so that the next one is only looked up
//! when the one before has failed. Neither holds a socket, a file, a clock or dice: what they look up comes through
//! [`Tables`], what takes time is a question ([`Ask`]), and time and random numbers are handed in.
//!
//! [`pattern`] and [`record`] hold the meaning of a static route and the bytes it is compiled to; `sps-store` puts
//! these bytes into a mapped file and reads them back.
#![forbid(unsafe_code)]

pub mod bindings;
pub mod conf;
pub mod dead;
pub mod host;
pub mod number;
pub mod pattern;
pub mod record;
pub mod route;
pub mod routing;
pub mod target;
pub mod trace;
pub mod walk;

pub use bindings::{Bindings, Contact};
pub use conf::{AccessRule, Conf, OwnSocket, Service};
pub use dead::DeadTargets;
pub use host::{BadHop, HopAddress, Host};
pub use number::Number;
pub use pattern::{BadPattern, DomainPattern, Pattern, Selector};
pub use route::{Attributes, Route, RouteEntry, RouteSet};
pub use routing::{Facts, Reply, Routing, Scratch, Step, Surroundings, Tables};
pub use target::{NextHop, Target, TargetSet, UriBytes};
pub use trace::{Stage, Trace};
pub use walk::{Answer, Ask, Exhausted, Question, Resolved, Ticket, Unresolved, Walk, WalkStep};
