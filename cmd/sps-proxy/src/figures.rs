//! What the workers count, in a mapped page that `spsctl status` reads without asking anybody.

use sps_ipc::parent::Frozen;
use sps_mapped::{Counter, CountersPage, OpenError};
use sps_net::resolve::ResolveCounters;
use sps_net::streams::StreamCounters;
use sps_net::udp::UdpCounters;
use sps_sip::guard::GuardCounters;
use sps_sip::proxy::Counters;

/// Names of all figures, in the order they are shown. Those of the second list may go down.
const NAMES: &[&str] = &[
    "requests",
    "responses",
    "retransmissions",
    "garbage",
    "refused",
    "overload",
    "overload_dropped",
    "held_back",
    "stray_responses",
    "stray_acks",
    "refused_banned",
    "refused_excess",
    "refused_unanswered",
    "refused_unknown_full",
    "refused_known_full",
    "refused_dialog_full",
    "refused_branches_full",
    "refused_forbidden",
    "refused_not_found",
    "refused_unmatched",
    "refused_names",
    "refused_streams_full",
    "refused_streams_source",
    "refused_streams_banned",
    "evicted_streams",
    "stream_buffers_full",
    "stream_queues_full",
    "accept_errors",
    "bans",
    "stateless_requests",
    "stateless_responses",
    "redirected",
    "recursions",
    "datagrams_in",
    "datagrams_out",
    "keepalives_dropped",
    "kernel_drops",
    "send_refused",
    "send_errors",
    "icmp_errors",
    "streams_accepted",
    "streams_connected",
    "streams_refused",
    "streams_timed_out",
    "streams_broken",
    "stream_pings",
    "stream_messages_in",
    "stream_messages_out",
    "stream_messages_lost",
    "mail_lost",
    "registrar_busy",
    "registrar_timeouts",
    "failovers",
    "moved_to_tcp",
    "dns_lookups",
    "dns_failed",
    "dns_refused",
    "dns_downgrades",
    "overload_percent",
    "transactions",
    "client_transactions",
    "streams_open",
    "dead_targets",
    "questions_open",
    "stored_bytes",
    "stream_bytes",
    "streams_limit",
    "sources",
    "banned",
];

/// The page of this process.
pub struct Page(CountersPage);

impl Page {
    /// Makes the page of this generation, with a block for each worker.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(frozen: &Frozen) -> Result<Page, OpenError> {
        let labels: Vec<String> = (0..frozen.workers).map(label).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        CountersPage::create(&sps_conf::Paths::counters(&frozen.folder()), NAMES, &labels).map(Page)
    }

    /// The figures of one worker.
    pub fn worker(&self, worker: u16) -> Figures {
        let block = self.0.block(&label(worker));
        let counter = |name: &str| {
            block
                .as_ref()
                .and_then(|block| block.counter(name))
                .unwrap_or_else(Counter::detached)
        };
        Figures(NAMES.iter().map(|name| counter(name)).collect())
    }
}

fn label(worker: u16) -> String {
    format!("proxy/{worker}")
}

/// One worker's figures.
pub struct Figures(Vec<Counter>);

/// What a worker counts itself, besides its parts.
#[derive(Debug, Default, Clone, Copy)]
pub struct Own {
    pub mail_lost: u64,
    pub registrar_busy: u64,
    pub registrar_timeouts: u64,
    pub dns: ResolveCounters,
    /// Of a hundred new requests, how many are refused now.
    pub overload_percent: u64,
    pub transactions: u64,
    pub client_transactions: u64,
    pub dead_targets: u64,
    pub questions_open: u64,
    pub stored_len: u64,
    pub streams_limit: u64,
    pub refused_names: u64,
    pub guard: GuardCounters,
}

impl Figures {
    /// Puts the figures where others see them. A few dozen stores; done some times a second.
    pub fn publish(&self, core: &Counters, udp: &UdpCounters, streams: &StreamCounters, own: &Own) {
        let values = [
            core.requests,
            core.responses,
            core.retransmissions,
            core.garbage,
            core.refused,
            core.overload,
            core.overload_dropped,
            core.held_back,
            core.stray_responses,
            core.stray_acks,
            own.guard.banned,
            own.guard.excess,
            own.guard.unanswered,
            core.full_unknown,
            core.full_known,
            core.full_dialog,
            core.full_clients,
            core.refused_forbidden,
            core.refused_not_found,
            core.refused_unmatched,
            own.refused_names,
            streams.refused_total,
            streams.refused_source,
            streams.refused_unwelcome,
            streams.evicted,
            streams.buffers_full,
            streams.queue_full,
            streams.accept_errors,
            own.guard.bans,
            core.stateless_requests,
            core.stateless_responses,
            core.redirected,
            core.recursions,
            udp.received,
            udp.sent,
            udp.keepalives,
            udp.kernel_drops,
            udp.refused,
            udp.send_errors,
            udp.icmp_errors,
            streams.accepted,
            streams.connected,
            streams.refused_total + streams.refused_source,
            streams.idle_closed + streams.header_timeouts + streams.write_timeouts,
            streams.broken,
            streams.keepalives,
            streams.messages_in,
            streams.messages_out,
            streams.messages_lost,
            own.mail_lost,
            own.registrar_busy,
            own.registrar_timeouts,
            core.failovers,
            core.moved_to_tcp,
            own.dns.lookups,
            own.dns.failed,
            own.dns.refused,
            own.dns.downgrades,
            own.overload_percent,
            own.transactions,
            own.client_transactions,
            streams.open,
            own.dead_targets,
            own.questions_open,
            own.stored_len,
            streams.buffered_len,
            own.streams_limit,
            own.guard.sources,
            own.guard.banned_now,
        ];
        for (counter, value) in self.0.iter().zip(values) {
            counter.set(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_value_and_stands_once() {
        let figures = Figures(NAMES.iter().map(|_| Counter::detached()).collect());
        let own = Own {
            guard: GuardCounters {
                banned_now: 77,
                ..GuardCounters::default()
            },
            ..Own::default()
        };
        figures.publish(
            &Counters {
                requests: 5,
                ..Counters::default()
            },
            &UdpCounters::default(),
            &StreamCounters::default(),
            &own,
        );
        assert_eq!(figures.0.first().map(Counter::value), Some(5));
        assert_eq!(figures.0.last().map(Counter::value), Some(77));
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
