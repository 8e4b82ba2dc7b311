//! `sps-master` and one of its children: a private channel for words, a socket pair at the child's descriptor 0 for descriptors.
//!
//! The master opens a [`Door`] and starts the child with the door's name. The child speaks first ([`ChildEnd::connect`]). The master
//! then sends the [`Frozen`] configuration, and over the socket pair the descriptors of those [`Frozen::listeners`] that are
//! [handed over](ListenerInfo::handed), in that order. The child prepares, says [`Report::Ready`], and from then on [`Report::Alive`] every [`HEARTBEAT_WAIT`]; silent for
//! [`HANG_TIMEOUT`] it is killed. The master sends at most one [`Order`] at a time; each is answered by [`Report::Done`] or
//! [`Report::Refused`] within [`ORDER_TIMEOUT`], else the child is killed.
//!
//! A child that loses its master before it is ready exits; afterwards it goes on serving. Accepting and sending may block for
//! ever here: plain threads only. [`free`] lets an accept end whose child is gone.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender};
use serde::{Deserialize, Serialize};
use sps_conf::{Advertise, Config, Level, Material, Paths, Transport};

/// How often a child tells that it is alive.
pub const HEARTBEAT_WAIT: Duration = Duration::from_secs(1);

/// A child that has been silent for this long is hung and gets killed.
pub const HANG_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a child may take to answer an order other than to stop.
pub const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a child may take from its start until it is ready: the longest is a registry of millions after a power cut.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long reaching the master and getting the configuration may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything a daemon needs to know, made by the master and the same for every process that works with `number`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// Which start of the master this belongs to; grows by one each time, for ever.
    pub generation: u32,
    /// Which configuration of the generation: 1 at its start, one more with each reload.
    pub number: u64,
    /// The checked configuration.
    pub conf: Config,
    /// Where everything lies.
    pub paths: Paths,
    /// Keys that sign our Record-Route and flow tokens. The first one signs, all verify. Never empty.
    pub mac_keys: Vec<MacKey>,
    /// What `[tls]` names in files, private keys among it: for `sps-tls`, empty for all others.
    pub tls: Material,
    /// Listening sockets in the order of the descriptors: listener by listener, worker by worker. Those of TLS are known to the
    /// proxy too, which gets no descriptor of them. Empty for a daemon that gets none; in an [`Order::Prepare`] it describes the
    /// sockets the child already has.
    pub listeners: Vec<ListenerInfo>,
    /// Worker threads of the proxy, at least 1; automatic ones resolved.
    pub workers: u16,
    /// Log levels set at run time, per module (empty name: everything), to be applied over `conf.log.level`.
    pub levels: Vec<(String, Level)>,
}

impl Frozen {
    /// `run/gen-N`: sockets, pid files and counters of this generation.
    pub fn folder(&self) -> PathBuf {
        self.paths.generation(self.generation)
    }

    /// Where the access log goes; unset when it is off.
    pub fn access_log(&self) -> Option<PathBuf> {
        self.conf.log.access.then(|| self.paths.access_log(&self.conf.log))
    }

    /// Where the error log goes.
    pub fn error_log(&self) -> PathBuf {
        self.paths.error_log(&self.conf.log)
    }

    /// How many descriptors come along.
    pub fn handed(&self) -> usize {
        self.listeners.iter().filter(|info| info.handed).count()
    }

    /// The file that the daemon `name` keeps locked and its process id in.
    pub fn pid_file(&self, name: &str) -> PathBuf {
        pid_file(&self.folder(), name)
    }
}

/// The pid file of daemon `name` in a generation's folder.
pub fn pid_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pid"))
}

/// One listening socket: bound, for TCP listening, non-blocking, buffers enlarged, sharing its port (`SO_REUSEPORT`) with those of
/// the same `listen` and other workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// Index of the `[[listen]]` entry.
    pub listen: u16,
    /// The worker it is meant for, from 0.
    pub worker: u16,
    /// What is spoken.
    pub transport: Transport,
    /// What it is bound to, the port as chosen by the system.
    pub address: SocketAddr,
    /// What Via and Record-Route say instead.
    pub advertise: Option<Advertise>,
    /// Whether its descriptor goes to the one who gets this.
    pub handed: bool,
}

/// One key of the MAC on Record-Route and flow tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacKey {
    /// Goes with each MAC, so that keys can be replaced one by one.
    pub id: u8,
    /// For HMAC-SHA256.
    pub secret: [u8; 32],
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets never appear in any log.
        f.debug_struct("MacKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the master says.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToChild {
    /// Once, first. The descriptors of `listeners` follow on the socket pair.
    Configure(Box<Frozen>),
    /// To be answered by id.
    Order {
        /// Grows by one with each order to this child.
        id: u64,
        /// What to do.
        order: Order,
    },
}

