//! The password of a connection, read anew for each, so that a changed file needs no restart.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use watcher_core::conninfo::{Endpoint, Parameters, Secret};
use watcher_core::passfile;

/// The password that libpq would find.
pub(super) fn find(
    parameters: &Parameters,
    endpoint: &Endpoint,
    dbname: &str,
    user: &str,
) -> Result<Option<String>, String> {
    if let Some(Secret(password)) = &parameters.password {
        return Ok(Some(password.clone()));
    }
    let environment = || std::env::var_os("PGPASSFILE").filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = parameters.passfile.as_ref().map(PathBuf::from).or_else(environment);
    let Some(file) = named.clone().or_else(|| std::env::home_dir().map(|home| home.join(".pgpass"))) else {
        return Ok(None);
    };
    let metadata = match std::fs::metadata(&file) {
        Ok(metadata) => metadata,
        Err(error) if named.is_some() => return Err(format!("{}: cannot read the passfile: {error}", file.display())),
        Err(_) => return Ok(None),
    };
    if !metadata.is_file() {
        return Err(format!("{}: the passfile is not a plain file", file.display()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("{}: others may read the passfile; run chmod 0600 on it", file.display()));
    }
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("{}: cannot read the passfile: {error}", file.display()))?;
    Ok(passfile::find(&text, &endpoint.name_in_passfile(), endpoint.port, dbname, user))
}
