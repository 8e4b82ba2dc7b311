//! The timers of RFC 3261 §17 (table 4 of its appendix A) and RFC 6026, by name, as functions of T1, T2 and T4.
//!
//! A machine asks for a timer when it enters the state that needs it and is handed the configuration with each event,
//! so that it stays small. Timer C belongs to the response context of the proxy core (§16.6 step 11).

use std::time::Duration;

/// The estimates all timers are made of. The defaults are RFC 3261's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerConf {
    /// Estimate of the round trip (§17.1.1.1), 500 ms. Smaller only on private networks.
    pub t1: Duration,
    /// Longest wait between retransmissions of a non-INVITE request or an INVITE response, 4 s.
    pub t2: Duration,
    /// How long a message may live in the network, 5 s.
    pub t4: Duration,
    /// Timer C: how long a forwarded INVITE may ring without news, more than 3 minutes (§16.6 step 11).
    pub timer_c: Duration,
}

impl Default for TimerConf {
    fn default() -> Self {
        TimerConf {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(181),
        }
    }
}

/// Timer D lasts at least this long on unreliable transports (§17.1.1.2): the peer's Timer H is built on *its* T1.
const TIMER_D_FLOOR: Duration = Duration::from_secs(32);

impl TimerConf {
    /// First wait before an INVITE is sent again; doubles each time. Unreliable transports only.
    pub fn timer_a(&self) -> Duration {
        self.t1
    }

    /// How long an INVITE waits for any response: 64·T1.
    pub fn timer_b(&self) -> Duration {
        self.t1 * 64
    }

    /// How long an INVITE client absorbs repeated final responses ≥ 300: at least 32 s, nothing on reliable transports.
    pub fn timer_d(&self, reliable: bool) -> Duration {
        if reliable {
            Duration::ZERO
        } else {
            TIMER_D_FLOOR.max(self.t1 * 64)
        }
    }

    /// First wait before a non-INVITE request is sent again; doubles up to T2. Unreliable transports only.
    pub fn timer_e(&self) -> Duration {
        self.t1
    }

    /// How long a non-INVITE request waits for its final response: 64·T1.
    pub fn timer_f(&self) -> Duration {
        self.t1 * 64
    }

    /// First wait before a final response ≥ 300 to an INVITE is sent again; doubles up to T2. Unreliable transports only.
    pub fn timer_g(&self) -> Duration {
        self.t1
    }

    /// How long an INVITE server waits for the ACK of a final response ≥ 300: 64·T1.
    pub fn timer_h(&self) -> Duration {
        self.t1 * 64
    }

    /// How long an INVITE server absorbs repeated ACKs: T4, nothing on reliable transports.
    pub fn timer_i(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }

    /// How long a non-INVITE server answers repeated requests: 64·T1, nothing on reliable transports.
    pub fn timer_j(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t1 * 64 }
    }

    /// How long a non-INVITE client absorbs repeated responses: T4, nothing on reliable transports.
    pub fn timer_k(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }

    /// How long an INVITE server passes further 2xx and absorbs INVITEs after the first 2xx: 64·T1 on any transport (RFC 6026 §8.11).
    pub fn timer_l(&self) -> Duration {
        self.t1 * 64
    }

    /// How long an INVITE client passes up further 2xx after the first: 64·T1 on any transport (RFC 6026 §8.4).
    pub fn timer_m(&self) -> Duration {
        self.t1 * 64
    }
}
