//! The access log: one line a finished server transaction, Apache's common form first, `key=value` behind it.
//!
//! ```text
//! 192.0.2.5:5060 - alice [20/Nov/2026:06:01:02.123 +0000] "INVITE sip:bob@example.com SIP/2.0" 200 1234 call-id=… next=192.0.2.9:5060/udp stage=registry branches=2
//! ```
//!
//! Each worker appends to a bounded buffer of its own; one thread takes the buffers about every [`FLUSH_WAIT`] and writes them out
//! by whole lines. A worker never waits for the disk: what does not fit into its buffer, or onto the disk, is counted. With
//! nothing to write the thread sleeps until the next line wakes it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, mpsc};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use crate::file::LogFile;
use crate::time::Stamp;
use crate::{Exit, Fatal, OrFatal};

/// How long a line waits for others at the most.
pub const FLUSH_WAIT: Duration = Duration::from_millis(100);

/// Bytes that one worker may have waiting: 200 ms of 30,000 lines a second.
pub const MAX_WAITING_LEN: usize = 2 << 20;

/// Bytes of one value taken from a message; the rest is cut and `...` put in its place.
pub const MAX_VALUE_LEN: usize = 1024;

/// The access log of one process. The thread ends, everything written, when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<Shared>);

/// One worker's way into the log.
#[derive(Debug, Clone)]
pub struct AccessWriter {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

/// What one line says.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Where the request came from.
    pub source: SocketAddr,
    /// Who it was, as authenticated.
    pub user: Option<&'a [u8]>,
    /// When the request was received.
    pub received_at: SystemTime,
    /// As received.
    pub method: &'a [u8],
    /// As received.
    pub request_uri: &'a [u8],
    /// The final response's status.
    pub status: u16,
    /// From the request to the final response.
    pub took: Duration,
    /// As received.
    pub call_id: &'a [u8],
    /// Where the winning branch went: address and transport (`udp`). Unset when it went nowhere.
    pub next: Option<(SocketAddr, &'a str)>,
    /// The stage that decided.
    pub stage: &'a str,
    /// Branches tried.
    pub branches: u16,
    /// Further fields.
    pub more: &'a [(&'a str, &'a [u8])],
}

impl AccessLog {
    /// Opens the log for so many workers and starts its thread; with no path it stays off until [`AccessLog::set_path`].
    ///
    /// # Errors
    /// The file cannot be opened, or the system gives no thread.
    pub fn start(path: Option<&Path>, workers: usize) -> Result<Self, Fatal> {
        let file = match path {
            Some(path) => {
                let file = LogFile::open(path).or_fatal(Exit::Storage, format!("open log {}", path.display()))?;
                Some(file)
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            on: AtomicBool::new(file.is_some()),
            lost: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            slots: (0..workers.max(1)).map(|_| Arc::default()).collect(),
            orders: Mutex::new(Vec::new()),
            thread: OnceLock::new(),
        });
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn({
                let core = Core {
                    slots: shared.slots.clone(),
                    shared: Arc::downgrade(&shared),
                };
                move || core.serve(file)
            })
            .or_fatal(Exit::System, "start the access log thread")?;
        let _ = shared.thread.set(thread.thread().clone());
        let mut open = lock(&OPEN);
        open.retain(|(_, thread)| !thread.is_finished());
        open.push((Arc::downgrade(&shared), thread));
        drop(open);
        Ok(Self(shared))
    }

    /// The way in for worker `index`; beyond the number of workers they are shared out.
    pub fn worker(&self, index: usize) -> AccessWriter {
        AccessWriter {
            slot: self.0.slots[index % self.0.slots.len()].clone(),
            shared: self.0.clone(),
        }
    }

    /// Lines lost so far: over the bound of a buffer, or the disk full.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Relaxed)
    }

    /// Closes the file and opens its path anew. Lines written before are in the old file, or in the new one; none is lost.
    ///
    /// # Errors
    /// The path cannot be opened (the old file goes on being written), or the disk did not answer in time.
    pub fn reopen(&self) -> io::Result<()> {
        self.0.order(Order::Reopen)
    }

    /// Writes to another path from now on, or nowhere.
    ///
    /// # Errors
    /// As [`AccessLog::reopen`].
    pub fn set_path(&self, path: Option<&Path>) -> io::Result<()> {
        self.0.order(Order::Path(path.map(Path::to_owned)))
    }

    /// Waits, not for long, until what has been appended so far is in the file.
    pub fn flush(&self) {
        // A disk that does not answer in time is the only error; nothing to be done about it here.
        let _ = self.0.order(Order::Flush);
    }
}

