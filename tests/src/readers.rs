//! How others read a SIP message: Kamailio, as the next hop would, and Wireshark's dissector. Both get the bytes as they are.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::message::canonical;
use crate::net::{free_addr, wait_udp_bound};
use crate::pcap;
use crate::process::{Process, find, run_within};

/// What somebody reads in a message. Only what is comparable between readers: values as bytes, white space at their ends gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Method.
    pub method: Vec<u8>,
    /// Request-URI.
    pub uri: Vec<u8>,
    /// Tag of From.
    pub from_tag: Option<Vec<u8>>,
    /// Tag of To.
    pub to_tag: Option<Vec<u8>>,
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// Number of CSeq.
    pub cseq: u32,
    /// Branch of the top Via.
    pub branch: Vec<u8>,
    /// Headers in order, long name in lower case and value; none if the reader does not tell.
    pub headers: Option<Vec<(String, Vec<u8>)>>,
    /// Bytes of the body.
    pub body_len: Option<usize>,
}

/// What Kamailio reads in each message; none where it refuses to.
///
/// # Panics
/// When it does not run.
pub fn kamailio(folder: &Path, ip: IpAddr, messages: &[Vec<u8>]) -> Vec<Option<Reading>> {
    let addr = free_addr(ip);
    let run = folder.join("kamailio-reader");
    fs::create_dir_all(&run).expect("the test folder can be written");
    let file = run.join("kamailio.cfg");
    fs::write(&file, configuration(&addr.to_string())).expect("the test folder can be written");
    let mut command = Command::new(find("kamailio").expect("the test asked for kamailio first"));
    command
        .args(["-DD", "-E", "-m", "64", "-M", "8", "-w"])
        .arg(&run)
        .arg("-Y")
        .arg(&run)
        .arg("-f")
        .arg(&file);
    let mut process = Process::start("kamailio-reader", command, folder);
    wait_udp_bound(addr.port());
    assert!(!process.has_ended(), "kamailio ended at once:\n{}", process.output());
    let socket = UdpSocket::bind((ip, 0)).expect("a port is free");
    for (number, message) in messages.iter().enumerate() {
        socket.send_to(message, addr).expect("it fits into a datagram");
        let marker = format!(
            "OPTIONS sip:marker-{number}@kamailio SIP/2.0\r\nVia: SIP/2.0/UDP {ip};branch=z9hG4bKmarker{number}\r\nFrom: <sip:m@m>;tag=m\r\n\
             To: <sip:m@m>\r\nCall-ID: marker\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        socket
            .send_to(marker.as_bytes(), addr)
            .expect("it fits into a datagram");
        // One process reads them in turn; its queue is short.
        if number % 16 == 15 || number + 1 == messages.len() {
            process.wait_output(&format!("MARK sip:marker-{number}@kamailio"));
        }
    }
    parts(&process.output(), messages.len())
}

/// The readings between one mark and the next.
fn parts(output: &str, count: usize) -> Vec<Option<Reading>> {
    let mut readings = Vec::new();
    let mut current: Option<Reading> = None;
    for line in output.lines() {
        if line.contains("<script>: MARK ") {
            readings.push(current.take());
        } else if let Some((_, fields)) = line.split_once("<script>: READ ") {
            current = Some(fields_of(fields));
        } else if let Some((_, header)) = line.split_once("<script>: HEADER ") {
            let (name, value) = header.split_once(' ').unwrap_or((header, ""));
            let name = canonical(String::from_utf8_lossy(&unhex(name)).trim());
            if let Some(headers) = current.as_mut().and_then(|reading| reading.headers.as_mut()) {
                headers.push((name, trim(&unhex(value))));
            }
        }
    }
    assert_eq!(readings.len(), count, "one mark behind each message");
    readings
}

fn fields_of(line: &str) -> Reading {
    let field = |name: &str| {
        line.split(' ')
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let bytes = |name: &str| unhex(&field(name));
    // A pseudo-variable without a value is written as <null>.
    let tag = |name: &str| Some(bytes(name)).filter(|tag| !tag.is_empty() && tag != b"<null>");
    Reading {
        method: bytes("rm"),
        uri: bytes("ru"),
        from_tag: tag("ft"),
        to_tag: tag("tt"),
        call_id: bytes("ci"),
        cseq: field("cs").parse().unwrap_or(u32::MAX),
        branch: bytes("vb"),
        headers: Some(Vec::new()),
        body_len: field("bl").parse().ok(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn trim(value: &[u8]) -> Vec<u8> {
    value.trim_ascii().to_vec()
}

fn configuration(addr: &str) -> String {
    format!(
        r#"#!KAMAILIO
debug=-1
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:{addr}
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "textopsx.so"
loadmodule "xlog.so"
request_route {{
    if ($rU =~ "^marker-") {{ xlog("L_ALERT", "MARK $ru\n"); drop; }}
    xlog("L_ALERT", "READ rm=$(rm{{s.encode.hexa}}) ru=$(ru{{s.encode.hexa}}) ft=$(ft{{s.encode.hexa}}) tt=$(tt{{s.encode.hexa}}) ci=$(ci{{s.encode.hexa}}) cs=$cs vb=$(sel(via[1].branch){{s.encode.hexa}}) bl=$(rb{{s.len}})\n");
    hf_iterator_start("i");
    while (hf_iterator_next("i")) {{ xlog("L_ALERT", "HEADER $(hfitname(i){{s.encode.hexa}}) $(hfitbody(i){{s.encode.hexa}})\n"); }}
    hf_iterator_end("i");
    drop;
}}
"#
    )
}

/// What Wireshark's dissector reads in each message; none where it sees no request.
///
/// # Panics
/// When it does not run.
pub fn tshark(folder: &Path, messages: &[Vec<u8>]) -> Vec<Option<Reading>> {
    let path = folder.join("read.pcap");
    pcap::write(&path, messages);
    let path = path.to_string_lossy().into_owned();
    let fields = [
        "frame.number",
        "sip.Method",
        "sip.r-uri",
        "sip.from.tag",
        "sip.to.tag",
        "sip.Call-ID",
        "sip.CSeq.seq",
        "sip.Via.branch",
    ];
    let mut arguments = vec!["-r", &path, "-T", "json", "-Y", "sip.Method"];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    let program = find("tshark").expect("the test asked for tshark first");
    let said = run_within(Duration::from_secs(60), program, &arguments).ok();
    let packets: Value = serde_json::from_str(&said.stdout).expect("tshark writes JSON");
    let mut readings = vec![None; messages.len()];
    for packet in packets.as_array().into_iter().flatten() {
        let layers = &packet["_source"]["layers"];
        let first = |field: &str| layers[field][0].as_str().map(|text| text.as_bytes().to_vec());
        let number: usize = String::from_utf8_lossy(&first("frame.number").unwrap_or_default())
            .parse()
            .expect("a number");
        readings[number - 1] = Some(Reading {
            method: first("sip.Method").unwrap_or_default(),
            uri: first("sip.r-uri").unwrap_or_default(),
            from_tag: first("sip.from.tag"),
            to_tag: first("sip.to.tag"),
            call_id: first("sip.Call-ID").unwrap_or_default(),
            cseq: String::from_utf8_lossy(&first("sip.CSeq.seq").unwrap_or_default())
                .parse()
                .unwrap_or(u32::MAX),
            branch: first("sip.Via.branch").unwrap_or_default(),
            headers: None,
            body_len: None,
        });
    }
    readings
}
