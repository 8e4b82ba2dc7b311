//! sps-master: parses the configuration, binds the listeners, starts, watches and replaces the others. See sps-master(8).
#![forbid(unsafe_code)]

mod backoff;
mod child;
mod clock;
mod door;
mod event;
mod folders;
mod jobs;
mod keys;
mod life;
mod listen;
mod process;
mod starter;
mod supervise;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use sps_conf::{Config, Paths};
use sps_daemon::{Confine, Exit, Fatal, Ids, Lock, LogConf, OrFatal};
use sps_ipc::parent::Frozen;

use crate::child::{Child, SPECS};
use crate::clock::Clock;
use crate::event::Event;
use crate::jobs::Jobs;
use crate::listen::Listeners;
use crate::starter::Starter;
use crate::supervise::{Phase, Supervisor};

/// Starts the SPS daemons, watches them, and replaces those that die
///
/// Usually started by `spsctl start` or by the service manager. Stays in the foreground, and stops everything on TERM or INT.
#[derive(Debug, Parser)]
#[command(name = "sps-master", version)]
struct Args {
    /// Folder that holds the whole instance (configuration, data, sockets, logs) instead of the system's folders
    #[arg(long, env = "SPS_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    /// Stay in the foreground, as it does anyway, and log to the terminal as well
    #[arg(long, conflicts_with = "background")]
    foreground: bool,
    /// Leave the terminal and report to the process at the other end of stdout; for `spsctl start`
    #[arg(long)]
    background: bool,
}

fn main() -> ExitCode {
    sps_daemon::main(|args: Args| {
        let mut starter = if args.background {
            Starter::Pipe
        } else {
            Starter::Terminal
        };
        run(&args, starter).inspect_err(|fatal| starter.failed(fatal))
    })
}

/// Each step relies on the ones above it. Nothing that runs is touched before the configuration has proved good.
fn run(args: &Args, starter: Starter) -> Result<(), Fatal> {
    let paths = Paths::new(args.root.as_deref().filter(|root| !root.as_os_str().is_empty()));
    if args.background {
        leave_terminal()?;
    }
    let (conf, warnings) = load(&paths)?;
    let owner = owner(&paths, &conf)?;
    let tls = conf
        .tls_material(&paths)
        .or_fatal(Exit::Config, "read what [tls] names")?;
    let children = children(&conf, owner)?;
    folders::make(&paths, owner)?;
    let _lock = Lock::take(&paths)?;
    folders::make_logs(&paths, &conf, owner)?;
    let generation = folders::next_generation(&paths)?;
    start_log(&paths, &conf, generation, args.background)?;
    if !warnings.is_empty() {
        tracing::warn!("{warnings}");
    }
    end_orphans(&paths, starter);
    let open_files_limit = sps_daemon::raise_open_files();
    let workers = u16::try_from(conf.server.worker_count().max(1)).unwrap_or(u16::MAX);
    let listeners = Listeners::bind(&conf.listen, workers)?;
    let mac_keys = keys::load_or_make(&paths.mac_keys())?;
    let folder = folders::begin_generation(&paths, generation, owner)?;
    folders::write_pid(&paths)?;
    sps_daemon::confine(&keep(&paths, &conf, &children))?;
    sps_daemon::start_log_thread()?;

    let (events, queue) = sync_channel(event::QUEUE_LEN);
    take_signals(events.clone())?;
    door::open(&paths.master_socket(), events.clone())?;
    tracing::info!(release = env!("CARGO_PKG_VERSION"), folder = %folder.display(), workers, "sps-master");
    let now = Instant::now();
    let levels = Vec::new();
    let frozen = Frozen {
        generation,
        number: 1,
        conf,
        paths: paths.clone(),
        mac_keys,
        tls,
        listeners: Vec::new(),
        workers,
        levels,
    };
    let mut supervisor = Supervisor {
        paths: paths.clone(),
        owner,
        frozen,
        configured_at: SystemTime::now(),
        listeners: Arc::new(listeners),
        children,
        events,
        starter,
        quiet: args.background,
        open_files_limit,
        started_at: now,
        clock: Clock::new(now, SystemTime::now()),
        phase: Phase::Coming,
        jobs: Jobs::default(),
    };
    let result = supervisor.run(&queue);
    folders::end_generation(&paths, generation);
    tracing::info!("sps-master ends");
    result
}

/// The configuration, with what is worth a warning.
fn load(paths: &Paths) -> Result<(Config, sps_conf::Problems), Fatal> {
    Config::load_noting(&paths.config).map_err(|problems| {
        let exit = if problems.is_unreadable() {
            Exit::NoInput
        } else {
            Exit::Config
        };
        Fatal::new(exit, problems.to_string())
    })
}

