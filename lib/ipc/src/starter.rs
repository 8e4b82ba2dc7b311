//! `sps-master` to whoever started it in the background (`spsctl start`): one way, over a pipe at the master's descriptor 1.
//!
//! Any number of [`Report::Progress`], then [`Report::Ready`] or [`Report::Failed`], then the pipe is closed. Closed without either,
//! the master died. The starter waits for a bounded time, and leaves the master to itself when it has gone by.
//! On the pipe each report stands behind its length in four bytes, low byte first.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

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

/// What an operator is told once everything is ready: where it serves, and when only this machine can reach it, how to change that.
pub fn greeting(listening: &[Listening], config: &Path) -> String {
    let addresses: Vec<_> = listening
        .iter()
        .map(|one| format!("{} {}", one.transport.as_str(), one.address))
        .collect();
    let mut text = format!("sps serves on {}", addresses.join(", "));
    if listening
        .iter()
        .all(|one| one.address.ip().to_canonical().is_loopback())
    {
        text.push_str(
            "\nphones elsewhere cannot reach it: these are loopback addresses, which only this machine sees\n",
        );
        text.push_str("  to change that put this machine's own address into each [[listen]] of ");
        text.push_str(&config.display().to_string());
        text.push_str(", say under [[access]] who may use it,\n  and restart: spsctl stop, spsctl start");
    }
    text
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
    frame::decode(&body)
        .map(Some)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use sps_conf::Transport;

    use super::*;

    fn listening(address: &str) -> Listening {
        let address = address.parse().unwrap();
        Listening {
            transport: Transport::Udp,
            address,
            sockets: 2,
            receive_buffer_len: 1,
            send_buffer_len: 1,
        }
    }

    #[test]
    fn reports_come_out_as_they_went_in() {
        let reports = [
            Report::Progress("starting".into()),
            Report::Failed {
                code: 78,
                text: "two\nlines".into(),
            },
            Report::Ready {
                pid: 7,
                generation: 8,
                listening: vec![listening("[::1]:5060")],
            },
        ];
        let mut pipe = Vec::new();
        for report in &reports {
            write(report, &mut pipe).unwrap();
        }
        let mut rest = &pipe[..];
        let read: Vec<_> = std::iter::from_fn(|| read(&mut rest).unwrap()).collect();
        assert_eq!(read, reports);
    }

    #[test]
    fn a_report_cut_short_or_too_long_is_an_error() {
        let mut pipe = Vec::new();
        write(&Report::Progress("starting".into()), &mut pipe).unwrap();
        assert_eq!(
            read(&mut &pipe[..pipe.len() - 1]).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
        assert_eq!(read(&mut &[0xff_u8; 8][..]).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn only_loopback_gets_advice() {
        let config = Path::new("/etc/sps/sps.toml");
        let lonely = greeting(&[listening("127.0.0.1:5060"), listening("[::1]:5060")], config);
        assert!(
            lonely.starts_with("sps serves on udp 127.0.0.1:5060, udp [::1]:5060\n")
                && lonely.contains("/etc/sps/sps.toml")
        );
        let open = greeting(&[listening("127.0.0.1:5060"), listening("192.0.2.1:5060")], config);
        assert_eq!(open, "sps serves on udp 127.0.0.1:5060, udp 192.0.2.1:5060");
    }
}
