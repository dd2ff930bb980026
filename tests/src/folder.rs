//! What a run leaves on disk, and who removes it.
//!
//! Everything lies in one folder a process; each cluster has a folder in that. A [`ClusterFolder`] takes its processes
//! along when it is dropped, also by a panic. For everything else (Ctrl-C, SIGKILL, abort) there is the reaper: a
//! program of its own, in its own process group, that waits for the end of a pipe which only we hold open, then kills
//! every process in the run's folder and removes it. `KEEP=1` in the environment keeps the files, never the processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::AccessFlags;

use crate::install::{install, program};
use crate::process;
use crate::segments;

/// How every run's folder begins.
const PREFIX: &str = "pg-keeper-";

/// Whether files are to be kept for a look at them.
pub fn keep() -> bool {
    std::env::var_os("KEEP").is_some_and(|value| value == "1")
}

/// Where the system keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// What a run may need at most, in bytes.
const NEEDED: u64 = 2 << 30;

static ON_DISK: AtomicBool = AtomicBool::new(false);

/// Makes the run's folder lie on the disk, as servers do; to be called before it is used.
pub fn use_disk(yes: bool) {
    ON_DISK.store(yes, Ordering::Relaxed);
}

/// Where the run's folder goes: into memory when there is enough of it, as copying a data directory is ten times faster
/// there; else, or when TMPDIR says so, to the folder for temporary files.
fn base() -> PathBuf {
    let in_memory = !ON_DISK.load(Ordering::Relaxed)
        && std::env::var_os("TMPDIR").is_none()
        && nix::unistd::access(MEMORY, AccessFlags::W_OK).is_ok()
        && statvfs(MEMORY).is_ok_and(|space| {
            let free = space.blocks_available() * space.fragment_size();
            // Programs lie there too.
            free > NEEDED && !space.flags().contains(FsFlags::ST_NOEXEC)
        });
    if in_memory { PathBuf::from(MEMORY) } else { std::env::temp_dir() }
}

/// The folder and the process that will remove it.
static RUN: Mutex<Option<(&'static Path, Child)>> = Mutex::new(None);

/// The folder of this run, made on first use.
pub fn run_folder() -> Result<&'static Path> {
    let mut run = RUN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((folder, _)) = *run {
        return Ok(folder);
    }
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base()).context("make the run's folder")?.keep();
    // It lives as long as the process, save for the few bytes of one that was cleaned up before.
    let folder: &'static Path = Box::leak(folder.into_boxed_path());
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    install()?.give_to_server_account(folder)?;
    *run = Some((folder, start_reaper(folder)?));
    Ok(folder)
}

/// Removes everything now rather than at our end, and waits until it is done. What is started later gets a new folder.
pub fn clean_up() -> Result<()> {
    let run = RUN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    if let Some((_, mut reaper)) = run {
        drop(reaper.stdin.take());
        reaper.wait().context("wait for the reaper")?;
    }
    Ok(())
}

/// A program of this workspace where the servers' account can execute it, which may not be allowed into our own folders.
pub fn shared_program(name: &str) -> Result<PathBuf> {
    static COPYING: Mutex<()> = Mutex::new(());
    let _alone = COPYING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());

    let folder = run_folder()?.join("bin");
    make(&folder)?;
    let copy = folder.join(name);
    if !copy.exists() {
        let original = program(name)?;
        fs::copy(&original, &copy).with_context(|| format!("copy {}", original.display()))?;
    }
    Ok(copy)
}

/// A short word that is this run's alone, for names outside the file system.
pub fn run_mark() -> Result<&'static str> {
    let name = run_folder()?.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(name.trim_start_matches(PREFIX))
}

fn start_reaper(folder: &Path) -> Result<Child> {
    let mut command = Command::new(program("reaper")?);
    command.arg(folder).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("start the reaper")
}

/// The folder of one cluster and all that runs in it.
#[derive(Debug)]
pub struct ClusterFolder {
    path: PathBuf,
}

impl ClusterFolder {
    /// A new folder that the servers' account owns.
    pub fn create(name: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // Short, as the path of a Unix socket below it is limited to 107 bytes.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let short: String = name.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let path = run_folder()?.join(format!("{number}-{short}"));
        make(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ClusterFolder {
    fn drop(&mut self) {
        if let Err(error) = process::kill_all_in(&self.path) {
            eprintln!("{error:#}");
        }
        segments::remove_below(&self.path);
        if keep() {
            eprintln!("kept: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a folder that the servers' account owns.
pub fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    install()?.give_to_server_account(path)
}
