//! Certificates for tests.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Somebody who vouches for others.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, both as PEM.
#[derive(Debug, Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// One that nobody knows yet.
    pub fn create(name: &str) -> Result<Self> {
        let mut about = CertificateParams::new(Vec::new())?;
        about.distinguished_name.push(DnType::CommonName, name);
        about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = about.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(about, key), certificate })
    }

    /// Its own certificate, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A host's certificate that nobody vouches for but itself, made as PostgreSQL's manual has it: an authority's by its form, and with
    /// the host in its subject alone.
    pub fn self_signed(name: &str) -> Result<Certified> {
        let mut about = CertificateParams::new(Vec::new())?;
        about.distinguished_name.push(DnType::CommonName, name);
        about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok(Certified { certificate: about.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }

    /// Vouches for a host or a role of this name.
    pub fn certify(&self, name: &str) -> Result<Certified> {
        let mut about = CertificateParams::new(vec![name.to_owned()])?;
        about.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = about.signed_by(&key, &self.issuer)?.pem();
        Ok(Certified { certificate, key: key.serialize_pem() })
    }
}
