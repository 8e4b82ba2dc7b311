//! What `spsctl init` writes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use crate::{Access, Action, Certificate, Cidr, Config, Listen, Transport, words};

/// What the operator said to `spsctl init`.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Our domain; unset: `localhost`.
    pub domain: Option<String>,
    /// Where to listen; empty: loopback, UDP and TCP, port 5060. Parse with [`Listen`]'s `FromStr` (`udp:127.0.0.1:5060`).
    pub listen: Vec<Listen>,
}

impl Config {
    /// A complete commented `sps.toml` that passes [`Config::parse`].
    ///
    /// With a listener beyond loopback it gets `[[access]]` rules that allow this machine alone: phones may register and call
    /// each other from anywhere, gateways and foreign domains stay closed until the operator lists who may use them.
    ///
    /// # Errors
    /// A text for the operator when the domain is no domain or the listeners do not go together.
    pub fn sample(options: &InitOptions) -> Result<String, String> {
        let domain = options.domain.as_deref().unwrap_or("localhost");
        let domain = words::domain(domain).map_err(|why| format!("{domain:?} is no domain ({why})"))?;
        let mut config = defaults(&domain);
        if options.listen.is_empty() {
            let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
            config.listen = vec![listen(Transport::Udp, loopback), listen(Transport::Tcp, loopback)];
        } else {
            config.listen.clone_from(&options.listen);
        }
        if config.speaks_tls() {
            config.tls.certificate = vec![Certificate {
                certificate: "tls/cert.pem".into(),
                key: "tls/key.pem".into(),
                names: Vec::new(),
            }];
        }
        if config.listen.iter().any(|listen| !listen.is_loopback()) {
            let v4 = Cidr {
                address: Ipv4Addr::new(127, 0, 0, 0).into(),
                prefix: 8,
            };
            let v6 = Cidr {
                address: Ipv6Addr::LOCALHOST.into(),
                prefix: 128,
            };
            config.access = [v4, v6]
                .map(|source| Access {
                    source,
                    action: Action::Allow,
                })
                .to_vec();
        }
        let text = config.render();
        match Self::parse(Path::new("sps.toml"), &text) {
            Ok(_) => Ok(text),
            Err(problems) => Err(problems
                .iter()
                .map(|problem| problem.text.as_str())
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }
}

/// Every key at its default: the reader is the only place that knows them.
fn defaults(domain: &str) -> Config {
    let listen = "[[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\n";
    let text = format!("[server]\ndomain = {}\n{listen}", toml::Value::from(domain));
    let parsed = Config::parse(Path::new("defaults"), &text);
    // Both required keys are there, and the domain has been checked by the caller.
    parsed.expect("a configuration of the required keys passes").0
}

fn listen(transport: Transport, address: IpAddr) -> Listen {
    Listen {
        transport,
        address,
        port: transport.default_port(),
        advertise: None,
        client_certificate: None,
    }
}

impl FromStr for Listen {
    type Err = String;

    /// `TRANSPORT:ADDRESS:PORT` as in `udp:127.0.0.1:5060` or `tls:[::1]:5061`; the port may be left out and is 5060 then, for TLS
    /// 5061.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected TRANSPORT:ADDRESS:PORT, such as udp:127.0.0.1:5060 or tls:[::1]:5061";
        let (transport, rest) = text.split_once(':').ok_or(EXPECTED)?;
        let transport = match transport {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            _ => return Err(format!("transport {transport:?}: {EXPECTED}")),
        };
        let (address, port) = match rest.rsplit_once(':') {
            Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
                let port = port
                    .parse()
                    .map_err(|_| format!("port {port:?}: a number from 0 to 65535; {EXPECTED}"))?;
                (address, port)
            }
            _ => (rest, transport.default_port()),
        };
        let address = words::listen_address(address).map_err(|why| match why.as_str() {
            "" => format!("address {address:?}: {EXPECTED}"),
            why => format!("address {address:?}: {why}"),
        })?;
        Ok(Self {
            transport,
            address,
            port,
            advertise: None,
            client_certificate: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Config, usize) {
        let (config, warnings) = Config::parse(Path::new("f"), text).unwrap_or_else(|problems| panic!("{problems}"));
        (config, warnings.len())
    }

    #[test]
    fn without_options_only_this_machine_can_reach_us() {
        let (config, warnings) = parse(&Config::sample(&InitOptions::default()).unwrap());
        assert_eq!(warnings, 0);
        assert_eq!(config.server.domain, "localhost");
        let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]);
        assert!(config.access.is_empty() && !config.server.open_relay);
    }

    #[test]
    fn a_listener_beyond_loopback_does_not_open_the_gateways() {
        let options = InitOptions {
            domain: Some("Office.Example".into()),
            listen: vec![
                "udp:0.0.0.0:5060".parse().unwrap(),
                "tcp:[2001:db8::1]".parse().unwrap(),
            ],
        };
        let (config, _) = parse(&Config::sample(&options).unwrap());
        assert_eq!(config.server.domain, "office.example");
        assert_eq!(config.listen, options.listen);
        assert!(!config.server.open_relay);
        assert!(config.access.iter().all(|rule| rule.source.address.is_loopback()));
    }

    #[test]
    fn options_that_make_no_sense_are_refused_in_words() {
        let bad_domain = InitOptions {
            domain: Some("exa mple".into()),
            ..Default::default()
        };
        assert!(Config::sample(&bad_domain).unwrap_err().contains("exa mple"));
        let one: Listen = "udp:127.0.0.1:5060".parse().unwrap();
        let twice = InitOptions {
            domain: None,
            listen: vec![one.clone(), one],
        };
        assert!(Config::sample(&twice).unwrap_err().contains("once"));
    }

    #[test]
    fn listeners_are_written_the_way_they_are_shown() {
        for text in [
            "udp:127.0.0.1:5060",
            "tcp:[::1]:5070",
            "udp:0.0.0.0:0",
            "tls:[::1]:5061",
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:::1".parse::<Listen>().unwrap().to_string(), "tcp:[::1]:5060");
        assert_eq!("tls:::1".parse::<Listen>().unwrap().to_string(), "tls:[::1]:5061");
        for wrong in [
            "",
            "udp",
            "udp:",
            "sctp:127.0.0.1:5060",
            "udp:localhost:5060",
            "udp:127.0.0.1:99999",
            "udp:[::1:5060",
        ] {
            let why = wrong.parse::<Listen>().unwrap_err();
            assert!(!why.is_empty(), "{wrong}");
        }
    }
}
