//! A toy name server on the loopback for tests, with failure modes that can be switched while it runs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, NAPTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Says what it knows and NXDOMAIN for the rest.
    Answer,
    /// SERVFAIL to everything.
    Fail,
    /// Hears and says nothing.
    Silent,
    /// Answers and is silent about one type.
    SilentAbout(RecordType),
    /// Answers and fails at one type.
    FailAt(RecordType),
}

#[derive(Clone)]
pub(super) struct Toy {
    pub(super) addr: SocketAddr,
    pub(super) mode: Rc<Cell<Mode>>,
    /// Questions heard.
    pub(super) heard: Rc<Cell<usize>>,
    /// What was asked, in order: `A gw.example.com.`
    pub(super) asked: Rc<RefCell<Vec<String>>>,
    /// Minimum of the zone's SOA in negative answers; none without.
    pub(super) negative_ttl: Rc<Cell<Option<u32>>>,
    zone: Rc<RefCell<HashMap<String, Vec<RData>>>>,
    ttl: u32,
}

impl Toy {
    /// Serves from a task of the current `LocalSet`.
    pub(super) async fn start() -> Toy {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let toy = Toy {
            addr: socket.local_addr().unwrap(),
            mode: Rc::new(Cell::new(Mode::Answer)),
            heard: Rc::default(),
            asked: Rc::default(),
            negative_ttl: Rc::default(),
            zone: Rc::default(),
            ttl: 60,
        };
        tokio::task::spawn_local(toy.clone().serve(socket));
        toy
    }

    pub(super) fn add(&self, name: &str, addresses: &[&str]) {
        for address in addresses {
            self.record(name, RData::from(address.parse::<IpAddr>().unwrap()));
        }
    }

    /// `10 5 5060 a.example.com`
    pub(super) fn srv(&self, name: &str, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap();
        let srv = SRV::new(number(0), number(1), number(2), absolute(words[3]));
        self.record(name, RData::SRV(srv));
    }

    /// `10 50 s SIP+D2U _sip._udp.example.com`
    pub(super) fn naptr(&self, name: &str, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        let bytes = |at: usize| words[at].as_bytes().into();
        let number = |at: usize| words[at].parse().unwrap();
        let naptr = NAPTR::new(
            number(0),
            number(1),
            bytes(2),
            bytes(3),
            Box::default(),
            absolute(words[4]),
        );
        self.record(name, RData::NAPTR(naptr));
    }

    pub(super) fn cname(&self, name: &str, to: &str) {
        self.record(name, RData::CNAME(CNAME(absolute(to))));
    }

    fn record(&self, name: &str, data: RData) {
        self.zone.borrow_mut().entry(format!("{name}.")).or_default().push(data);
    }

    async fn serve(self, socket: UdpSocket) {
        let mut buffer = [0; 1500];
        loop {
            let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
            self.heard.set(self.heard.get() + 1);
            if let Some(answer) = self.answer(&buffer[..len]) {
                socket.send_to(&answer, peer).await.unwrap();
            }
        }
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        let mut name = query.name().to_ascii().to_ascii_lowercase();
        let kind = query.query_type();
        self.asked.borrow_mut().push(format!("{kind} {name}"));
        let zone = self.zone.borrow();
        answer.metadata.response_code = match self.mode.get() {
            Mode::Silent => return None,
            Mode::SilentAbout(silent) if silent == kind => return None,
            Mode::Fail => ResponseCode::ServFail,
            Mode::FailAt(failing) if failing == kind => ResponseCode::ServFail,
            _ if !zone.contains_key(&name) => ResponseCode::NXDomain,
            _ => {
                // As a name server that recurses does: the chain of aliases, then what it leads to.
                while let Some([RData::CNAME(CNAME(to))]) = zone.get(&name).map(Vec::as_slice) {
                    let owner = Name::from_ascii(&name).unwrap();
                    answer.add_answer(Record::from_rdata(owner, self.ttl, RData::CNAME(CNAME(to.clone()))));
                    name = to.to_ascii().to_ascii_lowercase();
                }
                for data in zone.get(&name).into_iter().flatten() {
                    if data.record_type() == kind {
                        let owner = Name::from_ascii(&name).unwrap();
                        answer.add_answer(Record::from_rdata(owner, self.ttl, data.clone()));
                    }
                }
                ResponseCode::NoError
            }
        };
        if let Some(ttl) = self.negative_ttl.get()
            && answer.answers.is_empty()
        {
            let host = absolute("ns.example.com");
            let soa = SOA::new(host.clone(), host, 1, 1, 1, 1, ttl);
            answer.add_authority(Record::from_rdata(absolute("example.com"), ttl, RData::SOA(soa)));
        }
        answer.add_query(query);
        Some(answer.to_vec().unwrap())
    }
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}
