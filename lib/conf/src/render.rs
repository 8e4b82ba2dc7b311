//! A [`Config`] printed as a complete commented `sps.toml`: every key is there, with what it means and what it may be.

use std::fmt::Write;
use std::path::Path;

use crate::{Access, Ca, Certificate, Config, Listen, Transport};

impl Config {
    /// A complete commented `sps.toml` that [`Config::parse`] reads back to the same value.
    pub fn render(&self) -> String {
        let mut out = String::from(HEAD);
        self.render_server(&mut out);
        self.render_listen(&mut out);
        self.render_tls(&mut out);
        self.render_proxy(&mut out);
        self.render_overload(&mut out);
        self.render_registrar(&mut out);
        self.render_access(&mut out);
        self.render_guard(&mut out);
        self.render_dns(&mut out);
        self.render_log(&mut out);
        out
    }

    fn render_server(&self, out: &mut String) {
        let server = &self.server;
        section(out, "[server]", "");
        key(
            out,
            "The domain that phones register at and numbers belong to.",
            "domain",
            text(&server.domain),
        );
        let domains = list(server.domains.iter().map(String::as_str));
        key(out, "Further domains that are ours.", "domains", domains);
        key(
            out,
            "Worker threads of the proxy; 0 is one a processor.",
            "workers",
            server.workers,
        );
        key(
            out,
            "Whom the daemons run as when sps-master is started as root.",
            "user",
            text(&server.user),
        );
        let comment = "May everybody call through our gateways and to foreign domains? Without it only the\n\
                       sources that [[access]] allows may, or everybody while only this machine can reach us.";
        key(out, comment, "open_relay", server.open_relay);
        key(out, "Our number in a farm of several SPS.", "member", server.member);
    }

    fn render_listen(&self, out: &mut String) {
        for (i, listen) in self.listen.iter().enumerate() {
            let comment = "Where to listen; give as many as you like. The address may be a wildcard (0.0.0.0, ::).\n\
                           Phones elsewhere can reach us only at an address that is not loopback.";
            section(out, "[[listen]]", if i == 0 { comment } else { "" });
            listen_keys(out, listen, i == 0 && !self.speaks_tls());
        }
    }

    fn render_tls(&self, out: &mut String) {
        let tls = &self.tls;
        let comment = "TLS, at the [[listen]] with transport = \"tls\", and outwards when there is one.";
        section(out, "[tls]", comment);
        let comment = "Whose signatures we believe: \"system\", or a file (PEM) with the certificates of CAs.";
        let ca = match &tls.ca {
            Ca::System => text("system"),
            Ca::File(file) => path(file),
        };
        key(out, comment, "ca", ca);
        let comment = "Do clients show certificates? \"none\" is asked for, \"request\" asks, \"require\" insists.";
        key(
            out,
            comment,
            "client_certificate",
            text(tls.client_certificate.as_str()),
        );
        let comment = "Must servers that we connect to prove their name? Must the Via of a client that showed a\n\
                       certificate name what the certificate does?";
        key(out, comment, "verify_server", tls.verify_server);
        line(out, "match_via", tls.match_via);
        let comment = "The oldest version that is spoken: \"1.2\" or \"1.3\".";
        key(out, comment, "min_version", text(tls.min_version.as_str()));
        let comment = "Bounds: time of a handshake, handshakes at once; sessions remembered.";
        key(out, comment, "handshake_timeout_ms", tls.handshake_timeout.as_millis());
        line(out, "max_handshakes", tls.max_handshakes);
        line(out, "session_cache", tls.session_cache);
        let comment = "Whom sps-tls runs as when sps-master is started as root.";
        key(out, comment, "user", text(&tls.user));
        let comment = "What we show of ourselves (PEM; relative paths lie beside this file): the certificate and its\n\
                       chain, its key, and further names that it is chosen by. Several may be given; the first is the default.";
        if tls.certificate.is_empty() {
            let _ = write!(
                out,
                "\n{}#\n# [[tls.certificate]]\n# certificate = \"tls/cert.pem\"\n# key = \"tls/key.pem\"\n# names = []\n",
                commented(comment)
            );
        }
        for (
            i,
            Certificate {
                certificate,
                key,
                names,
            },
        ) in tls.certificate.iter().enumerate()
        {
            section(out, "[[tls.certificate]]", if i == 0 { comment } else { "" });
            line(out, "certificate", path(certificate));
            line(out, "key", path(key));
            line(out, "names", list(names.iter().map(String::as_str)));
        }
    }

