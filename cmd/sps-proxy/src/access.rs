//! The core's journal: one line of the access log for each finished server transaction.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use sps_daemon::AccessWriter;
use sps_daemon::access::Entry;
use sps_sip::guard::Summary;
use sps_sip::proxy::{Finished, Journal, Shed};

/// One worker's way into the access log.
pub struct Access(pub AccessWriter);

impl Access {
    /// What the guard dropped of one source within a second, in one line.
    pub fn dropped(&mut self, summary: &Summary, unix_ms: u64) {
        if !self.0.is_on() {
            return;
        }
        let count = summary.dropped.to_string();
        self.0.entry(&Entry {
            source: SocketAddr::new(summary.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0),
            user: None,
            received_at: UNIX_EPOCH + Duration::from_millis(unix_ms.saturating_sub(1_000)),
            method: b"-",
            request_uri: b"-",
            status: 0,
            took: Duration::ZERO,
            call_id: b"-",
            next: None,
            stage: "guard",
            branches: 0,
            more: &[("reason", summary.reason.as_bytes()), ("count", count.as_bytes())],
        });
    }
}

impl Journal for Access {
    fn finished(&mut self, finished: &Finished<'_>) {
        if !self.0.is_on() {
            return;
        }
        let request = finished.request;
        self.0.entry(&Entry {
            source: finished.flow.remote,
            user: None,
            received_at: UNIX_EPOCH + Duration::from_millis(finished.received_ms),
            method: request.method().map_or(b"-", |method| method.as_bytes()),
            request_uri: request.request_uri().unwrap_or(b"-"),
            status: finished.status,
            took: Duration::from_millis(finished.took_ms),
            call_id: request.call_id(),
            next: finished.next.map(|next| (next.addr, next.transport.as_str())),
            stage: finished.stage,
            branches: finished.branches as u16,
            more: &[],
        });
    }

    /// Requests of one source and about one second that were refused for overload, in one line.
    fn shed(&mut self, shed: &Shed) {
        if !self.0.is_on() {
            return;
        }
        let count = shed.count.to_string();
        self.0.entry(&Entry {
            source: SocketAddr::new(shed.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0),
            user: None,
            received_at: UNIX_EPOCH + Duration::from_millis(shed.since_ms),
            method: b"-",
            request_uri: b"-",
            status: 503,
            took: Duration::ZERO,
            call_id: b"-",
            next: None,
            stage: "overload",
            branches: 0,
            more: &[("count", count.as_bytes())],
        });
    }
}
