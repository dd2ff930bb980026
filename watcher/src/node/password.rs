//! The password of a connection, read anew for each, so that a changed file needs no restart.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use watcher_core::conninfo::Conninfo;
use watcher_core::passfile;

/// The password that libpq would find.
pub(super) fn find(conninfo: &Conninfo, dbname: &str, user: &str) -> Result<Option<String>, String> {
    let named = conninfo.passfile.as_ref().map(PathBuf::from);
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
    let host = match (&conninfo.host, conninfo.hostaddr) {
        (Some(host), _) if is_default_socket_folder(host) => "localhost".to_owned(),
        (Some(host), _) => host.clone(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "localhost".to_owned(),
    };
    Ok(passfile::find(&text, &host, conninfo.port, dbname, user))
}

/// The folders that builds of libpq use when no host is given.
fn is_default_socket_folder(host: &str) -> bool {
    matches!(host, "/tmp" | "/run/postgresql" | "/var/run/postgresql")
}
