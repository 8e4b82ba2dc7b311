//! SIP messages as a capture file, so that Wireshark's dissector can judge what SPS wrote.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::process::{find, run_within};

/// Writes the datagrams as a pcap file with raw IPv4 frames, UDP port 5060.
pub fn write(path: &Path, datagrams: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, LINKTYPE_RAW] {
        file.extend(word.to_le_bytes());
    }
    for (second, datagram) in (1_u32..).zip(datagrams) {
        let udp_len = u16::try_from(datagram.len() + 8).expect("a datagram fits");
        let ip_len = udp_len + 20;
        for word in [second, 0, u32::from(ip_len), u32::from(ip_len)] {
            file.extend(word.to_le_bytes());
        }
        let mut head = vec![0x45, 0];
        head.extend(ip_len.to_be_bytes());
        head.extend([0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        head.extend(5060_u16.to_be_bytes());
        head.extend(5060_u16.to_be_bytes());
        head.extend(udp_len.to_be_bytes());
        head.extend([0, 0]);
        file.extend(head);
        file.extend(datagram);
    }
    fs::write(path, file).expect("the test folder can be written");
}

/// What tshark prints for these datagrams with this display filter, one line each.
pub fn tshark(folder: &Path, datagrams: &[Vec<u8>], filter: &str) -> Vec<String> {
    let path = folder.join("capture.pcap");
    write(&path, datagrams);
    let path = path.to_string_lossy();
    let program = find("tshark").expect("the test asked for tshark first");
    let said = run_within(Duration::from_secs(60), program, &["-r", &path, "-Y", filter]).ok();
    said.stdout.lines().map(str::to_owned).collect()
}

const LINKTYPE_RAW: u32 = 101;
