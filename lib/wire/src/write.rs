//! Small writers for numbers and addresses: no formatting machinery, no allocation beyond the buffer's growth.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Appends a decimal number.
pub fn write_u32(value: u32, out: &mut Vec<u8>) {
    write_u64(value.into(), out);
}

/// Appends a decimal number.
pub fn write_u64(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends sixteen lower-case hexadecimal digits.
pub fn write_hex64(value: u64, out: &mut Vec<u8>) {
    write_hex(&value.to_be_bytes(), out);
}

/// Appends lower-case hexadecimal digits, two a byte.
pub fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Appends an address as in a parameter: `192.0.2.1`, `2001:db8::1` (no brackets, RFC 3261 §18.2.1 `received`).
pub fn write_ip(addr: IpAddr, out: &mut Vec<u8>) {
    match addr {
        IpAddr::V4(addr) => write_ipv4(addr, out),
        IpAddr::V6(addr) => write_ipv6(addr, out),
    }
}

/// Appends an address as a host: an IPv6 address in brackets.
pub fn write_host(addr: IpAddr, out: &mut Vec<u8>) {
    match addr {
        IpAddr::V4(addr) => write_ipv4(addr, out),
        IpAddr::V6(addr) => {
            out.push(b'[');
            write_ipv6(addr, out);
            out.push(b']');
        }
    }
}

/// Appends host and port: `192.0.2.1:5060`, `[2001:db8::1]:5060`.
pub fn write_socket(addr: SocketAddr, out: &mut Vec<u8>) {
    write_host(addr.ip(), out);
    out.push(b':');
    write_u32(addr.port().into(), out);
}

fn write_ipv4(addr: Ipv4Addr, out: &mut Vec<u8>) {
    for (position, octet) in addr.octets().into_iter().enumerate() {
        if position > 0 {
            out.push(b'.');
        }
        write_u32(octet.into(), out);
    }
}

/// The form of RFC 5952 §4: lower case, no leading zeros, the first longest run of two or more zero groups as `::`.
fn write_ipv6(addr: Ipv6Addr, out: &mut Vec<u8>) {
    // §5: the mapped prefix is followed by dotted decimals.
    if let Some(mapped) = addr.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        return write_ipv4(mapped, out);
    }
    let groups = addr.segments();
    let mut zeros = longest_zeros(&groups);
    if zeros.len() < 2 {
        zeros = 0..0;
    }
    let mut at = 0;
    while at < groups.len() {
        if zeros.contains(&at) {
            out.extend_from_slice(b"::");
            at = zeros.end;
            continue;
        }
        if at > 0 && at != zeros.end {
            out.push(b':');
        }
        write_group(groups[at], out);
        at += 1;
    }
}

fn longest_zeros(groups: &[u16; 8]) -> std::ops::Range<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for at in 0..=groups.len() {
        if groups.get(at) != Some(&0) {
            if at - start > longest.len() {
                longest = start..at;
            }
            start = at + 1;
        }
    }
    longest
}

fn write_group(group: u16, out: &mut Vec<u8>) {
    let mut shift = 12;
    while shift > 0 && group >> shift == 0 {
        shift -= 4;
    }
    loop {
        out.push(HEX[usize::from(group >> shift & 15)]);
        if shift == 0 {
            return;
        }
        shift -= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(text(|out| write_u64(value, out)), value.to_string());
        }
        assert_eq!(text(|out| write_hex64(0xdead_beef, out)), "00000000deadbeef");
    }

    #[test]
    fn addresses_read_as_the_standard_library_writes_them() {
        for addr in [
            "192.0.2.1",
            "0.0.0.0",
            "::",
            "::1",
            "1::",
            "2001:db8::9:1",
            "2001:db8:0:1:1:1:1:1",
            "2001:0:0:1:0:0:0:1",
            "::ffff:192.0.2.1",
            "fe80::1:0:0:2",
            "1:2:3:4:5:6:7:8",
            "0:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:0",
            "1:0:3:4:5:6:7:8",
            "1:2:3:4:5:6::",
            "::3:4:5:6:7:8",
        ] {
            let addr: IpAddr = addr.parse().unwrap();
            assert_eq!(text(|out| write_ip(addr, out)), addr.to_string());
            assert_eq!(
                text(|out| write_socket(SocketAddr::new(addr, 5060), out)),
                SocketAddr::new(addr, 5060).to_string()
            );
        }
    }
}
