//! `make install` into a folder of its own: everything is where it belongs, and what was installed works from there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sps_tests::instance::program;
use sps_tests::net::{V4, free_addr};
use sps_tests::process::{run_command, run_within};
use sps_tests::wait::{PATIENCE, bounded};

#[test]
fn what_is_installed_is_complete_and_works_from_there() {
    bounded(|| {
        let folder = tempfile::Builder::new()
            .prefix("sps-")
            .tempdir_in("/tmp")
            .expect("/tmp can be written");
        let built = program("spsctl")
            .parent()
            .expect("a program lies in a folder")
            .to_owned();
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .arg("install");
        make.arg(format!("DESTDIR={}", folder.path().display()))
            .arg("PREFIX=/usr");
        make.arg(format!("BIN={}", built.display()));
        // make test runs this below another make, whose options are not meant for this one.
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        run_command(Duration::from_secs(60), make).ok();

        let at = |path: &str| -> PathBuf { folder.path().join(path) };
        for path in [
            "usr/bin/spsctl",
            "usr/bin/spsroute",
            "usr/sbin/sps-master",
            "usr/sbin/sps-proxy",
            "usr/sbin/sps-registrar",
            "usr/sbin/sps-tls",
            "usr/share/man/man1/spsctl.1",
            "usr/share/man/man5/sps.toml.5",
            "usr/share/man/man8/sps-proxy.8",
            "etc/sps/sps.toml",
            "etc/logrotate.d/sps",
            "usr/lib/systemd/system/sps.service",
            "usr/share/bash-completion/completions/spsctl",
            "usr/share/zsh/site-functions/_spsroute",
            "usr/share/fish/vendor_completions.d/spsctl.fish",
        ] {
            let len = at(path)
                .metadata()
                .unwrap_or_else(|error| panic!("{path}: {error}"))
                .len();
            assert!(len > 0, "{path} is empty");
        }
        let unit = std::fs::read_to_string(at("usr/lib/systemd/system/sps.service")).expect("it is text");
        assert!(unit.contains("/usr/sbin/sps-master") && !unit.contains('@'), "{unit}");

        let spsctl = at("usr/bin/spsctl");
        run_within(
            PATIENCE,
            &spsctl,
            &["check", at("etc/sps/sps.toml").to_str().expect("it is ASCII")],
        )
        .ok();
        let root = folder.path().join("r");
        let root = root.to_str().expect("it is ASCII");
        let listen = format!("udp:{}", free_addr(V4));
        run_within(PATIENCE, &spsctl, &["--root", root, "init", "--listen", &listen]).ok();
        run_within(PATIENCE, &spsctl, &["--root", root, "start"]).ok();
        run_within(PATIENCE, &spsctl, &["--root", root, "status"]).ok();
        run_within(PATIENCE, &spsctl, &["--root", root, "stop"]).ok();
    });
}
