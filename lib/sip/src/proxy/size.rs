//! What is too large for a datagram (RFC 3261 §18.1.1).

use sps_wire::flow::{Destination, Transport};

use super::conf::Conf;
use super::context::Leave;

/// §18.1.1: the way of a request of `len` bytes that is too large for UDP, if we have TCP.
///
/// The path MTU is unknown to us; the bound is what the RFC takes then, or what the operator knows better. Who is reached along a
/// flow is reached by nothing else.
pub(super) fn moved_to_tcp(conf: &Conf, leave: &Leave, len: usize) -> Option<Leave> {
    let Leave::Onward { destination, .. } = leave else {
        return None;
    };
    if destination.transport != Transport::Udp || conf.udp_max_request == 0 || len <= conf.udp_max_request {
        return None;
    }
    let listener = conf.listener_towards(Transport::Tcp, &destination.addr)?;
    let destination = Destination {
        transport: Transport::Tcp,
        ..destination.clone()
    };
    Some(Leave::Onward { listener, destination })
}
