//! Which changes a running instance can take, and which need a restart.

use crate::{Config, Dns, Listen, Proxy};

impl Config {
    /// Why `new` cannot replace `old` while the daemons run; empty when `spsctl reload` will do. One text a key.
    ///
    /// What needs a restart is what a process gets once at its start: its sockets, threads, user, tables of a fixed size, and what
    /// the parts that hold connections and names were made with.
    pub fn reload_obstacles(old: &Config, new: &Config) -> Vec<String> {
        let mut obstacles = Vec::new();
        let (old_listen, new_listen) = (addresses(&old.listen), addresses(&new.listen));
        let gone = old_listen.iter().filter(|address| !new_listen.contains(address));
        obstacles.extend(gone.map(|address| format!("[[listen]] {address} is gone")));
        let added = new_listen.iter().filter(|address| !old_listen.contains(address));
        obstacles.extend(added.map(|address| format!("[[listen]] {address} is new")));
        let plain = |listen: &[Listen]| -> Vec<Listen> {
            let without = |one: &Listen| Listen {
                client_certificate: None,
                ..one.clone()
            };
            listen.iter().map(without).collect()
        };
        if obstacles.is_empty() && plain(&old.listen) != plain(&new.listen) {
            obstacles.push("[[listen]] order or advertise has changed".into());
        }
        let mut changed = |key: &str, old: &dyn ToString, new: &dyn ToString| {
            let (old, new) = (old.to_string(), new.to_string());
            if old != new {
                obstacles.push(format!("{key} has changed from {old} to {new}"));
            }
        };
        changed("[server] workers", &old.server.workers, &new.server.workers);
        changed("[server] user", &old.server.user, &new.server.user);
        changed("[server] member", &old.server.member, &new.server.member);
        changed("[tls] user", &old.tls.user, &new.tls.user);
        let (o, n) = (&old.proxy, &new.proxy);
        changed("[proxy] max_transactions", &o.max_transactions, &n.max_transactions);
        changed("[proxy] max_connections", &o.max_connections, &n.max_connections);
        let per_source = |proxy: &Proxy| proxy.max_connections_per_source;
        changed("[proxy] max_connections_per_source", &per_source(o), &per_source(n));
        let buffered = |proxy: &Proxy| proxy.max_buffered_len >> 20;
        changed("[proxy] max_buffered_mib", &buffered(o), &buffered(n));
        changed("[proxy] max_message_bytes", &o.max_message_len, &n.max_message_len);
        let first = |proxy: &Proxy| proxy.stream_first_message_timeout.as_secs();
        changed("[proxy] stream_first_message_s", &first(o), &first(n));
        let idle = |proxy: &Proxy| proxy.stream_idle_timeout.as_secs();
        changed("[proxy] stream_idle_s", &idle(o), &idle(n));
        let header = |proxy: &Proxy| proxy.stream_header_timeout.as_millis();
        changed("[proxy] stream_header_timeout_ms", &header(o), &header(n));
        let connect = |proxy: &Proxy| proxy.connect_timeout.as_millis();
        changed("[proxy] connect_timeout_ms", &connect(o), &connect(n));
        let sync = |config: &Config| config.registrar.sync_interval.as_millis();
        changed("[registrar] sync_interval_ms", &sync(old), &sync(new));
        let servers = |dns: &Dns| format!("{:?}", dns.servers);
        changed("[dns] servers", &servers(&old.dns), &servers(&new.dns));
        changed(
            "[dns] timeout_ms",
            &old.dns.timeout.as_millis(),
            &new.dns.timeout.as_millis(),
        );
        changed("[dns] attempts", &old.dns.attempts, &new.dns.attempts);
        let total = |dns: &Dns| dns.total_timeout.as_millis();
        changed("[dns] total_timeout_ms", &total(&old.dns), &total(&new.dns));
        let failure = |dns: &Dns| dns.failure_cache_for.as_secs();
        changed("[dns] failure_cache_s", &failure(&old.dns), &failure(&new.dns));
        obstacles
    }
}

/// What the listeners are bound to.
fn addresses(listen: &[Listen]) -> Vec<String> {
    listen.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("f"), text)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .0
    }

    const BASE: &str = "[server]\ndomain = \"d\"\n[[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\n";

    #[test]
    fn domains_timers_rules_and_levels_can_be_reloaded() {
        let old = config(BASE);
        assert!(Config::reload_obstacles(&old, &old).is_empty());
        let mut new = old.clone();
        new.server.domain = "e".into();
        new.proxy.t1 = Duration::from_millis(100);
        new.registrar.max_contacts = 1;
        new.registrar.enabled = false;
        new.log.level = crate::Level::Debug;
        new.access = config(&format!("{BASE}[[access]]\nsource = \"::/0\"\naction = \"deny\"\n")).access;
        assert_eq!(Config::reload_obstacles(&old, &new), Vec::<String>::new());
    }

    #[test]
    fn sockets_threads_and_users_need_a_restart_and_each_is_named() {
        let old = config(BASE);
        let mut new = config(&BASE.replace("udp", "tcp"));
        new.server.workers = 2;
        new.server.user = "other".into();
        new.dns.attempts = 3;
        let obstacles = Config::reload_obstacles(&old, &new).join("\n");
        for part in [
            "udp:127.0.0.1:5060 is gone",
            "tcp:127.0.0.1:5060 is new",
            "workers",
            "user",
            "attempts",
        ] {
            assert!(obstacles.contains(part), "{part}: {obstacles}");
        }
        let mut new = old.clone();
        new.listen[0].advertise = Some(crate::Advertise {
            host: "x".into(),
            port: None,
        });
        assert_eq!(Config::reload_obstacles(&old, &new).len(), 1);
    }
}