/// What a child can be told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Make everything ready to work by this configuration, and go on by the old one. May be refused with a reason.
    Prepare(Box<Frozen>),
    /// Work by the prepared configuration from now on. Cannot be refused.
    Commit {
        /// Its number.
        number: u64,
    },
    /// Forget the prepared configuration.
    Abort {
        /// Its number.
        number: u64,
    },
    /// Close the log files and open them anew at their paths.
    LogReopen,
    /// Log more, or less.
    LogLevel {
        /// A module (`sps_net::udp`, and all below it); unset: everything.
        module: Option<String>,
        /// From now on.
        level: Level,
    },
    /// Take no new work, finish what is begun within the time, exit with 0. Answered when begun, not when ended.
    Stop {
        /// Milliseconds; what is open then is cut.
        within_ms: u64,
    },
}

/// What a child says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// Start takes long: what it is doing.
    Progress(String),
    /// Everything is prepared; it serves.
    Ready,
    /// The heartbeat.
    Alive,
    /// An order was carried out.
    Done {
        /// Of the order.
        id: u64,
    },
    /// An order was not carried out, and everything is as before.
    Refused {
        /// Of the order.
        id: u64,
        /// For the operator.
        reason: String,
    },
    /// It is going to exit, and why.
    Fatal {
        /// The exit code.
        code: u8,
        /// For the operator.
        text: String,
    },
}

/// The first message of a child: its ends of two channels.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    version: u16,
    orders: IpcSender<ToChild>,
    reports: IpcReceiver<Report>,
}

/// Why the other end of the channel could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It has gone away.
    #[error("the other end hung up")]
    Gone,
    /// It is another build.
    #[error("the other end speaks version {0}, this one {VERSION}", VERSION = crate::VERSION)]
    Version(u16),
    /// It said what nobody says at that point.
    #[error("the other end is out of step")]
    Protocol,
    /// The channel could not be made.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where one child can reach the master, once.
pub struct Door {
    server: IpcOneShotServer<Hello>,
    name: String,
}

impl Door {
    /// Opens a door in the folder for temporary files.
    ///
    /// # Errors
    /// When that folder cannot be written.
    pub fn open() -> io::Result<Self> {
        let (server, name) = IpcOneShotServer::new()?;
        Ok(Self { server, name })
    }

