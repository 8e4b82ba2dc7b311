//! `spsctl init`: a commented `sps.toml` and the folders, never over what is there.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use sps_cli::{Exit, Failure, OrFail, Output};
use sps_conf::{Config, InitOptions, Listen, Paths};

use crate::fail;

pub fn run(paths: &Paths, out: Output, domain: Option<String>, listen: Vec<Listen>) -> Result<(), Failure> {
    paths
        .check_socket_len()
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let text = Config::sample(&InitOptions { domain, listen }).map_err(|text| Failure::new(Exit::Usage, text))?;
    if paths.config.exists() {
        return fail(
            Exit::CantCreate,
            format!("{} is there already and stays as it is", paths.config.display()),
        )
        .map_err(|failure: Failure| failure.cure("change it with an editor, or move it away first"));
    }
    for folder in paths.folders() {
        // Readable for others, but for the data.
        let mode = if folder == paths.data { 0o750 } else { 0o755 };
        make_folder(folder, mode)?;
    }
    let what = format!("write {}", paths.config.display());
    let mut file = match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&paths.config)
    {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(error).or_fail(Exit::NoPermission, what);
        }
        other => other.or_fail(Exit::CantCreate, &what)?,
    };
    if let Err(error) = file.write_all(text.as_bytes()) {
        // Half a file would be in the way of the next try.
        let _ = fs::remove_file(&paths.config);
        return Err(error).or_fail(Exit::Io, what);
    }
    if let Some(note) = missing_certificate(paths, &text) {
        out.note(&note);
    }
    out.note(&format!(
        "wrote {}; next: spsctl{} start",
        paths.config.display(),
        root_argument(paths)
    ));
    Ok(())
}

/// What is still missing where TLS is to be spoken, and one way to get it.
fn missing_certificate(paths: &Paths, text: &str) -> Option<String> {
    let (conf, _) = Config::parse(&paths.config, text).ok()?;
    let first = conf.tls.certificate.first().filter(|_| conf.speaks_tls())?;
    let (certificate, key) = (paths.beside_config(&first.certificate), paths.beside_config(&first.key));
    if certificate.exists() && key.exists() {
        return None;
    }
    let (certificate, key) = (certificate.display(), key.display());
    let folder = paths.beside_config(std::path::Path::new("tls"));
    Some(format!(
        "TLS needs a certificate and its key before SPS can start:\n  {certificate}\n  {key}\n\
         from your CA, or, to try it out, one that nobody else believes:\n  \
         mkdir -p {folder}; (umask 077; openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN={domain} \
         -addext subjectAltName=URI:sip:{domain},DNS:{domain} -keyout {key} -out {certificate})",
        folder = folder.display(),
        domain = conf.server.domain,
    ))
}

/// As the operator has to repeat it.
fn root_argument(paths: &Paths) -> String {
    match &paths.root {
        Some(root) if !is_set_to(root) => format!(" --root {}", root.display()),
        Some(_) | None => String::new(),
    }
}

/// Whether SPS_ROOT names this very root.
fn is_set_to(root: &Path) -> bool {
    std::env::var_os("SPS_ROOT").is_some_and(|set| std::path::absolute(set).is_ok_and(|set| set == root))
}

fn make_folder(folder: &Path, mode: u32) -> Result<(), Failure> {
    let what = format!("make folder {}", folder.display());
    match fs::DirBuilder::new().recursive(true).mode(mode).create(folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error)
            .or_fail(Exit::NoPermission, what)
            .map_err(|failure| failure.cure("run it as root, or give it a folder of your own with --root")),
        other => other.or_fail(Exit::CantCreate, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path()));
        let out = Output::new(false);
        run(&paths, out, Some("example.com".into()), Vec::new()).unwrap();
        let (config, warnings) = Config::load_noting(&paths.config).unwrap();
        assert!(config.server.domain == "example.com" && warnings.is_empty());
        assert!(paths.folders().iter().all(|folder| folder.is_dir()));

        fs::write(&paths.config, "mine").unwrap();
        let failure = run(&paths, out, None, Vec::new()).unwrap_err();
        assert_eq!(failure.exit, Exit::CantCreate);
        assert_eq!(fs::read_to_string(&paths.config).unwrap(), "mine");
    }
}
