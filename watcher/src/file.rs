//! An application's YAML file: read, edited, replaced as a whole.
//!
//! The new text is written beside the old one and renamed over it, so that a reader sees one or the other, whatever
//! happens. What was there before stays as `FILE.pg_keeper.bak`.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use watcher_core::yaml::{self, Edited};

use crate::load;

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Original {
    /// Where it really is, symbolic links followed.
    path: PathBuf,
    bytes: Vec<u8>,
}

/// A new version of a file, on disk but not in its place yet. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Staged<'o> {
    original: &'o Original,
    temporary: PathBuf,
    renamed: bool,
}

/// What became of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is in place, durably.
    Done,
    /// The file is no longer what was read; it was left as it is.
    ChangedMeanwhile,
}

impl Original {
    /// Reads a file.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the standard library's list of kinds is open")]
        let explain = |error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => "create it, or correct file in the configuration",
            std::io::ErrorKind::PermissionDenied => "let this user read it",
            _ => "see that it is a plain file",
        };
        let path = fs::canonicalize(file).map_err(|error| {
            let help = explain(&error);
            anyhow!(error).context(format!("{}: cannot find the file; {help}", file.display()))
        })?;
        let bytes = fs::read(&path).map_err(|error| {
            let help = explain(&error);
            anyhow!(error).context(format!("{}: cannot read the file; {help}", file.display()))
        })?;
        Ok(Self { path, bytes })
    }

    /// The text as it would be with the wanted values.
    pub(crate) fn edit(&self, wanted: &[(yaml::Path, String)]) -> anyhow::Result<Edited> {
        let wrong = |error: yaml::EditError| load::at(&self.path, error.line, &error);
        yaml::edit(self.text()?, wanted).map_err(wrong)
    }

    /// The text as it is.
    pub(crate) fn text(&self) -> anyhow::Result<&str> {
        yaml::decode(&self.bytes).map_err(|error| load::at(&self.path, error.line, &error))
    }

    /// Where it really is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder it really is in.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Writes a new version beside the file, with the file's mode, owner and attributes, down to the disk.
    pub(crate) fn stage(&self, text: &str) -> anyhow::Result<Staged<'_>> {
        let temporary = self.beside(".", ".pg_keeper.new");
        let staged = Staged { original: self, temporary, renamed: false };
        let context = || {
            format!(
                "{}: cannot write beside {}; make room, and let this user write to the folder",
                staged.temporary.display(),
                self.path.display()
            )
        };
        // What an earlier watcher left behind when it was killed.
        remove_if_there(&staged.temporary).with_context(context)?;
        let mut file =
            File::options().write(true).create_new(true).mode(0o600).open(&staged.temporary).with_context(context)?;
        let metadata = fs::metadata(&self.path).with_context(context)?;
        file.write_all(text.as_bytes()).with_context(context)?;
        copy_attributes(&self.path, &metadata, &file).with_context(|| {
            format!("{}: cannot give the new version the file's owner and mode", self.path.display())
        })?;
        file.sync_all().with_context(context)?;
        Ok(staged)
    }

    fn beside(&self, before: &str, after: &str) -> PathBuf {
        let mut name = OsString::from(before);
        name.push(self.path.file_name().unwrap_or_default());
        name.push(after);
        self.path.with_file_name(name)
    }

    fn back_up(&self) -> anyhow::Result<()> {
        let backup = self.beside("", ".pg_keeper.bak");
        let temporary = self.beside(".", ".pg_keeper.bak");
        let attempt = || -> std::io::Result<()> {
            remove_if_there(&temporary)?;
            // A link keeps everything about the old version; not every file system and not every owner allows one.
            if fs::hard_link(&self.path, &temporary).is_err() {
                fs::copy(&self.path, &temporary)?;
            }
            fs::rename(&temporary, &backup)
        };
        attempt().with_context(|| format!("{}: cannot keep the old version", backup.display()))
    }
}

impl Staged<'_> {
    /// Puts the new version in place, unless the file was changed since it was read.
    pub(crate) fn place(mut self) -> anyhow::Result<Placed> {
        let original = self.original;
        let path = &original.path;
        let current = fs::read(path).with_context(|| format!("{}: cannot read the file again", path.display()))?;
        if current != original.bytes {
            return Ok(Placed::ChangedMeanwhile);
        }
        original.back_up()?;
        fs::rename(&self.temporary, path).with_context(|| {
            format!("{}: cannot put the new version in place; is it a mount point of its own?", path.display())
        })?;
        self.renamed = true;
        // The rename has happened: that it may not be durable yet is no reason to say that it has not.
        if let Err(error) = File::open(original.folder()).and_then(|folder| folder.sync_all()) {
            tracing::warn!("{}: the folder could not be synced to disk: {error}", original.folder().display());
        }
        Ok(Placed::Done)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Gives a file another one's extended attributes (its ACL among them), owner and mode. The mode comes last: a change of
/// owner clears bits of it.
fn copy_attributes(from: &Path, metadata: &Metadata, to: &File) -> std::io::Result<()> {
    use xattr::FileExt;
    // Where the file system knows no attributes there are none to keep.
    for name in xattr::list(from).into_iter().flatten() {
        if let Ok(Some(value)) = xattr::get(from, &name) {
            let is_acl = name.to_string_lossy().starts_with("system.posix_acl_");
            match to.set_xattr(&name, &value) {
                Err(error) if is_acl => return Err(error),
                // Security labels may be the kernel's to give; the new file got its own.
                Ok(()) | Err(_) => {}
            }
        }
    }
    let new = to.metadata()?;
    if (new.uid(), new.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    to.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn folder_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env.yaml");
        fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_new_version_keeps_mode_and_link_and_leaves_a_backup() {
        let (folder, file) = folder_with("a: 1\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link.yaml");
        std::os::unix::fs::symlink("env.yaml", &link).unwrap();
        let original = Original::read(&link).unwrap();
        assert_eq!(original.stage("a: 2\n").unwrap().place().unwrap(), Placed::Done);
        assert_eq!(fs::read_to_string(&file).unwrap(), "a: 2\n");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(folder.path().join("env.yaml.pg_keeper.bak")).unwrap(), "a: 1\n");
        assert_eq!(names(folder.path()), ["env.yaml", "env.yaml.pg_keeper.bak", "link.yaml"]);
    }

    #[test]
    fn another_writers_change_is_not_lost() {
        let (folder, file) = folder_with("a: 1\n");
        let original = Original::read(&file).unwrap();
        let staged = original.stage("a: 2\n").unwrap();
        fs::write(&file, "a: 1\nb: 2\n").unwrap();
        assert_eq!(staged.place().unwrap(), Placed::ChangedMeanwhile);
        assert_eq!(fs::read_to_string(&file).unwrap(), "a: 1\nb: 2\n");
        assert_eq!(names(folder.path()), ["env.yaml"]);
    }

    #[test]
    fn what_a_killed_watcher_left_is_no_obstacle() {
        let (folder, file) = folder_with("a: 1\n");
        fs::write(folder.path().join(".env.yaml.pg_keeper.new"), "half").unwrap();
        fs::write(folder.path().join(".env.yaml.pg_keeper.bak"), "half").unwrap();
        let original = Original::read(&file).unwrap();
        assert_eq!(original.stage("a: 2\n").unwrap().place().unwrap(), Placed::Done);
        assert_eq!(names(folder.path()), ["env.yaml", "env.yaml.pg_keeper.bak"]);
    }
}
