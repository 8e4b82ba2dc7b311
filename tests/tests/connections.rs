//! TCP connections as RFC 3261 §18 has them: which one a message takes, and what when it is gone.

use std::io::Write;
use std::net::TcpStream;

use sps_tests::net::V4;
use sps_tests::{Agent, Instance, Options, bounded, wait_until};

/// §18.2.2: the connection a request came by is closed before its answer is there: that takes a new one to the source address, at
/// the port in Via.
#[test]
fn an_answer_whose_connection_is_gone_takes_a_new_one() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let (mut caller, mut callee) = (Agent::tcp(V4), Agent::udp(V4));
        sps.register("bob", &callee.uri("bob"), "1.0");
        // The agent's Via names the port it listens at; the request comes from another.
        let request = caller.request("MESSAGE", &sps.uri("bob"));
        let mut stream = TcpStream::connect(sps.addr()).expect("SPS listens");
        stream.write_all(&request.bytes()).expect("the connection stands");
        let got = callee.expect_request("MESSAGE");
        drop(stream);
        wait_until("SPS has seen the end of the connection", || open_streams(&sps) == 0);
        callee.reply(&got, &got.message.response(200, "OK").to_tag("t"));
        let answer = caller.expect_status(200);
        assert_eq!(answer.header("Call-ID"), request.header("Call-ID"));
    });
}

/// §18.1.1: what goes to an address that a connection leads to takes that connection, and the answers come back by it.
#[test]
fn requests_to_one_peer_share_a_connection() {
    bounded(|| {
        let sps = Instance::start(Options::new().server("workers = 1"));
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::tcp(V4));
        sps.register("bob", &callee.uri("bob"), "1.0");
        let mut peers = Vec::new();
        for _ in 0..3 {
            let request = caller.request("MESSAGE", &sps.uri("bob"));
            caller.send(sps.addr(), &request);
            let got = callee.expect_request("MESSAGE");
            callee.reply(&got, &got.message.response(200, "OK").to_tag("t"));
            assert_eq!(caller.final_response().status(), Some(200));
            peers.push(got.peer);
        }
        assert!(peers.iter().all(|peer| *peer == peers[0]), "{peers:?}");
    });
}

/// §18.1.1: "implementations MUST be able to handle messages up to the maximum datagram packet size"
#[test]
fn a_datagram_of_the_greatest_size_is_taken() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::tcp(V4));
        sps.register("bob", &callee.uri("bob"), "1.0");
        let request = caller.request("MESSAGE", &sps.uri("bob"));
        let room = 65_507 - request.with_body("text/plain", "").bytes().len();
        let request = caller.request("MESSAGE", &sps.uri("bob"));
        let body: Vec<u8> = (0..room - 8).map(|at| b'a' + (at % 26) as u8).collect();
        let request = request.with_body("text/plain", body.clone());
        caller.send(sps.addr(), &request);
        let got = callee.expect_request("MESSAGE");
        assert!(
            got.message.body == body,
            "{} bytes of {}",
            got.message.body.len(),
            body.len()
        );
        callee.reply(&got, &got.message.response(200, "OK").to_tag("t"));
        assert_eq!(caller.final_response().status(), Some(200));
    });
}

fn open_streams(sps: &Instance) -> u64 {
    let blocks = sps.status()["counters"].clone();
    let blocks = blocks.as_object().expect("a block for each worker");
    blocks.values().filter_map(|block| block["streams_open"].as_u64()).sum()
}