    fn render_proxy(&self, out: &mut String) {
        let proxy = &self.proxy;
        section(out, "[proxy]", "");
        let comment = "What SPS is: a proxy that minds each request until it is answered (\"stateful\") or forgets it where\n\
                       it can (\"stateless\"), a server that tells callers where to go (\"redirect\",\n\
                       \"stateless-redirect\"), or a registrar alone (\"registrar\").";
        key(out, comment, "mode", text(proxy.mode.as_str()));
        let comment =
            "When a phone says where else its user is (a 3xx answer): call there ourselves, or tell the caller?";
        key(out, comment, "recurse", proxy.recurse);
        let comment = "May a phone choose at registration whether it is called or its callers are redirected?";
        key(out, comment, "caller_preferences", proxy.caller_preferences);
        key(
            out,
            "Stay in the path of a call until it ends.",
            "record_route",
            proxy.record_route,
        );
        let comment = "Several phones of one user: all at once (\"parallel\") or one after the other (\"sequential\").";
        key(out, comment, "fork", text(proxy.fork.as_str()));
        let comment =
            "Branches of one request that may live at once, those that other proxies begin included (RFC 5393).";
        key(out, comment, "max_breadth", proxy.max_breadth);
        let comment = "RFC 3261's timers: T1 is a round trip, T2 the longest wait between repetitions, T4 the life\n\
                       of a message in the network. The timers A to K follow from them.";
        key(out, comment, "t1_ms", proxy.t1.as_millis());
        line(out, "t2_ms", proxy.t2.as_millis());
        line(out, "t4_ms", proxy.t4.as_millis());
        key(
            out,
            "Timer C: how long a call may ring.",
            "timer_c_s",
            proxy.timer_c.as_secs(),
        );
        let comment = "Failover: how long a destination may say nothing before the next one is tried, how long one that\n\
                       failed is tried last, and the longest Retry-After that is obeyed.";
        key(out, comment, "next_hop_timeout_ms", proxy.next_hop_timeout.as_millis());
        line(out, "dead_for_s", proxy.dead_for.as_secs());
        line(out, "retry_after_max_s", proxy.retry_after_max.as_secs());
        let comment = "Requests that are larger leave by TCP instead of UDP.";
        key(out, comment, "udp_max_request_bytes", proxy.udp_max_request);
        let comment = "Bounds: transactions at once and what they keep, stream connections at once, of one source, and\n\
                       what they buffer, bytes of one message. Who goes first when it gets tight: sps-proxy(8).";
        key(out, comment, "max_transactions", proxy.max_transactions);
        line(out, "max_stored_mib", proxy.max_stored_len >> 20);
        line(out, "max_connections", proxy.max_connections);
        line(out, "max_connections_per_source", proxy.max_connections_per_source);
        line(out, "max_buffered_mib", proxy.max_buffered_len >> 20);
        line(out, "max_message_bytes", proxy.max_message_len);
        let comment = "Streams: closed when they bring no message at all, or fall silent, for so long; a message once\n\
                       begun must be whole within; a connection that we open must stand within.";
        let first = proxy.stream_first_message_timeout.as_secs();
        key(out, comment, "stream_first_message_s", first);
        line(out, "stream_idle_s", proxy.stream_idle_timeout.as_secs());
        line(out, "stream_header_timeout_ms", proxy.stream_header_timeout.as_millis());
        line(out, "connect_timeout_ms", proxy.connect_timeout.as_millis());
    }

