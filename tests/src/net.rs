//! Ports: finding free ones, and seeing from outside when a process has bound one.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use crate::wait::wait_until;

/// 127.0.0.1.
pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// ::1.
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A port on `ip` that UDP and TCP both have free now, chosen by the system.
pub fn free_port(ip: IpAddr) -> u16 {
    for _ in 0..100 {
        let udp = UdpSocket::bind((ip, 0)).expect("a UDP socket can be bound");
        let port = udp.local_addr().expect("a bound socket has an address").port();
        if TcpListener::bind((ip, port)).is_ok() {
            return port;
        }
    }
    panic!("no port on {ip} is free for UDP and TCP");
}

/// An address on `ip` with a free port.
pub fn free_addr(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, free_port(ip))
}

/// Whether this machine has IPv6 on its loopback.
pub fn has_v6() -> bool {
    UdpSocket::bind((V6, 0)).is_ok()
}

/// Waits until some process has `port` bound for UDP.
pub fn wait_udp_bound(port: u16) {
    wait_until(&format!("UDP port {port} is bound"), || {
        is_listed("/proc/net/udp", port, None) || is_listed("/proc/net/udp6", port, None)
    });
}

/// Waits until some process listens on TCP `port`.
pub fn wait_tcp_listening(port: u16) {
    wait_until(&format!("TCP port {port} listens"), || {
        is_listed("/proc/net/tcp", port, Some("0A")) || is_listed("/proc/net/tcp6", port, Some("0A"))
    });
}

/// Datagrams that wait unread in the receive queues of UDP `port`, in bytes.
pub fn udp_backlog(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    table
        .lines()
        .filter(|line| line_port(line) == Some(port))
        .filter_map(|line| line.split_whitespace().nth(4))
        .filter_map(|queues| u64::from_str_radix(queues.split(':').nth(1)?, 16).ok())
        .sum()
}

fn is_listed(table: &str, port: u16, state: Option<&str>) -> bool {
    let table = fs::read_to_string(table).unwrap_or_default();
    table.lines().any(|line| {
        line_port(line) == Some(port) && state.is_none_or(|state| line.split_whitespace().nth(3) == Some(state))
    })
}

fn line_port(line: &str) -> Option<u16> {
    let local = line.split_whitespace().nth(1)?;
    u16::from_str_radix(local.rsplit(':').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_port_is_seen_and_a_free_one_is_not() {
        let socket = UdpSocket::bind((V4, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        wait_udp_bound(port);
        assert_eq!(udp_backlog(port), 0);
        drop(socket);
        // Others on this machine may take a port that was free a moment ago, but not every time.
        let free = || !is_listed("/proc/net/udp", free_port(V4), None);
        assert!((0..20).any(|_| free()));
    }
}
