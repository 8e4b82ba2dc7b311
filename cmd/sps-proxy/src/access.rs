//! The core's journal: one line of the access log for each finished server transaction.

use std::time::{Duration, UNIX_EPOCH};

use sps_daemon::AccessWriter;
use sps_daemon::access::Entry;
use sps_sip::proxy::{Finished, Journal};

/// One worker's way into the access log.
pub struct Access(pub AccessWriter);

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
}
