//! The state folder: one lock, and one file that is always whole.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use watcher_core::memory::Memory;

use crate::{clock, fault, file, load};

const DEFAULT_FOLDER: &str = "/var/lib/pg-keeper-watcher";

/// Another instance works with the same state folder.
#[derive(Debug)]
pub(crate) struct LockHeld(PathBuf);

impl std::fmt::Display for LockHeld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: another pg-keeper-watcher holds this lock; stop it, or give this one its own STATE_DIRECTORY",
            self.0.display()
        )
    }
}

impl std::error::Error for LockHeld {}

/// What the watcher remembers, on disk. The lock is held as long as this lives, but by a guest, who only looks.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    memory: Mutex<Memory>,
    /// Held during a change, the writing to disk included, so that readers need not wait for the disk.
    change: Mutex<()>,
    lock: Option<File>,
}

/// A file that no other instance with this state folder rewrites as long as this lives.
#[derive(Debug)]
pub(crate) struct FileLock(#[allow(dead_code, reason = "it is the lock")] File);

/// How long another instance may take to rewrite a file.
const FILE_LOCK_WITHIN: Duration = Duration::from_secs(10);

impl Store {
    /// Takes the lock and reads the state.
    pub(crate) fn open() -> anyhow::Result<Self> {
        Self::open_in(folder(), false)
    }

    /// Takes the lock if nobody holds it, and reads the state.
    pub(crate) fn open_as_guest() -> anyhow::Result<Self> {
        Self::open_in(folder(), true)
    }

    /// True if another instance holds the lock, and so nothing can be written down.
    pub(crate) fn is_guest(&self) -> bool {
        self.lock.is_none()
    }

    /// What is remembered now by whoever holds the lock.
    pub(crate) fn latest(&self) -> anyhow::Result<Memory> {
        if self.is_guest() { read(&self.folder) } else { Ok(self.memory()) }
    }

    /// Keeps other instances from rewriting a file; `path` is its real path. It is locked in the state folder: the
    /// file's own folder may be anywhere and is not ours.
    pub(crate) fn lock_file(&self, path: &Path) -> anyhow::Result<FileLock> {
        let lock = self.folder.join(format!("file-{}.lock", name_for(path)));
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.with_context(|| format!("{}: cannot open the lock", lock.display()))?;
        let end = Instant::now() + FILE_LOCK_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(FileLock(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::WouldBlock) => {
                    return Err(anyhow!("{}: another pg-keeper-watcher is rewriting the file", path.display()));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("{}: cannot lock", lock.display()));
                }
            }
        }
    }

    /// Writes a journal for a file, down to the disk, and says where. For who holds the file's lock.
    pub(crate) fn store_journal(&self, path: &Path, text: &str) -> anyhow::Result<PathBuf> {
        let journal = self.journal_of(path);
        write_whole(&self.folder, &journal, text, 0o600).with_context(|| {
            format!("{}: cannot write the journal; make room and see that the folder is writable", journal.display())
        })?;
        Ok(journal)
    }

    /// Where the journal for a file is, if there is one.
    pub(crate) fn journal(&self, path: &Path) -> Option<PathBuf> {
        Some(self.journal_of(path)).filter(|journal| journal.exists())
    }

    /// All journals.
    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_journal = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(JOURNAL) && name.ends_with(".yaml")
        };
        entries.map(|entry| entry.path()).filter(is_journal).collect()
    }

    fn journal_of(&self, path: &Path) -> PathBuf {
        self.folder.join(format!("{JOURNAL}{}.yaml", name_for(path)))
    }

    /// As the others, in a folder.
    pub(crate) fn open_in(folder: PathBuf, may_be_guest: bool) -> anyhow::Result<Self> {
        let help = "make the folder writable for this user, or name another one in STATE_DIRECTORY";
        fs::create_dir_all(&folder)
            .with_context(|| format!("{}: cannot create the state folder; {help}", folder.display()))?;
        let path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("{}: cannot open the lock; {help}", path.display()))?;
        let lock = match try_lock(&lock) {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock) if may_be_guest => None,
            Err(TryLockError::WouldBlock) => return Err(LockHeld(path).into()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{}: cannot lock", path.display()));
            }
        };
        let mut memory = read(&folder)?;
        memory.enter_boot(&clock::boot_id());
        let store = Self { folder, memory: Mutex::new(memory), change: Mutex::new(()), lock };
        if !store.is_guest() {
            file::repair_all(&store);
        }
        Ok(store)
    }

    /// A copy of what is remembered.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is remembered; may wait for the disk. When this returns without an error, the change is on disk; with
    /// one, nothing changed.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Memory)) -> anyhow::Result<()> {
        self.change(change, |written| written.is_ok())
    }

    /// Remembers what has happened already, on disk if that can be written, and until the end of the process in any case.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Memory)) -> anyhow::Result<()> {
        self.change(change, |_| true)
    }

    /// Remembers how the wall clock is set, if it was set anew; may wait for the disk.
    pub(crate) fn look_at_clock(&self) {
        // In memory at least: whatever else is written next takes it along.
        if let Err(error) = self.note(|memory| {
            memory.clock.look(clock::both());
        }) {
            tracing::debug!("{error:#}");
        }
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Memory),
        keep: impl FnOnce(&anyhow::Result<()>) -> bool,
    ) -> anyhow::Result<()> {
        if self.is_guest() {
            return Err(LockHeld(self.folder.join("lock")).into());
        }
        let _alone = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.memory();
        let mut changed = before.clone();
        change(&mut changed);
        if changed == before {
            return Ok(());
        }
        let written = write(&self.folder, &changed);
        if keep(&written) {
            *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = changed;
        }
        written
    }
}

