//! The keys that sign our Record-Route and flow tokens: `data/mac.keys`, made at the first start.
//!
//! One key a line, `ID HEX`, ID from 0 to 255, HEX 64 digits; the first line signs, all verify. To rotate, put a new line on top,
//! reload, and take the last line away once no dialog is left that bears it. `#` begins a comment.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use sps_daemon::{Exit, Fatal, OrFatal};
use sps_ipc::parent::MacKey;

/// Keys in the file when it is new: one that signs, and one that stands by so that every instance knows it before it signs.
const NEW_KEYS: u8 = 2;

/// More keys than this are a mistake.
const MAX_KEYS: usize = 16;

/// Bytes of the file that are read.
const MAX_FILE_LEN: u64 = 16 * 1024;

/// Reads the keys; a missing file is made.
pub fn load_or_make(path: &Path) -> Result<Vec<MacKey>, Fatal> {
    match load(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path).or_fatal(Exit::CantCreate, format!("make {}", path.display()))?;
            load(path)
        }
        other => other,
    }
    .or_fatal(Exit::Storage, format!("read keys from {}", path.display()))
}

fn make(path: &Path) -> std::io::Result<()> {
    let mut text =
        String::from("# Keys that sign our Record-Route and flow tokens: ID HEX. The first one signs, all verify.\n");
    for id in 1..=NEW_KEYS {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(std::io::Error::other)?;
        let _ = write!(text, "{id} ");
        for byte in secret {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    crate::folders::write_whole(path, 0o600, text.as_bytes())
}

fn load(path: &Path) -> std::io::Result<Vec<MacKey>> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(no_link).open(path)?;
    let meta = file.metadata()?;
    // The folder may belong to the daemons' user; what they could have put there is not ours.
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us || meta.mode() & 0o077 != 0 {
        return Err(std::io::Error::new(
            ErrorKind::PermissionDenied,
            format!("must belong to user {us} alone (mode 0600)"),
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE_LEN).read_to_string(&mut text)?;
    parse(&text).map_err(|text| std::io::Error::new(ErrorKind::InvalidData, text))
}

fn parse(text: &str) -> Result<Vec<MacKey>, String> {
    let mut keys: Vec<MacKey> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let key = parse_line(line).ok_or_else(|| format!("line {}: expected ID (0-255) and 64 hex digits", i + 1))?;
        if keys.iter().any(|known| known.id == key.id) {
            return Err(format!("line {}: key {} is there twice", i + 1, key.id));
        }
        keys.push(key);
    }
    match keys.len() {
        0 => Err("no key in it".into()),
        1..=MAX_KEYS => Ok(keys),
        count => Err(format!("{count} keys in it, {MAX_KEYS} at most")),
    }
}

fn parse_line(line: &str) -> Option<MacKey> {
    let (id, hex) = line.split_once(char::is_whitespace)?;
    let hex = hex.trim().as_bytes();
    let mut secret = [0; 32];
    if hex.len() != 2 * secret.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    for (byte, pair) in secret.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(MacKey {
        id: id.parse().ok()?,
        secret,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_are_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mac.keys");
        let made = load_or_make(&path).unwrap();
        assert_eq!(made.len(), usize::from(NEW_KEYS));
        assert_ne!(made[0].secret, made[1].secret);
        assert_eq!(load_or_make(&path).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load_or_make(&path).unwrap_err().text.contains("0600"));
    }

    #[test]
    fn a_bad_line_is_named() {
        let key = "0123456789abcdefABCDEF0123456789".repeat(2);
        assert_eq!(parse(&format!("# c\n\n7 {key} # new\n8\t{key}\n")).unwrap()[1].id, 8);
        for (text, says) in [
            (String::new(), "no key"),
            (format!("1 {key}\n1 {key}\n"), "line 2: key 1 is there twice"),
            (format!("256 {key}\n"), "line 1"),
            (format!("1 {}\n", &key[1..]), "line 1"),
            (format!("1 {}g\n", &key[1..]), "line 1"),
            (format!("\n{key}\n"), "line 2"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(says), "{text:?} gave {error}");
        }
    }
}
