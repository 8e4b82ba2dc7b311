//! Files that root makes belong to whom the folder belongs to: the daemons' user must be able to use them.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Gives `path` the owner of its folder, if that is another one. Whoever may not do that is not root, and then has made
/// the file as the user he is: nothing to say about it.
pub(crate) fn match_folder(path: &Path) {
    let (Some(Ok(folder)), Ok(file)) = (path.parent().map(Path::metadata), path.metadata()) else {
        return;
    };
    if (folder.uid(), folder.gid()) != (file.uid(), file.gid()) {
        let _ = chown(path, Some(folder.uid()), Some(folder.gid()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RouteStore;

    /// What root makes in a folder of somebody else's must not shut him out. Whoever is not root cannot try it.
    #[test]
    fn everything_belongs_to_the_owner_of_the_folder() {
        let folder = tempfile::TempDir::new().unwrap();
        if chown(folder.path(), Some(12_345), Some(12_345)).is_err() {
            return;
        }
        let store = RouteStore::open(&folder.path().join("sps.db"), &folder.path().join("routes.map")).unwrap();
        let mut names = Vec::new();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().uid(), 12_345, "{:?}", file.path());
            names.push(file.file_name().into_string().unwrap());
        }
        drop(store);
        names.sort();
        assert_eq!(
            names,
            ["routes.map", "routes.map.lock", "sps.db", "sps.db-shm", "sps.db-wal"]
        );
    }
}
