//! A SIP end of the tests: a UDP or TCP socket that sends what it is told and hands over what comes, one message at a
//! time. It retransmits nothing and answers nothing by itself.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::message::Message;
use crate::random::Random;
use crate::tls::TlsEnd;
use crate::wait::PATIENCE;

/// A message with where it came from.
#[derive(Debug, Clone)]
pub struct Received {
    /// What came.
    pub message: Message,
    /// Exactly as it came.
    pub bytes: Vec<u8>,
    /// The other end of the datagram or connection.
    pub peer: SocketAddr,
}

/// One SIP end.
pub struct Agent {
    wire: Wire,
    local: SocketAddr,
    seen: HashSet<Vec<u8>>,
    /// Datagrams that repeated an earlier one byte for byte and were therefore not handed over.
    pub repeats: usize,
    random: Random,
}

enum Wire {
    Udp(UdpSocket),
    Tcp(Tcp),
    Tls(crate::tls::Wire, Receiver<(Vec<u8>, SocketAddr)>),
}

struct Tcp {
    incoming: Receiver<(Vec<u8>, SocketAddr)>,
    outgoing: Sender<(Vec<u8>, SocketAddr)>,
    connections: Arc<Mutex<Vec<(SocketAddr, TcpStream)>>>,
}

impl Agent {
    /// An end on a free UDP port of `ip`.
    pub fn udp(ip: IpAddr) -> Agent {
        Agent::udp_at(SocketAddr::new(ip, 0))
    }

    /// An end on this UDP address.
    pub fn udp_at(addr: SocketAddr) -> Agent {
        let socket = UdpSocket::bind(addr).unwrap_or_else(|error| panic!("bind {addr}: {error}"));
        let local = socket.local_addr().expect("a bound socket has an address");
        Agent::of(Wire::Udp(socket), local)
    }

    /// An end that listens on a free TCP port of `ip` and connects from others.
    pub fn tcp(ip: IpAddr) -> Agent {
        Agent::tcp_at(SocketAddr::new(ip, 0))
    }

