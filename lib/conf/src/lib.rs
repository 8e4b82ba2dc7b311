//! The configuration: `sps.toml` to a checked [`Config`], and the same TOML printed back.
//!
//! Everything an operator can get wrong in the file is found here, before anything is replaced: [`Config::load`] gives either
//! a configuration that every daemon can work with, or [`Problems`], each with file, line, column and what was expected.
//! [`Paths`] says where everything lies, installed or under `--root`.
//!
//! Knows no socket, no process and no protocol. The master alone parses; daemons get the checked value frozen.
#![forbid(unsafe_code)]

mod check;
mod config;
mod init;
mod material;
mod paths;
mod problems;
mod read;
mod reload;
mod render;
mod routing;
mod section;
mod words;

pub use config::{
    Access, Action, Advertise, Ca, Certificate, Cidr, ClientCertificate, Config, Dns, Fork, Guard, Level, Listen, Log,
    Mode, Overload, Proxy, Registrar, Server, Tls, TlsVersion, Transport,
};
pub use init::InitOptions;
pub use material::{Material, MaterialError, Pair, Pem};
pub use paths::{PathTooLong, Paths};
pub use problems::{Problem, Problems};
pub use read::keys;
