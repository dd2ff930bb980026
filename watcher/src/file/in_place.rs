//! A new version that is written into the file itself, for a file that is a mount point of its own and so cannot be
//! replaced.
//!
//! That is not atomic. Before the first byte, both versions are in a journal in the state folder; a watcher that finds one
//! at its start sees what the file holds, and a file that holds half of each gets its old version back. Then everything
//! goes its usual way.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use watcher_core::journal::{Found, Journal};

use super::{Fingerprint, Original, Placed, help};
use crate::fault;
use crate::state::{FileLock, Store};

/// A new version in the journal. Dropped before it is in place, the journal is removed.
#[derive(Debug)]
pub(crate) struct Journalled<'o> {
    original: &'o Original,
    journal: Journal,
    stored: PathBuf,
    /// The file is whole, so the journal may go.
    whole: bool,
}

impl<'o> Journalled<'o> {
    /// Writes both versions to the journal, down to the disk.
    pub(super) fn write(original: &'o Original, text: &str, store: &Store) -> anyhow::Result<Self> {
        // What cannot be opened for writing needs no journal.
        open(&original.path)?;
        let journal = Journal::new(&original.path, original.text()?, text);
        let stored = store.store_journal(&original.path, &journal.to_text()?)?;
        fault::point("journalled");
        Ok(Self { original, journal, stored, whole: true })
    }

    /// Writes it into the file, unless that was changed since it was read.
    pub(super) fn place(mut self) -> anyhow::Result<Placed> {
        let path = &self.original.path;
        // The old version is worth less than a failover.
        if let Err(error) = self.original.back_up_by_copy() {
            tracing::warn!("{error:#}; the file is rewritten all the same");
        }
        fault::point("kept");
        let (old, new) = (self.journal.old().as_bytes(), self.journal.new_version().as_bytes());
        let failed = |error: std::io::Error| {
            let help = help(&error);
            anyhow!(error).context(format!("{}: cannot write into the file; {help}", path.display()))
        };
        let mut file = open(path)?;
        make_room(&file, new.len()).map_err(failed)?;
        let mut now = Vec::new();
        file.read_to_end(&mut now).map_err(failed)?;
        if now != self.original.bytes {
            return Ok(Placed::ChangedMeanwhile);
        }
        self.whole = false;
        if let Err(error) = overwrite(&file, old, new) {
            return Err(match overwrite(&file, new, old) {
                Ok(()) => {
                    self.whole = true;
                    failed(error)
                }
                Err(_) => failed(error).context(format!(
                    "{}: half of the new version is in the file; it is repaired as soon as that is possible",
                    path.display()
                )),
            });
        }
        self.whole = true;
        fault::point("synced");
        let metadata = file.metadata().with_context(|| format!("{}: cannot look at it", path.display()))?;
        Ok(Placed::Done(Fingerprint::of(&metadata)))
    }
}

impl Drop for Journalled<'_> {
    fn drop(&mut self) {
        if self.whole {
            remove(&self.stored);
        }
    }
}

/// A journal that stays finds the file whole, and is removed then.
fn remove(stored: &Path) {
    if let Err(error) = fs::remove_file(stored) {
        tracing::warn!("{}: cannot remove the journal: {error}", stored.display());
    }
}

/// Opens a file to write into it.
pub(super) fn open(path: &Path) -> anyhow::Result<File> {
    let opened = File::options().read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path);
    opened.map_err(|error| {
        let help = help(&error);
        anyhow!(error).context(format!("{}: cannot write into the file; {help}", path.display()))
    })
}

/// A full disk is to be found out before the first byte is written.
fn make_room(file: &File, len: usize) -> std::io::Result<()> {
    let len = i64::try_from(len).unwrap_or(i64::MAX).max(1);
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
        Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::EROFS)) => Err(errno.into()),
        // Not every file system can tell beforehand.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes what differs. What lies before the first difference and behind the last byte of a longer old version is never
/// touched by anything but the one call that needs to, so that a reader sees as little as possible of the change.
fn overwrite(file: &File, from: &[u8], to: &[u8]) -> std::io::Result<()> {
    let same = from.iter().zip(to).take_while(|(from, to)| from == to).count();
    let end = if from.len() == to.len() {
        let same_tail = from[same..].iter().rev().zip(to[same..].iter().rev()).take_while(|(from, to)| from == to);
        to.len() - same_tail.count()
    } else {
        to.len()
    };
    file.write_all_at(&to[same..end], u64::try_from(same).unwrap_or(u64::MAX))?;
    fault::point("written");
    file.set_len(u64::try_from(to.len()).unwrap_or(u64::MAX))?;
    fault::point("cut");
    file.sync_all()
}

/// Repairs every file that a watcher was writing to when it ended. What cannot be repaired now stays in its journal.
pub(crate) fn repair_all(store: &Store) {
    for stored in store.journals() {
        let repaired = load(&stored).and_then(|journal| {
            let lock = store.lock_file(journal.file())?;
            repair_by(&stored, &lock)
        });
        if let Err(error) = repaired {
            tracing::error!("{error:#}; it is tried again before the file is rewritten");
        }
    }
}

/// Repairs a file, if a watcher was writing to it when it ended.
pub(crate) fn repair(file: &Path, store: &Store, lock: &FileLock) -> anyhow::Result<()> {
    match store.journal(file) {
        Some(stored) => repair_by(&stored, lock),
        None => Ok(()),
    }
}

fn load(stored: &Path) -> anyhow::Result<Journal> {
    let text = fs::read_to_string(stored)
        .with_context(|| format!("{}: cannot read the journal of an unfinished write", stored.display()))?;
    Journal::parse(&text).map_err(|error| {
        anyhow!("{}: {error}; see that the file which it is about is whole, and remove it", stored.display())
    })
}

/// `_lock` is the file's.
fn repair_by(stored: &Path, _lock: &FileLock) -> anyhow::Result<()> {
    let journal = load(stored)?;
    let path = journal.file();
    let mut file = open(path)?;
    let mut now = Vec::new();
    file.read_to_end(&mut now).with_context(|| format!("{}: cannot read the file", path.display()))?;
    match journal.find(&now) {
        Found::Old | Found::New => {}
        Found::Half => {
            overwrite_whole(&file, journal.old().as_bytes())
                .with_context(|| format!("{}: cannot give the file its old version back", path.display()))?;
            tracing::warn!(
                "{}: a watcher was killed while it wrote into the file; it has its old version back",
                path.display()
            );
        }
        Found::Foreign => {
            let kept = stored.with_extension("kept");
            fs::rename(stored, &kept).with_context(|| format!("{}: cannot keep the journal", kept.display()))?;
            tracing::warn!(
                "{}: a watcher was killed while it wrote into the file, and another program has changed it since; it is \
                 left as it is, and both versions are in {}",
                path.display(),
                kept.display()
            );
            return Ok(());
        }
    }
    remove(stored);
    Ok(())
}

fn overwrite_whole(file: &File, text: &[u8]) -> std::io::Result<()> {
    file.write_all_at(text, 0)?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
    file.sync_all()
}