    /// An end that listens on this TCP address and connects from others.
    pub fn tcp_at(addr: SocketAddr) -> Agent {
        let listener = TcpListener::bind(addr).unwrap_or_else(|error| panic!("bind {addr}: {error}"));
        let local = listener.local_addr().expect("a bound socket has an address");
        let (outgoing, incoming) = channel();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (doorway, known) = (outgoing.clone(), connections.clone());
        // Ends with the test program: nobody connects to a dropped end, and a blocked accept costs nothing.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                adopt(stream, &doorway, &known);
            }
        });
        Agent::of(
            Wire::Tcp(Tcp {
                incoming,
                outgoing,
                connections,
            }),
            local,
        )
    }

    /// An end that listens for TLS on a free port of `ip` and connects by TLS from others.
    pub fn tls(ip: IpAddr, end: TlsEnd) -> Agent {
        let (pieces, arrived) = channel::<(Vec<u8>, SocketAddr)>();
        let (outgoing, incoming) = channel();
        let (wire, local) = crate::tls::Wire::new(ip, end, pieces);
        thread::spawn(move || {
            let mut unread: HashMap<SocketAddr, Vec<u8>> = HashMap::new();
            while let Ok((piece, peer)) = arrived.recv() {
                let unread = unread.entry(peer).or_default();
                unread.extend_from_slice(&piece);
                while let Some(len) = framed(unread) {
                    let message: Vec<u8> = unread.drain(..len).collect();
                    if outgoing.send((message, peer)).is_err() {
                        return;
                    }
                }
            }
        });
        Agent::of(Wire::Tls(wire, incoming), local)
    }

    fn of(wire: Wire, local: SocketAddr) -> Agent {
        Agent {
            wire,
            local,
            seen: HashSet::new(),
            repeats: 0,
            random: Random::fresh(),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.local
    }

    /// `UDP` or `TCP`, as Via says it.
    pub fn transport(&self) -> &'static str {
        match self.wire {
            Wire::Udp(_) => "UDP",
            Wire::Tcp(_) => "TCP",
            Wire::Tls(..) => "TLS",
        }
    }

    /// A URI that reaches this end.
    pub fn uri(&self, user: &str) -> String {
        match self.wire {
            Wire::Udp(_) => format!("sip:{user}@{}", self.local),
            Wire::Tcp(_) => format!("sip:{user}@{};transport=tcp", self.local),
            Wire::Tls(..) => format!("sip:{user}@{};transport=tls", self.local),
        }
    }

    /// A new token for Call-IDs, tags and branches.
    pub fn token(&mut self) -> String {
        self.random.token()
    }

    /// A Via of this end with a new branch.
    pub fn via(&mut self) -> String {
        format!(
            "SIP/2.0/{} {};branch=z9hG4bK{}",
            self.transport(),
            self.local,
            self.random.token()
        )
    }

    /// A complete request outside of dialogs from `sip:tester@sps.test`.
    pub fn request(&mut self, method: &str, uri: &str) -> Message {
        let (via, tag, call_id) = (self.via(), self.token(), self.token());
        Message::request(method, uri)
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:tester@sps.test>;tag={tag}"))
            .with("To", format!("<{uri}>"))
            .with("Call-ID", format!("{call_id}@tests"))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<{}>", self.uri("tester")))
    }

    /// Sends a message.
    pub fn send(&mut self, to: SocketAddr, message: &Message) {
        self.send_bytes(to, &message.bytes());
    }

    /// Sends bytes, whatever they are; over TCP by the connection there is, else by a new one.
    pub fn send_bytes(&mut self, to: SocketAddr, bytes: &[u8]) {
        match &self.wire {
            Wire::Udp(socket) => {
                socket
                    .send_to(bytes, to)
                    .unwrap_or_else(|error| panic!("send to {to}: {error}"));
            }
            Wire::Tcp(tcp) => tcp.send(to, bytes),
            Wire::Tls(wire, _) => wire.send(to, bytes),
        }
    }

    /// Answers a request the way it came (RFC 3581, RFC 3261 §18.2.2).
    pub fn reply(&mut self, request: &Received, response: &Message) {
        self.send(request.peer, response);
    }

    /// The next message that is not a repetition; `None` when none comes within `limit`.
    pub fn try_receive(&mut self, limit: Duration) -> Option<Received> {
        let give_up_at = Instant::now() + limit;
        loop {
            let left = give_up_at.saturating_duration_since(Instant::now());
            let (bytes, peer) = match &self.wire {
                Wire::Udp(socket) => receive_udp(socket, left)?,
                Wire::Tcp(Tcp { incoming, .. }) | Wire::Tls(_, incoming) => match incoming.recv_timeout(left) {
                    Ok(next) => next,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                },
            };
            if !self.seen.insert(bytes.clone()) {
                self.repeats += 1;
                continue;
            }
            let message = Message::parse(&bytes)
                .unwrap_or_else(|| panic!("not SIP from {peer}: {:?}", String::from_utf8_lossy(&bytes)));
            return Some(Received { message, bytes, peer });
        }
    }

    /// The next message; fails the test when none comes.
    #[track_caller]
    pub fn receive(&mut self) -> Received {
        let local = self.local;
        self.try_receive(PATIENCE)
            .unwrap_or_else(|| panic!("nothing came to {local} within {PATIENCE:?}"))
    }

    /// The next message, which must be a request with this method.
    #[track_caller]
    pub fn expect_request(&mut self, method: &str) -> Received {
        let received = self.receive();
        assert_eq!(
            received.message.method(),
            Some(method),
            "instead came\n{}",
            received.message
        );
        received
    }

    /// The next message, which must be a response with this status.
    #[track_caller]
    pub fn expect_status(&mut self, status: u16) -> Message {
        let message = self.receive().message;
        assert_eq!(message.status(), Some(status), "instead came\n{message}");
        message
    }

    /// The next final response; 1xx before it are passed over.
    #[track_caller]
    pub fn final_response(&mut self) -> Message {
        loop {
            let message = self.receive().message;
            match message.status() {
                Some(100..200) => {}
                Some(_) => return message,
                None => panic!("instead of a response came\n{message}"),
            }
        }
    }

    /// Sends a request and gives back its final response.
    #[track_caller]
    pub fn ask(&mut self, to: SocketAddr, request: &Message) -> Message {
        self.send(to, request);
        self.final_response()
    }

    /// Whether `addr`'s end of a TCP connection of ours has been closed by the other side within [`PATIENCE`].
    pub fn wait_closed(&self, addr: SocketAddr) {
        crate::wait::wait_until(&format!("{addr} has closed the connection"), || match &self.wire {
            Wire::Udp(_) => true,
            Wire::Tcp(tcp) => tcp.stream(addr).is_none(),
            Wire::Tls(wire, _) => !wire.has(addr),
        });
    }

    /// The other ends of the TLS connections that stand.
    pub fn tls_peers(&self) -> Vec<SocketAddr> {
        match &self.wire {
            Wire::Tls(wire, _) => wire.peers(),
            Wire::Udp(_) | Wire::Tcp(_) => Vec::new(),
        }
    }
}

