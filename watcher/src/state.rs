//! The state folder: one lock, and one file that is always whole.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow};
use watcher_core::memory::Memory;

use crate::clock;
use crate::load;

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

/// What the watcher remembers, on disk. The lock is held as long as this lives.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    memory: Mutex<Memory>,
    /// Held during a change, the writing to disk included, so that readers need not wait for the disk.
    change: Mutex<()>,
    _lock: File,
}

impl Store {
    /// Takes the lock and reads the state.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let folder = folder();
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
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockHeld(path).into()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{}: cannot lock", path.display()));
            }
        }
        let mut memory = read(&folder)?;
        memory.enter_boot(&clock::boot_id());
        Ok(Self { folder, memory: Mutex::new(memory), change: Mutex::new(()), _lock: lock })
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

    fn change(
        &self,
        change: impl FnOnce(&mut Memory),
        keep: impl FnOnce(&anyhow::Result<()>) -> bool,
    ) -> anyhow::Result<()> {
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

/// What is on disk, without the lock: for looking only.
pub(crate) fn peek() -> anyhow::Result<Memory> {
    read(&folder())
}

fn folder() -> PathBuf {
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
    let temporary = folder.join("state.yaml.new");
    let text = memory.to_text()?;
    let attempt = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    attempt().with_context(|| {
        format!("{}: cannot write the state; make room and see that the folder is writable", path.display())
    })
}
