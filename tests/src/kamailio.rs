//! Debian's Kamailio as a foreign proxy in a chain.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use crate::net::{free_addr, wait_udp_bound};
use crate::process::{Process, find};

/// A running Kamailio.
pub struct Kamailio {
    addr: SocketAddr,
    _process: Process,
}

impl Kamailio {
    /// A stateful, record-routing proxy on a free port that sends every initial request on to `next`.
    pub fn start(folder: &Path, ip: IpAddr, next: SocketAddr) -> Kamailio {
        let addr = free_addr(ip);
        let run = folder.join("kamailio");
        fs::create_dir_all(&run).expect("the test folder can be written");
        let file = run.join("kamailio.cfg");
        fs::write(&file, configuration(addr, next)).expect("the test folder can be written");
        let mut command = Command::new(find("kamailio").expect("the test asked for kamailio first"));
        command
            .args(["-DD", "-E", "-m", "64", "-M", "8", "-w"])
            .arg(&run)
            .arg("-Y")
            .arg(&run)
            .arg("-f")
            .arg(&file);
        let mut process = Process::start("kamailio", command, folder);
        wait_udp_bound(addr.port());
        assert!(!process.has_ended(), "kamailio ended at once:\n{}", process.output());
        Kamailio {
            addr,
            _process: process,
        }
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
