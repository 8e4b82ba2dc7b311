//! Small writers for numbers and addresses: no formatting machinery, no allocation beyond the buffer's growth.

use std::net::{IpAddr, SocketAddr};

/// Appends a decimal number.
pub fn write_u32(value: u32, out: &mut Vec<u8>) {
    write_u64(value.into(), out);
}

/// Appends a decimal number.
pub fn write_u64(value: u64, out: &mut Vec<u8>) {
    let _ = (value, out);
    unimplemented!()
}

/// Appends sixteen lower-case hexadecimal digits.
pub fn write_hex64(value: u64, out: &mut Vec<u8>) {
    let _ = (value, out);
    unimplemented!()
}

/// Appends lower-case hexadecimal digits, two a byte.
pub fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    let _ = (bytes, out);
    unimplemented!()
}

/// Appends an address as in a parameter: `192.0.2.1`, `2001:db8::1` (no brackets, RFC 3261 §18.2.1 `received`).
pub fn write_ip(addr: IpAddr, out: &mut Vec<u8>) {
    let _ = (addr, out);
    unimplemented!()
}

/// Appends an address as a host: an IPv6 address in brackets.
pub fn write_host(addr: IpAddr, out: &mut Vec<u8>) {
    let _ = (addr, out);
    unimplemented!()
}

/// Appends host and port: `192.0.2.1:5060`, `[2001:db8::1]:5060`.
pub fn write_socket(addr: SocketAddr, out: &mut Vec<u8>) {
    let _ = (addr, out);
    unimplemented!()
}
