//! `sps-master` to whoever started it in the background (`spsctl start`): one way, over a pipe at the master's descriptor 1.
//!
//! Any number of [`Report::Progress`], then [`Report::Ready`] or [`Report::Failed`], then the pipe is closed. Closed without either,
//! the master died. The starter waits for a bounded time, and leaves the master to itself when it has gone by.
//! On the pipe each report stands behind its length in four bytes, low byte first.

use std::io::{self, ErrorKind, Read, Write};

use serde::{Deserialize, Serialize};

use crate::{MAX_FRAME_LEN, frame, operator::Listening};

/// How the start goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// What it is doing.
    Progress(String),
    /// Every daemon is ready.
    Ready {
        /// The master's process id.
        pid: u32,
        /// The generation that has begun.
        generation: u32,
        /// Where it serves.
        listening: Vec<Listening>,
    },
    /// Nothing runs.
    Failed {
        /// The master's exit code.
        code: u8,
        /// For the operator; may have several lines.
        text: String,
    },
}

/// Writes one report.
///
/// # Errors
/// What the pipe says.
pub fn write(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let body = frame::encode(report).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    // The cap on frames is below u32::MAX.
    let len = u32::try_from(body.len()).map_err(|_| ErrorKind::InvalidInput)?;
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one report; `None` at the end of the pipe.
///
/// # Errors
/// [`ErrorKind::InvalidData`] for what is no report, [`ErrorKind::UnexpectedEof`] in the middle of one.
pub fn read(from: &mut impl Read) -> io::Result<Option<Report>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_FRAME_LEN {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    frame::decode(&body).map(Some).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}
