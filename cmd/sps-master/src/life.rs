//! One process of a daemon, from its start to its end, and the threads that wait for it.
//!
//! Accepting, sending and waiting for the end may each block for ever, so each has a thread: *hear* accepts the child and takes its
//! reports, *orders* sends, *wait* waits for the end of the process, lets an accept go that waits for nobody, and tells the end after
//! the last report.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sps_daemon::{Exit, Fatal, Ids, OrFatal};
use sps_ipc::parent::{CONNECT_TIMEOUT, ChannelError, Door, Frozen, ToChild, free};

use crate::child::Listens;
use crate::event::{ChildEvent, Event};
use crate::listen::Listeners;

/// Orders on their way to one child: the outstanding one, and one to stop that does not wait for it.
const ORDERS_QUEUED: usize = 4;

/// What is needed to start a process.
pub struct Start<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its place among the children, and which of its lives this is.
    pub child: usize,
    pub life: u64,
    /// Whom to run as, unless as ourselves.
    pub owner: Option<Ids>,
    /// What it is to work by.
    pub frozen: Frozen,
    /// The sockets that `frozen.listeners` describes are among these.
    pub listeners: Arc<Listeners>,
    pub listens: Listens,
    /// Where stderr goes: the error log, or (unset) where ours goes.
    pub stderr: Option<OwnedFd>,
}

/// A process that has been started.
pub struct Life {
    pub pid: u32,
    /// Which of its daemon's lives.
    pub number: u64,
    /// The configuration it was started with, or has committed to.
    pub configuration: u64,
    handle: OwnedFd,
    orders: SyncSender<ToChild>,
}

impl Life {
    /// Starts the process and its threads.
    pub fn start(start: Start<'_>, events: &SyncSender<Event>) -> Result<Self, Fatal> {
        let what = || format!("start {}", start.program.display());
        let door = Door::open().or_fatal(Exit::CantCreate, what())?;
        let (ours, theirs) = UnixStream::pair().or_fatal(Exit::System, what())?;
        let mut command = Command::new(start.program);
        command.arg("--ipc").arg(door.name());
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        if let Some(stderr) = start.stderr {
            command.stderr(stderr);
        }
        // A terminal's INT is for us alone; we pass on what concerns the children.
        command.process_group(0).current_dir("/");
        if let Some(Ids { uid, gid }) = start.owner {
            door.give_to(uid, gid).or_fatal(Exit::Privilege, what())?;
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().or_fatal(Exit::System, what())?;
        // Closes the child's end of the pair here.
        drop(command);
        Self::watch(
            process,
            door,
            ours,
            (start.child, start.life),
            start.frozen,
            (start.listeners, start.listens),
            events,
        )
        .or_fatal(Exit::System, what())
    }

    /// Starts the threads; without them the process is ended again.
    fn watch(
        mut process: Process,
        door: Door,
        descriptors: UnixStream,
        (child, number): (usize, u64),
        frozen: Frozen,
        (listeners, listens): (Arc<Listeners>, Listens),
        events: &SyncSender<Event>,
    ) -> std::io::Result<Self> {
        let pid = process.id();
        let configuration = frozen.number;
        let door_name = door.name().to_owned();
        let (orders, to_send) = sync_channel(ORDERS_QUEUED);
        let say = {
            let events = events.clone();
            // The queue ends with the master only.
            move |what| {
                drop(events.send(Event::Child {
                    child,
                    life: number,
                    what,
                }))
            }
        };
        let begun = (|| {
            // Nobody else waits for it, so the number is still its own.
            let raw = i32::try_from(pid)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or(std::io::ErrorKind::InvalidData)?;
            let handle = pidfd_open(raw, PidfdFlags::empty())?;
            let hear = std::thread::Builder::new().name(format!("hear-{pid}")).spawn({
                let say = say.clone();
                move || {
                    hear(
                        door,
                        &descriptors,
                        frozen,
                        &listeners.descriptors(listens),
                        to_send,
                        &say,
                    )
                }
            })?;
            Ok((handle.try_clone()?, handle, hear))
        })();
        let (kill, handle, hear) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                free(&door_name);
                return Err(error);
            }
        };
        let waiting = std::thread::Builder::new()
            .name(format!("wait-{pid}"))
            .spawn(move || wait(process, &door_name, hear, &say));
        if let Err(error) = waiting {
            let _ = pidfd_send_signal(&kill, Signal::KILL);
            return Err(error);
        }
        Ok(Self {
            pid,
            number,
            configuration,
            handle,
            orders,
        })
    }

    /// Hands an order to the thread that sends it. False when the child has not taken the ones before.
    pub fn send(&self, message: ToChild) -> bool {
        // When the thread has ended the process is ending too, which is told by itself.
        !matches!(self.orders.try_send(message), Err(TrySendError::Full(_)))
    }

    /// Ends the process at once. Harmless when it has ended.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

/// Accepts the child, gives it its configuration and sockets, and takes its reports until it hangs up.
fn hear(
    door: Door,
    descriptors: &UnixStream,
    frozen: Frozen,
    listeners: &[BorrowedFd<'_>],
    to_send: Receiver<ToChild>,
    say: &impl Fn(ChildEvent),
) {
    let channel = match door.accept() {
        Ok(channel) => channel,
        // It died before it came so far: its end tells.
        Err(ChannelError::Gone) => return,
        Err(error) => return say(ChildEvent::NoChannel(error.to_string())),
    };
    if channel.orders.send(ToChild::Configure(Box::new(frozen))).is_err() {
        return;
    }
    if !listeners.is_empty() {
        let sent = sps_ipc::rights::send_descriptors(descriptors.as_fd(), listeners, Instant::now() + CONNECT_TIMEOUT);
        if let Err(error) = sent {
            return say(ChildEvent::NoChannel(format!("hand over sockets: {error}")));
        }
    }
    let orders = channel.orders;
    let sending = std::thread::Builder::new().name("orders".into()).spawn(move || {
        // Ends when the life is dropped, or the child is gone.
        while let Ok(message) = to_send.recv() {
            if orders.send(message).is_err() {
                return;
            }
        }
    });
    if let Err(error) = sending {
        return say(ChildEvent::NoChannel(error.to_string()));
    }
    while let Ok(report) = channel.reports.recv() {
        say(ChildEvent::Said(report));
    }
}

/// Waits for the process, then for its last report, and tells.
fn wait(mut process: Process, door: &str, hear: JoinHandle<()>, say: &impl Fn(ChildEvent)) {
    // Only waiting twice fails.
    let status = process.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
    free(door);
    let _ = hear.join();
    say(ChildEvent::Exited(status));
}

/// `exited with 74`, `killed by signal 9`.
pub fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}
