//! A scripted user agent server in a thread of its own: what it does with each message is a closure, what it saw can be
//! asked at any time.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::agent::{Agent, Received};
use crate::message::Message;
use crate::wait::wait_until;

/// A running server end.
pub struct Uas {
    addr: SocketAddr,
    uri: String,
    seen: Arc<Mutex<Vec<Message>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Uas {
    /// Runs `script` for each new message at `agent`; what it returns is sent back to where the message came from.
    pub fn scripted(mut agent: Agent, mut script: impl FnMut(&Message) -> Vec<Message> + Send + 'static) -> Uas {
        let (addr, uri) = (agent.addr(), agent.uri("uas"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (journal, stopped) = (seen.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(Received { message, peer, .. }) = agent.try_receive(Duration::from_millis(50)) else {
                    continue;
                };
                journal.lock().expect("no holder panics").push(message.clone());
                for response in script(&message) {
                    agent.send(peer, &response);
                }
            }
        });
        Uas {
            addr,
            uri,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// Rings, answers, and says 200 to everything else that is a request.
    pub fn answering(ip: IpAddr) -> Uas {
        Uas::answering_as(Agent::udp(ip), "callee")
    }

    /// The same at a given end, with a given To tag.
    pub fn answering_as(agent: Agent, tag: &str) -> Uas {
        let (contact, tag) = (format!("<{}>", agent.uri("uas")), tag.to_owned());
        Uas::scripted(agent, move |message| match message.method() {
            Some("INVITE") => vec![
                message
                    .response(180, "Ringing")
                    .to_tag(&tag)
                    .with("Contact", contact.clone()),
                message
                    .response(200, "OK")
                    .to_tag(&tag)
                    .with("Contact", contact.clone())
                    .with_body("application/sdp", crate::call::SDP),
            ],
            Some("ACK") | None => Vec::new(),
            Some(_) => vec![
                message
                    .response(200, "OK")
                    .to_tag(&tag)
                    .with("Contact", contact.clone()),
            ],
        })
    }

    /// Refuses every request with this status.
    pub fn refusing(ip: IpAddr, status: u16, reason: &str) -> Uas {
        Uas::refusing_as(Agent::udp(ip), status, reason)
    }

    /// The same at a given end.
    pub fn refusing_as(agent: Agent, status: u16, reason: &str) -> Uas {
        let reason = reason.to_owned();
        Uas::scripted(agent, move |message| match message.method() {
            Some("ACK") | None => Vec::new(),
            Some(_) => vec![message.response(status, &reason).to_tag("refused")],
        })
    }

    /// Rings and never answers; a CANCEL gets 200, its INVITE 487.
    pub fn ringing(ip: IpAddr) -> Uas {
        Uas::ringing_as(Agent::udp(ip))
    }

    /// The same at a given end.
    pub fn ringing_as(agent: Agent) -> Uas {
        let mut ringing: Option<Message> = None;
        Uas::scripted(agent, move |message| match message.method() {
            Some("INVITE") => {
                ringing = Some(message.clone());
                vec![message.response(180, "Ringing").to_tag("rings")]
            }
            Some("CANCEL") => {
                let mut both = vec![message.response(200, "OK").to_tag("rings")];
                both.extend(
                    ringing
                        .take()
                        .map(|invite| invite.response(487, "Request Terminated").to_tag("rings")),
                );
                both
            }
            _ => Vec::new(),
        })
    }

    /// Takes everything and says nothing.
    pub fn silent(ip: IpAddr) -> Uas {
        Uas::scripted(Agent::udp(ip), |_| Vec::new())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A URI that reaches it, as its Contact says.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// All messages so far, repetitions left out.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().expect("no holder panics").clone()
    }

    /// All requests so far with this method.
    pub fn requests(&self, method: &str) -> Vec<Message> {
        self.seen()
            .into_iter()
            .filter(|message| message.method() == Some(method))
            .collect()
    }

    /// Waits until this many requests with this method have come, and gives the last.
    pub fn wait_for(&self, method: &str, count: usize) -> Message {
        wait_until(&format!("{count} {method} reached {}", self.addr), || {
            self.requests(method).len() >= count
        });
        self.requests(method).swap_remove(count - 1)
    }
}

impl Drop for Uas {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the server end at {} panicked", self.addr);
        }
    }
}
