//! The floor: a process that only moves datagrams between callers and callees, batched, and looks at nothing. What a proxy
//! costs beyond this is its own doing.

use std::net::SocketAddr;
use std::time::Duration;

use crate::option;
use sps_tests::load::port::{Port, wait};

/// `sps-bench forward`: never ends by itself.
pub fn main(arguments: &[String]) -> Result<(), String> {
    let addr = |name: &str| -> Result<SocketAddr, String> {
        let text = option(arguments, name).ok_or_else(|| format!("{name} is missing"))?;
        text.parse().map_err(|_| format!("{name} {text}: not an address"))
    };
    let (listen, caller, callee) = (addr("--listen")?, addr("--caller")?, addr("--callee")?);
    let mut port = Port::bind(listen).map_err(|error| format!("bind {listen}: {error}"))?;
    let mut batch = Vec::new();
    loop {
        wait(&[&port], Duration::from_secs(3_600));
        while port.receive(|bytes, remote| batch.push((bytes.to_vec(), remote))) > 0 {
            for (bytes, remote) in batch.drain(..) {
                port.send(if remote == caller { callee } else { caller }, bytes);
            }
            port.flush();
        }
    }
}
