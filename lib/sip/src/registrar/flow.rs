//! Whether the flow a REGISTER came by leads to the contact it binds (RFC 3261 §18.1.2, RFC 3581, RFC 5626).

use sps_wire::{Flow, Host, Message, Uri};

/// Whether requests for `contact` are to be sent by the flow its REGISTER came by.
///
/// A phone behind a translator of addresses can be reached by that flow alone. But a REGISTER may also speak for a contact
/// elsewhere (a provisioning script, another machine of the same user), and one that other proxies forwarded came by a flow
/// that leads to the last of them. So it must have come straight from its maker (one Via), and the contact must be what
/// the sender calls itself in that Via, or where it really sits, or a name that cannot be resolved on purpose (RFC 2606
/// `.invalid`, what browsers use). On streams the port does not count: it is the connection that is used again.
pub fn leads_to(message: Message<'_>, contact: &Uri<'_>, flow: &Flow) -> bool {
    let mut vias = message.vias();
    let (Some(Ok(via)), None) = (vias.next(), vias.next()) else {
        return false;
    };
    if !contact.is_sip() || contact.maddr().is_some() {
        return false;
    }
    if let Host::Name(name) = contact.host
        && name.len() >= INVALID.len()
        && name[name.len() - INVALID.len()..].eq_ignore_ascii_case(INVALID)
    {
        return true;
    }
    let default = flow.transport.default_port();
    let same_port =
        |port: Option<u16>| flow.transport.is_reliable() || port.unwrap_or(default) == contact.port.unwrap_or(default);
    let is_sender = via.host.equals(contact.host) && same_port(via.port);
    let is_source = contact.host.ip().map(|ip| ip.to_canonical()) == Some(flow.remote.ip().to_canonical())
        && same_port(Some(flow.remote.port()));
    is_sender || is_source
}

const INVALID: &[u8] = b".invalid";