    fn render_overload(&self, out: &mut String) {
        let overload = &self.overload;
        section(out, "[overload]", "");
        let comment = "More to do than can be done: refuse new requests by 503, those of strangers first, once messages\n\
                       have to wait so long for their turn.";
        key(out, comment, "enabled", overload.enabled);
        line(out, "target_wait_ms", overload.target_wait.as_millis());
        let comment = "Tell other proxies how much to hold back, and hold back what they ask for (RFC 7339).";
        key(out, comment, "feedback", overload.feedback);
    }

    fn render_registrar(&self, out: &mut String) {
        let registrar = &self.registrar;
        section(out, "[registrar]", "");
        key(out, "Answer REGISTER for our domains.", "enabled", registrar.enabled);
        let comment = "How long a registration lasts: less than the minimum is refused (423), more than the\n\
                       maximum is cut, no wish gets the default.";
        key(out, comment, "min_expires_s", registrar.min_expires_s);
        line(out, "max_expires_s", registrar.max_expires_s);
        line(out, "default_expires_s", registrar.default_expires_s);
        key(
            out,
            "Phones of one user at once.",
            "max_contacts",
            registrar.max_contacts,
        );
        let comment = "Take Path, which a proxy on the way added, also from phones that do not say Supported: path.";
        key(out, comment, "path_without_support", registrar.path_without_support);
        let comment = "How often registrations go to the disk: what a power cut may cost. A crash costs nothing.";
        key(out, comment, "sync_interval_ms", registrar.sync_interval.as_millis());
    }

    fn render_access(&self, out: &mut String) {
        let comment = "Who may do what, by source address; the first rule that matches decides. \"allow\" opens\n\
                       gateways and foreign domains, \"deny\" refuses everything (403). Sources without a rule may\n\
                       register and call our own users.";
        if self.access.is_empty() {
            let _ = write!(
                out,
                "\n{}#\n# [[access]]\n# source = \"192.0.2.0/24\"\n# action = \"allow\"\n",
                commented(comment)
            );
        }
        for (i, Access { source, action }) in self.access.iter().enumerate() {
            section(out, "[[access]]", if i == 0 { comment } else { "" });
            line(out, "source", text(&source.to_string()));
            line(out, "action", text(action.as_str()));
        }
    }

    fn render_guard(&self, out: &mut String) {
        let guard = &self.guard;
        section(out, "[guard]", "");
        let comment = "Stop listening to sources (an address, an IPv6 /64) that send too much that leads nowhere.\n\
                       spsctl ban list shows them.";
        key(out, comment, "enabled", guard.enabled);
        let friends: Vec<String> = guard.friends.iter().map(ToString::to_string).collect();
        let friends = list(friends.iter().map(String::as_str));
        let comment = "Never banned; nor are sources that an [[access]] rule allows.";
        key(out, comment, "friends", friends);
        let comment = "What one source may send in a second, ten times as much at once: what cannot be read, requests\n\
                       that are refused, responses nobody waits for, new requests. Sources that are registered or in a\n\
                       call may send eight times as much. Answers to unknown sources over UDP, which may be forged:";
        key(out, comment, "malformed_per_s", guard.malformed_per_s);
        line(out, "refused_per_s", guard.refused_per_s);
        line(out, "stray_per_s", guard.stray_per_s);
        line(out, "new_per_s", guard.new_per_s);
        line(out, "answers_per_s", guard.answers_per_s);
        let comment = "The first ban, and the longest: each in a row lasts twice as long. 0: the excess is dropped, nobody\n\
                       banned.";
        key(out, comment, "ban_s", guard.ban_for.as_secs());
        line(out, "max_ban_s", guard.max_ban_for.as_secs());
        key(out, "Sources remembered, 64 bytes each.", "sources", guard.sources);
    }

