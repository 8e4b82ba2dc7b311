//! Who is measured: SPS, Debian's Kamailio, the bare forwarder. Each load gets a fresh one, on the processor set aside for
//! contenders.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sps_tests::net::{free_addr, wait_udp_bound};
use sps_tests::process::{Process, find};
use sps_tests::{Instance, Options};

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Moves datagrams, looks at nothing.
    Forwarder,
    /// Debian's.
    Kamailio,
    /// Ours.
    Sps,
}

impl Name {
    /// As printed and as `--only` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Forwarder => "forwarder",
            Name::Kamailio => "kamailio",
            Name::Sps => "sps",
        }
    }
}

/// A running contender.
pub struct Contender {
    /// Where it takes SIP.
    pub addr: SocketAddr,
    /// What a call is addressed to, after `sip:`.
    pub target: String,
    /// Its domain, for registrations.
    pub domain: String,
    /// The process whose tree is counted.
    pub root: u32,
    kept: Kept,
}

/// What runs as long as this does.
#[expect(dead_code, reason = "held for their Drop")]
enum Kept {
    Process(Process),
    Instance(Box<Instance>),
}

/// Loopback, where everything happens.
pub const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Contender {
    /// Starts it as a proxy whose route for every number leads to `callee`.
    pub fn proxy(name: Name, caller: SocketAddr, callee: SocketAddr, folder: &Path) -> Result<Contender, String> {
        match name {
            Name::Forwarder => {
                let addr = free_addr(IP);
                let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
                command.args(["forward", "--listen", &addr.to_string()]);
                command.args(["--caller", &caller.to_string(), "--callee", &callee.to_string()]);
                let process = Process::start("forwarder", command, folder);
                wait_udp_bound(addr.port());
                let root = process.pid();
                Ok(Contender {
                    addr,
                    target: format!("{NUMBER}@{DOMAIN}"),
                    domain: DOMAIN.into(),
                    root,
                    kept: Kept::Process(process),
                })
            }
            Name::Kamailio => kamailio(
                &format!("    record_route();\n    $du = \"sip:{callee}\";\n    t_relay();\n"),
                folder,
            ),
            Name::Sps => Contender::sps_with(PLENTY, callee),
        }
    }

    /// Starts SPS with these sections as a proxy whose route for every number leads to `callee`.
    pub fn sps_with(sections: &str, callee: SocketAddr) -> Result<Contender, String> {
        let sps = sps(sections)?;
        let Kept::Instance(instance) = &sps.kept else {
            unreachable!("sps() starts an instance")
        };
        instance.route("+1555*", callee);
        Ok(sps)
    }

    /// The process that does the proxy's work; SPS only.
    pub fn proxy_pid(&self) -> Result<u32, String> {
        match &self.kept {
            Kept::Instance(instance) => Ok(instance.pid("sps-proxy")),
            Kept::Process(_) => Err("only SPS has a process of that name".into()),
        }
    }

    /// What `spsctl status` says; SPS only.
    pub fn status(&self) -> String {
        match &self.kept {
            Kept::Instance(instance) => instance.spsctl(&["status"]).stdout,
            Kept::Process(_) => String::new(),
        }
    }

    /// Starts it as a registrar; the forwarder cannot.
    pub fn registrar(name: Name, folder: &Path) -> Result<Contender, String> {
        match name {
            Name::Forwarder => Err("the forwarder registers nobody".into()),
            Name::Kamailio => kamailio("    save(\"location\");\n", folder),
            Name::Sps => sps(PLENTY),
        }
    }
}

impl Contender {
    /// Imports this many routes for numbers that nobody calls; SPS only.
    pub fn import_routes(&self, count: u32) -> Result<(), String> {
        let Kept::Instance(instance) = &self.kept else {
            return Err("only SPS takes routes from a file".into());
        };
        let file = instance.root().join("routes.csv");
        let mut text = String::from("pattern,domain,next_hop,transport,priority,weight\n");
        // Import may take the place of all there was: the route of the load goes with it.
        text.push_str(instance.spsroute(&["export"]).stdout.lines().nth(1).unwrap_or_default());
        text.push('\n');
        for n in 0..count {
            let _ = writeln!(text, "7{n:08},,192.0.2.1,udp,1,1");
        }
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let said = instance.spsroute(&["import", &file.to_string_lossy()]);
        if said.code == 0 { Ok(()) } else { Err(said.stderr) }
    }
}

