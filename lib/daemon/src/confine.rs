//! Giving up rights: no new privileges, and with landlock only the folders that the daemon works in.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};
use sps_ipc::parent::Frozen;

use crate::{Exit, Fatal, OrFatal};

/// What a daemon keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confine {
    /// May be read, with all below; what does not exist is left out.
    pub read: Vec<PathBuf>,
    /// May also be executed.
    pub execute: Vec<PathBuf>,
    /// May be read, written, made, renamed and removed, with all below.
    pub write: Vec<PathBuf>,
    /// May use TCP.
    pub tcp: bool,
}

/// How far the kernel went along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    /// All of it holds.
    Fully,
    /// What this kernel knows of it holds.
    Partly,
    /// This kernel has no landlock; only new privileges are ruled out.
    Not,
}

/// The newest set of rights we ask for; older kernels enforce what they know.
const NEWEST: ABI = ABI::V5;

/// Read by the C library, the resolver and the runtime. Folders rather than files where a file may be replaced by another.
const SYSTEM: [&str; 7] = [
    "/dev",
    "/etc",
    "/proc",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/sys/devices/system/cpu",
];

impl Confine {
    /// What every process needs of the system: names, processors, nothing to write but what is thrown away. Add to it.
    pub fn system() -> Self {
        Self {
            read: SYSTEM.map(PathBuf::from).to_vec(),
            write: vec!["/dev/null".into()],
            ..Self::default()
        }
    }

    /// What every daemon needs: data, sockets and logs to write besides. Add to it.
    pub fn of(frozen: &Frozen) -> Self {
        let mut keep = Self::system();
        keep.read.push(frozen.paths.run.clone());
        keep.write
            .extend([frozen.paths.data.clone(), frozen.folder(), frozen.paths.log.clone()]);
        let logs = [frozen.access_log(), Some(frozen.error_log())];
        keep.write.extend(
            logs.iter()
                .flatten()
                .filter_map(|path| path.parent())
                .map(Path::to_owned),
        );
        keep
    }

    /// The same with TCP allowed.
    #[must_use]
    pub fn with_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }
}

/// Gives up everything else, for the calling thread and all it starts: call it before there are others. A kernel without landlock
/// is no error; it is logged.
///
/// # Errors
/// The kernel refuses what it says it can do.
pub fn confine(keep: &Confine) -> Result<Confined, Fatal> {
    rustix::thread::set_no_new_privs(true).or_fatal(Exit::Privilege, "rule out new privileges")?;
    let status = restrict(keep).or_fatal(Exit::Privilege, "give up rights")?;
    let confined = match status.ruleset {
        RulesetStatus::FullyEnforced => Confined::Fully,
        RulesetStatus::PartiallyEnforced => Confined::Partly,
        RulesetStatus::NotEnforced => Confined::Not,
    };
    match confined {
        Confined::Fully => tracing::debug!("confined to its folders"),
        Confined::Partly => {
            tracing::info!("confined to its folders as far as this kernel can (landlock is older than ours)")
        }
        Confined::Not => tracing::info!("not confined to its folders: this kernel has no landlock"),
    }
    Ok(confined)
}

fn restrict(keep: &Confine) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?;
    if !keep.tcp {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
    }
    ruleset
        .create()?
        .add_rules(path_beneath_rules(&keep.read, AccessFs::ReadFile | AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(&keep.execute, AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(
            &keep.write,
            AccessFs::from_all(NEWEST) & !AccessFs::Execute,
        ))?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sandbox holds for the thread, so a thread that ends with the test may try it.
    #[test]
    fn what_is_not_kept_is_out_of_reach() {
        let (kept, lost) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (inside, outside) = (kept.path().join("file"), lost.path().join("file"));
        std::fs::write(&outside, "secret").unwrap();
        let keep = Confine {
            write: vec![kept.path().to_owned(), "/no/such/folder".into()],
            ..Confine::default()
        };
        let confined = std::thread::spawn(move || {
            let confined = confine(&keep).unwrap();
            std::fs::write(&inside, "kept").unwrap();
            std::fs::rename(&inside, inside.with_extension("moved")).unwrap();
            let read = std::fs::read_to_string(&outside);
            let bound = std::net::TcpListener::bind("127.0.0.1:0");
            match confined {
                Confined::Not => assert!(read.is_ok() && bound.is_ok()),
                Confined::Partly => assert!(read.is_err()),
                Confined::Fully => assert!(read.is_err() && bound.is_err()),
            }
            // Datagrams are not TCP: they go on.
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        });
        confined.join().unwrap();
        assert!(std::fs::read_to_string(lost.path().join("file")).is_ok());
    }
}