    fn render_dns(&self, out: &mut String) {
        let dns = &self.dns;
        section(out, "[dns]", "");
        let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
        let servers = list(servers.iter().map(String::as_str));
        key(
            out,
            "Name servers to ask; none means those of this machine (resolv.conf(5)).",
            "servers",
            servers,
        );
        key(
            out,
            "How long a server has to answer, and how often an unanswered question is repeated.",
            "timeout_ms",
            dns.timeout.as_millis(),
        );
        line(out, "attempts", dns.attempts);
        let comment = "How long finding one next hop may take: NAPTR, SRV and addresses together.";
        key(out, comment, "total_timeout_ms", dns.total_timeout.as_millis());
        let comment = "A name that could not be resolved is not asked for again for so long.";
        key(out, comment, "failure_cache_s", dns.failure_cache_for.as_secs());
    }

    fn render_log(&self, out: &mut String) {
        let log = &self.log;
        section(out, "[log]", "");
        key(
            out,
            "Write one line for every finished transaction into the access log.",
            "access",
            log.access,
        );
        let comment = "How much goes into the error log: \"error\", \"warn\", \"info\", \"debug\" or \"trace\".";
        key(out, comment, "level", text(log.level.as_str()));
        let comment = "Other places for the logs; a relative path lies in the log folder.";
        optional(
            out,
            comment,
            "access_log",
            log.access_log.as_deref().map(path),
            "\"access_log\"",
        );
        optional(
            out,
            "",
            "error_log",
            log.error_log.as_deref().map(path),
            "\"error_log\"",
        );
    }
}

const HEAD: &str = "\
# SPS configuration. Every key is explained in sps.toml(5); spsctl check tests this file,
# spsctl reload puts it in force.
";

/// `all`: also keys that this listener has no use for.
fn listen_keys(out: &mut String, listen: &Listen, all: bool) {
    line(out, "transport", text(listen.transport.as_str()));
    line(out, "address", text(&listen.address.to_string()));
    line(out, "port", listen.port);
    let advertise = listen.advertise.as_ref().map(|a| text(&a.to_string()));
    optional(
        out,
        "What Via and Record-Route say instead.",
        "advertise",
        advertise,
        "\"sip.example.com:5060\"",
    );
    if all || listen.transport == Transport::Tls {
        optional(
            out,
            "With transport = \"tls\": another word than [tls] has.",
            "client_certificate",
            listen.client_certificate.map(|mode| text(mode.as_str())),
            "\"request\"",
        );
    }
}

/// A heading, with what there is to say about the section above it.
fn section(out: &mut String, title: &str, comment: &str) {
    let _ = writeln!(out, "\n{}{title}", commented(comment));
}

/// A key with its explanation.
fn key(out: &mut String, comment: &str, key: &str, value: impl std::fmt::Display) {
    out.push_str(&commented(comment));
    line(out, key, value);
}

fn line(out: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{key} = {value}");
}

/// A key that may be absent: then it is shown as a comment with an example.
fn optional(out: &mut String, comment: &str, key: &str, value: Option<String>, example: &str) {
    out.push_str(&commented(comment));
    match value {
        Some(value) => line(out, key, value),
        None => {
            let _ = writeln!(out, "# {key} = {example}");
        }
    }
}

fn commented(comment: &str) -> String {
    comment.lines().map(|line| format!("# {line}\n")).collect()
}

/// A TOML string.
fn text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Paths come from the configuration file, which is UTF-8.
fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.map(text).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InitOptions, keys};

    const EVERYTHING: &str = r#"