/// Who only looks whether the lock is held, holds it for an instant.
fn try_lock(lock: &File) -> Result<(), TryLockError> {
    let end = Instant::now() + Duration::from_millis(50);
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            done => return done,
        }
    }
}

/// True if another process holds the lock, as a daemon does all the time.
pub(crate) fn is_locked() -> bool {
    // Shared, so that two who look do not see each other.
    let looked = File::open(folder().join("lock")).map(|lock| lock.try_lock_shared());
    matches!(looked, Ok(Err(TryLockError::WouldBlock)))
}

/// How the name of a journal begins.
const JOURNAL: &str = "journal-";

/// What a file with this real path is called in the state folder.
fn name_for(path: &Path) -> String {
    format!("{:016x}", fnv1a(path.as_os_str().as_bytes()))
}

/// The same in every version of the program, since two may run side by side.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Tries what writing the state takes, without the lock and without a trace.
pub(crate) fn rehearse() -> anyhow::Result<()> {
    let folder = folder();
    if !folder.exists() {
        let parent = folder.ancestors().find(|parent| parent.exists()).unwrap_or(Path::new("/"));
        return nix::unistd::access(parent, nix::unistd::AccessFlags::W_OK)
            .with_context(|| format!("{}: cannot be created; create it for this user", folder.display()));
    }
    let temporary = folder.join(format!("state.yaml.check.{}", std::process::id()));
    File::create(&temporary)
        .and_then(|_| fs::remove_file(&temporary))
        .with_context(|| format!("{}: cannot write; make the folder writable for this user", folder.display()))
}

/// What is on disk, without the lock: for looking only.
pub(crate) fn peek() -> anyhow::Result<Memory> {
    read(&folder())
}

/// The state folder.
pub(crate) fn folder() -> PathBuf {
    // systemd names several folders with a colon between them; the first is ours.
    std::env::var("STATE_DIRECTORY")
        .ok()
        .and_then(|folders| folders.split(':').next().map(PathBuf::from))
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER))
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.yaml")
}

fn read(folder: &Path) -> anyhow::Result<Memory> {
    let path = state_file(folder);
    match fs::read_to_string(&path) {
        Ok(text) => Memory::parse(&text).map_err(|error| {
            anyhow!(
                "{}; if it cannot be repaired, remove it: then applications are not restarted for a change that \
                     was made before",
                load::at(&path, None, &error)
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Memory::default()),
        Err(error) => Err(error).with_context(|| format!("{}: cannot read the state", path.display())),
    }
}

fn write(folder: &Path, memory: &Memory) -> anyhow::Result<()> {
    let path = state_file(folder);
    write_whole(folder, &path, &memory.to_text()?, 0o666).with_context(|| {
        format!("{}: cannot write the state; make room and see that the folder is writable", path.display())
    })
}

/// Writes a file of the state folder so that it is the old one or the new one, whatever happens, and durably.
fn write_whole(folder: &Path, path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = File::options().create(true).truncate(true).write(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fault::point("state_written");
    fs::rename(&temporary, path)?;
    fault::point("state_renamed");
    File::open(folder)?.sync_all()
}