/// Whom the daemons run as when that is not us: `[server] user` when we are root and installed. Below `--root` everything runs as
/// the calling user.
fn owner(paths: &Paths, conf: &Config) -> Result<Option<Ids>, Fatal> {
    if paths.root.is_some() || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    sps_daemon::look_up_user(&conf.server.user).map(Some)
}

/// No terminal, no folder that we would keep busy.
fn leave_terminal() -> Result<(), Fatal> {
    // Refused only to the leader of a process group, which has no terminal to fear from a shell either.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").or_fatal(Exit::System, "leave the current folder")
}

fn start_log(paths: &Paths, conf: &Config, generation: u32, background: bool) -> Result<(), Fatal> {
    let path = paths.error_log(&conf.log);
    if background && let Ok(file) = sps_daemon::open_log_file(&path) {
        // What the runtime has to say when it dies. The terminal of whoever started us is not ours.
        let _ = rustix::stdio::dup2_stderr(&file);
    }
    sps_daemon::start_log_with(LogConf {
        daemon: "sps-master",
        generation,
        path,
        level: conf.log.level,
        levels: Vec::new(),
    })
}

/// Ends daemons that outlived a master which was killed.
fn end_orphans(paths: &Paths, starter: Starter) {
    /// They may finish what they have begun.
    const WITHIN: Duration = Duration::from_secs(5);
    let orphans = sps_daemon::find_orphans(&paths.run);
    for orphan in &orphans {
        let text = format!(
            "ending {} (process {}), left over from an sps-master that was killed",
            orphan.name, orphan.pid
        );
        tracing::warn!("{text}");
        starter.progress(&text);
    }
    for killed in sps_daemon::end_orphans(&orphans, WITHIN) {
        tracing::warn!("{killed} did not stop and was killed");
    }
}

/// TERM and INT go to the queue. HUP is taken and means nothing: `spsctl reload` says whether it worked.
fn take_signals(events: SyncSender<Event>) -> Result<(), Fatal> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).or_fatal(Exit::System, "take signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if signal != SIGHUP && events.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        })
        .map(drop)
        .or_fatal(Exit::System, "start the signal thread")
}

/// What we and the daemons need; they inherit it and keep less. Everything else is out of reach from here on.
fn keep(paths: &Paths, conf: &Config, children: &[Child]) -> Confine {
    let mut keep = Confine::system();
    keep.tcp = true;
    keep.read.extend(paths.config.parent().map(Path::to_owned));
    // A reload reads the files of [tls] anew; certificates are often links into a folder that changes.
    for file in conf.tls_files(paths) {
        let real = file.canonicalize();
        let folders = [Some(file.as_path()), real.as_deref().ok()];
        keep.read.extend(
            folders
                .into_iter()
                .flatten()
                .filter_map(Path::parent)
                .map(Path::to_owned),
        );
    }
    keep.execute = ["/bin", "/lib", "/lib64", "/usr"].map(PathBuf::from).to_vec();
    for child in children {
        // Where it really lies, should the name lead elsewhere.
        let program = child.program.canonicalize();
        keep.execute
            .extend(program.ok().as_deref().and_then(Path::parent).map(Path::to_owned));
    }
    let logs = [paths.access_log(&conf.log), paths.error_log(&conf.log)];
    keep.write
        .extend(logs.iter().filter_map(|path| path.parent()).map(Path::to_owned));
    // The private channels begin at a socket in the folder for temporary files.
    keep.write.extend([
        paths.data.clone(),
        paths.run.clone(),
        paths.log.clone(),
        std::env::temp_dir(),
    ]);
    keep
}

/// The daemons' programs lie beside ours: one build.
fn children(conf: &Config, owner: Option<Ids>) -> Result<Vec<Child>, Fatal> {
    let us = std::env::current_exe().or_fatal(Exit::System, "find the programs")?;
    let folder = us.parent().unwrap_or(Path::new("/")).to_owned();
    let wanted = SPECS.into_iter().filter(|spec| conf.speaks_tls() || !spec.tls);
    wanted
        .map(|spec| {
            let program = folder.join(spec.name);
            let owner = match owner {
                // A user of its own, so that nobody else can look into it; our group, so that it can meet the others.
                Some(Ids { gid, .. }) if spec.tls => Some(Ids {
                    gid,
                    ..sps_daemon::look_up_user(&conf.tls.user)?
                }),
                owner => owner,
            };
            if program.is_file() {
                Ok(Child::new(spec, program, owner))
            } else {
                Err(Fatal::new(
                    Exit::NoInput,
                    format!("there is no {} beside {}", spec.name, us.display()),
                ))
            }
        })
        .collect()
}
