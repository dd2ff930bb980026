//! `check --systemd-dropin`: what systemd's units need.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::unistd::{Uid, User};
use watcher_core::config::Config;
use watcher_core::dropin::{OWN_UNIT, Watcher, for_application, for_watcher};

use crate::exit::Exit;
use crate::file::real_paths;
use crate::output::print;
use crate::state;

/// Prints the drop-in for a unit, or for the watcher's own.
pub(crate) fn dropin(config: &Config, file: &Path, unit: Option<String>) -> anyhow::Result<Exit> {
    let unit = unit.map(|unit| if unit.contains('.') { unit } else { unit + ".service" });
    let text = match unit.filter(|unit| unit != OWN_UNIT) {
        None => {
            let real = real_paths(config.targets.iter().map(|target| target.file.as_path()));
            for_watcher(&config.targets, &real)
        }
        Some(unit) => {
            // Where an image is being built there may be no /proc to ask; the package puts it there.
            let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/pg-keeper-watcher"));
            let state = std::path::absolute(state::folder())?;
            let (config_file, user) = (std::path::absolute(file)?, owner(&state)?);
            let watcher = Watcher { program: &program, config: &config_file, state: &state, user: user.as_deref() };
            for_application(&unit, &watcher, &config.targets)
        }
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// Who else than root works with the state folder, if it is there.
fn owner(folder: &Path) -> anyhow::Result<Option<String>> {
    let Ok(metadata) = std::fs::metadata(folder) else { return Ok(None) };
    let uid = Uid::from_raw(metadata.uid());
    if uid.is_root() {
        return Ok(None);
    }
    let user = User::from_uid(uid).with_context(|| format!("{}: cannot look up its owner", folder.display()))?;
    Ok(Some(user.map_or_else(|| uid.to_string(), |user| user.name)))
}
