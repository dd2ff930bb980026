//! Cleans up after a run that cannot do so itself: `reaper FOLDER`.
//!
//! Waits for the end of its standard input, which comes when the run's process is gone, whatever ended it. Then it kills
//! every process that works in FOLDER, removes the run's network namespaces and cgroups, and removes FOLDER.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use keeper_tests::{folder, netns, process, segments, systemd};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("usage: reaper FOLDER")?);
    let mut ignored = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut ignored);

    process::kill_all_in(&folder)?;
    segments::remove_below(&folder);
    netns::remove_all_of(&folder);
    systemd::remove_all_of(&folder);
    if !folder::keep() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}
