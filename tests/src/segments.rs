//! The little System V shared memory segment that every postmaster holds as an interlock. Nobody removes it after a
//! SIGKILL, and the kernel has a limited number of them.

use std::fs;
use std::path::Path;
use std::process::Command;

/// How deep below a run's folder a postmaster.pid lies: cluster, node, data.
const DEPTH: usize = 4;

/// Removes the segments of all dead servers whose data directories lie below the folder.
pub fn remove_below(folder: &Path) {
    visit(folder, DEPTH);
}

fn visit(folder: &Path, depth: usize) {
    if let Some(id) = segment(&folder.join("postmaster.pid")) {
        let _ = Command::new("ipcrm").args(["-m", &id]).output();
        return;
    }
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), depth - 1);
        }
    }
}

/// The id of the segment, from the file's seventh line: key and id.
fn segment(pid_file: &Path) -> Option<String> {
    let text = fs::read_to_string(pid_file).ok()?;
    text.lines().nth(6)?.split_whitespace().nth(1).map(str::to_owned)
}
