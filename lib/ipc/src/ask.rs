//! Asking a daemon from a plain program: one request, one reply, a deadline.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame;
use crate::seqpacket::{Buffer, Connection, buffer};

/// A conversation in which each request gets one reply, in order.
pub struct Asker {
    connection: Connection,
    buffer: Buffer,
    timeout: Duration,
}

impl Asker {
    /// Connects; `timeout` holds for this and for each answer.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::ConnectionRefused`] when the daemon does not run, [`ErrorKind::TimedOut`].
    pub fn connect(path: &Path, timeout: Duration) -> io::Result<Self> {
        let connection = Connection::connect(path, Instant::now() + timeout)?;
        Ok(Self {
            connection,
            buffer: buffer(),
            timeout,
        })
    }

    /// Sends `request` and waits for its reply. After an error hang up: a late reply would be taken for the next one.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], [`ErrorKind::UnexpectedEof`] when the daemon hung up, [`ErrorKind::InvalidData`] when it is another
    /// build, [`ErrorKind::InvalidInput`] for a request too long.
    pub fn ask<Q: Serialize, R: DeserializeOwned>(&mut self, request: &Q) -> io::Result<R> {
        let deadline = Instant::now() + self.timeout;
        let bytes = frame::encode(request).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        self.connection.send(&bytes, deadline)?;
        let len = self.connection.recv(&mut self.buffer, Some(deadline))?;
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        frame::decode(&self.buffer[..len]).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}
