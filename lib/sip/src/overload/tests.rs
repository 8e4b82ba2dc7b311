//! The controller in front of a simulated worker: one queue with room for so many messages, one server that may stand still
//! for part of each period, calls that bring further messages later. Times are in microseconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Invite(Standing),
    /// One that was dropped comes again, for the so-manieth time.
    Again(Standing, u8),
    /// Responses, ACK, BYE of calls that were let in.
    Later,
    /// The ACK of a refusal.
    RefusalAck,
}

/// A worker, the load on it, and what came of it.
struct World {
    /// Of each period of 100 ms the server runs for so long.
    runs_us: u64,
    room: usize,
    refusal_us: u64,
    hold_us: u64,
    controller: Controller,
    start: Instant,
    now: u64,
    arrivals: BinaryHeap<Reverse<(u64, u64, Kind)>>,
    serial: u64,
    queue: std::collections::VecDeque<(u64, Kind)>,
    admitted: Vec<u64>,
    refused: [u64; 3],
    /// After the first three seconds.
    lost_later: u64,
    waits: Vec<(u64, u64)>,
    shares: Vec<(u64, f64)>,
    turns: Vec<Turn>,
    /// Where the senders hold back what they are asked to: what they were told, and when.
    told: Option<Vec<(u64, f64)>>,
    random: u64,
}

const SECOND: u64 = 1_000_000;
/// A slow machine, so that there is less to simulate. What one call costs in all: an INVITE and four more messages.
const INVITE_US: u64 = 64;
const LATER_US: u64 = 32;
const CALL_US: u64 = INVITE_US + 4 * LATER_US;

impl World {
    fn new() -> World {
        let start = Instant::now();
        World {
            runs_us: 100_000,
            room: 3_500,
            refusal_us: 16,
            hold_us: SECOND,
            controller: Controller::new(OverloadConf::default(), start),
            start,
            now: 0,
            arrivals: BinaryHeap::new(),
            serial: 0,
            queue: std::collections::VecDeque::new(),
            admitted: Vec::new(),
            refused: [0; 3],
            lost_later: 0,
            waits: Vec::new(),
            shares: Vec::new(),
            turns: Vec::new(),
            told: None,
            random: 1,
        }
    }

    /// A quarter of a processor.
    fn held() -> World {
        World {
            runs_us: 25_000,
            ..World::new()
        }
    }

    fn capacity(&self) -> f64 {
        self.runs_us as f64 * 10.0 / CALL_US as f64
    }

    fn push(&mut self, at: u64, kind: Kind) {
        self.serial += 1;
        self.arrivals.push(Reverse((at, self.serial, kind)));
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random
    }

