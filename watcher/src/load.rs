//! Reading the configuration file.

use std::path::Path;

use anyhow::{Context, anyhow};
use watcher_core::config::Config;
use watcher_core::yaml;

/// Reads and checks the configuration.
pub(crate) fn config(file: &Path) -> anyhow::Result<Config> {
    let bytes = std::fs::read(file)
        .with_context(|| format!("{}: cannot read the configuration; name the right file with -c", file.display()))?;
    let text = yaml::decode(&bytes).map_err(|error| at(file, error.line, &error))?;
    Config::parse(text).map_err(|error| at(file, error.line, &error))
}

/// An error with its file before it; its own text begins with the line, where there is one.
pub(crate) fn at(file: &Path, line: Option<usize>, error: &dyn std::error::Error) -> anyhow::Error {
    let separator = if line.is_some() { "," } else { ":" };
    anyhow!("{}{separator} {error}", file.display())
}
