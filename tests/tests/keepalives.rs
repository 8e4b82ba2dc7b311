//! What phones send to keep their NAT open: answered or dropped where it comes in, never mistaken for a message.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use sps_tests::net::V4;
use sps_tests::wait::PATIENCE;
use sps_tests::{Agent, Instance, Options, bounded, wait_until};

/// A connection of our own making, to see each byte.
fn connect(sps: &Instance) -> TcpStream {
    let stream = TcpStream::connect(sps.addr()).expect("SPS listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).expect("so much comes");
    bytes
}

/// One figure of the proxy, all workers together.
fn figure(sps: &Instance, name: &str) -> u64 {
    let blocks = sps.status()["counters"].clone();
    let blocks = blocks.as_object().expect("a block for each worker");
    blocks.values().filter_map(|block| block[name].as_u64()).sum()
}

/// RFC 5626 §4.4.1, RFC 3261 §7.5: a double CRLF between messages gets one CRLF, however it is cut; a lone one gets nothing and
/// ends nothing.
#[test]
fn a_ping_on_tcp_gets_a_pong() {
    bounded(|| {
        let sps = Instance::start(Options::new().section("[proxy]\nstream_header_timeout_ms = 200"));
        let mut stream = connect(&sps);
        stream.write_all(b"\r\n\r\n").expect("the connection stands");
        assert_eq!(read(&mut stream, 2), b"\r\n");
        // Half a ping: nothing is begun that would have to be finished in time.
        stream.write_all(b"\r\n").expect("the connection stands");
        stream
            .set_read_timeout(Some(Duration::from_millis(600)))
            .expect("a timeout can be set");
        let silence = stream.read(&mut [0; 9]).expect_err("neither an answer nor the end");
        assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut agent = Agent::tcp(V4);
        let options = agent.request("OPTIONS", &format!("sip:{}", sps.addr()));
        let both = [&options.bytes()[..], b"\r\n\r\n", &options.bytes()[..10]].concat();
        stream.write_all(&both).expect("the connection stands");
        // The pong may come before the answer or behind it.
        let mut came = String::new();
        let whole = |came: &str| match came.strip_prefix("\r\n") {
            Some(answer) => answer.ends_with("\r\n\r\n"),
            None => came.ends_with("\r\n\r\n\r\n"),
        };
        while !whole(&came) {
            came.push(char::from(read(&mut stream, 1)[0]));
        }
        assert!(came.trim_start().starts_with("SIP/2.0 200 OK\r\n"), "{came:?}");
        wait_until("both pings are counted", || figure(&sps, "stream_pings") == 2);
        assert_eq!(figure(&sps, "garbage"), 0);
    });
}

/// RFC 5626 §4.4.1 "MUST NOT be used with connection-less transports": what comes all the same is dropped and counted.
#[test]
fn keepalives_on_udp_are_dropped_and_counted() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let socket = UdpSocket::bind((V4, 0)).expect("a port is free");
        for bytes in [&b""[..], b"\r\n\r\n", b"\r\n", b"\0\0\0\0"] {
            socket.send_to(bytes, sps.addr()).expect("it leaves");
        }
        wait_until("all are counted", || figure(&sps, "keepalives_dropped") == 4);
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout can be set");
        assert!(socket.recv(&mut [0; 9]).is_err(), "no answer");
        assert_eq!(figure(&sps, "garbage"), 0);
        assert!(sps.log("access_log").is_empty(), "nothing is logged");
    });
}