/// The generator makes in seconds what a network makes in many minutes; transactions stay for 32 s.
pub const PLENTY: &str = "[proxy]\nmax_transactions = 4000000";

fn sps(sections: &str) -> Result<Contender, String> {
    let options = Options::new().section(sections);
    let instance = Instance::start(options);
    let pid =
        fs::read_to_string(instance.root().join("run/sps.pid")).map_err(|error| format!("run/sps.pid: {error}"))?;
    let root = pid.trim().parse().map_err(|_| format!("run/sps.pid: {pid:?}"))?;
    let domain = sps_tests::instance::DOMAIN;
    Ok(Contender {
        addr: instance.addr(),
        target: format!("{NUMBER}@{domain}"),
        domain: domain.into(),
        root,
        kept: Kept::Instance(Box::new(instance)),
    })
}

/// A stateful, record-routing proxy and memory-only registrar: what is needed and nothing else, no log.
fn kamailio(initial: &str, folder: &Path) -> Result<Contender, String> {
    let program = find("kamailio").ok_or("kamailio is not installed")?;
    let addr = free_addr(IP);
    let run = (0..)
        .map(|n| folder.join(format!("kamailio-{n}")))
        .find(|path| fs::create_dir(path).is_ok())
        .expect("numbers do not run out");
    let file = run.join("kamailio.cfg");
    fs::write(&file, kamailio_configuration(addr, initial)).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .args(["-DD", "-E", "-x", "tlsf", "-m", "2048", "-M", "16", "-w"])
        .arg(&run)
        .arg("-Y")
        .arg(&run)
        .arg("-f")
        .arg(&file);
    let process = Process::start("kamailio", command, folder);
    wait_udp_bound(addr.port());
    let root = process.pid();
    Ok(Contender {
        addr,
        target: format!("{NUMBER}@{DOMAIN}"),
        domain: DOMAIN.into(),
        root,
        kept: Kept::Process(process),
    })
}

fn kamailio_configuration(addr: SocketAddr, initial: &str) -> String {
    // One worker: there is one processor, and a second one costs Kamailio more than it gives.
    format!(
        r#"#!KAMAILIO
debug=-1
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:{addr}
alias="{DOMAIN}"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "hash_size", 14)
modparam("registrar", "max_expires", 7200)
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
{initial}}}
"#
    )
}

/// Runs `start` with the processor set aside for contenders, so that whatever it starts stays there, and returns to the
/// generator's.
pub fn on_contenders_cpu<T>(cpus: Cpus, start: impl FnOnce() -> T) -> T {
    pin(cpus.contender);
    let result = start();
    pin(cpus.generator);
    result
}

/// Which processor is whose.
#[derive(Debug, Clone, Copy)]
pub struct Cpus {
    /// The generator's.
    pub generator: usize,
    /// The contenders'.
    pub contender: usize,
}

/// The first and the last processor we may use.
pub fn cpus() -> Result<Cpus, String> {
    let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).map_err(|error| error.to_string())?;
    let mine: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect();
    match mine.as_slice() {
        [first, .., last] => Ok(Cpus {
            generator: *first,
            contender: *last,
        }),
        _ => Err("needs two processors: one for the generator, one for the contender".into()),
    }
}

/// Binds this thread, and what it starts from now on, to one processor.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("the processor was listed as ours");
    sched_setaffinity(Pid::from_raw(0), &set).expect("the processor was listed as ours");
}

const DOMAIN: &str = "bench.test";
/// The number that is called; the routes match its beginning.
const NUMBER: &str = "+15550100";
