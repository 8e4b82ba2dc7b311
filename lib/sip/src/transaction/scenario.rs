//! Two ends, client and server machine with their users, over a lossy wire, with a clock moved by hand and losses from
//! a seed. What one machine's table cannot show: that the two together always come to an end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::table::CONF;
use super::{Action, InviteClient, InviteServer, NonInviteClient, NonInviteServer, State};

/// xorshift64*; enough to lose datagrams by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn percent(&mut self) -> u64 {
        (self.roll() >> 33) % 100
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packet {
    Request,
    Response(u16),
    /// The ACK of the INVITE client machine, for a response ≥ 300.
    Ack,
    /// The ACK of the caller's user for a 2xx; end to end, but here it meets the same server machine.
    AckOf2xx,
}

/// A wire that loses, delays and thereby reorders.
struct Wire {
    dice: Dice,
    loss_percent: u64,
    /// Sorted by time of arrival.
    flying: VecDeque<(Instant, Packet)>,
}

impl Wire {
    fn new(seed: u64, loss_percent: u64) -> Wire {
        Wire {
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            loss_percent,
            flying: VecDeque::new(),
        }
    }

    fn send(&mut self, now: Instant, packet: Packet) {
        if self.dice.percent() >= self.loss_percent {
            let at = now + Duration::from_millis(5 + self.dice.percent() * 2);
            let place = self.flying.partition_point(|(other, _)| *other <= at);
            self.flying.insert(place, (at, packet));
        }
    }

    fn arrival(&self) -> Option<Instant> {
        self.flying.front().map(|(at, _)| *at)
    }

    fn take_arrived(&mut self, now: Instant) -> Option<Packet> {
        self.arrival().filter(|at| *at <= now)?;
        self.flying.pop_front().map(|(_, packet)| packet)
    }
}

/// The machine pairs, so that one scenario drives both.
enum Client {
    Invite(InviteClient<Packet>),
    Other(NonInviteClient<Packet>),
}

enum Server {
    Invite(InviteServer<Packet>),
    Other(NonInviteServer<Packet>),
}

impl Client {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Client::Invite(machine) => machine.deadline(),
            Client::Other(machine) => machine.deadline(),
        }
    }

    fn state(&self) -> State {
        match self {
            Client::Invite(machine) => machine.state(),
            Client::Other(machine) => machine.state(),
        }
    }
}

impl Server {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Server::Invite(machine) => machine.deadline(),
            Server::Other(machine) => machine.deadline(),
        }
    }

    fn state(&self) -> State {
        match self {
            Server::Invite(machine) => machine.state(),
            Server::Other(machine) => machine.state(),
        }
    }
}

/// What the two users saw.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Final responses the caller was told of, repetitions of a 2xx left out.
    finals: Vec<u16>,
    client_timeouts: u32,
    /// Times the callee was shown the request: a server machine was made.
    requests: u32,
    server_timeouts: u32,
    /// The callee's 2xx was acknowledged.
    acknowledged: bool,
    requests_sent: u32,
    acks_sent: u32,
}

struct Play {
    now: Instant,
    wire_up: Wire,
    wire_down: Wire,
    client: Client,
    server: Option<Server>,
    client_done: bool,
    server_done: bool,
    /// What the callee will say, and when.
    script: VecDeque<(Instant, u16)>,
    /// The callee repeats its 2xx until the ACK (§13.3.1.4): when next, and the wait that led there.
    repeat: Option<(Instant, Duration, u16)>,
    seen: Seen,
}

