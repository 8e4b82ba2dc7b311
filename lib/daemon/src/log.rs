//! The error log: what `tracing` is told becomes lines of time, daemon, generation, level, module, message, fields.
//!
//! `2026-11-20T06:01:02.123Z sps-proxy/3 WARN sps_net::udp: kernel dropped datagrams listener=udp:0.0.0.0:5060 count=12`
//!
//! Until [`start_log_thread`] (a daemon's [`crate::Parent::ready`] calls it) lines are written by whoever says them; afterwards by a
//! thread of their own, so that a slow disk holds up nobody: callers only append to a bounded buffer, and lines beyond it are
//! counted and the count is logged. Control characters are escaped. Spans are not used.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use sps_conf::Level;
use sps_ipc::parent::Frozen;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::file::LogFile;
use crate::{Exit, Fatal, OrFatal, time};

/// Who logs, and where to.
#[derive(Debug, Clone)]
pub struct LogConf {
    /// `sps-proxy` and so on.
    pub daemon: &'static str,
    /// Counts the starts of the master.
    pub generation: u32,
    /// The file.
    pub path: PathBuf,
    /// What is logged.
    pub level: Level,
    /// Exceptions per module.
    pub levels: Vec<(String, Level)>,
}

impl LogConf {
    /// As the frozen configuration says.
    pub fn of(daemon: &'static str, frozen: &Frozen) -> Self {
        Self {
            daemon,
            generation: frozen.generation,
            path: frozen.error_log(),
            level: frozen.conf.log.level,
            levels: frozen.levels.clone(),
        }
    }
}

/// Starts logging for a daemon. Panics go to the log from now on.
///
/// # Errors
/// The file cannot be opened; logging has been started already.
pub fn start_log(daemon: &'static str, frozen: &Frozen) -> Result<(), Fatal> {
    start_log_with(LogConf::of(daemon, frozen))
}

/// [`start_log`] without a parent.
///
/// # Errors
/// As [`start_log`].
pub fn start_log_with(conf: LogConf) -> Result<(), Fatal> {
    let file = LogFile::open(&conf.path).or_fatal(Exit::Storage, format!("open log {}", conf.path.display()))?;
    let log = Log {
        source: format!("{}/{}", conf.daemon, conf.generation),
        levels: Mutex::new(Levels {
            all: conf.level,
            modules: Vec::new(),
        }),
        queue: Mutex::new(Queue {
            file: Some(file),
            ..Queue::default()
        }),
        wake: Condvar::new(),
        done: Condvar::new(),
        echo: io::stderr().is_terminal(),
    };
    for (module, level) in conf.levels {
        lock(&log.levels).set(Some(&module), level);
    }
    let log = LOG.get_or_init(|| log);
    tracing::subscriber::set_global_default(Forward(log)).or_fatal(Exit::Software, "start logging")?;
    std::panic::set_hook(Box::new(|info| {
        tracing::error!(target: "panic", thread = std::thread::current().name().unwrap_or("?"), "{info}");
        flush_log();
    }));
    Ok(())
}

/// Hands the writing over to a thread. Harmless when there is one, or no log.
///
/// # Errors
/// The system gives no thread.
pub fn start_log_thread() -> Result<(), Fatal> {
    let Some(log) = LOG.get() else { return Ok(()) };
    let Some(file) = lock(&log.queue).file.take() else {
        return Ok(());
    };
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || log.serve(file))
        .or_fatal(Exit::System, "start the log thread")?;
    Ok(())
}

/// Opens the log anew at its path, after what has been said so far is in the old one.
///
/// # Errors
/// The path cannot be opened (the old file goes on being written), or the disk did not answer in time.
pub fn log_reopen() -> io::Result<()> {
    reopen(None)
}

/// Takes a new configuration: the path, and the general level. Levels of modules set at run time go.
///
/// # Errors
/// As [`log_reopen`]; the level holds all the same.
pub fn log_configure(path: &Path, level: Level) -> io::Result<()> {
    log_level(None, level);
    reopen(Some(path.to_owned()))
}

/// At `path`, or where it is.
fn reopen(path: Option<PathBuf>) -> io::Result<()> {
    LOG.get().map_or(Ok(()), |log| log.reopen(path))
}

