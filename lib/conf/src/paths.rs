//! Where everything lies: installed, or all below one `--root`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Log;

/// The folders of one instance, and the name of every file in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// The `--root` folder, absolute; unset when installed.
    pub root: Option<PathBuf>,
    /// The configuration file: `/etc/sps/sps.toml` or `ROOT/etc/sps.toml`.
    pub config: PathBuf,
    /// Tables and maps: `/var/lib/sps` or `ROOT/data`.
    pub data: PathBuf,
    /// Sockets, lock, pid file: `/run/sps` or `ROOT/run`.
    pub run: PathBuf,
    /// Logs: `/var/log/sps` or `ROOT/log`.
    pub log: PathBuf,
}

/// A root so long that a Unix socket below it could not be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the root is too long for a socket: {path} has {len} bytes, a socket path may have {MAX_SOCKET_PATH_LEN}; choose a root of at most {max_root_len} bytes",
    path = path.display()
)]
pub struct PathTooLong {
    /// The longest socket path below the root.
    pub path: PathBuf,
    /// Its bytes.
    pub len: usize,
    /// What the root may have.
    pub max_root_len: usize,
}

/// `sun_path` has 108 bytes on Linux, the last one being zero.
const MAX_SOCKET_PATH_LEN: usize = 107;

impl Paths {
    /// The installed layout, or the one below `root`. A relative root is taken from the current folder.
    pub fn new(root: Option<&Path>) -> Self {
        match root {
            None => Self {
                root: None,
                config: "/etc/sps/sps.toml".into(),
                data: "/var/lib/sps".into(),
                run: "/run/sps".into(),
                log: "/var/log/sps".into(),
            },
            Some(root) => {
                // Only an empty path or a current folder that is gone make this fail; the next use of the path tells.
                let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
                Self {
                    config: root.join("etc/sps.toml"),
                    data: root.join("data"),
                    run: root.join("run"),
                    log: root.join("log"),
                    root: Some(root),
                }
            }
        }
    }

    /// The four folders, in the order in which they are made: configuration, data, run, log.
    pub fn folders(&self) -> [&Path; 4] {
        [
            self.config.parent().unwrap_or(Path::new("/")),
            &self.data,
            &self.run,
            &self.log,
        ]
    }

