//! The user that daemons run as when the master is root.

use crate::{Exit, Fatal, OrFatal};

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Looks `name` up in the system's user database.
///
/// # Errors
/// [`Exit::NoUser`] when there is none, or the database cannot be read.
pub fn look_up_user(name: &str) -> Result<Ids, Fatal> {
    match nix::unistd::User::from_name(name).or_fatal(Exit::NoUser, format!("look up user {name}"))? {
        Some(user) => Ok(Ids {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }),
        None => Err(Fatal::new(
            Exit::NoUser,
            format!("there is no user {name}: make it (useradd --system {name}) or name another as user in [server]"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_a_stranger_named() {
        assert_eq!(look_up_user("root"), Ok(Ids { uid: 0, gid: 0 }));
        let fatal = look_up_user("nobody-of-that-name").unwrap_err();
        assert!(fatal.exit == Exit::NoUser && fatal.text.contains("nobody-of-that-name"));
    }
}
