//! A log file: appended to by whole lines, opened anew on order, counted when the disk is full.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Opens a log file for appending, making it (0640) when it is not there. A symbolic link is refused: the folder may belong to
/// another user than the master's.
///
/// # Errors
/// What open(2) says.
pub fn open_log_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// An open log file and where it lies.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// The file ends in the middle of a line that could not be taken back.
    torn: bool,
}

impl LogFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open_log_file(path)?,
            torn: false,
        })
    }

    /// Opens the path, or another one, anew; on error the old file goes on being written.
    pub(crate) fn reopen(&mut self, path: Option<&Path>) -> io::Result<()> {
        *self = Self::open(path.unwrap_or(&self.path))?;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What stderr can be pointed at.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes whole lines and gives the number of lines lost: what does not go in wholly is taken back.
    pub(crate) fn write(&mut self, lines: &[u8]) -> u64 {
        if self.torn && self.file.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => break,
                Ok(len) => written += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if written == lines.len() {
            return 0;
        }
        let whole = lines[..written]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole < written {
            self.torn = !self.take_back((written - whole) as u64);
        }
        lines[whole..].iter().filter(|&&byte| byte == b'\n').count() as u64
    }

    /// Cuts what we just wrote off the end, unless somebody else has appended since.
    fn take_back(&mut self, len: u64) -> bool {
        let Ok(end) = self.file.stream_position() else {
            return false;
        };
        let ours = self.file.metadata().is_ok_and(|meta| meta.len() == end);
        ours && end >= len && self.file.set_len(end - len).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_costs_whole_lines_and_they_are_counted() {
        // The system's always-full device takes nothing.
        let mut full = LogFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(full.write(b"one\ntwo\nthree\n"), 3);
    }

    #[test]
    fn half_a_line_is_taken_back_and_a_stranger_behind_it_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        assert_eq!(log.write(b"whole\nhal"), 0);
        assert!(log.take_back(3));
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\n");

        assert_eq!(log.write(b"hal"), 0);
        open_log_file(&path).unwrap().write_all(b"stranger\n").unwrap();
        assert!(!log.take_back(3));
        log.torn = true;
        assert_eq!(log.write(b"next\n"), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\nhalstranger\n\nnext\n");
    }

    #[test]
    fn a_link_is_no_log_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(open_log_file(&path).is_err());
    }
}
