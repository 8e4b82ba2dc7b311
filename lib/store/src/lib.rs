//! What must survive a crash: routes, static registrations and bans in SQLite, and the route table compiled from them.
//!
//! [`Database`] is `sps.db` (WAL, every commit on the disk before it counts). [`RouteStore`] changes routes in it and
//! publishes them to `routes.map`, both under one lock; [`RouteMap`] is the reading end of that file, for the proxy.
//! All of it works with the daemons stopped.
#![forbid(unsafe_code)]

mod bans;
mod compile;
mod database;
mod error;
mod migrate;
mod owner;
mod registrations;
mod route_map;
mod routes;

pub use bans::Ban;
pub use database::Database;
pub use error::{Error, OpenError};
pub use registrations::StaticRegistration;
pub use route_map::RouteMap;
pub use routes::{Added, DEFAULT_PRIORITY, DEFAULT_WEIGHT, ImportMode, Imported, NewRoute, RouteStore};
