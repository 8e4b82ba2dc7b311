//! The operator's tools to `sps-master`, over `run/sps.sock`.
//!
//! The asker connects and sends one frame, two bytes of version (low byte first) and a [`Request`]; the master sends any number of
//! [`Reply::Progress`] and then one reply that ends the conversation. The asker waits [`REPLY_TIMEOUT`] between two replies. The
//! kernel says who asks: root or the user the master runs as.
//!
//! This conversation outlives a build: an old tool may meet a new master and the other way round. Its shapes only grow at the end
//! (new variants, never a new field in an old one), each side takes [`OLDEST_VERSION`] to [`VERSION`], and a master that is asked in a
//! version it does not know answers [`Reply::Version`].

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sps_conf::{Level, Transport};

use crate::Malformed;
use crate::frame::{self, TooLong};

/// What this build speaks.
pub const VERSION: u16 = 1;

/// The oldest one it still understands.
pub const OLDEST_VERSION: u16 = 1;

/// How long the asker waits for the next reply; a reload asks every daemon first and tells in between.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Conversations at a time; further ones wait in the socket's queue.
pub const MAX_CONVERSATIONS: usize = 8;

/// What an operator may ask of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How everything is. Answered by [`Reply::Status`].
    Status,
    /// Read the configuration again and put it in force, or say why not.
    Reload,
    /// Stop all daemons and the master itself. Answered at once; the socket closes when all is over.
    Stop {
        /// Milliseconds for what is begun; cut then.
        within_ms: u64,
    },
    /// Have every daemon open its log files anew.
    LogReopen,
    /// Log more, or less, until the next start.
    LogLevel {
        /// `sps-proxy` or `proxy`, and so on; `master` too.
        daemon: String,
        /// A module of it; unset: everything.
        module: Option<String>,
        /// From now on.
        level: Level,
    },
    /// What kind of server SPS is by the configuration in force. Answered by [`Reply::Mode`].
    Mode,
}

/// What the master answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Not the end: what it is doing.
    Progress(String),
    /// Done; words for the operator, perhaps none.
    Done(String),
    /// Not done, and everything is as before.
    Refused {
        /// Exit code for the tool, after sysexits(3).
        code: u8,
        /// Why; may have several lines.
        reason: String,
    },
    /// To [`Request::Status`].
    Status(Status),
    /// The asker speaks a version that this master does not.
    Version {
        /// The oldest one it takes.
        oldest: u16,
        /// The newest one.
        newest: u16,
    },
    /// To [`Request::Mode`]: the word of `[proxy] mode`.
    Mode(String),
}

/// How everything is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the master's build.
    pub release: String,
    /// Counts the starts of the master.
    pub generation: u32,
    /// Counts the configurations of this generation.
    pub configuration: u64,
    /// Milliseconds since the Unix epoch at which the configuration in force was taken.
    pub configured_at_ms: u64,
    /// True once every daemon has been ready.
    pub ready: bool,
    /// The master first, then in the order of starting.
    pub daemons: Vec<Daemon>,
    /// One an address.
    pub listening: Vec<Listening>,
    /// What the limit on open files came to.
    pub open_files_limit: u64,
    /// Times the wall clock was set by more than a second since the start.
    pub clock_jumps: u64,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// `sps-proxy` and so on.
    pub name: String,
    /// Unset when there is no process.
    pub pid: Option<u32>,
    /// How it is.
    pub state: State,
    /// Milliseconds since it became ready; 0 before.
    pub uptime_ms: u64,
    /// Times it was started again.
    pub restarts: u64,
    /// Resident memory in bytes.
    pub memory_len: u64,
    /// Processor time in milliseconds, user and system.
    pub cpu_ms: u64,
    /// How its last life ended; empty while it is in its first.
    pub last_end: String,
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Started, not ready yet.
    Starting,
    /// Serves.
    Up,
    /// Died too often in a row; will be started again after a wait.
    Waiting,
    /// Died too often; given up until the next reload or start.
    Failed,
    /// Told to stop.
    Stopping,
    /// Stopped.
    Stopped,
}

impl State {
    /// As `spsctl status` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// One address that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// What is spoken.
    pub transport: Transport,
    /// Where, the port as chosen by the system.
    pub address: SocketAddr,
    /// Sockets that share it, one a worker.
    pub sockets: u16,
    /// Bytes the kernel holds for us, per socket, as it counts them.
    pub receive_buffer_len: u32,
    /// Bytes it takes from us.
    pub send_buffer_len: u32,
}

/// A request as it goes over the socket.
///
/// # Errors
/// [`TooLong`].
pub fn encode_request(request: &Request) -> Result<Vec<u8>, TooLong> {
    let mut out = VERSION.to_le_bytes().to_vec();
    frame::append(request, &mut out)?;
    Ok(out)
}

/// A request from the socket, with the asker's version, which is from [`OLDEST_VERSION`] to [`VERSION`].
///
/// # Errors
/// The answer to give to what is malformed or of another version.
pub fn decode_request(bytes: &[u8]) -> Result<(u16, Request), Reply> {
    let malformed = || Reply::Refused {
        code: 76,
        reason: "malformed request".into(),
    };
    let (version, body) = bytes.split_first_chunk::<2>().ok_or_else(malformed)?;
    let version = u16::from_le_bytes(*version);
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(Reply::Version {
            oldest: OLDEST_VERSION,
            newest: VERSION,
        });
    }
    let request = frame::decode(body).map_err(|_| malformed())?;
    Ok((version, request))
}

/// A reply as it goes over the socket.
///
/// # Errors
/// [`TooLong`].
pub fn encode_reply(reply: &Reply) -> Result<Vec<u8>, TooLong> {
    frame::encode(reply)
}

/// A reply from the socket.
///
/// # Errors
/// [`Malformed`].
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, Malformed> {
    frame::decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_another_version_is_told_which_ones_are_taken() {
        let request = Request::LogLevel {
            daemon: "proxy".into(),
            module: None,
            level: Level::Debug,
        };
        let mut bytes = encode_request(&request).unwrap();
        assert_eq!(decode_request(&bytes), Ok((VERSION, request)));
        bytes[..2].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(
            decode_request(&bytes),
            Err(Reply::Version {
                oldest: OLDEST_VERSION,
                newest: VERSION
            })
        );
        assert!(matches!(decode_request(&[1]), Err(Reply::Refused { code: 76, .. })));
        assert!(matches!(
            decode_request(&[1, 0, 99]),
            Err(Reply::Refused { code: 76, .. })
        ));
    }

    /// What is on the wire may not change: an older tool or master is at the other end. These bytes are of version 1.
    #[test]
    fn version_1_is_what_it_always_was() {
        let frames: Vec<Vec<u8>> = vec![
            encode_request(&Request::Status).unwrap(),
            encode_request(&Request::Stop { within_ms: 300 }).unwrap(),
            encode_reply(&Reply::Done("x".into())).unwrap(),
            encode_reply(&Reply::Refused {
                code: 75,
                reason: "no".into(),
            })
            .unwrap(),
        ];
        assert_eq!(
            frames,
            [
                vec![1, 0, 0],
                vec![1, 0, 2, 0xac, 2],
                vec![1, 1, b'x'],
                vec![2, 75, 2, b'n', b'o'],
            ]
        );
    }
}
