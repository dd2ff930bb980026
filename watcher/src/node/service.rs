//! The parameters of a connection, with what its service says, read anew for each connection.

use std::io::ErrorKind;
use std::path::PathBuf;

use watcher_core::conninfo::{Conninfo, Pairs, Parameters, find_service};

/// Where builds of libpq keep the file for all users: Debian's, the PostgreSQL project's own packages for Red Hat.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

/// All that a connection is made with.
pub(super) fn complete(conninfo: &Conninfo) -> Result<Parameters, String> {
    let Some(service) = conninfo.service() else {
        return conninfo.complete(&Pairs::new());
    };
    let (file, pairs) = find(service, conninfo.service_file())?;
    conninfo.complete(&pairs).map_err(|error| format!("service {service:?} of {}: {error}", file.display()))
}

/// Looks where libpq looks: in the file that is named, or in the user's own; then in the one for all.
fn find(service: &str, named: Option<&str>) -> Result<(PathBuf, Pairs), String> {
    let named = named.map(PathBuf::from).or_else(|| environment("PGSERVICEFILE"));
    if let Some(file) = &named
        && !file.exists()
    {
        return Err(format!("{}: the service file does not exist", file.display()));
    }
    let own = named.or_else(|| std::env::home_dir().map(|home| home.join(".pg_service.conf")));
    let folders = match environment("PGSYSCONFDIR") {
        Some(folder) => vec![folder],
        None => SYSTEM_FOLDERS.map(PathBuf::from).to_vec(),
    };
    let mut looked = Vec::new();
    for file in own.into_iter().chain(folders.into_iter().map(|folder| folder.join("pg_service.conf"))) {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: cannot use the service file: {error}", file.display());
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(wrong(&error)),
        };
        match find_service(&text, service).map_err(|error| wrong(&error))? {
            Some(pairs) => return Ok((file, pairs)),
            None => looked.push(file.display().to_string()),
        }
    }
    Err(if looked.is_empty() {
        format!("service {service:?}: there is no service file; name one with servicefile")
    } else {
        format!("service {service:?} is not defined in {}", looked.join(", nor in "))
    })
}

fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