/// Logs more or less from now on: a module (`sps_net::udp` and all below it), or everything.
pub fn log_level(module: Option<&str>, level: Level) {
    if let Some(log) = LOG.get() {
        lock(&log.levels).set(module, level);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Waits, not for long, until what has been said so far is written.
pub fn flush_log() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}

/// How long anybody waits for the log thread.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What may wait to be written: a minute of a busy debug log's disk being away.
const MAX_QUEUED_LEN: usize = 1 << 20;

/// The longest line; the rest of it is cut.
const MAX_LINE_LEN: usize = 8 * 1024;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    /// `sps-proxy/3`
    source: String,
    levels: Mutex<Levels>,
    queue: Mutex<Queue>,
    /// Something to write, or to reopen.
    wake: Condvar,
    /// Written, or reopened.
    done: Condvar,
    /// Somebody looks on: lines go to stderr as well.
    echo: bool,
}

#[derive(Default)]
struct Queue {
    /// Here until the thread takes it.
    file: Option<LogFile>,
    lines: Vec<u8>,
    writing: bool,
    lost: u64,
    reopen: Option<Reopen>,
}

enum Reopen {
    /// At this path, or where it is.
    Wanted(Option<PathBuf>),
    Done(io::Result<()>),
}

impl Log {
    fn say(&self, line: &[u8]) {
        let mut queue = lock(&self.queue);
        if let Some(file) = &mut queue.file {
            let lost = self.write(file, line);
            queue.lost += lost;
        } else if queue.lines.len() + line.len() > MAX_QUEUED_LEN {
            queue.lost += 1;
        } else {
            queue.lines.extend_from_slice(line);
            self.wake.notify_one();
        }
    }

