//! What `[tls]` names in files: certificates, private keys, the certificates of CAs. Read whole by the master, and frozen with the
//! configuration for `sps-tls` alone. What is inside the files is that daemon's business.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Ca, Certificate, Config, Paths};

/// Everything `sps-tls` needs of the files that `[tls]` names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// One an entry of `[[tls.certificate]]`, in the order of the file.
    pub certificates: Vec<Pair>,
    /// Whose signatures are believed (PEM). Empty when the system trusts nobody.
    pub ca: Pem,
}

/// One certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Our certificate and its chain.
    pub certificate: Pem,
    /// The private key.
    pub key: Pem,
    /// Names by which clients choose it beyond its own.
    pub names: Vec<String>,
}

/// The bytes of a file; they never show.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pem {
    /// For messages.
    pub path: PathBuf,
    /// As they lay there.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys never appear in any log.
        f.debug_tuple("Pem").field(&self.path).finish()
    }
}

/// A file that cannot be used, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[tls] {path}: {text}", path = path.display())]
pub struct MaterialError {
    /// Which file.
    pub path: PathBuf,
    /// Why, and what was expected.
    pub text: String,
    /// We may not read it; somebody else may.
    pub denied: bool,
}

/// A larger file is no certificate, key or list of CAs (Debian's list has 220 KiB).
const MAX_FILE_LEN: u64 = 4 << 20;

/// Where systems keep the list of CAs that they trust.
const SYSTEM_CA: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Config {
    /// Reads what `[tls]` names; nothing when TLS is not spoken.
    ///
    /// # Errors
    /// The first file that cannot be read, or that everybody may read though it holds a key.
    pub fn tls_material(&self, paths: &Paths) -> Result<Material, MaterialError> {
        if !self.speaks_tls() {
            return Ok(Material::default());
        }
        let pair = |entry: &Certificate| {
            Ok(Pair {
                certificate: read(&paths.beside_config(&entry.certificate), false)?,
                key: read(&paths.beside_config(&entry.key), true)?,
                names: entry.names.clone(),
            })
        };
        let certificates = self.tls.certificate.iter().map(pair).collect::<Result<_, _>>()?;
        let ca = match &self.tls.ca {
            Ca::File(file) => read(&paths.beside_config(file), false)?,
            Ca::System => match SYSTEM_CA.iter().map(Path::new).find(|path| path.exists()) {
                Some(path) => read(path, false)?,
                None => Pem::default(),
            },
        };
        Ok(Material { certificates, ca })
    }

    /// The files that `[tls]` names.
    pub fn tls_files<'a>(&'a self, paths: &'a Paths) -> impl Iterator<Item = PathBuf> + 'a {
        let ca = match &self.tls.ca {
            Ca::File(file) => Some(file),
            Ca::System => None,
        };
        let pairs = self.tls.certificate.iter();
        pairs
            .flat_map(|pair| [&pair.certificate, &pair.key])
            .chain(ca)
            .map(|path| paths.beside_config(path))
    }
}

fn read(path: &Path, secret: bool) -> Result<Pem, MaterialError> {
    let wrong = |text: String| MaterialError {
        path: path.to_owned(),
        text,
        denied: false,
    };
    let unreadable = |error: std::io::Error| MaterialError {
        denied: error.kind() == ErrorKind::PermissionDenied,
        ..wrong(match error.kind() {
            ErrorKind::NotFound => "there is no such file".into(),
            ErrorKind::PermissionDenied => {
                "it may not be read (files in folders that [tls] did not name when SPS was started need a restart)"
                    .into()
            }
            _ => format!("it cannot be read: {error}"),
        })
    };
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(wrong("it is no file".into()));
    }
    if secret && meta.mode() & 0o007 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(wrong(format!(
            "everybody on this machine may read or change this private key (mode {mode:04o}), expected 0600: chmod 600 {}",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_LEN + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(wrong(format!("it has more than {MAX_FILE_LEN} bytes")));
    }
    Ok(Pem {
        path: path.to_owned(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn instance() -> (tempfile::TempDir, Paths, Config) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path()));
        let folder = root.path().join("etc/tls");
        fs::create_dir_all(&folder).unwrap();
        for (name, mode) in [("cert.pem", 0o644), ("key.pem", 0o600), ("ca.pem", 0o644)] {
            fs::write(folder.join(name), name).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let text = "[server]\ndomain = \"d\"\n[[listen]]\ntransport = \"tls\"\naddress = \"::1\"\n[tls]\nca = \"tls/ca.pem\"\n\
            [[tls.certificate]]\ncertificate = \"tls/cert.pem\"\nkey = \"tls/key.pem\"\nnames = [\"sip.d\"]\n";
        let (config, _) = Config::parse(Path::new("f"), text).unwrap_or_else(|problems| panic!("{problems}"));
        (root, paths, config)
    }

    #[test]
    fn files_are_found_beside_the_configuration_and_do_not_show() {
        let (_root, paths, config) = instance();
        let material = config.tls_material(&paths).unwrap();
        assert_eq!(material.certificates[0].key.bytes, b"key.pem");
        assert_eq!(material.ca.bytes, b"ca.pem");
        let bytes = format!("{:?}", b"key.pem");
        assert!(!format!("{material:?}").contains(&bytes));
        assert_eq!(config.tls_files(&paths).count(), 3);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_cure() {
        let (root, paths, config) = instance();
        let key = root.path().join("etc/tls/key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = config.tls_material(&paths).unwrap_err().to_string();
        assert!(
            error.contains("0644") && error.contains(&format!("chmod 600 {}", key.display())),
            "{error}"
        );
        // Debian's ssl-cert group is a fine reader.
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        config.tls_material(&paths).unwrap();
        fs::remove_file(&key).unwrap();
        let error = config.tls_material(&paths).unwrap_err().to_string();
        assert!(error.contains("key.pem: there is no such file"), "{error}");
    }
}