    /// New calls of one standing, `rate` a second from `from` to `to`, at random distances.
    fn offer(&mut self, rate: f64, from: u64, to: u64, standing: Standing) {
        let mut at = from as f64;
        while at < to as f64 {
            self.push(at as u64, Kind::Invite(standing));
            let uniform = ((self.random() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
            at += -uniform.ln() * 1e6 / rate;
        }
    }

    fn run(&mut self, until: u64) {
        while self.now < until {
            let phase = self.now % 100_000;
            if phase >= self.runs_us {
                self.now += 100_000 - phase;
            }
            while let Some(Reverse((at, _, kind))) = self.arrivals.peek().copied()
                && at <= self.now
            {
                self.arrivals.pop();
                if matches!(kind, Kind::Invite(_)) && self.is_held_back(at) {
                    continue;
                }
                if self.queue.len() < self.room {
                    self.queue.push_back((at, kind));
                } else {
                    self.controller.lost(1);
                    self.lost_later += u64::from(kind == Kind::Later && self.now > 3 * SECOND);
                }
            }
            if let (_, Some(turn)) = self.controller.advance(self.start + Duration::from_micros(self.now)) {
                self.turns.push(turn);
            }
            self.shares.push((self.now, self.controller.share(Standing::Ordinary)));
            match self.queue.pop_front() {
                Some((at, kind)) => self.serve(at, kind),
                None => {
                    let next = self.arrivals.peek().map_or(until, |Reverse((at, ..))| *at);
                    self.now = next.clamp(self.now + 1, self.now + 10_000);
                }
            }
        }
    }

    /// Whether its sender keeps a request to himself (RFC 7339 §5.5), by the last word that has reached him.
    fn is_held_back(&mut self, at: u64) -> bool {
        let draw = (self.random() >> 11) as f64 / (1u64 << 53) as f64;
        let Some(told) = &self.told else { return false };
        let known = told.partition_point(|(when, _)| *when <= at);
        // A word is in force for a second.
        match known.checked_sub(1).map(|last| told[last]) {
            // Percents and shares of a mix are rough: what is nearly all is taken for all.
            Some((when, held_back)) if at - when < SECOND => draw < held_back || held_back > 0.95,
            _ => false,
        }
    }

    fn serve(&mut self, at: u64, kind: Kind) {
        let wait = self.now - at;
        self.waits.push((self.now, wait));
        self.controller.waited(Duration::from_micros(wait));
        match kind {
            Kind::Later => self.now += LATER_US,
            Kind::RefusalAck => self.now += self.refusal_us / 3,
            Kind::Invite(standing) | Kind::Again(standing, _) => {
                let tries = match kind {
                    Kind::Again(_, tries) => tries,
                    _ => 0,
                };
                let draw = self.random();
                let held_back = self.controller.asked();
                if let Some(told) = &mut self.told {
                    told.push((self.now + 1_000, held_back));
                }
                let gate = self.random();
                if standing == Standing::Ordinary && !self.controller.hears(gate) {
                    // Dropped unread; its sender tries again.
                    self.now += self.refusal_us / 5;
                    let again = [500_000, 1_500_000, 3_500_000].get(usize::from(tries)).copied();
                    if let Some(wait) = again {
                        self.push(at + wait, Kind::Again(standing, tries + 1));
                    }
                } else if self.controller.admits(standing, true, draw) {
                    self.now += INVITE_US;
                    self.admitted.push(self.now);
                    for later in [1_000, 2_000, 3_000, self.hold_us] {
                        self.push(self.now + later, Kind::Later);
                    }
                } else {
                    self.refused[standing as usize] += 1;
                    self.now += self.refusal_us;
                    self.push(self.now + 1_000, Kind::RefusalAck);
                }
            }
        }
    }

    fn goodput(&self, from: u64, to: u64) -> f64 {
        let count = self.admitted.iter().filter(|at| (from..to).contains(*at)).count();
        count as f64 * 1e6 / (to - from) as f64
    }

    /// The longest wait in a time.
    fn longest(&self, from: u64, to: u64) -> u64 {
        let waits = self.waits.iter().filter(|(at, _)| (from..to).contains(at));
        waits.map(|(_, wait)| *wait).max().unwrap_or(0)
    }

    /// Smallest and largest share in a time.
    fn share_range(&self, from: u64, to: u64) -> (f64, f64) {
        let shares = self.shares.iter().filter(|(at, _)| (from..to).contains(at));
        shares.fold((1.0, 0.0), |(low, high), (_, share)| (share.min(low), share.max(high)))
    }
}

/// What is left of capacity when the surplus is refused at `refusal_us` and a third for the ACK.
fn ideal(world: &World, load: f64) -> f64 {
    let refusal = (world.refusal_us + world.refusal_us / 3) as f64;
    let capacity_us = world.runs_us as f64 * 10.0;
    let wanted = world.capacity() * load;
    (capacity_us - wanted * refusal) / (CALL_US as f64 - refusal)
}

#[test]
fn whoever_can_carry_the_load_refuses_nothing() {
    for (mut world, load) in [
        (World::new(), 0.5),
        (World::new(), 0.9),
        (World::held(), 0.5),
        (World::held(), 0.85),
    ] {
        world.offer(world.capacity() * load, 0, 8 * SECOND, Standing::Ordinary);
        world.run(8 * SECOND);
        assert_eq!(world.refused, [0, 0, 0], "at {load} of {} us", world.runs_us);
        assert!(world.turns.is_empty());
    }
}

/// RFC 6357 §9 asks for stability: at every load the goodput stays near what is possible, and the queue short.
#[test]
fn what_is_too_much_is_refused_and_no_more() {
    for held in [false, true] {
        for load in [1.2, 2.0, 4.0] {
            let mut world = if held { World::held() } else { World::new() };
            world.offer(world.capacity() * load, 0, 9 * SECOND, Standing::Ordinary);
            world.run(9 * SECOND);
            let possible = ideal(&world, load).min(world.capacity());
            let goodput = world.goodput(4 * SECOND, 9 * SECOND);
            let context = format!("held: {held}, {load} times what is possible");
            assert!(goodput > 0.88 * possible, "{context}: {goodput:.0} of {possible:.0}");
            // A burst at its worst may fill the socket once.
            let lost = world.lost_later as f64 / world.admitted.len() as f64;
            assert!(
                lost < 0.001,
                "{context}: {lost:.5} messages lost for each call that was let in"
            );
            let longest = world.longest(4 * SECOND, 9 * SECOND);
            assert!(longest < 350_000, "{context}: {longest} us in the queue");
            assert_eq!(world.turns, [Turn::Began], "{context}");
        }
    }
}

/// RFC 7339: senders who hold back by themselves hear of it late, behind all that they have sent already.
#[test]
fn senders_who_hold_back_leave_all_the_time_for_calls() {
    for (held, load) in [(false, 2.0), (true, 2.0), (true, 4.0), (true, 8.0)] {
        let mut world = if held { World::held() } else { World::new() };
        world.told = Some(Vec::new());
        world.offer(world.capacity() * load, 0, 11 * SECOND, Standing::Preferred);
        world.run(11 * SECOND);
        let goodput = world.goodput(4 * SECOND, 11 * SECOND) / world.capacity();
        assert!(
            goodput > 0.85,
            "held: {held}, {load} times: {goodput:.2} of what is possible"
        );
        let longest = world.longest(4 * SECOND, 11 * SECOND);
        assert!(
            longest < 400_000,
            "held: {held}, {load} times: {longest} us in the queue"
        );
    }
}

/// Once settled, the share swings little.
#[test]
fn the_share_does_not_swing() {
    for held in [false, true] {
        let mut world = if held { World::held() } else { World::new() };
        world.offer(world.capacity() * 2.0, 0, 12 * SECOND, Standing::Ordinary);
        world.run(12 * SECOND);
        let (low, high) = world.share_range(6 * SECOND, 12 * SECOND);
        assert!(high - low < 0.30, "held: {held}: {low:.2} to {high:.2}");
    }
}

#[test]
fn it_is_quick_to_bite_and_quick_to_forget() {
    let mut world = World::held();
    let capacity = world.capacity();
    world.offer(capacity * 0.5, 0, 28 * SECOND, Standing::Ordinary);
    world.offer(capacity * 3.5, 4 * SECOND, 10 * SECOND, Standing::Ordinary);
    world.run(28 * SECOND);
    let (low, _) = world.share_range(4 * SECOND, 5 * SECOND);
    assert!(low < 0.4, "a second later it is at {low:.2}");
    let (_, high) = world.share_range(14 * SECOND, 15 * SECOND);
    assert!(high >= 1.0, "when the last has tried again it is at {high:.2}");
    let calm = world.goodput(14 * SECOND, 28 * SECOND);
    assert!((calm / (capacity * 0.5) - 1.0).abs() < 0.05, "{calm:.0}");
    assert_eq!(world.turns.len(), 2, "{:?}", world.turns);
    let Turn::Ended { lasted } = world.turns[1] else {
        panic!("{:?}", world.turns)
    };
    assert!(
        lasted > Duration::from_secs(5) && lasted < Duration::from_secs(12),
        "{lasted:?}"
    );
}

/// RFC 7339 §5.10.1: what comes first is refused last.
#[test]
fn preferred_requests_pass_while_ordinary_ones_are_refused() {
    let mut world = World::held();
    let capacity = world.capacity();
    world.offer(capacity * 0.3, 0, 10 * SECOND, Standing::Preferred);
    world.offer(capacity * 3.0, 0, 10 * SECOND, Standing::Ordinary);
    world.run(10 * SECOND);
    assert_eq!(world.refused[Standing::Preferred as usize], 0);
    assert!(world.refused[Standing::Ordinary as usize] > 0);
}

/// Nobody is exempt for good: if all say that they come first, all are refused alike.
#[test]
fn too_many_preferred_ones_are_refused_as_well() {
    let mut world = World::held();
    world.offer(world.capacity() * 3.0, 0, 9 * SECOND, Standing::Preferred);
    world.run(9 * SECOND);
    assert!(world.refused[Standing::Preferred as usize] > 0);
    let goodput = world.goodput(5 * SECOND, 9 * SECOND);
    assert!(goodput > 0.8 * ideal(&world, 3.0), "{goodput:.0}");
}

/// §8.2.7 of RFC 3261: the same request again gets the same answer, while the share is what it was.
#[test]
fn the_same_transaction_fares_the_same() {
    let mut controller = Controller::new(OverloadConf::default(), Instant::now());
    controller.ordinary = 0.4;
    let mut passed = 0;
    for n in 0..10_000u64 {
        let draw = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let admitted = controller.admits(Standing::Ordinary, false, draw);
        assert_eq!(admitted, controller.admits(Standing::Ordinary, false, draw));
        assert!(controller.admits(Standing::Begun, false, draw) && controller.admits(Standing::Preferred, false, draw));
        passed += u32::from(admitted);
    }
    assert!((3_800..4_200).contains(&passed), "{passed}");
}

/// A machine with other things to do is late at times: that is no overload, however late.
#[test]
fn a_late_process_with_little_to_do_refuses_nothing() {
    let start = Instant::now();
    let mut controller = Controller::new(OverloadConf::default(), start);
    let mut now = start;
    for step in 0..200u64 {
        now += INTERVAL;
        // Now and then a message comes, and each finds the process asleep; once in a while a burst does.
        let messages = if step % 10 == 0 { 50 } else { step % 4 };
        for _ in 0..messages {
            controller.waited(Duration::from_millis(80 + step % 40));
        }
        controller.advance(now);
        assert!(!controller.is_active(), "step {step}");
    }
}

#[test]
fn switched_off_it_lets_everything_in() {
    let mut world = World::held();
    world.controller.configure(OverloadConf {
        enabled: false,
        ..OverloadConf::default()
    });
    world.offer(world.capacity() * 2.0, 0, 3 * SECOND, Standing::Ordinary);
    world.run(3 * SECOND);
    assert_eq!(world.refused, [0, 0, 0]);
}