    fn reopen(&self, path: Option<PathBuf>) -> io::Result<()> {
        let mut queue = lock(&self.queue);
        if let Some(file) = &mut queue.file {
            return file.reopen(path.as_deref());
        }
        queue.reopen = Some(Reopen::Wanted(path));
        self.wake.notify_one();
        let mut queue = wait_until(&self.done, queue, |queue| matches!(queue.reopen, Some(Reopen::Done(_))));
        match queue.reopen.take() {
            Some(Reopen::Done(result)) => result,
            Some(Reopen::Wanted(_)) | None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn flush(&self) {
        let queue = lock(&self.queue);
        if queue.file.is_none() {
            drop(wait_until(&self.done, queue, |queue| {
                queue.lines.is_empty() && !queue.writing
            }));
        }
    }

    /// The log thread.
    fn serve(&self, mut file: LogFile) {
        let mut lines = Vec::new();
        loop {
            let mut queue = lock(&self.queue);
            while queue.lines.is_empty() && !matches!(queue.reopen, Some(Reopen::Wanted(_))) {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut lines, &mut queue.lines);
            queue.writing = true;
            let reopen = match &mut queue.reopen {
                Some(Reopen::Wanted(path)) => Some(path.take()),
                Some(Reopen::Done(_)) | None => None,
            };
            let lost = std::mem::take(&mut queue.lost);
            drop(queue);

            let mut lost_now = self.write(&mut file, &lines);
            lines.clear();
            if lost > 0 {
                self.compose(tracing::Level::WARN, module_path!(), &mut lines, |text| {
                    let _ = write!(text, "log lines lost count={lost}");
                });
                if file.write(&lines) > 0 {
                    lost_now += lost;
                }
                lines.clear();
            }
            let reopened = reopen.map(|path| {
                let stderr_follows = is_stderr(&file);
                let result = file.reopen(path.as_deref());
                if stderr_follows {
                    // What the runtime itself writes there (out of memory, stack overflow) stays with the log.
                    let _ = rustix::stdio::dup2_stderr(file.file());
                }
                result
            });

            let mut queue = lock(&self.queue);
            queue.writing = false;
            queue.lost += lost_now;
            if let Some(result) = reopened {
                queue.reopen = Some(Reopen::Done(result));
            }
            self.done.notify_all();
        }
    }

    fn write(&self, file: &mut LogFile, lines: &[u8]) -> u64 {
        if self.echo {
            // A terminal that is gone or held up costs its own lines only.
            let _ = io::stderr().write_all(lines);
        }
        file.write(lines)
    }

    /// One line: the head, and what `fill` adds to it, without control characters.
    fn compose(&self, level: tracing::Level, module: &str, line: &mut Vec<u8>, fill: impl FnOnce(&mut Escaped<'_>)) {
        time::write_rfc3339(SystemTime::now(), line);
        let mut text = Escaped(line);
        let _ = write!(text, " {} {level} {module}: ", self.source);
        fill(&mut text);
        if line.len() >= MAX_LINE_LEN {
            line.truncate(MAX_LINE_LEN - 4);
            while std::str::from_utf8(line).is_err_and(|error| error.error_len().is_none()) {
                line.pop();
            }
            line.extend_from_slice(b"...");
        }
        line.push(b'\n');
    }
}

/// Whether stderr leads to this very file.
fn is_stderr(file: &LogFile) -> bool {
    match (
        rustix::fs::fstat(rustix::stdio::stderr()),
        rustix::fs::fstat(file.file()),
    ) {
        (Ok(stderr), Ok(file)) => (stderr.st_dev, stderr.st_ino) == (file.st_dev, file.st_ino),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Which level holds for which module.
struct Levels {
    all: Level,
    modules: Vec<(String, Level)>,
}

/// Exceptions at a time; the oldest one goes.
const MAX_MODULES: usize = 64;

impl Levels {
    fn set(&mut self, module: Option<&str>, level: Level) {
        match module.filter(|module| !module.is_empty()) {
            None => {
                self.all = level;
                // "everything" means it: an exception left over would surprise.
                self.modules.clear();
            }
            Some(module) => {
                self.modules.retain(|(name, _)| name != module);
                if self.modules.len() == MAX_MODULES {
                    self.modules.remove(0);
                }
                self.modules.push((module.to_owned(), level));
            }
        }
    }

    /// The longest exception that holds for `target`, else the general level.
    fn of(&self, target: &str) -> Level {
        let holds = |name: &str| {
            target
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let exception = self
            .modules
            .iter()
            .filter(|(name, _)| holds(name))
            .max_by_key(|(name, _)| name.len());
        exception.map_or(self.all, |&(_, level)| level)
    }

    fn most(&self) -> Level {
        self.modules.iter().map(|&(_, level)| level).fold(self.all, Level::max)
    }
}

/// The door by which `tracing` comes in.
struct Forward(&'static Log);

impl Subscriber for Forward {
    /// Asked once a call site; [`log_level`] has it asked again.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = lock(&self.0.levels).of(metadata.target());
        metadata.is_event() && *metadata.level() <= filter(level)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(filter(lock(&self.0.levels).most()))
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Vec::with_capacity(256);
        let metadata = event.metadata();
        self.0.compose(*metadata.level(), metadata.target(), &mut line, |text| {
            let mut message = Message(text);
            event.record(&mut message);
            let mut fields = Fields(text);
            event.record(&mut fields);
        });
        self.0.say(&line);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn filter(level: Level) -> tracing::level_filters::LevelFilter {
    use tracing::level_filters::LevelFilter;
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// Writes the field `message` only.
struct Message<'a, 'b>(&'a mut Escaped<'b>);

impl Visit for Message<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Writes all other fields, as ` name=value`; text with spaces or quotes is quoted.
struct Fields<'a, 'b>(&'a mut Escaped<'b>);

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return;
        }
        let plain = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        let _ = if plain {
            write!(self.0, " {}={value}", field.name())
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.record_str(field, &text);
    }
}

/// Text without control characters: a stranger's bytes must neither forge a line nor colour a terminal.
struct Escaped<'a>(&'a mut Vec<u8>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > MAX_LINE_LEN {
            return Ok(());
        }
        for char in text.chars() {
            if char.is_control() {
                self.0.extend(char.escape_default().map(|escaped| escaped as u8));
            } else {
                self.0.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }
}

/// A thread that died while it held the lock left at worst half a line.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `done`, at most [`WAIT_TIMEOUT`].
fn wait_until<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, done: impl Fn(&T) -> bool) -> MutexGuard<'a, T> {
    let waited = condvar.wait_timeout_while(guard, WAIT_TIMEOUT, |state| !done(state));
    waited.unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests;
