//! What a new version of a file takes over from the old one besides its name.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

/// Gives a file another one's extended attributes (its ACL among them), owner and mode. The mode comes last: a change of
/// owner clears bits of it.
pub(super) fn copy_attributes(from: &Path, metadata: &Metadata, to: &File) -> std::io::Result<()> {
    use xattr::FileExt;
    let is_acl = |name: &OsStr| name.as_bytes().starts_with(b"system.posix_acl_");
    // Where the file system knows no attributes there are none to keep.
    let wanted: Vec<OsString> = xattr::list(from).into_iter().flatten().collect();
    // The folder's default ACL gives a new file rights that the old one did not have.
    for name in to.list_xattr().into_iter().flatten().filter(|name| !wanted.contains(name)) {
        match to.remove_xattr(&name) {
            Err(error) if is_acl(&name) => return Err(error),
            // Security labels may be the kernel's to give.
            Ok(()) | Err(_) => {}
        }
    }
    for name in wanted {
        let value = match xattr::get(from, &name) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(error) if is_acl(&name) => return Err(error),
            Err(error) => {
                tracing::warn!("{}: cannot read attribute {}: {error}", from.display(), name.display());
                continue;
            }
        };
        if to.get_xattr(&name).is_ok_and(|there| there.as_ref() == Some(&value)) {
            continue;
        }
        match to.set_xattr(&name, &value) {
            Err(error) if is_acl(&name) => return Err(error),
            Err(error) => {
                tracing::warn!("{}: the new version has no attribute {}: {error}", from.display(), name.display());
            }
            Ok(()) => {}
        }
    }
    let new = to.metadata()?;
    if (new.uid(), new.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    to.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))
}
