use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use landline_control::{Fingerprint, HashFunction};
use zeroize::Zeroize;

use crate::dtls::{self, PrimaryConfig};

/// A self-signed certificate and its key: who a process is in DTLS handshakes.
/// The peer knows it by its fingerprint, so its contents say nothing.
pub struct Identity {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
    primary: PrimaryConfig,
    dimpl: OnceLock<Option<Arc<dimpl::Config>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("the DTLS certificate could not be made: {0}")]
    Generate(String),
    #[error("the DTLS certificate or key cannot be used: {0}")]
    Unusable(String),
}

impl Identity {
    /// Makes a P-256 certificate. Costs milliseconds: share it among legs.
    pub fn generate() -> Result<Self, IdentityError> {
        let certified = rcgen::generate_simple_self_signed(vec!["landline".to_owned()])
            .map_err(|error| IdentityError::Generate(error.to_string()))?;
        Self::from_der(certified.cert.der().to_vec(), certified.signing_key.serialize_der())
    }

    /// A DER certificate and its PKCS#8 key.
    pub fn from_der(certificate: Vec<u8>, private_key: Vec<u8>) -> Result<Self, IdentityError> {
        let primary = PrimaryConfig::new(&certificate, &private_key)?;
        Ok(Self { certificate, private_key, primary, dimpl: OnceLock::new() })
    }

    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What our description says of it (RFC 8122 §5).
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(HashFunction::Sha256, &self.certificate)
    }

    pub(crate) fn private_key(&self) -> &[u8] {
        &self.private_key
    }

    pub(crate) fn primary(&self) -> &PrimaryConfig {
        &self.primary
    }

    /// And not RSA, which `dimpl` does not have.
    pub(crate) fn is_ecdsa(&self) -> bool {
        self.primary.is_ecdsa
    }

    pub(crate) fn dimpl(&self) -> Option<Arc<dimpl::Config>> {
        self.dimpl.get_or_init(dtls::dimpl_config).clone()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// The digest of a DER certificate.
pub fn fingerprint(hash: HashFunction, certificate: &[u8]) -> Fingerprint {
    let algorithm = match hash {
        HashFunction::Sha256 => &digest::SHA256,
        HashFunction::Sha384 => &digest::SHA384,
        HashFunction::Sha512 => &digest::SHA512,
    };
    Fingerprint { hash, digest: digest::digest(algorithm, certificate).as_ref().to_vec() }
}