impl Play {
    fn deadline(&self) -> Option<Instant> {
        [
            self.client.deadline(),
            self.server.as_ref().and_then(Server::deadline),
            self.wire_up.arrival(),
            self.wire_down.arrival(),
            self.server.as_ref().and(self.script.front().map(|(at, _)| *at)),
            self.repeat.map(|(at, ..)| at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn do_client(&mut self, fed: Option<u16>, todo: Vec<Action<Packet>>) {
        for action in todo {
            assert!(!self.client_done, "something after the end");
            match action {
                Action::Transmit(packet) => {
                    match packet {
                        Packet::Ack => self.seen.acks_sent += 1,
                        _ => self.seen.requests_sent += 1,
                    }
                    self.wire_up.send(self.now, packet);
                }
                Action::Deliver => {
                    let status = fed.expect("only a response is delivered");
                    if status >= 200 && !(status < 300 && self.seen.finals.contains(&status)) {
                        self.seen.finals.push(status);
                    }
                    if matches!(self.client, Client::Invite(_)) && (200..300).contains(&status) {
                        self.wire_up.send(self.now, Packet::AckOf2xx);
                    }
                }
                Action::Timeout => self.seen.client_timeouts += 1,
                Action::TransportFailed => panic!("no transport fails here"),
                Action::Terminated => self.client_done = true,
            }
        }
        assert_eq!(self.client.state() == State::Terminated, self.client_done);
        assert!(
            !self.client_done || self.client.deadline().is_none(),
            "a timer outlives the machine"
        );
    }

    fn do_server(&mut self, todo: Vec<Action<Packet>>) {
        for action in todo {
            assert!(!self.server_done, "something after the end");
            match action {
                Action::Transmit(packet) => self.wire_down.send(self.now, packet),
                Action::Deliver => self.acknowledge(),
                Action::Timeout => self.seen.server_timeouts += 1,
                Action::TransportFailed => panic!("no transport fails here"),
                Action::Terminated => self.server_done = true,
            }
        }
        let server = self.server.as_ref().expect("it acted");
        assert_eq!(server.state() == State::Terminated, self.server_done);
        assert!(
            !self.server_done || server.deadline().is_none(),
            "a timer outlives the machine"
        );
    }

    fn acknowledge(&mut self) {
        self.seen.acknowledged = true;
        self.repeat = None;
    }

    fn at_client(&mut self, packet: Packet) {
        let Packet::Response(status) = packet else {
            panic!("{packet:?} to the client")
        };
        let mut todo = Vec::new();
        match &mut self.client {
            Client::Invite(machine) => {
                let ack = |request: &Packet| {
                    assert_eq!(*request, Packet::Request);
                    Packet::Ack
                };
                machine.on_response(self.now, status, ack, &CONF, &mut todo);
            }
            Client::Other(machine) => machine.on_response(self.now, status, &CONF, &mut todo),
        }
        self.do_client(Some(status), todo);
    }

    fn at_server(&mut self, packet: Packet) {
        let mut todo = Vec::new();
        match (&mut self.server, packet) {
            (None, Packet::Request) => {
                self.seen.requests += 1;
                match self.client {
                    Client::Invite(_) => {
                        let mut machine = InviteServer::start(false);
                        machine.respond(self.now, 100, Packet::Response(100), &CONF, &mut todo);
                        self.server = Some(Server::Invite(machine));
                    }
                    Client::Other(_) => self.server = Some(Server::Other(NonInviteServer::start(false))),
                }
            }
            (Some(Server::Invite(machine)), Packet::Request) => machine.on_retransmission(&mut todo),
            (Some(Server::Other(machine)), Packet::Request) => machine.on_retransmission(&mut todo),
            (Some(Server::Invite(machine)), Packet::Ack | Packet::AckOf2xx) => {
                machine.on_ack(self.now, &CONF, &mut todo);
                if packet == Packet::AckOf2xx && machine.is_terminated() {
                    self.acknowledge(); // by a later dialog route; the machine had ended
                }
            }
            (_, packet) => panic!("{packet:?} to the server"),
        }
        self.do_server(todo);
    }

    fn respond(&mut self, status: u16) {
        let mut todo = Vec::new();
        let response = Packet::Response(status);
        match self.server.as_mut().expect("the script waits for the request") {
            Server::Invite(machine) => machine.respond(self.now, status, response, &CONF, &mut todo),
            Server::Other(machine) => machine.respond(self.now, status, response, &CONF, &mut todo),
        };
        self.do_server(todo);
    }

    /// The callee's user: its script, and its 2xx once more while nobody acknowledges it.
    fn act_callee(&mut self) {
        if self.server.is_none() {
            return;
        }
        while let Some((_, status)) = self.script.front().copied().filter(|(at, _)| *at <= self.now) {
            self.script.pop_front();
            self.respond(status);
            if matches!(self.server, Some(Server::Invite(_))) && (200..300).contains(&status) && !self.seen.acknowledged
            {
                self.repeat = Some((self.now + CONF.t1, CONF.t1, status));
            }
        }
        if let Some((at, wait, status)) = self.repeat
            && at <= self.now
        {
            self.respond(status);
            let wait = CONF.t2.min(wait * 2);
            self.repeat = (!self.server_done).then(|| (self.now + wait, wait, status));
        }
    }

    fn act_machines(&mut self) {
        let mut todo = Vec::new();
        match &mut self.client {
            Client::Invite(machine) => machine.on_deadline(self.now, &CONF, &mut todo),
            Client::Other(machine) => machine.on_deadline(self.now, &CONF, &mut todo),
        }
        self.do_client(None, todo);
        let mut todo = Vec::new();
        match &mut self.server {
            Some(Server::Invite(machine)) => machine.on_deadline(self.now, &CONF, &mut todo),
            Some(Server::Other(machine)) => machine.on_deadline(self.now, &CONF, &mut todo),
            None => return,
        }
        self.do_server(todo);
    }
}

/// Runs one transaction to its end. `script` is what the callee says, in milliseconds after the caller began.
fn play(invite: bool, script: &[(u64, u16)], loss_percent: u64, seed: u64) -> Seen {
    let begin = Instant::now();
    let mut todo = Vec::new();
    let client = if invite {
        Client::Invite(InviteClient::start(begin, Packet::Request, false, &CONF, &mut todo))
    } else {
        Client::Other(NonInviteClient::start(begin, Packet::Request, false, &CONF, &mut todo))
    };
    let mut play = Play {
        now: begin,
        wire_up: Wire::new(seed * 2 + 1, loss_percent),
        wire_down: Wire::new(seed * 2 + 2, loss_percent),
        client,
        server: None,
        client_done: false,
        server_done: false,
        script: script
            .iter()
            .map(|&(ms, status)| (begin + Duration::from_millis(ms), status))
            .collect(),
        repeat: None,
        seen: Seen::default(),
    };
    play.do_client(None, todo);
    while let Some(at) = play.deadline() {
        play.now = play.now.max(at);
        assert!(play.now - begin < Duration::from_secs(200), "no end: {:?}", play.seen);
        while let Some(packet) = play.wire_down.take_arrived(play.now) {
            play.at_client(packet);
        }
        while let Some(packet) = play.wire_up.take_arrived(play.now) {
            play.at_server(packet);
        }
        play.act_callee();
        play.act_machines();
        assert!(
            play.deadline().is_none_or(|next| next > play.now),
            "something due was left undone"
        );
    }
    // A caller that rings without a final response waits for Timer C, which is not the machine's.
    assert!(
        play.client_done || play.client.state() == State::Proceeding,
        "{:?}",
        play.seen
    );
    assert!(play.server_done || play.server.is_none(), "{:?}", play.seen);
    play.seen
}

const SEEDS: std::ops::Range<u64> = 0..400;

/// Counts the seeds that ended as `wanted` says; all of them end, `play` sees to that.
fn count(invite: bool, script: &[(u64, u16)], loss_percent: u64, wanted: impl FnMut(&Seen) -> bool) -> usize {
    SEEDS
        .map(|seed| play(invite, script, loss_percent, seed))
        .filter(wanted)
        .count()
}

#[test]
fn without_loss_each_message_goes_once() {
    let seen = play(true, &[(50, 180), (400, 486)], 0, 1);
    let wanted = Seen {
        finals: vec![486],
        requests: 1,
        requests_sent: 1,
        acks_sent: 1,
        ..Seen::default()
    };
    assert_eq!(seen, wanted);
    let seen = play(false, &[(100, 200)], 0, 1);
    assert_eq!(
        seen,
        Seen {
            finals: vec![200],
            requests: 1,
            requests_sent: 1,
            ..Seen::default()
        }
    );
    let seen = play(true, &[(50, 180), (400, 200)], 0, 1);
    let wanted = Seen {
        finals: vec![200],
        requests: 1,
        requests_sent: 1,
        acknowledged: true,
        ..Seen::default()
    };
    assert_eq!(seen, wanted);
}

/// §17.1.1.2, §17.2.1: with 30 % lost in both directions a refused INVITE reaches its caller and its ACK the callee.
#[test]
fn a_refused_invite_ends_on_a_lossy_wire() {
    let mut repeated_acks = 0;
    let good = count(true, &[(50, 180), (2_000, 486)], 30, |seen| {
        assert!(seen.requests <= 1, "one INVITE a call at the callee");
        assert!(seen.finals.len() <= 1, "the caller is told once");
        repeated_acks += (seen.acks_sent > 1) as u32;
        seen.finals == [486] && seen.server_timeouts == 0
    });
    assert!(good >= 398, "{good} of {}", SEEDS.end);
    assert!(repeated_acks > 50, "lost ACKs are repeated: {repeated_acks}");
}

/// RFC 6026: an accepted INVITE is acknowledged although 2xx and ACK are lost, and no machine repeats a 2xx itself.
#[test]
fn an_accepted_invite_is_acknowledged_on_a_lossy_wire() {
    let good = count(true, &[(50, 180), (3_000, 200)], 30, |seen| {
        assert!(seen.requests <= 1, "one INVITE a call at the callee");
        assert_eq!(seen.acks_sent, 0, "the ACK of a 2xx is the user's");
        seen.finals == [200] && seen.acknowledged
    });
    assert!(good >= 398, "{good} of {}", SEEDS.end);
}

/// Two forks answer: both 2xx go up, to be acknowledged and hung up by the caller.
#[test]
fn two_answers_both_reach_the_caller() {
    let good = count(true, &[(100, 200), (140, 202)], 0, |seen| {
        let mut finals = seen.finals.clone();
        finals.sort();
        finals == [200, 202]
    });
    assert_eq!(good, SEEDS.count());
}

#[test]
fn a_request_other_than_invite_ends_on_a_lossy_wire() {
    let good = count(false, &[(300, 200)], 30, |seen| {
        assert!(seen.requests <= 1, "one request at the callee");
        seen.finals == [200]
    });
    assert!(good >= 398, "{good} of {}", SEEDS.end);
    // RFC 4320 §4.1: a 100 late in the transaction slows retransmission down and changes nothing else.
    let good = count(false, &[(3_500, 100), (5_000, 404)], 30, |seen| seen.finals == [404]);
    assert!(good >= 396, "{good} of {}", SEEDS.end);
}

/// At 60 % loss calls are lost, but the two machines still end, and each caller is told exactly one thing.
#[test]
fn every_transaction_ends_however_bad_the_wire() {
    for invite in [true, false] {
        for loss in [60, 90, 100] {
            count(invite, &[(10, 180), (700, 503)], loss, |seen| {
                let rings_for_ever = invite && seen.finals.is_empty() && seen.client_timeouts == 0;
                assert!(
                    rings_for_ever || seen.finals.len() as u32 + seen.client_timeouts == 1,
                    "{seen:?}"
                );
                true
            });
        }
    }
    assert_eq!(
        count(true, &[], 100, |seen| seen.client_timeouts == 1
            && seen.requests_sent == 7),
        SEEDS.count()
    );
    assert_eq!(
        count(false, &[], 100, |seen| seen.client_timeouts == 1
            && seen.requests_sent == 11),
        SEEDS.count()
    );
}
