//! The folders of an instance, the number of this generation, and who owns what.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use sps_conf::{Config, Paths};
use sps_daemon::{Exit, Fatal, Ids, OrFatal, open_log_file};

/// Makes the folders that are missing. With `owner` (we are root and the daemons are not) data and logs become theirs.
pub fn make(paths: &Paths, owner: Option<Ids>) -> Result<(), Fatal> {
    paths.check_socket_len().or_fatal(Exit::Config, "use this root")?;
    for folder in [&paths.data, &paths.run, &paths.log] {
        let theirs = if *folder == paths.run { None } else { owner };
        make_folder(folder, if *folder == paths.data { 0o750 } else { 0o755 }, theirs)?;
    }
    Ok(())
}

/// Makes one folder, or takes it as it is; its owner is set when it is new or still ours.
fn make_folder(folder: &Path, mode: u32, owner: Option<Ids>) -> Result<(), Fatal> {
    let what = || format!("make folder {}", folder.display());
    match fs::DirBuilder::new().recursive(true).mode(mode).create(folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(error).or_fatal(Exit::Privilege, what());
        }
        other => other.or_fatal(Exit::CantCreate, what())?,
    }
    match owner {
        Some(Ids { uid, gid }) => chown(folder, Some(uid), Some(gid)).or_fatal(Exit::Privilege, what()),
        None => Ok(()),
    }
}

/// Opens the log files once, so that they belong to the daemons however they are opened first. To be repeated before they are
/// opened anew.
pub fn make_logs(paths: &Paths, conf: &Config, owner: Option<Ids>) -> Result<(), Fatal> {
    let access = conf.log.access.then(|| paths.access_log(&conf.log));
    for path in access.into_iter().chain([paths.error_log(&conf.log)]) {
        let what = || format!("open log {}", path.display());
        let file = open_log_file(&path).or_fatal(Exit::CantCreate, what())?;
        if let Some(Ids { uid, gid }) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).or_fatal(Exit::Privilege, what())?;
            // sps-tls has another user and the same group.
            let mode = fs::Permissions::from_mode(0o660);
            file.set_permissions(mode).or_fatal(Exit::Privilege, what())?;
        }
    }
    Ok(())
}

/// Counts this start and gives its number. The count is kept in `data/generation` and never goes back: branches and tokens of earlier
/// generations can be told from ours.
pub fn next_generation(paths: &Paths) -> Result<u32, Fatal> {
    let path = paths.data.join("generation");
    let what = || format!("count this start in {}", path.display());
    let counted = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u32>().ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).or_fatal(Exit::Storage, what()),
    };
    // Also when the file was lost or is damaged, we do not fall back behind a generation that has left its folder.
    let last = counted
        .unwrap_or(0)
        .max(generations(&paths.run).map(|(number, _)| number).max().unwrap_or(0));
    let next = last
        .checked_add(1)
        .ok_or_else(|| Fatal::new(Exit::Storage, "the count of starts has run out"))?;
    write_whole(&path, 0o644, format!("{next}\n").as_bytes()).or_fatal(Exit::Storage, what())?;
    Ok(next)
}

/// Makes `run/gen-N`, lets `run/current` lead there, and removes what earlier generations left.
pub fn begin_generation(paths: &Paths, generation: u32, owner: Option<Ids>) -> Result<PathBuf, Fatal> {
    let folder = paths.generation(generation);
    for (number, old) in generations(&paths.run) {
        if number != generation
            && let Err(error) = fs::remove_dir_all(&old)
        {
            tracing::warn!(%error, folder = %old.display(), "cannot remove what an earlier generation left");
        }
    }
    make_folder(&folder, 0o755, owner)?;
    if owner.is_some() {
        // sps-tls has another user and the same group; what one daemon puts there no other can take away.
        let mode = fs::Permissions::from_mode(0o1775);
        fs::set_permissions(&folder, mode).or_fatal(Exit::Privilege, format!("open {}", folder.display()))?;
    }
    let (link, new) = (paths.current(), paths.run.join("current.new"));
    let what = || format!("make link {}", link.display());
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).or_fatal(Exit::CantCreate, what()),
        Ok(()) | Err(_) => {}
    }
    let target = folder.file_name().map(Path::new).unwrap_or(&folder);
    symlink(target, &new)
        .and_then(|()| fs::rename(&new, &link))
        .or_fatal(Exit::CantCreate, what())?;
    Ok(folder)
}

/// Removes what nobody may find after us. The generation's folder goes too: its daemons are gone.
pub fn end_generation(paths: &Paths, generation: u32) {
    for path in [paths.master_socket(), paths.current(), paths.pid()] {
        // Whatever is left is replaced by the next start.
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_dir_all(paths.generation(generation));
}

/// Our process id, for those who look.
pub fn write_pid(paths: &Paths) -> Result<(), Fatal> {
    let path = paths.pid();
    write_whole(&path, 0o644, format!("{}\n", std::process::id()).as_bytes())
        .or_fatal(Exit::CantCreate, format!("write {}", path.display()))
}

/// Writes a file so that it is there wholly or not at all, on the disk when this returns.
pub fn write_whole(path: &Path, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Never through a link that somebody else put there.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The generations that have a folder.
fn generations(run: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    fs::read_dir(run).into_iter().flatten().flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.strip_prefix("gen-")?.parse().ok()?;
        Some((number, entry.path()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path()));
        make(&paths, None).unwrap();
        (root, paths)
    }

    #[test]
    fn the_generation_grows_whatever_happens_to_its_file() {
        let (_root, paths) = root();
        assert_eq!(next_generation(&paths).unwrap(), 1);
        assert_eq!(next_generation(&paths).unwrap(), 2);
        fs::write(paths.data.join("generation"), "rubbish").unwrap();
        fs::create_dir(paths.generation(7)).unwrap();
        assert_eq!(next_generation(&paths).unwrap(), 8);
    }

    #[test]
    fn current_leads_to_the_new_generation_and_the_old_one_goes() {
        let (_root, paths) = root();
        begin_generation(&paths, 1, None).unwrap();
        fs::write(Paths::registrar_ctl(&paths.current()), "").unwrap();
        begin_generation(&paths, 2, None).unwrap();
        assert!(!paths.generation(1).exists());
        assert_eq!(fs::read_link(paths.current()).unwrap(), Path::new("gen-2"));
        end_generation(&paths, 2);
        assert!(!paths.current().exists() && !paths.generation(2).exists());
    }

    #[test]
    fn a_root_too_long_for_sockets_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let fatal = make(&Paths::new(Some(&root.path().join("x".repeat(100)))), None).unwrap_err();
        assert_eq!(fatal.exit, Exit::Config);
    }
}
