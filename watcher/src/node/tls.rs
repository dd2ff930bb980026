//! TLS as libpq's `sslmode` and `sslrootcert` ask for it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use watcher_core::conninfo::{Conninfo, SslMode};

/// What makes connections encrypted, or nothing where they are not. The authorities are read anew each time.
pub(super) fn connector(conninfo: &Conninfo) -> Result<Option<MakeRustlsConnect>, String> {
    if conninfo.socket_folder().is_some() {
        return Ok(None);
    }
    let trust = match (conninfo.sslmode, &conninfo.sslrootcert) {
        (None | Some(SslMode::Disable | SslMode::Allow | SslMode::Prefer), _) => return Ok(None),
        (Some(SslMode::Require), None) => Trust::Anybody,
        (Some(SslMode::VerifyCa | SslMode::VerifyFull), None) => return Err("sslrootcert is missing".to_owned()),
        (Some(SslMode::Require | SslMode::VerifyCa), Some(file)) => Trust::Authorities(verifier(file)?),
        (Some(SslMode::VerifyFull), Some(file)) => Trust::AuthoritiesAndName(verifier(file)?),
    };
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }))
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn verifier(file: &str) -> Result<Arc<WebPkiServerVerifier>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{file}: cannot use sslrootcert: {error}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map_err(|error| wrong(&error))
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
