//! An application's YAML file: read, edited, given a new version.
//!
//! Usually the new version is written beside the old one and takes its place ([`replace`]), so that a reader sees one or
//! the other, whatever happens. Where a file cannot be replaced, it is written to itself ([`in_place`]). What was there
//! before stays as `FILE.pg_keeper.bak`.

mod attributes;
mod in_place;
mod names;
mod real_path;
mod replace;

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use nix::fcntl::OFlag;
use watcher_core::config::Write;
use watcher_core::yaml::{self, Edited};

use self::in_place::Journalled;
pub(crate) use self::in_place::{repair, repair_all};
pub(crate) use self::real_path::real_paths;
use self::replace::Beside;
use crate::load;
use crate::state::Store;

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

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, size, modified, changed } = self;
        write!(f, "{device}.{inode}.{size}.{}.{}.{}.{}", modified.0, modified.1, changed.0, changed.1)
    }
}

/// A new version of a file, on disk but not in its place yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) enum Staged<'o> {
    /// Beside the file, to take its place.
    Beside(Beside<'o>),
    /// In the journal, to be written into the file itself.
    Journalled(Journalled<'o>),
}

/// What became of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is in place, durably.
    Done(Fingerprint),
    /// The file is no longer what was read; it was left as it is.
    ChangedMeanwhile,
}

impl Staged<'_> {
    /// Puts the new version in place, unless the file was changed since it was read.
    pub(crate) fn place(self) -> anyhow::Result<Placed> {
        match self {
            Self::Beside(new) => new.place(),
            Self::Journalled(new) => new.place(),
        }
    }
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
            // A pipe would be waited for until somebody writes into it.
            let mut opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
            let metadata = opened.metadata()?;
            if !metadata.is_file() {
                return Err(std::io::Error::other("it is not a plain file"));
            }
            // Taken before the reading: whatever changes from here on makes another one.
            let seen = Fingerprint::of(&metadata);
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

    /// Brings a new version to the disk, but not into its place.
    pub(crate) fn stage(&self, text: &str, write: Write, store: &Store) -> anyhow::Result<Staged<'_>> {
        Ok(match write {
            Write::Rename => Staged::Beside(Beside::write(self, text)?),
            Write::InPlace => Staged::Journalled(Journalled::write(self, text, store)?),
        })
    }

    /// Tries what a new version takes, without making one.
    pub(crate) fn rehearse(&self, write: Write) -> anyhow::Result<()> {
        match write {
            Write::Rename => {
                let is_mount_point = is_mount_point(&self.path)
                    .with_context(|| format!("{}: cannot see where it is mounted", self.path.display()))?;
                ensure!(!is_mount_point, "{}: {MOUNT_POINT}", self.path.display());
                Beside::write(self, self.text()?).map(drop)
            }
            Write::InPlace => in_place::open(&self.path).map(drop),
        }
    }

    /// Removes what watchers left behind when they were killed; not for who is just writing a new version.
    pub(crate) fn sweep(&self) {
        names::sweep(&self.path);
    }

    /// Whether it is a plain file with the bytes that were read.
    fn is_still_at(&self, path: &Path) -> std::io::Result<bool> {
        Ok(fs::symlink_metadata(path)?.is_file() && fs::read(path)? == self.bytes)
    }
}

/// What is wrong with a file that cannot be replaced.
const MOUNT_POINT: &str = "it is a mount point of its own (a bind mount), so it cannot be replaced; mount its folder \
                           instead, or write «write: in_place» in the target";

/// Whether a file is on another mount than the folder it is in.
fn is_mount_point(file: &Path) -> std::io::Result<bool> {
    use std::os::fd::AsRawFd;
    let mount_of = |path: &Path| -> std::io::Result<Option<String>> {
        let opened = File::open(path)?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", opened.as_raw_fd()))?;
        Ok(info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|id| id.trim().to_owned()))
    };
    Ok(mount_of(file)? != mount_of(file.parent().unwrap_or(Path::new("/")))?)
}

/// What to do about an error of writing.
#[allow(clippy::wildcard_enum_match_arm, reason = "the standard library's list of kinds is open")]
fn help(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room",
        ErrorKind::ReadOnlyFilesystem => {
            "mount the file system writable (under systemd: ReadWritePaths=, as check --systemd-dropin prints it)"
        }
        ErrorKind::PermissionDenied => "let this user write to the folder and to the file",
        _ => "see what the system says",
    }
}

#[cfg(test)]
#[path = "file/tests.rs"]
mod tests;
