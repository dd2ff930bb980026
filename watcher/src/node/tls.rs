//! TLS as libpq's `sslmode` and `sslrootcert` ask for it.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;
use watcher_core::conninfo::{Parameters, SslMode, SslRootCert};

use super::certificate;
use super::verifier::{Authorities, Trust, Verifier};

/// What makes connections encrypted. Authorities, certificate and key are read anew each time.
pub(super) fn connector(parameters: &Parameters) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier { trust: trust(parameters)?, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match certificate::identity(parameters)? {
        Some((chain, key)) => config
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("cannot use sslcert with sslkey: {error}"))?,
        None => config.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn trust(parameters: &Parameters) -> Result<Trust, String> {
    let authorities = match &parameters.sslrootcert {
        Some(SslRootCert::System) => Some(of_system()?),
        Some(SslRootCert::File(file)) => Some(of_file(Path::new(file))?),
        None => certificate::default_file("root.crt").map(|file| of_file(&file)).transpose()?,
    };
    match (parameters.sslmode, authorities) {
        (SslMode::VerifyFull, Some(authorities)) => Ok(Trust::AuthoritiesAndName(authorities)),
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => Err(format!(
            "sslmode {} needs sslrootcert; name the file with the authority's certificate",
            parameters.sslmode
        )),
        // Where authorities are given, libpq has them vouch for the server whatever the mode is.
        (_, Some(authorities)) => Ok(Trust::Authorities(authorities)),
        (SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require, None) => Ok(Trust::Anybody),
    }
}

fn of_file(file: &Path) -> Result<Authorities, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: cannot use sslrootcert: {error}", file.display());
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| wrong(&error))?;
    }
    Ok(Authorities { verifier: verifier(roots).map_err(|error| wrong(&error))?, certificates })
}

/// Single certificates that cannot be used stand in the way of no other.
fn of_system() -> Result<Authorities, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let verifier = verifier(roots).map_err(|error| {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        format!("sslrootcert=system: the system's authorities cannot be used: {error} {}", errors.join("; "))
    })?;
    Ok(Authorities { verifier, certificates: Vec::new() })
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map_err(|error| error.to_string())
}