[server]
domain = "Example.com."
domains = ["sip.example.com", "[2001:DB8::1]", "192.0.2.1"]
workers = 3
user = "voice"
open_relay = true
member = 65535
[[listen]]
transport = "udp"
address = "0.0.0.0"
port = 5062
advertise = "sip.example.com:5080"
[[listen]]
transport = "tcp"
address = "2001:db8::1"
[[listen]]
transport = "tls"
address = "192.0.2.1"
client_certificate = "request"
[tls]
ca = "tls/ca.pem"
client_certificate = "require"
verify_server = false
match_via = false
min_version = "1.3"
handshake_timeout_ms = 777
max_handshakes = 22
session_cache = 44
user = "keys"
[[tls.certificate]]
certificate = "tls/cert.pem"
key = "/tls/key.pem"
names = ["sip.example.com"]
[[tls.certificate]]
certificate = "two.pem"
key = "two.key"
[proxy]
mode = "redirect"
recurse = true
caller_preferences = true
record_route = false
fork = "sequential"
max_breadth = 13
t1_ms = 0x100
t2_ms = 2_000
t4_ms = 3000
timer_c_s = 240
next_hop_timeout_ms = 5
dead_for_s = 6
retry_after_max_s = 8
udp_max_request_bytes = 1400
max_transactions = 7
max_stored_mib = 3
max_connections_per_source = 6
max_buffered_mib = 5
stream_first_message_s = 13
max_message_bytes = 4096
max_connections = 8
stream_idle_s = 9
stream_header_timeout_ms = 11
connect_timeout_ms = 12
[overload]
enabled = false
target_wait_ms = 31
feedback = false
[registrar]
enabled = false
min_expires_s = 1
max_expires_s = 3
default_expires_s = 2
max_contacts = 4
path_without_support = true
sync_interval_ms = 55
[[access]]
source = "192.0.2.0/24"
action = "deny"
[[access]]
source = "2001:db8::1"
action = "deny"
[guard]
enabled = false
friends = ["192.0.2.0/24", "2001:db8::1"]
malformed_per_s = 1
refused_per_s = 2
stray_per_s = 3
new_per_s = 4
answers_per_s = 5
ban_s = 6
max_ban_s = 7
sources = 2048
[dns]
servers = ["192.0.2.53", "[2001:db8::53]:5353"]
timeout_ms = 66
attempts = 2
total_timeout_ms = 67
failure_cache_s = 77
[log]
access = false
level = "trace"
access_log = '/tmp/with "quotes" and \ and '
error_log = "e\tü"
"#;

    #[test]
    fn what_is_printed_reads_back_to_the_same_value() {
        let file = Path::new("f.toml");
        let (config, warnings) = Config::parse(file, EVERYTHING).unwrap();
        // Of verify_server = false, which is not the default.
        assert_eq!(warnings.len(), 1, "{warnings}");
        let printed = config.render();
        let (again, _) = Config::parse(file, &printed).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again, config);
        assert_eq!(again.render(), printed);
        // Nothing in the test file stands at its default, or the round trip would prove nothing about that key.
        let (defaults, _) = Config::parse(
            file,
            "[server]\ndomain = \"d\"\n[[listen]]\ntransport = \"udp\"\naddress = \"::1\"",
        )
        .unwrap();
        let values = |config: &Config| serde_value(config);
        let (all, defaults) = (values(&config), values(&defaults));
        for key in keys() {
            let (section, name) = key.rsplit_once('.').unwrap();
            if !matches!(section, "listen" | "access") {
                assert!(EVERYTHING.contains(&format!("\n{name} = ")), "{key}");
            }
        }
        for (name, value) in &all {
            if !["listen", "access"].contains(&name.as_str()) {
                let default = &defaults[name];
                for (field, value) in value.as_table().unwrap() {
                    assert_ne!(Some(value), default.get(field), "{name}.{field} stands at its default");
                }
            }
        }
    }

    /// The configuration as generic values, section by section.
    fn serde_value(config: &Config) -> toml::Table {
        toml::Table::try_from(config).unwrap()
    }

    #[test]
    fn every_key_is_in_the_sample() {
        let sample = Config::sample(&InitOptions::default()).unwrap();
        let mut section = String::new();
        let mut found = Vec::new();
        for line in sample.lines().map(|line| line.trim_start_matches("# ")) {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
            } else if let Some((key, _)) = line.split_once(" = ")
                && key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            {
                found.push(format!("{section}.{key}"));
            }
        }
        for key in keys() {
            assert!(found.contains(&key), "{key} is missing from the sample");
        }
        for key in found {
            assert!(keys().contains(&key), "{key} is in the sample and nowhere else");
        }
    }
}
