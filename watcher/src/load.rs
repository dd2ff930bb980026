//! Reading the configuration file.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::anyhow;
use watcher_core::config::Config;
use watcher_core::yaml;

use crate::file::{Fingerprint, real_paths};

/// Reads and checks the configuration.
pub(crate) fn config(file: &Path) -> anyhow::Result<Config> {
    // Before it is read, so that an edit meanwhile makes another edition. Without one, each reading is of the same.
    let edition = Fingerprint::take(file).map(|seen| seen.to_string()).unwrap_or_default();
    #[allow(clippy::wildcard_enum_match_arm, reason = "the standard library's list of kinds is open")]
    let bytes = std::fs::read(file).map_err(|error| {
        let help = match error.kind() {
            ErrorKind::NotFound => {
                "write it, or name the right file with -c; README and the package's examples have one"
            }
            ErrorKind::PermissionDenied => "let this user read it, or be another user",
            _ => "name the right file with -c",
        };
        anyhow!("{}: cannot read the configuration: {error}; {help}", file.display())
    })?;
    let text = yaml::decode(&bytes).map_err(|error| at(file, error.line, &error))?;
    let mut config = Config::parse(text).map_err(|error| at(file, error.line, &error))?;
    config.edition = edition;
    no_file_twice(&config).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    Ok(config)
}

/// Two targets with one file would undo each other's work, under whichever names they know it. A file that hangs is not known.
fn no_file_twice(config: &Config) -> anyhow::Result<()> {
    let real = real_paths(config.targets.iter().map(|target| target.file.as_path()));
    for (at, target) in config.targets.iter().enumerate() {
        let Some(path) = real.get(&target.file) else { continue };
        if let Some(first) = config.targets[..at].iter().find(|other| real.get(&other.file) == Some(path)) {
            anyhow::bail!(
                "targets: {} and {} have the same file, {}; write one target with a command that restarts both",
                first.name,
                target.name,
                path.display()
            );
        }
    }
    Ok(())
}

/// An error with its file before it; its own text begins with the line, where there is one.
pub(crate) fn at(file: &Path, line: Option<usize>, error: &dyn std::error::Error) -> anyhow::Error {
    let separator = if line.is_some() { "," } else { ":" };
    anyhow!("{}{separator} {error}", file.display())
}