impl Tcp {
    fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let known = self.stream(to);
        let mut stream = known.unwrap_or_else(|| {
            let stream =
                TcpStream::connect_timeout(&to, PATIENCE).unwrap_or_else(|error| panic!("connect {to}: {error}"));
            adopt(
                stream.try_clone().expect("a stream can be doubled"),
                &self.outgoing,
                &self.connections,
            );
            stream
        });
        stream
            .write_all(bytes)
            .unwrap_or_else(|error| panic!("send to {to}: {error}"));
    }

    fn stream(&self, peer: SocketAddr) -> Option<TcpStream> {
        let connections = self.connections.lock().expect("no holder panics");
        connections
            .iter()
            .find(|(known, _)| *known == peer)
            .map(|(_, stream)| stream.try_clone().expect("can be doubled"))
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        for (_, stream) in self.connections.lock().expect("no holder panics").drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn receive_udp(socket: &UdpSocket, limit: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65_536];
    socket
        .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
        .expect("a timeout can be set");
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, peer)) => {
                buffer.truncate(len);
                return Some((buffer, peer));
            }
            // An ICMP error for something sent earlier.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}

type Connections = Arc<Mutex<Vec<(SocketAddr, TcpStream)>>>;

/// Reads a connection in a thread of its own until its end.
fn adopt(mut stream: TcpStream, messages: &Sender<(Vec<u8>, SocketAddr)>, connections: &Connections) {
    let Ok(peer) = stream.peer_addr() else { return };
    let double = stream.try_clone().expect("a stream can be doubled");
    connections.lock().expect("no holder panics").push((peer, double));
    let (messages, connections) = (messages.clone(), connections.clone());
    thread::spawn(move || {
        let mut unread = Vec::new();
        let mut buffer = [0; 16_384];
        while let Ok(len) = stream.read(&mut buffer) {
            if len == 0 {
                break;
            }
            unread.extend_from_slice(&buffer[..len]);
            while let Some(len) = framed(&mut unread) {
                let message: Vec<u8> = unread.drain(..len).collect();
                if messages.send((message, peer)).is_err() {
                    return;
                }
            }
        }
        connections
            .lock()
            .expect("no holder panics")
            .retain(|(known, _)| *known != peer);
    });
}

/// Length of the first whole message (RFC 3261 §18.3); line ends between messages are dropped.
fn framed(unread: &mut Vec<u8>) -> Option<usize> {
    let blank = unread.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    unread.drain(..blank);
    let head_len = unread.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let message = Message::parse(&unread[..head_len])?;
    let body_len: usize = message
        .header("Content-Length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    (unread.len() >= head_len + body_len).then_some(head_len + body_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::V4;

    #[test]
    fn two_ends_talk_over_udp_and_repeats_are_counted_not_delivered() {
        let (mut a, mut b) = (Agent::udp(V4), Agent::udp(V4));
        let request = a.request("OPTIONS", &b.uri("b"));
        a.send(b.addr(), &request);
        a.send(b.addr(), &request);
        let other = a.request("INFO", &b.uri("b"));
        a.send(b.addr(), &other);
        let got = b.expect_request("OPTIONS");
        b.reply(&got, &got.message.response(200, "OK").to_tag("t"));
        b.expect_request("INFO");
        assert_eq!(b.repeats, 1);
        assert_eq!(a.expect_status(200).to_tag_value().as_deref(), Some("t"));
    }

    #[test]
    fn two_ends_talk_over_tcp_and_messages_are_framed() {
        let (mut a, mut b) = (Agent::tcp(V4), Agent::tcp(V4));
        let (one, two) = (
            a.request("INFO", &b.uri("b")).with_body("text/plain", "body"),
            a.request("OPTIONS", &b.uri("b")),
        );
        let both = [b"\r\n\r\n".as_slice(), &one.bytes(), &two.bytes()].concat();
        let (first, second) = both.split_at(70);
        a.send_bytes(b.addr(), first);
        a.send_bytes(b.addr(), second);
        let got = b.expect_request("INFO");
        assert_eq!(got.message.body, b"body");
        b.reply(&got, &got.message.response(200, "OK"));
        b.expect_request("OPTIONS");
        a.expect_status(200);
    }
}
