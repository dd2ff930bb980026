//! A new version that takes the file's place.
//!
//! Old and new version change places in one step, and then the old one is looked at: if another program had changed it at
//! the last moment, they change places once more, so that its change is never lost. Where the file system cannot do that,
//! the new version is renamed over the old one right after a last look at it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::attributes::copy_attributes;
use super::names::{BACKUP, NEW, backup, temporary};
use super::{Fingerprint, MOUNT_POINT, Original, Placed, help};
use crate::fault;

/// A new version beside the file. Dropped before it is in place, it is removed.
#[derive(Debug)]
pub(crate) struct Beside<'o> {
    original: &'o Original,
    text: Vec<u8>,
    pub(super) temporary: PathBuf,
    file: File,
    /// The temporary name belongs to the new version; after the exchange it is the old one that bears it.
    is_new: bool,
}

impl<'o> Beside<'o> {
    /// Writes a new version with the file's mode, owner and attributes, down to the disk.
    pub(super) fn write(original: &'o Original, text: &str) -> anyhow::Result<Self> {
        let path = &original.path;
        let temporary = temporary(path, NEW);
        let failed = |error: std::io::Error| {
            let help = help(&error);
            // Without the temporary name, which would make each attempt look like other news.
            anyhow!(error).context(format!("{}: cannot write a new version beside it; {help}", path.display()))
        };
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        let mut new =
            Self { original, text: text.as_bytes().to_vec(), temporary: temporary.clone(), file, is_new: true };
        let metadata = fs::metadata(path).map_err(failed)?;
        new.file.write_all(text.as_bytes()).map_err(failed)?;
        copy_attributes(path, &metadata, &new.file).with_context(|| {
            format!(
                "{}: cannot give the new version the file's owner and mode; run as root or as the file's owner",
                path.display()
            )
        })?;
        new.file.sync_all().map_err(failed)?;
        fault::point("staged");
        Ok(new)
    }

    /// Puts it in place, unless the file was changed since it was read.
    pub(super) fn place(mut self) -> anyhow::Result<Placed> {
        let path = &self.original.path;
        self.is_ours()?;
        if !self.original_is_at(path)? {
            return Ok(Placed::ChangedMeanwhile);
        }
        match exchange(&self.temporary, path) {
            Ok(()) => self.is_new = false,
            Err(Errno::ENOENT) => return Ok(Placed::ChangedMeanwhile),
            // Not every file system can.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EXDEV) => return self.place_by_rename(),
            Err(errno) => return Err(refused(path, errno.into())),
        }
        fault::point("exchanged");
        // A program that had opened the file before may write into the old version a little later.
        for then in [sync_folder, |_: &Path| {}] {
            if !self.original_is_at(&self.temporary)? {
                return self.give_back();
            }
            then(self.original.folder());
        }
        fault::point("folder_synced");
        // The old version is worth less than a failover.
        if let Err(error) = fs::rename(&self.temporary, backup(path)) {
            tracing::warn!("{}: cannot keep the old version: {error}", backup(path).display());
            let _ = fs::remove_file(&self.temporary);
        }
        fault::point("kept");
        self.in_place()
    }

    /// The file gets back what another program made of it at the last moment.
    fn give_back(mut self) -> anyhow::Result<Placed> {
        let path = &self.original.path;
        exchange(&self.temporary, path)
            .map_err(|errno| refused(path, errno.into()))
            .with_context(|| format!("another program's change is in {}", self.temporary.display()))?;
        let untouched = fs::read(&self.temporary).is_ok_and(|bytes| bytes == self.text);
        if untouched {
            self.is_new = true;
            return Ok(Placed::ChangedMeanwhile);
        }
        // Yet another change, to the new version this time: the latest stays.
        exchange(&self.temporary, path).map_err(|errno| refused(path, errno.into()))?;
        let _ = fs::rename(&self.temporary, backup(path));
        Ok(Placed::ChangedMeanwhile)
    }

    fn place_by_rename(mut self) -> anyhow::Result<Placed> {
        let path = &self.original.path;
        if let Err(error) = self.original.back_up() {
            tracing::warn!("{error:#}; the file is rewritten all the same");
        }
        fault::point("kept");
        if !self.original_is_at(path)? {
            return Ok(Placed::ChangedMeanwhile);
        }
        fs::rename(&self.temporary, path).map_err(|error| refused(path, error))?;
        self.is_new = false;
        fault::point("renamed");
        sync_folder(self.original.folder());
        fault::point("folder_synced");
        self.in_place()
    }

    fn in_place(&self) -> anyhow::Result<Placed> {
        let path = &self.original.path;
        let placed = self.file.metadata().with_context(|| format!("{}: cannot look at it", path.display()))?;
        Ok(Placed::Done(Fingerprint::of(&placed)))
    }

    fn original_is_at(&self, path: &Path) -> anyhow::Result<bool> {
        match self.original.is_still_at(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            looked => looked.with_context(|| format!("{}: cannot read the file again", path.display())),
        }
    }

    fn is_ours(&mut self) -> anyhow::Result<()> {
        let path = &self.original.path;
        let looked = self.file.metadata().and_then(|ours| Ok((ours, fs::symlink_metadata(&self.temporary)?)));
        let (ours, there) = looked.with_context(|| format!("{}: cannot look at its new version", path.display()))?;
        if (ours.dev(), ours.ino(), ours.len()) != (there.dev(), there.ino(), there.len()) {
            self.is_new = false;
            anyhow::bail!("{}: another program replaced its new version", path.display());
        }
        Ok(())
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn exchange(one: &Path, other: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

fn refused(path: &Path, error: std::io::Error) -> anyhow::Error {
    let is_mount_point = error.kind() == std::io::ErrorKind::ResourceBusy;
    let help = if is_mount_point { MOUNT_POINT } else { help(&error) };
    anyhow!(error).context(format!("{}: cannot put the new version in place; {help}", path.display()))
}

/// The new version is in place already: that it may not be durable yet is no reason to say that it is not.
fn sync_folder(folder: &Path) {
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::warn!("{}: the folder could not be synced to disk: {error}", folder.display());
    }
}

impl Original {
    /// Keeps the version that was read.
    pub(super) fn back_up(&self) -> anyhow::Result<()> {
        let link_or_copy = |temporary: &Path| match fs::hard_link(&self.path, temporary) {
            // A link keeps everything about the old version; not every file system and not every owner allows one.
            Err(error) if link_is_not_possible(&error) => self.copy_to(temporary),
            linked => linked,
        };
        self.back_up_by(link_or_copy)
    }

    /// Keeps a copy of the version that was read, for a file that is about to be written to itself.
    pub(super) fn back_up_by_copy(&self) -> anyhow::Result<()> {
        self.back_up_by(|temporary| self.copy_to(temporary))
    }

    fn back_up_by(&self, make: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
        let (backup, temporary) = (backup(&self.path), temporary(&self.path, BACKUP));
        let made = make(&temporary).and_then(|()| fs::rename(&temporary, &backup));
        made.with_context(|| format!("{}: cannot keep the old version", backup.display())).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    pub(super) fn copy_to(&self, to: &Path) -> std::io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        file.write_all(&self.bytes)?;
        copy_attributes(&self.path, &fs::metadata(&self.path)?, &file)
    }
}

fn link_is_not_possible(error: &std::io::Error) -> bool {
    error
        .raw_os_error()
        .map(Errno::from_raw)
        .is_some_and(|errno| matches!(errno, Errno::EPERM | Errno::EMLINK | Errno::EOPNOTSUPP | Errno::ENOSYS))
}