    /// `run/sps.lock`: held by the master as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.run.join("sps.lock")
    }

    /// `run/sps.pid`: the master's process id.
    pub fn pid(&self) -> PathBuf {
        self.run.join("sps.pid")
    }

    /// `run/sps.sock`: the master's operator socket, the only socket with a fixed path.
    pub fn master_socket(&self) -> PathBuf {
        self.run.join("sps.sock")
    }

    /// `run/current`: a symbolic link to the folder of the generation in force.
    pub fn current(&self) -> PathBuf {
        self.run.join("current")
    }

    /// `run/gen-N`: sockets and counters of one generation.
    pub fn generation(&self, generation: u32) -> PathBuf {
        self.run.join(generation_name(generation))
    }

    /// `registrar.sock` in `folder` ([`Paths::generation`] or [`Paths::current`]): the proxy's way to the registrar.
    pub fn registrar_socket(folder: &Path) -> PathBuf {
        folder.join("registrar.sock")
    }

    /// `registrar.ctl` in `folder`: the operator's way to the registrar.
    pub fn registrar_ctl(folder: &Path) -> PathBuf {
        folder.join("registrar.ctl")
    }

    /// `tls.sock` in `folder`: the proxy's way to `sps-tls`.
    pub fn tls_socket(folder: &Path) -> PathBuf {
        folder.join("tls.sock")
    }

    /// `tls.ctl` in `folder`: the operator's way to `sps-tls`.
    pub fn tls_ctl(folder: &Path) -> PathBuf {
        folder.join("tls.ctl")
    }

    /// `proxy.ctl` in `folder`: the operator's way to the proxy.
    pub fn proxy_ctl(folder: &Path) -> PathBuf {
        folder.join("proxy.ctl")
    }

    /// `counters.map` in `folder`: figures of all daemons of a generation.
    pub fn counters(folder: &Path) -> PathBuf {
        folder.join("counters.map")
    }

    /// `data/sps.db`: routes, static registrations, rules.
    pub fn database(&self) -> PathBuf {
        self.data.join("sps.db")
    }

    /// `data/registry.map`: all bindings; written by the registrar only.
    pub fn registry_map(&self) -> PathBuf {
        self.data.join("registry.map")
    }

    /// `data/routes.map`: the compiled route table.
    pub fn routes_map(&self) -> PathBuf {
        self.data.join("routes.map")
    }

    /// `data/mac.keys`: keys that sign our Record-Route and flow tokens.
    pub fn mac_keys(&self) -> PathBuf {
        self.data.join("mac.keys")
    }

    /// A file that the configuration names: a relative path lies in the folder of `sps.toml`.
    pub fn beside_config(&self, file: &Path) -> PathBuf {
        match self.config.parent() {
            Some(folder) => folder.join(file),
            None => file.to_path_buf(),
        }
    }

    /// Where the access log goes under `log`.
    pub fn access_log(&self, log: &Log) -> PathBuf {
        self.log
            .join(log.access_log.as_deref().unwrap_or(Path::new("access_log")))
    }

    /// Where the error log goes under `log`.
    pub fn error_log(&self, log: &Log) -> PathBuf {
        self.log
            .join(log.error_log.as_deref().unwrap_or(Path::new("error_log")))
    }

    /// Whether every socket below `run` can be bound.
    ///
    /// # Errors
    /// [`PathTooLong`] when the longest of them does not fit into a socket address.
    pub fn check_socket_len(&self) -> Result<(), PathTooLong> {
        let path = Self::registrar_socket(&self.generation(u32::MAX));
        let len = path.as_os_str().len();
        if len <= MAX_SOCKET_PATH_LEN {
            return Ok(());
        }
        let root_len = self.root.as_deref().unwrap_or(&self.run).as_os_str().len();
        Err(PathTooLong {
            path,
            len,
            max_root_len: MAX_SOCKET_PATH_LEN.saturating_sub(len - root_len),
        })
    }
}

/// The folder's name under `run`, also what the link `current` says.
fn generation_name(generation: u32) -> String {
    format!("gen-{generation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_root_becomes_absolute() {
        let paths = Paths::new(Some(Path::new("demo")));
        assert!(paths.data.is_absolute() && paths.data.ends_with("demo/data"));
        assert_eq!(paths.config.file_name().unwrap(), "sps.toml");
    }

    #[test]
    fn a_root_is_too_long_exactly_when_its_longest_socket_is() {
        assert_eq!(Paths::new(None).check_socket_len(), Ok(()));
        let root_of = |len: usize| PathBuf::from(format!("/{}", "r".repeat(len - 1)));
        let refused = Paths::new(Some(&root_of(200))).check_socket_len().unwrap_err();
        assert!(refused.to_string().contains(&refused.max_root_len.to_string()));
        assert_eq!(
            Paths::new(Some(&root_of(refused.max_root_len))).check_socket_len(),
            Ok(())
        );
        assert!(
            Paths::new(Some(&root_of(refused.max_root_len + 1)))
                .check_socket_len()
                .is_err()
        );
    }

    #[test]
    fn logs_may_lie_elsewhere() {
        let paths = Paths::new(Some(Path::new("/r")));
        let mut log = Log {
            access: true,
            level: crate::Level::Info,
            access_log: None,
            error_log: None,
        };
        assert_eq!(paths.access_log(&log), Path::new("/r/log/access_log"));
        log.access_log = Some("calls.log".into());
        log.error_log = Some("/var/tmp/e".into());
        assert_eq!(paths.access_log(&log), Path::new("/r/log/calls.log"));
        assert_eq!(paths.error_log(&log), Path::new("/var/tmp/e"));
    }
}
