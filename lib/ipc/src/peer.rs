//! Who is at the other end, as the kernel says it. Never taken from a field in a message.

use std::io;
use std::os::fd::AsFd;

/// Process, user and group of the other end at the time it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id; 0 when the process lies outside our pid name space.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Peer {
    /// Asks the kernel about a connected Unix socket.
    ///
    /// # Errors
    /// When `socket` is no connected Unix socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        Ok(Self {
            pid: credentials.pid.as_raw_nonzero().get(),
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
        })
    }

    /// Whether the other end is a daemon of this instance, which may have another user but has our group; or root.
    pub fn is_of_us(&self) -> bool {
        self.may_order() || self.gid == rustix::process::getegid().as_raw()
    }

    /// Whether the other end may give us orders: root, or the user we run as.
    pub fn may_order(&self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
}
