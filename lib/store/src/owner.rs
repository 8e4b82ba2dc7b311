//! Files that root makes belong to whom the folder belongs to: the daemons' user must be able to use them.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Gives `path` the owner of its folder, if that is another one. Whoever may not do that is not root, and then has made the
/// file as the user he is: nothing to say about it.
pub(crate) fn match_folder(path: &Path) {
    let (Some(folder), Ok(file)) = (path.parent(), path.metadata()) else {
        return;
    };
    if let Ok(folder) = folder.metadata() {
        if (folder.uid(), folder.gid()) != (file.uid(), file.gid()) {
            let _ = chown(path, Some(folder.uid()), Some(folder.gid()));
        }
    }
}
