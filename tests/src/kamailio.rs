//! Debian's Kamailio as a foreign proxy in a chain.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::net::{free_addr, wait_udp_bound};
use crate::process::{Process, find};

/// A running Kamailio.
pub struct Kamailio {
    addr: SocketAddr,
    _process: Process,
}

/// Where Debian puts the module for TLS.
fn tls_module() -> Option<PathBuf> {
    let libraries = fs::read_dir("/usr/lib").ok()?.flatten();
    libraries
        .map(|entry| entry.path().join("kamailio/modules/tls.so"))
        .find(|path| path.exists())
}

/// Whether Debian's `kamailio-tls-modules` is there.
pub fn has_tls() -> bool {
    tls_module().is_some()
}

impl Kamailio {
    /// A stateful, record-routing proxy on a free port that sends every initial request on to `next`.
    pub fn start(folder: &Path, ip: IpAddr, next: SocketAddr) -> Kamailio {
        let addr = free_addr(ip);
        Kamailio::run(folder, addr, &configuration(addr, next), || wait_udp_bound(addr.port()))
    }

    /// An edge proxy on a free port: puts itself on the Path of every REGISTER (RFC 3327) and sends what comes without a Route on
    /// to `next`.
    pub fn edge(folder: &Path, ip: IpAddr, next: SocketAddr) -> Kamailio {
        let addr = free_addr(ip);
        // loose_route() says no when a Route that was there already named Kamailio alone, but has taken it off.
        let path = format!(
            "    if (is_method(\"REGISTER\")) {{ if (!add_path()) {{ sl_send_reply(\"503\", \"No Path\"); exit; }} }}\n    \
             if ($sp == {}) {{ loose_route(); t_relay(); exit; }}\n    $du = ",
            next.port()
        );
        let plain = configuration(addr, next);
        let edge = plain
            .replace("loadmodule \"rr.so\"", "loadmodule \"rr.so\"\nloadmodule \"path.so\"")
            .replace("    $du = ", &path);
        Kamailio::run(folder, addr, &edge, || wait_udp_bound(addr.port()))
    }

    fn run(folder: &Path, addr: SocketAddr, configuration: &str, wait: impl FnOnce()) -> Kamailio {
        let run = folder.join("kamailio");
        fs::create_dir_all(&run).expect("the test folder can be written");
        let file = run.join("kamailio.cfg");
        fs::write(&file, configuration).expect("the test folder can be written");
        let mut command = Command::new(find("kamailio").expect("the test asked for kamailio first"));
        command
            .args(["-DD", "-E", "-m", "64", "-M", "8", "-w"])
            .arg(&run)
            .arg("-Y")
            .arg(&run)
            .arg("-f")
            .arg(&file);
        let mut process = Process::start("kamailio", command, folder);
        wait();
        assert!(!process.has_ended(), "kamailio ended at once:\n{}", process.output());
        Kamailio {
            addr,
            _process: process,
        }
    }

    /// The same over TLS both ways: shows `certificate` with `key`, believes `ca` and demands a server that it signed; sends all that is
    /// new to `user` behind `next`.
    pub fn start_tls(folder: &Path, ip: IpAddr, next: SocketAddr, user: &str, files: [&Path; 3]) -> Kamailio {
        let addr = free_addr(ip);
        let [certificate, key, ca] = files.map(Path::display);
        let head = format!(
            "enable_tls=yes\nlisten=tls:{addr}\nloadmodule \"{}\"\n\
             modparam(\"tls\", \"tls_method\", \"TLSv1.2+\")\n\
             modparam(\"tls\", \"certificate\", \"{certificate}\")\nmodparam(\"tls\", \"private_key\", \"{key}\")\n\
             modparam(\"tls\", \"ca_list\", \"{ca}\")\nmodparam(\"tls\", \"verify_certificate\", 1)\n\
             modparam(\"tls\", \"require_certificate\", 1)\n",
            tls_module().expect("the test asked for it first").display(),
        );
        let text = configuration(addr, next)
            .replace(
                &format!("disable_tcp=yes\nauto_aliases=no\nlisten=udp:{addr}\n"),
                &format!("auto_aliases=no\n{head}"),
            )
            .replace(
                &format!("$du = \"sip:{next}\";"),
                &format!("$ru = \"{user}\"; $du = \"sip:{next};transport=tls\";"),
            );
        Kamailio::run(folder, addr, &text, || crate::net::wait_tcp_listening(addr.port()))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

fn configuration(addr: SocketAddr, next: SocketAddr) -> String {
    format!(
        r#"#!KAMAILIO
debug=0
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
listen=udp:{addr}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here");
        exit;
    }}
    if (t_lookup_request()) exit;
    record_route();
    $du = "sip:{next}";
    t_relay();
}}
"#
    )
}
