//! An application's YAML file: read, edited, replaced as a whole.
//!
//! The new text is written beside the old one and renamed over it, so that a reader sees one or the other, whatever
//! happens. What was there before stays as `FILE.pg_keeper.bak`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
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
    seen: Fingerprint,
}

/// What tells that a file is still the one that was looked at, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of the file that is there now, symbolic links followed.
    pub(crate) fn take(file: &Path) -> std::io::Result<Self> {
        fs::metadata(file).map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A new version of a file, on disk but not in its place yet. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Staged<'o> {
    original: &'o Original,
    temporary: PathBuf,
    file: File,
    renamed: bool,
}

/// What became of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is in place, durably.
    Done(Fingerprint),
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
        let read = || -> std::io::Result<(Vec<u8>, Fingerprint)> {
            let mut opened = File::open(&path)?;
            // Taken before the reading: whatever changes from here on makes another one.
            let seen = Fingerprint::of(&opened.metadata()?);
            let mut bytes = Vec::new();
            opened.read_to_end(&mut bytes)?;
            Ok((bytes, seen))
        };
        let (bytes, seen) = read().map_err(|error| {
            let help = explain(&error);
            anyhow!(error).context(format!("{}: cannot read the file; {help}", file.display()))
        })?;
        Ok(Self { path, bytes, seen })
    }

    /// The text as it would be with the wanted values.
    pub(crate) fn edit(&self, wanted: &yaml::Values) -> anyhow::Result<Edited> {
        let wrong = |error: yaml::EditError| load::at(&self.path, error.line, &error);
        yaml::edit(self.text()?, wanted).map_err(wrong)
    }

    /// The text as it is.
    pub(crate) fn text(&self) -> anyhow::Result<&str> {
        yaml::decode(&self.bytes).map_err(|error| load::at(&self.path, error.line, &error))
    }

    /// What it looked like when it was read.
    pub(crate) fn seen(&self) -> Fingerprint {
        self.seen
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
        let temporary = self.temporary(NEW);
        let context = || {
            format!(
                "{}: cannot write beside {}; make room, and let this user write to the folder",
                temporary.display(),
                self.path.display()
            )
        };
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary).with_context(context)?;
        let mut staged = Staged { original: self, temporary: temporary.clone(), file, renamed: false };
        let metadata = fs::metadata(&self.path).with_context(context)?;
        staged.file.write_all(text.as_bytes()).with_context(context)?;
        copy_attributes(&self.path, &metadata, &staged.file).with_context(|| {
            format!("{}: cannot give the new version the file's owner and mode", self.path.display())
        })?;
        staged.file.sync_all().with_context(context)?;
        Ok(staged)
    }

    /// Removes what watchers left behind when they were killed. Only for who holds the file's lock.
    pub(crate) fn sweep(&self) {
        let own = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for entry in fs::read_dir(self.folder()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let left_by = name.to_str().and_then(|name| temporary_of(&own, name));
            if left_by.is_some_and(|process| process == std::process::id() || !is_alive(process)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A name beside the file that no other process and no other moment has.
    fn temporary(&self, after: &str) -> PathBuf {
        self.beside(".", &format!(".{}.{:016x}{after}", std::process::id(), fastrand::u64(..)))
    }

    fn beside(&self, before: &str, after: &str) -> PathBuf {
        let mut name = OsString::from(before);
        name.push(self.path.file_name().unwrap_or_default());
        name.push(after);
        self.path.with_file_name(name)
    }

    fn back_up(&self) -> anyhow::Result<()> {
        let backup = self.beside("", BACKUP);
        let temporary = self.temporary(BACKUP);
        let attempt = || -> std::io::Result<()> {
            // A link keeps everything about the old version; not every file system and not every owner allows one.
            match fs::hard_link(&self.path, &temporary) {
                Err(error) if link_is_not_possible(&error) => self.copy_to(&temporary)?,
                linked => linked?,
            }
            fs::rename(&temporary, &backup)
        };
        attempt().with_context(|| format!("{}: cannot keep the old version", backup.display())).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    fn copy_to(&self, to: &Path) -> std::io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        file.write_all(&self.bytes)?;
        copy_attributes(&self.path, &fs::metadata(&self.path)?, &file)
    }
}

const NEW: &str = ".pg_keeper.new";
const BACKUP: &str = ".pg_keeper.bak";

/// The process that made a temporary file for `own`, if `name` is that of one; 0 for names without a process.
fn temporary_of(own: &str, name: &str) -> Option<u32> {
    let rest = name.strip_prefix('.')?.strip_prefix(own)?;
    let middle = rest.strip_suffix(NEW).or_else(|| rest.strip_suffix(BACKUP))?;
    if middle.is_empty() {
        return Some(0);
    }
    let (process, random) = middle.strip_prefix('.')?.split_once('.')?;
    let random_is_ours = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    process.parse().ok().filter(|_| random_is_ours)
}

fn is_alive(process: u32) -> bool {
    process > 0 && Path::new(&format!("/proc/{process}")).exists()
}

fn link_is_not_possible(error: &std::io::Error) -> bool {
    use nix::errno::Errno;
    error
        .raw_os_error()
        .map(Errno::from_raw)
        .is_some_and(|errno| matches!(errno, Errno::EPERM | Errno::EMLINK | Errno::EOPNOTSUPP | Errno::ENOSYS))
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
        // The old version is worth less than a failover.
        if let Err(error) = original.back_up() {
            tracing::warn!("{error:#}; the file is rewritten all the same");
        }
        let written = self.file.metadata().and_then(|ours| Ok((ours, fs::metadata(&self.temporary)?)));
        let (ours, there) = written.with_context(|| format!("{}: cannot look at it", self.temporary.display()))?;
        if (ours.dev(), ours.ino(), ours.len()) != (there.dev(), there.ino(), there.len()) {
            self.renamed = true;
            anyhow::bail!("{}: another program replaced it", self.temporary.display());
        }
        fs::rename(&self.temporary, path).with_context(|| {
            format!("{}: cannot put the new version in place; is it a mount point of its own?", path.display())
        })?;
        self.renamed = true;
        // The rename has happened: that it may not be durable yet is no reason to say that it has not.
        if let Err(error) = File::open(original.folder()).and_then(|folder| folder.sync_all()) {
            tracing::warn!("{}: the folder could not be synced to disk: {error}", original.folder().display());
        }
        let placed = self.file.metadata().with_context(|| format!("{}: cannot look at it", path.display()))?;
        Ok(Placed::Done(Fingerprint::of(&placed)))
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Gives a file another one's extended attributes (its ACL among them), owner and mode. The mode comes last: a change of
/// owner clears bits of it.
fn copy_attributes(from: &Path, metadata: &Metadata, to: &File) -> std::io::Result<()> {
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

    /// What placing the new version answers, seen from outside.
    fn placed(file: &Path) -> Placed {
        Placed::Done(Fingerprint::take(file).unwrap())
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
        assert_eq!(original.stage("a: 2\n").unwrap().place().unwrap(), placed(&file));
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
    fn what_a_killed_watcher_left_is_swept_and_what_a_living_one_uses_is_not() {
        let (folder, file) = folder_with("a: 1\n");
        let living = format!(".env.yaml.{}.0123456789abcdef.pg_keeper.new", std::os::unix::process::parent_id());
        let others = [".env.yaml.1.2.0123456789abcdef.pg_keeper.new", ".env.yaml.swp", "env.yaml", living.as_str()];
        let left = [".env.yaml.pg_keeper.new", ".env.yaml.4194304.0123456789abcdef.pg_keeper.bak"];
        for name in left.iter().chain(&others[..2]).chain([&living.as_str()]) {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        Original::read(&file).unwrap().sweep();
        let mut want = others.map(str::to_owned);
        want.sort();
        assert_eq!(names(folder.path()), want);
    }

    #[test]
    fn two_writers_do_not_write_into_one_file() {
        let (folder, file) = folder_with("a: 1\n");
        let original = Original::read(&file).unwrap();
        let one = original.stage("a: 2\n").unwrap();
        let two = original.stage("a: 3\n").unwrap();
        fs::write(&two.temporary, "").unwrap();
        fs::remove_file(&two.temporary).unwrap();
        fs::write(&two.temporary, "planted").unwrap();
        assert!(two.place().unwrap_err().to_string().contains("another program replaced it"));
        assert_eq!(one.place().unwrap(), placed(&file));
        assert_eq!(fs::read_to_string(&file).unwrap(), "a: 2\n");
        drop(folder);
    }

    #[test]
    fn a_backup_that_cannot_be_made_is_no_obstacle() {
        let (folder, file) = folder_with("a: 1\n");
        fs::create_dir(folder.path().join("env.yaml.pg_keeper.bak")).unwrap();
        let original = Original::read(&file).unwrap();
        assert_eq!(original.stage("a: 2\n").unwrap().place().unwrap(), placed(&file));
        assert_eq!(names(folder.path()), ["env.yaml", "env.yaml.pg_keeper.bak"]);
    }

    #[test]
    fn a_backup_follows_no_link() {
        let (folder, file) = folder_with("a: 1\n");
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("env.yaml.pg_keeper.bak")).unwrap();
        let original = Original::read(&file).unwrap();
        assert!(original.copy_to(&folder.path().join("env.yaml.pg_keeper.bak")).is_err());
        original.stage("a: 2\n").unwrap().place().unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert_eq!(fs::read_to_string(folder.path().join("env.yaml.pg_keeper.bak")).unwrap(), "a: 1\n");
    }

    /// An ACL as the kernel takes it: version, then tag, rights and id of each entry.
    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            bytes.extend(tag.to_le_bytes().iter().chain(&rights.to_le_bytes()).chain(&id.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn the_folders_default_acl_gives_nobody_new_rights() {
        let (folder, file) = folder_with("a: 1\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        xattr::set(&file, "user.note", b"kept").ok();
        let default = acl(&[(1, 7, !0), (2, 7, 12345), (4, 5, !0), (16, 7, !0), (32, 5, !0)]);
        if xattr::set(folder.path(), "system.posix_acl_default", &default).is_err() {
            return; // This file system knows no ACLs.
        }
        let before: Vec<OsString> = xattr::list(&file).unwrap().collect();
        Original::read(&file).unwrap().stage("a: 2\n").unwrap().place().unwrap();
        assert_eq!(xattr::list(&file).unwrap().collect::<Vec<_>>(), before);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    }
}