impl AccessWriter {
    /// True when lines are wanted: skip gathering what the line would say when not.
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Relaxed)
    }

    /// Appends one line. Never waits for the disk.
    pub fn entry(&self, entry: &Entry<'_>) {
        self.append(|waiting| {
            let Waiting { bytes, stamp } = waiting;
            entry.write(stamp, bytes);
        });
    }

    /// Appends one line of another shape; `fill` must add no line end and no control characters ([`escape`]).
    pub fn line(&self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.append(|waiting| fill(&mut waiting.bytes));
    }

    fn append(&self, fill: impl FnOnce(&mut Waiting)) {
        if !self.is_on() {
            return;
        }
        let mut waiting = lock(&self.slot.0);
        let before = waiting.bytes.len();
        if before >= MAX_WAITING_LEN {
            self.shared.lost.fetch_add(1, Relaxed);
            return;
        }
        fill(&mut waiting);
        waiting.bytes.push(b'\n');
        let half_full = before < MAX_WAITING_LEN / 2 && waiting.bytes.len() >= MAX_WAITING_LEN / 2;
        drop(waiting);
        if half_full || self.shared.asleep.load(Acquire) {
            self.shared.wake();
        }
    }
}

impl Entry<'_> {
    /// Appends the line without its end.
    pub fn write(&self, stamp: &mut Stamp, out: &mut Vec<u8>) {
        write_addr(self.source, out);
        out.extend_from_slice(b" - ");
        match self.user {
            Some(user) if !user.is_empty() => escape(user, b' ', out),
            Some(_) | None => out.push(b'-'),
        }
        out.extend_from_slice(b" [");
        stamp.write(self.received_at, out);
        out.extend_from_slice(b"] \"");
        escape(self.method, b'"', out);
        out.push(b' ');
        escape(self.request_uri, b'"', out);
        out.extend_from_slice(b" SIP/2.0\" ");
        write_number(u64::from(self.status), out);
        out.push(b' ');
        write_number(u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX), out);
        out.extend_from_slice(b" call-id=");
        escape(self.call_id, b' ', out);
        if let Some((addr, transport)) = self.next {
            out.extend_from_slice(b" next=");
            write_addr(addr, out);
            out.push(b'/');
            out.extend_from_slice(transport.as_bytes());
        }
        out.extend_from_slice(b" stage=");
        out.extend_from_slice(self.stage.as_bytes());
        out.extend_from_slice(b" branches=");
        write_number(u64::from(self.branches), out);
        for (name, value) in self.more {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            escape(value, b' ', out);
        }
    }
}

/// Appends a stranger's bytes: what is not printable ASCII, `"`, `\` and `stop` become `\xHH`, and beyond [`MAX_VALUE_LEN`] it is cut.
pub fn escape(value: &[u8], stop: u8, out: &mut Vec<u8>) {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\' && byte != stop;
    let shown = &value[..value.len().min(MAX_VALUE_LEN)];
    let mut rest = shown;
    while let Some(at) = rest.iter().position(|&byte| !plain(byte)) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        let byte = from[0];
        let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]);
        rest = &from[1..];
    }
    out.extend_from_slice(rest);
    if shown.len() < value.len() {
        out.extend_from_slice(b"...");
    }
}

/// A new configuration: every access log of this process goes to `path`, or is off.
pub(crate) fn configure_all(path: Option<&Path>) -> Result<(), String> {
    for shared in all_open() {
        let order = Order::Path(path.map(Path::to_owned));
        shared
            .order(order)
            .map_err(|error| format!("open the access log: {error}"))?;
    }
    Ok(())
}

/// All access logs of this process, for the master's order to reopen.
pub(crate) fn reopen_all() -> Result<(), String> {
    for shared in all_open() {
        shared
            .order(Order::Reopen)
            .map_err(|error| format!("reopen the access log: {error}"))?;
    }
    Ok(())
}

