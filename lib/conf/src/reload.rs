//! Which changes a running instance can take, and which need a restart.

use crate::{Config, Listen};

impl Config {
    /// Why `new` cannot replace `old` while the daemons run; empty when `spsctl reload` will do. One text a key.
    ///
    /// What needs a restart is what a process gets once at its start: its sockets, threads, user, tables of a fixed size.
    pub fn reload_obstacles(old: &Config, new: &Config) -> Vec<String> {
        let mut obstacles = Vec::new();
        let (old_listen, new_listen) = (addresses(&old.listen), addresses(&new.listen));
        let gone = old_listen.iter().filter(|address| !new_listen.contains(address));
        obstacles.extend(gone.map(|address| format!("[[listen]] {address} is gone")));
        let added = new_listen.iter().filter(|address| !old_listen.contains(address));
        obstacles.extend(added.map(|address| format!("[[listen]] {address} is new")));
        if obstacles.is_empty() && old.listen != new.listen {
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
        changed(
            "[proxy] max_transactions",
            &old.proxy.max_transactions,
            &new.proxy.max_transactions,
        );
        changed(
            "[proxy] max_connections",
            &old.proxy.max_connections,
            &new.proxy.max_connections,
        );
        changed(
            "[proxy] max_message_bytes",
            &old.proxy.max_message_len,
            &new.proxy.max_message_len,
        );
        changed("[registrar] enabled", &old.registrar.enabled, &new.registrar.enabled);
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
        new.log.level = crate::Level::Debug;
        new.dns.attempts = 3;
        new.access = config(&format!("{BASE}[[access]]\nsource = \"::/0\"\naction = \"deny\"\n")).access;
        assert_eq!(Config::reload_obstacles(&old, &new), Vec::<String>::new());
    }

    #[test]
    fn sockets_threads_and_users_need_a_restart_and_each_is_named() {
        let old = config(BASE);
        let mut new = config(&BASE.replace("udp", "tcp"));
        new.server.workers = 2;
        new.server.user = "other".into();
        new.registrar.enabled = false;
        let obstacles = Config::reload_obstacles(&old, &new).join("\n");
        for part in [
            "udp:127.0.0.1:5060 is gone",
            "tcp:127.0.0.1:5060 is new",
            "workers",
            "user",
            "enabled",
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
