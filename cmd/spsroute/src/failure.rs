//! From what went wrong in the store to an exit code and a cure; and opening the store.

use sps_cli::{Exit, Failure, OrFail};
use sps_conf::Paths;
use sps_store::{Error, RouteStore};

/// Opens the store of an instance that exists.
pub fn open(paths: &Paths) -> Result<RouteStore, Failure> {
    if !paths.data.is_dir() {
        let root = paths
            .root
            .as_ref()
            .map(|root| format!(" --root {}", root.display()))
            .unwrap_or_default();
        return Err(Failure::new(
            Exit::NoInput,
            format!("there is no SPS here: {} does not exist", paths.data.display()),
        )
        .cure(format!("make one with: spsctl{root} init")));
    }
    RouteStore::open(&paths.database(), &paths.routes_map()).map_err(|error| stored(error, "open the routes"))
}

/// What the store says, with the exit code that fits.
pub fn stored(error: Error, doing: &str) -> Failure {
    let exit = exit_of(&error);
    let failure = Err::<(), Error>(error).or_fail(exit, doing);
    let failure = failure.err().unwrap_or_else(|| Failure::new(Exit::Software, doing));
    match exit {
        Exit::NoPermission => failure.cure("run it as the user that owns the data folder, or as root"),
        Exit::TempFail => failure.cure("try again in a moment"),
        _ => failure,
    }
}

fn exit_of(error: &Error) -> Exit {
    use std::error::Error as _;
    if error.is_temporary() {
        return Exit::TempFail;
    }
    // The machine's own word is at the end of the chain of causes.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Exit::NoPermission,
                _ => Exit::Io,
            };
        }
        cause = this.source();
    }
    match error {
        Error::Crowded { .. } | Error::Row { .. } => Exit::Data,
        error if error.is_permission() => Exit::NoPermission,
        error if error.is_unreadable() => Exit::Io,
        Error::Sqlite(_) | Error::Open(_) => Exit::Io,
        error if error.source().is_some() => Exit::Io,
        _ => Exit::Software,
    }
}
