//! What the table tests of the four machines share: a table is text, one line for each state and event.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Action, State};
use crate::timers::TimerConf;

/// The RFC's default values.
pub const CONF: TimerConf = TimerConf {
    t1: Duration::from_millis(500),
    t2: Duration::from_secs(4),
    t4: Duration::from_secs(5),
    timer_c: Duration::from_secs(181),
};

/// A machine after one event.
pub struct Fed {
    pub state: State,
    pub todo: Vec<Action<&'static str>>,
    pub deadline: Option<Instant>,
    /// When the machine entered the state it was fed in.
    pub now: Instant,
}

/// Feeds each event in each state and compares with `expected`, whose lines are
/// `STATE EVENT NEXT-STATE ACTION… next=DEADLINE`. A pair that the table lacks, or has twice, is an error of the table.
pub fn check(states: &[&str], events: &[&str], feed: impl Fn(&str, &str) -> Fed, expected: &str) {
    let mut rows = BTreeMap::new();
    for line in expected.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let pair = (words.next().expect("a state"), words.next().expect("an event"));
        assert!(
            rows.insert(pair, words.collect::<Vec<_>>().join(" ")).is_none(),
            "twice: {line}"
        );
    }
    for state in states {
        for event in events {
            let row = rows
                .remove(&(*state, *event))
                .unwrap_or_else(|| panic!("no row for {state} {event}"));
            assert_eq!(describe(&feed(state, event)), row, "{state} {event}");
        }
    }
    assert!(rows.is_empty(), "rows for no state or event: {rows:?}");
}

fn describe(fed: &Fed) -> String {
    let mut words = vec![name(fed.state).to_string()];
    for action in &fed.todo {
        words.push(match action {
            Action::Transmit(message) => format!("transmit:{message}"),
            Action::Deliver => "deliver".into(),
            Action::Timeout => "timeout".into(),
            Action::TransportFailed => "transport-failed".into(),
            Action::Terminated => "terminated".into(),
        });
    }
    if fed.todo.is_empty() {
        words.push("-".into());
    }
    let next = match fed.deadline.map(|at| (at - fed.now).as_millis()) {
        None => "never".to_string(),
        Some(500) => "T1".into(),
        Some(1_500) => "3*T1".into(),
        Some(4_500) => "T1+T2".into(),
        Some(5_000) => "T4".into(),
        Some(6_000) => "T4+2*T1".into(),
        Some(9_000) => "T4+T2".into(),
        Some(32_000) => "64*T1".into(),
        Some(other) => format!("{other}ms"),
    };
    words.push(format!("next={next}"));
    words.join(" ")
}

/// The state's name as the tables write it.
pub fn name(state: State) -> &'static str {
    match state {
        State::Calling => "Calling",
        State::Trying => "Trying",
        State::Proceeding => "Proceeding",
        State::Accepted => "Accepted",
        State::Completed => "Completed",
        State::Confirmed => "Confirmed",
        State::Terminated => "Terminated",
    }
}

/// How long after entering the state a deadline event of the tables comes.
pub fn wait(event: &str) -> Duration {
    match event {
        "early" => Duration::ZERO,
        "T1" => CONF.t1,
        "T4" => CONF.t4,
        "64*T1" => CONF.t1 * 64,
        other => panic!("no such event: {other}"),
    }
}
