//! What routing is told by the configuration: made here once, for the proxy, the registrar and the tools alike, so that all of
//! them agree on what is ours and what key an address of record has.

use std::net::{IpAddr, SocketAddr};

use sps_route::{AccessRule, Conf, Host, OwnSocket, Service};
use sps_wire::flow;

use crate::{Action, Config, Mode, Transport};

impl Config {
    /// The configuration of routing.
    ///
    /// `bound` are the sockets of [`Config::listen`] in order, ports as the system chose them; `local` the addresses of this
    /// machine, which stand for a listener on all addresses.
    pub fn routing(&self, bound: &[SocketAddr], local: &[IpAddr]) -> Conf {
        let mut conf = Conf::new(&self.server.domain);
        for domain in &self.server.domains {
            conf = conf.with_domain(domain);
        }
        for (listen, bound) in self.listen.iter().zip(bound) {
            let transport = listen.transport.into();
            let own = |host, port| OwnSocket { host, port, transport };
            conf = conf.with_own(own(Host::Addr(bound.ip()), bound.port()));
            if bound.ip().is_unspecified() {
                for addr in local.iter().filter(|addr| addr.is_ipv4() == bound.is_ipv4()) {
                    conf = conf.with_own(own(Host::Addr(*addr), bound.port()));
                }
            }
            if let Some(advertise) = &listen.advertise
                && let Some(host) = Host::parse(&advertise.host)
            {
                conf = conf.with_own(own(host, advertise.port.unwrap_or(bound.port())));
            }
        }
        conf.access = self
            .access
            .iter()
            .map(|access| AccessRule {
                network: access.source.address,
                prefix_len: access.source.prefix,
                allow: access.action == Action::Allow,
            })
            .collect();
        conf.open = self.is_open();
        conf.service = match self.proxy.mode {
            Mode::Stateful | Mode::Stateless => Service::Proxy,
            Mode::Redirect | Mode::StatelessRedirect => Service::Redirect,
            Mode::Registrar => Service::Registrar,
        };
        conf.caller_preferences = self.proxy.caller_preferences;
        conf.question_timeout = self.dns.total_timeout;
        conf.dead_for = self.proxy.dead_for;
        conf.retry_after_max = self.proxy.retry_after_max;
        let has = |transport| self.listen.iter().any(|listen| listen.transport == transport);
        conf.tls = self.speaks_tls();
        conf.default_transport = [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|transport| has(*transport))
            .unwrap_or(Transport::Udp)
            .into();
        conf
    }

    /// [`Config::routing`] for sockets bound as they are written: for tools, when no daemon tells the ports.
    pub fn routing_as_written(&self, local: &[IpAddr]) -> Conf {
        let bound: Vec<SocketAddr> = self.listen.iter().map(crate::Listen::socket_addr).collect();
        self.routing(&bound, local)
    }
}

impl From<Transport> for flow::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Udp => flow::Transport::Udp,
            Transport::Tcp => flow::Transport::Tcp,
            Transport::Tls => flow::Transport::Tls,
        }
    }
}

#[cfg(test)]
mod tests {
    use sps_wire::Uri;

    use super::*;

    fn conf(text: &str) -> Config {
        Config::parse("sps.toml".as_ref(), text).expect("a good file").0
    }

    #[test]
    fn a_wildcard_listener_stands_for_the_addresses_of_the_machine() {
        let conf = conf(
            "[server]\ndomain = \"example.com\"\nopen_relay = true\n[[listen]]\ntransport = \"udp\"\naddress = \"0.0.0.0\"\nport = 5070\n",
        );
        let route = conf.routing_as_written(&["192.0.2.7".parse().expect("an address")]);
        let ours = |text: &str| route.is_ours(&Uri::parse(text.as_bytes()).expect("a URI"));
        assert!(ours("sip:bob@192.0.2.7:5070"));
        assert!(!ours("sip:bob@192.0.2.7"), "another port is another server");
        assert!(!ours("sip:bob@192.0.2.8:5070"));
        assert!(ours("sip:bob@example.com"));
    }

    #[test]
    fn without_a_udp_listener_next_hops_are_reached_by_tcp() {
        let conf = conf(
            "[server]\ndomain = \"example.com\"\n[[listen]]\ntransport = \"tcp\"\naddress = \"127.0.0.1\"\nport = 5060\n",
        );
        assert_eq!(conf.routing_as_written(&[]).default_transport, flow::Transport::Tcp);
    }
}
