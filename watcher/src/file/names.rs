//! The names of the files beside an application's file.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// How a new version's name ends.
pub(super) const NEW: &str = ".pg_keeper.new";
/// How the old version's name ends.
pub(super) const BACKUP: &str = ".pg_keeper.bak";

/// A name beside the file that no other process and no other moment has.
pub(super) fn temporary(file: &Path, after: &str) -> PathBuf {
    beside(file, ".", &format!(".{}.{:016x}{after}", std::process::id(), fastrand::u64(..)))
}

/// Where the old version is kept.
pub(super) fn backup(file: &Path) -> PathBuf {
    beside(file, "", BACKUP)
}

fn beside(file: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(file.file_name().unwrap_or_default());
    name.push(after);
    file.with_file_name(name)
}

/// Removes what watchers left behind when they were killed; what a living one uses is not touched, but for our own.
pub(super) fn sweep(file: &Path) {
    let own = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = file.parent().unwrap_or(Path::new("/"));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let left_by = name.to_str().and_then(|name| temporary_of(&own, name));
        if left_by.is_some_and(|process| process == std::process::id() || !is_alive(process)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

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