    /// What to give the child on its command line.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets a child of another user through: hands over the socket and its folder.
    ///
    /// # Errors
    /// When we are not root.
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        let socket = Path::new(&self.name);
        std::os::unix::fs::chown(socket, Some(uid), Some(gid))?;
        match socket.parent() {
            Some(folder) => std::os::unix::fs::chown(folder, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Waits for the child, for ever: in a thread of its own, which [`free`] lets go.
    ///
    /// # Errors
    /// The child died or is another build.
    pub fn accept(self) -> Result<ChildChannel, ChannelError> {
        let (_, hello) = self.server.accept().map_err(|_| ChannelError::Gone)?;
        if hello.version != crate::VERSION {
            return Err(ChannelError::Version(hello.version));
        }
        Ok(ChildChannel {
            orders: Orders(hello.orders),
            reports: Reports(hello.reports),
        })
    }
}

/// Ends a [`Door::accept`] that waits for a child which is gone. Harmless when nobody waits.
pub fn free(name: &str) {
    // The accept gets our connection and finds no message on it.
    drop(IpcSender::<()>::connect(name.to_owned()));
}

/// The master's end of one child's channel.
pub struct ChildChannel {
    /// To the child.
    pub orders: Orders,
    /// From the child.
    pub reports: Reports,
}

/// The master's way to a child.
pub struct Orders(IpcSender<ToChild>);

impl Orders {
    /// Blocks while the child does not read.
    ///
    /// # Errors
    /// [`ChannelError::Gone`].
    pub fn send(&self, message: ToChild) -> Result<(), ChannelError> {
        self.0.send(message).map_err(|_| ChannelError::Gone)
    }
}

/// What a child says, at the master.
pub struct Reports(IpcReceiver<Report>);

impl Reports {
    /// Blocks until the child says something.
    ///
    /// # Errors
    /// [`ChannelError::Gone`], also for bytes that are no report.
    pub fn recv(&self) -> Result<Report, ChannelError> {
        self.0.recv().map_err(|_| ChannelError::Gone)
    }
}

/// The child's end of the channel.
pub struct ChildEnd {
    orders: IpcReceiver<ToChild>,
    reports: IpcSender<Report>,
}

impl ChildEnd {
    /// Reaches the master by its door and waits for the configuration.
    ///
    /// # Errors
    /// The door is closed, or nothing came within [`CONNECT_TIMEOUT`].
    pub fn connect(name: &str) -> Result<(Self, Frozen), ChannelError> {
        let door = IpcSender::<Hello>::connect(name.to_owned())?;
        let (to_child, orders) = ipc_channel::ipc::channel()?;
        let (reports, from_child) = ipc_channel::ipc::channel()?;
        door.send(Hello {
            version: crate::VERSION,
            orders: to_child,
            reports: from_child,
        })
        .map_err(|_| ChannelError::Gone)?;
        match orders.try_recv_timeout(CONNECT_TIMEOUT) {
            Ok(ToChild::Configure(frozen)) => Ok((Self { orders, reports }, *frozen)),
            Ok(ToChild::Order { .. }) => Err(ChannelError::Protocol),
            Err(_) => Err(ChannelError::Gone),
        }
    }

    /// Waits for the next order, for ever.
    ///
    /// # Errors
    /// [`ChannelError::Gone`] when the master is.
    pub fn recv(&self) -> Result<(u64, Order), ChannelError> {
        match self.orders.recv() {
            Ok(ToChild::Order { id, order }) => Ok((id, order)),
            Ok(ToChild::Configure(_)) => Err(ChannelError::Protocol),
            Err(_) => Err(ChannelError::Gone),
        }
    }

    /// A way to report that can be taken to another thread.
    pub fn reporter(&self) -> Reporter {
        Reporter(self.reports.clone())
    }
}

/// The child's way to the master.
#[derive(Debug, Clone)]
pub struct Reporter(IpcSender<Report>);

impl Reporter {
    /// Blocks while the master does not read.
    ///
    /// # Errors
    /// [`ChannelError::Gone`].
    pub fn send(&self, report: Report) -> Result<(), ChannelError> {
        self.0.send(report).map_err(|_| ChannelError::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen() -> Frozen {
        let text = "[server]\ndomain = \"example.com\"\nworkers = 3\n[[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\n\
            [[access]]\nsource = \"2001:db8::/32\"\naction = \"deny\"\n[log]\nlevel = \"debug\"\n";
        let (conf, _) = Config::parse(Path::new("sps.toml"), text).unwrap_or_else(|problems| panic!("{problems}"));
        Frozen {
            generation: 7,
            number: 2,
            conf,
            paths: Paths::new(Some(Path::new("/r"))),
            mac_keys: vec![MacKey {
                id: 200,
                secret: [0xab; 32],
            }],
            tls: Material {
                ca: sps_conf::Pem {
                    path: "ca.pem".into(),
                    bytes: vec![171; 3],
                },
                ..Material::default()
            },
            listeners: vec![ListenerInfo {
                listen: 0,
                worker: 2,
                transport: Transport::Udp,
                address: "127.0.0.1:5060".parse().unwrap(),
                advertise: Some(Advertise {
                    host: "sip.example.com".into(),
                    port: None,
                }),
                handed: true,
            }],
            workers: 3,
            levels: vec![("sps_net".into(), Level::Trace)],
        }
    }

    #[test]
    fn both_ends_understand_each_other() {
        let door = Door::open().unwrap();
        let name = door.name().to_owned();
        let child = std::thread::spawn(move || {
            let (end, frozen) = ChildEnd::connect(&name).unwrap();
            let reporter = end.reporter();
            reporter.send(Report::Ready).unwrap();
            let (id, order) = end.recv().unwrap();
            reporter
                .send(Report::Refused {
                    id,
                    reason: format!("{order:?}"),
                })
                .unwrap();
            (frozen, end.recv().unwrap_err().to_string())
        });
        let channel = door.accept().unwrap();
        channel.orders.send(ToChild::Configure(Box::new(frozen()))).unwrap();
        assert_eq!(channel.reports.recv().unwrap(), Report::Ready);
        channel
            .orders
            .send(ToChild::Order {
                id: 9,
                order: Order::Commit { number: 3 },
            })
            .unwrap();
        let refused = Report::Refused {
            id: 9,
            reason: "Commit { number: 3 }".into(),
        };
        assert_eq!(channel.reports.recv().unwrap(), refused);
        drop(channel.orders);
        let (received, end) = child.join().unwrap();
        assert_eq!(received, frozen());
        assert_eq!(end, "the other end hung up");
        assert!(matches!(channel.reports.recv(), Err(ChannelError::Gone)));
    }

    #[test]
    fn an_accept_that_waits_for_nobody_is_let_go() {
        let door = Door::open().unwrap();
        let name = door.name().to_owned();
        let accepting = std::thread::spawn(move || door.accept().map(drop));
        free(&name);
        assert!(matches!(accepting.join().unwrap(), Err(ChannelError::Gone)));
        // Nobody waits any more: harmless.
        free(&name);
        assert!(ChildEnd::connect(&name).is_err());
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?}", frozen());
        assert!(
            shown.contains("MacKey { id: 200, .. }") && !shown.contains("171"),
            "{shown}"
        );
    }
}