/// Before the process ends: waits, not for long, until everything is in the files.
pub(crate) fn finish_all() {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    for (shared, thread) in std::mem::take(&mut *lock(&OPEN)) {
        match shared.upgrade() {
            // A disk that does not answer in time: nothing to be done about it any more.
            Some(shared) => drop(shared.order(Order::Flush)),
            // Its last handle is gone: the thread writes what is left, and ends.
            None => {
                while !thread.is_finished() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}

/// All access logs of this process, with their threads.
static OPEN: Mutex<Vec<(Weak<Shared>, JoinHandle<()>)>> = Mutex::new(Vec::new());

fn all_open() -> Vec<Arc<Shared>> {
    lock(&OPEN).iter().filter_map(|(shared, _)| shared.upgrade()).collect()
}

/// How long anybody waits for the thread.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Shared {
    on: AtomicBool,
    lost: AtomicU64,
    /// The thread waits for the next line, however long that takes.
    asleep: AtomicBool,
    slots: Vec<Arc<Slot>>,
    /// To be carried out with the next pass; who waits for it is told.
    orders: Mutex<Vec<(Order, mpsc::Sender<io::Result<()>>)>>,
    thread: OnceLock<Thread>,
}

/// What the thread is asked to do besides writing.
#[derive(Debug)]
enum Order {
    Flush,
    Reopen,
    Path(Option<PathBuf>),
}

/// One worker's buffer, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    stamp: Stamp,
}

impl Shared {
    fn wake(&self) {
        self.asleep.store(false, Relaxed);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Has the thread do something and waits for it.
    fn order(&self, order: Order) -> io::Result<()> {
        let (done, result) = mpsc::channel();
        lock(&self.orders).push((order, done));
        self.wake();
        result
            .recv_timeout(WAIT_TIMEOUT)
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// What the thread works with. It does not keep the log alive.
struct Core {
    slots: Vec<Arc<Slot>>,
    shared: Weak<Shared>,
}

impl Core {
    fn serve(self, mut file: Option<LogFile>) {
        let mut spare = Vec::new();
        let mut losses = Losses::default();
        loop {
            let shared = self.shared.upgrade();
            // Taken before the buffers are, so that it is carried out behind every line that was there before it.
            let orders = shared
                .as_ref()
                .map_or(Vec::new(), |shared| std::mem::take(&mut *lock(&shared.orders)));
            let (mut wrote, mut lost_now) = (false, 0);
            for slot in &self.slots {
                std::mem::swap(&mut lock(&slot.0).bytes, &mut spare);
                if spare.is_empty() {
                    continue;
                }
                wrote = true;
                let lost = match &mut file {
                    Some(file) => file.write(&spare),
                    // Appended just before it was turned off.
                    None => 0,
                };
                if let Some(shared) = &shared {
                    shared.lost.fetch_add(lost, Relaxed);
                }
                lost_now += lost;
                spare.clear();
            }
            let Some(shared) = shared else { return };
            losses.tell(Instant::now(), shared.lost.load(Relaxed), wrote && lost_now == 0);
            for (order, done) in orders {
                // Who asked may have given up waiting.
                let _ = done.send(carry_out(order, &shared, &mut file));
            }
            if wrote {
                drop(shared);
                std::thread::park_timeout(FLUSH_WAIT);
                continue;
            }
            // Said before looking again: a line appended in between sees it, or is seen.
            shared.asleep.swap(true, AcqRel);
            let idle = self.slots.iter().all(|slot| lock(&slot.0).bytes.is_empty()) && lock(&shared.orders).is_empty();
            if !idle {
                shared.asleep.store(false, Relaxed);
                continue;
            }
            drop(shared);
            match losses.is_losing {
                true => std::thread::park_timeout(TELL_WAIT),
                false => std::thread::park(),
            }
        }
    }
}

/// Tells the error log of lines that the access log has lost: at once, then from time to time, and when writing goes well again.
/// The last word counts all of them, as what was said meanwhile may have met the same full disk.
#[derive(Debug, Default)]
struct Losses {
    /// How many have been told of.
    told: u64,
    told_at: Option<Instant>,
    is_losing: bool,
    /// How many there were when all was well last.
    before: u64,
    well_at: Option<Instant>,
}

/// Between two lines of the same kind.
const TELL_WAIT: Duration = Duration::from_secs(10);

impl Losses {
    /// `lost`: all so far. `is_well`: something was written just now, and wholly. True if a line was logged.
    fn tell(&mut self, now: Instant, lost: u64, is_well: bool) -> bool {
        let is_due = |last: Option<Instant>| last.is_none_or(|at| now >= at + TELL_WAIT);
        if self.is_losing && is_well && is_due(self.well_at) {
            tracing::warn!(lost = lost - self.before, "the access log is written again");
            (self.told, self.before, self.is_losing) = (lost, lost, false);
            self.well_at = Some(now);
            return true;
        }
        if lost == self.told {
            return false;
        }
        self.is_losing = true;
        if !is_due(self.told_at) {
            return false;
        }
        let count = lost - self.told;
        tracing::warn!(count, "access log lines lost: the disk is full or too slow");
        (self.told, self.told_at) = (lost, Some(now));
        true
    }
}

/// Does what somebody waits for.
fn carry_out(order: Order, shared: &Shared, file: &mut Option<LogFile>) -> io::Result<()> {
    match order {
        Order::Flush => {}
        Order::Reopen => {
            if let Some(file) = file {
                file.reopen(None)?;
            }
        }
        Order::Path(None) => {
            shared.on.store(false, Relaxed);
            *file = None;
        }
        Order::Path(Some(path)) if file.as_ref().is_some_and(|file| file.path() == path) => {}
        Order::Path(Some(path)) => {
            *file = Some(LogFile::open(&path)?);
            shared.on.store(true, Relaxed);
        }
    }
    Ok(())
}

/// `192.0.2.5:5060`, `[2001:db8::1]:5060`. By hand for IPv4: it is in every line, twice.
fn write_addr(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr {
        SocketAddr::V4(addr) => {
            for (i, octet) in addr.ip().octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                write_number(u64::from(octet), out);
            }
            out.push(b':');
            write_number(u64::from(addr.port()), out);
        }
        SocketAddr::V6(addr) => {
            // Writing into a Vec does not fail.
            let _ = write!(out, "{addr}");
        }
    }
}

fn write_number(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// A worker that panicked within `fill` ends its process; nobody reads the half line.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
