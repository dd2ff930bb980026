//! TLS as libpq's `sslmode` and `sslrootcert` ask for it.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use watcher_core::conninfo::{Parameters, SslMode, SslRootCert};

use super::certificate;

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

fn of_file(file: &Path) -> Result<Arc<WebPkiServerVerifier>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: cannot use sslrootcert: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    verifier(roots).map_err(|error| wrong(&error))
}

/// Single certificates that cannot be used stand in the way of no other.
fn of_system() -> Result<Arc<WebPkiServerVerifier>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    verifier(roots).map_err(|error| {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        format!("sslrootcert=system: the system's authorities cannot be used: {error} {}", errors.join("; "))
    })
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map_err(|error| error.to_string())
}
/// Whom a server's certificate must convince.
#[derive(Debug)]
enum Trust {
    /// `require`
    Anybody,
    /// `verify-ca`
    Authorities(Arc<WebPkiServerVerifier>),
    /// `verify-full`
    AuthoritiesAndName(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (verifier, name_matters) = match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Authorities(verifier) => (verifier, false),
            Trust::AuthoritiesAndName(verifier) => (verifier, true),
        };
        let verdict = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is looked at last: whoever fails in it has passed all else.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !name_matters => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
