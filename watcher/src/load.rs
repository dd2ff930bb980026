//! Reading the configuration file.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::anyhow;
use watcher_core::config::Config;
use watcher_core::yaml;

/// Reads and checks the configuration.
pub(crate) fn config(file: &Path) -> anyhow::Result<Config> {
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
    Config::parse(text).map_err(|error| at(file, error.line, &error))
}

/// An error with its file before it; its own text begins with the line, where there is one.
pub(crate) fn at(file: &Path, line: Option<usize>, error: &dyn std::error::Error) -> anyhow::Error {
    let separator = if line.is_some() { "," } else { ":" };
    anyhow!("{}{separator} {error}", file.display())
}
