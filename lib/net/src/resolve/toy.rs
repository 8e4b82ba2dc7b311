//! A toy name server on the loopback for tests, with failure modes that can be switched while it runs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
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
    /// Answers A and is silent about AAAA.
    SilentAboutV6,
}

#[derive(Clone)]
pub(super) struct Toy {
    pub(super) addr: SocketAddr,
    pub(super) mode: Rc<Cell<Mode>>,
    /// Questions heard.
    pub(super) heard: Rc<Cell<usize>>,
    zone: Rc<RefCell<HashMap<String, Vec<IpAddr>>>>,
}

impl Toy {
    /// Serves from a task of the current `LocalSet`.
    pub(super) async fn start() -> Toy {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let toy = Toy {
            addr: socket.local_addr().unwrap(),
            mode: Rc::new(Cell::new(Mode::Answer)),
            heard: Rc::default(),
            zone: Rc::default(),
        };
        tokio::task::spawn_local(toy.clone().serve(socket));
        toy
    }

    pub(super) fn add(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.zone.borrow_mut().insert(format!("{name}."), addresses);
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
        let zone = self.zone.borrow();
        let known = zone.get(&query.name().to_ascii().to_ascii_lowercase());
        answer.metadata.response_code = match (self.mode.get(), known) {
            (Mode::Silent, _) => return None,
            (Mode::SilentAboutV6, _) if query.query_type() == RecordType::AAAA => return None,
            (Mode::Fail, _) => ResponseCode::ServFail,
            (_, None) => ResponseCode::NXDomain,
            (_, Some(addresses)) => {
                for address in addresses {
                    let data = RData::from(*address);
                    if data.record_type() == query.query_type() {
                        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                    }
                }
                ResponseCode::NoError
            }
        };
        answer.add_query(query);
        Some(answer.to_vec().unwrap())
    }
}
