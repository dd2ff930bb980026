//! Our own certificate and its key, as libpq finds and checks them.

use std::fs::{Metadata, metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use watcher_core::conninfo::Parameters;

/// The folder in the user's home that libpq looks into.
const FOLDER: &str = ".postgresql";

/// A certificate with those that vouch for it, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A file in the user's home that libpq uses when none is named, if it is there.
pub(super) fn default_file(name: &str) -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(FOLDER).join(name)).filter(|file| file.exists())
}

/// What we show to a server that asks for it; nothing if we have none.
pub(super) fn identity(parameters: &Parameters) -> Result<Option<Identity>, String> {
    if !parameters.shows_certificate {
        return Ok(None);
    }
    let named = parameters.sslcert.as_ref().map(PathBuf::from);
    let Some(file) = named.or_else(|| default_file("postgresql.crt")) else {
        return Ok(None);
    };
    let wrong = |error: &dyn std::fmt::Display| format!("{}: cannot use sslcert: {error}", file.display());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&file).and_then(Iterator::collect).map_err(|error| wrong(&error))?;
    if chain.is_empty() {
        return Err(wrong(&"it holds no certificate in PEM form"));
    }
    let named = parameters.sslkey.as_ref().map(PathBuf::from);
    let key = named.or_else(|| default_file("postgresql.key")).ok_or_else(|| {
        format!("{}: there is a certificate and no key for it; name the key's file with sslkey", file.display())
    })?;
    Ok(Some((chain, read_key(&key)?)))
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: cannot use sslkey: {error}", file.display());
    let about = metadata(file).map_err(|error| wrong(&error))?;
    check(&about).map_err(|error| wrong(&error))?;
    let bytes = std::fs::read(file).map_err(|error| wrong(&error))?;
    if bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(wrong(
            &"it is encrypted, which is not supported here; keep it unencrypted, readable by this user alone",
        ));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        // The other form that libpq takes.
        Err(error) => PrivateKeyDer::try_from(bytes).map_err(|_| wrong(&error)),
    }
}

/// Of both forms of an encrypted key in PEM.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// As libpq has it: a key of root's may be read by a group, anybody else's by its owner alone.
fn check(about: &Metadata) -> Result<(), &'static str> {
    let forbidden = if about.uid() == 0 { 0o037 } else { 0o077 };
    if !about.is_file() {
        Err("it is not a plain file")
    } else if about.mode() & forbidden != 0 {
        Err("others may read or change it; run chmod 0600 on it, or 0640 if root owns it")
    } else {
        Ok(())
    }
}
