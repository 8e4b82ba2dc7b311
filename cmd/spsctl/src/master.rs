//! Asking `sps-master`, over its operator socket.

use std::io::{ErrorKind, IsTerminal};
use std::time::{Duration, Instant};

use sps_cli::{Exit, Failure, OrFail, Output};
use sps_conf::Paths;
use sps_ipc::operator::{REPLY_TIMEOUT, Reply, Request, decode_reply, encode_request};
use sps_ipc::seqpacket::{Buffer, Connection, buffer};

use crate::fail;

/// How long a master that has just been started may take to open its socket.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two tries to reach it.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// A conversation with the master.
pub struct Master {
    connection: Connection,
    buffer: Buffer,
}

impl Master {
    /// Connects. `None` when no master runs; one that is coming up is waited for.
    pub fn connect(paths: &Paths) -> Result<Option<Self>, Failure> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        loop {
            match Connection::connect(&paths.master_socket(), Instant::now() + REPLY_TIMEOUT) {
                Ok(connection) => {
                    return Ok(Some(Self {
                        connection,
                        buffer: buffer(),
                    }));
                }
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    if sps_daemon::running(paths).is_none() {
                        return Ok(None);
                    }
                    if Instant::now() >= deadline {
                        return fail(
                            Exit::Unavailable,
                            "sps-master runs and does not listen; is it still starting?",
                        );
                    }
                    std::thread::sleep(RETRY_WAIT);
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return fail(
                        Exit::NoPermission,
                        "only root and the user that sps-master runs as may do this",
                    );
                }
                Err(error) => {
                    return Err(error).or_fail(Exit::Unavailable, format!("reach {}", paths.master_socket().display()));
                }
            }
        }
    }

    /// Sends a request and gives the reply that ends the conversation.
    pub fn ask(&mut self, out: Output, request: &Request) -> Result<Reply, Failure> {
        let bytes = encode_request(request).or_fail(Exit::Usage, "ask sps-master")?;
        self.connection
            .send(&bytes, Instant::now() + REPLY_TIMEOUT)
            .or_fail(Exit::Unavailable, "ask sps-master")?;
        let asked_at = Instant::now();
        loop {
            let len = match self
                .connection
                .recv(&mut self.buffer, Some(Instant::now() + REPLY_TIMEOUT))
            {
                Ok(0) => return fail(Exit::Unavailable, "sps-master went away without an answer"),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    return fail(Exit::Unavailable, "sps-master does not answer");
                }
                Err(error) => return Err(error).or_fail(Exit::Unavailable, "ask sps-master"),
            };
            let reply = decode_reply(&self.buffer[..len]).or_fail(Exit::Protocol, "understand sps-master")?;
            match reply {
                Reply::Progress(text) => progress(out, asked_at, &text),
                Reply::Version { oldest, newest } => {
                    return fail(
                        Exit::Protocol,
                        format!("the running sps-master is another release: it speaks versions {oldest} to {newest}"),
                    );
                }
                reply => return Ok(reply),
            }
        }
    }

    /// Waits until the master is gone, which closes the socket. False when it is still there at the deadline.
    pub fn wait_for_end(&mut self, deadline: Instant) -> bool {
        matches!(self.connection.recv(&mut self.buffer, Some(deadline)), Ok(0))
    }
}

/// Gives an order that has no result but words, and says them.
pub fn order(paths: &Paths, out: Output, request: &Request) -> Result<(), Failure> {
    let Some(mut master) = Master::connect(paths)? else {
        return fail(Exit::Unavailable, NOT_RUNNING);
    };
    done(out, master.ask(out, request)?)
}

/// What is said when there is no master.
pub const NOT_RUNNING: &str = "sps does not run";

/// A reply that ought to be "done".
pub fn done(out: Output, reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Done(words) => {
            if !words.is_empty() {
                out.note(&words);
            }
            Ok(())
        }
        Reply::Refused { code, reason } => Err(refused(code, &reason)),
        Reply::Progress(_) | Reply::Status(_) | Reply::Mode(_) | Reply::Version { .. } => {
            fail(Exit::Protocol, "sps-master answers what was not asked")
        }
    }
}

/// A daemon's refusal, with the exit code that it gave.
pub fn refused(code: u8, reason: &str) -> Failure {
    Failure::new(Exit::from_code(code), reason)
}

/// Says what takes long, on a terminal, once it does take long.
pub fn progress(out: Output, since: Instant, text: &str) {
    const QUIET_FOR: Duration = Duration::from_secs(1);
    if since.elapsed() >= QUIET_FOR && std::io::stderr().is_terminal() {
        out.note(text);
    }
}
