//! Whether a server's certificate convinces, by libpq's rules.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;

/// Whom a server's certificate must convince.
#[derive(Debug)]
pub(super) enum Trust {
    /// `require`
    Anybody,
    /// `verify-ca`
    Authorities(Authorities),
    /// `verify-full`
    AuthoritiesAndName(Authorities),
}

/// Those who vouch for servers.
#[derive(Debug)]
pub(super) struct Authorities {
    /// Follows a certificate to one of them.
    pub(super) verifier: Arc<WebPkiServerVerifier>,
    /// Their certificates, where a server may show one of them itself: the one that it has signed for itself.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    pub(super) provider: Arc<CryptoProvider>,
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
        let (authorities, name_matters) = match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Authorities(authorities) => (authorities, false),
            Trust::AuthoritiesAndName(authorities) => (authorities, true),
        };
        if !authorities.certificates.contains(end_entity) {
            let verifier = &authorities.verifier;
            match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Ok(_) => return Ok(ServerCertVerified::assertion()),
                // The name is looked at last: whoever fails in it has passed all else.
                Err(error) if is_about_the_name(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if name_matters {
            check_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
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

fn is_about_the_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
    )
}

/// The subject's common name counts where the certificate names no host otherwise, as PostgreSQL's manual has people make them.
fn check_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let verdict = verify_server_name(&ParsedCertificate::try_from(certificate)?, name);
    match verdict {
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }))
            if presented.is_empty()
                && common_name(certificate).is_some_and(|common| is_for(&common, &name.to_str())) =>
        {
            Ok(())
        }
        verdict => verdict,
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let subject = &certificate.tbs_certificate.subject;
    let attribute = subject.0.iter().flat_map(|names| names.0.iter()).find(|attribute| attribute.oid == COMMON_NAME)?;
    String::from_utf8(attribute.value.value().to_vec()).ok()
}

/// A `*` stands for the first label of a name, and for nothing else.
fn is_for(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => {
            name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain))
        }
        None => pattern.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::is_for;

    #[test]
    fn common_names_are_compared_as_libpq_compares_them() {
        for (pattern, name, want) in [
            ("db01.test", "DB01.test", true),
            ("db01.test", "db02.test", false),
            ("*.test", "db01.test", true),
            ("*.test", "a.db01.test", false),
            ("*.test", ".test", false),
            ("*.test", "test", false),
            ("db*.test", "db01.test", false),
            ("*", "db01", false),
            ("10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(is_for(pattern, name), want, "{pattern} {name}");
        }
    }
}
