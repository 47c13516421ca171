//! A certificate authority of one's own (ECDSA P-256), kept in a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landline_region::UnixMillis;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

const DAY_MS: i64 = 86_400_000;
/// Clients refuse certificates that run for more than 398 days.
const LEAF_DAYS: i64 = 390;
const AUTHORITY_DAYS: i64 = 3650;
/// What ends sooner than this is made anew.
const RENEW_BEFORE_DAYS: i64 = 30;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{}: {error}", file.display())]
    File { file: PathBuf, error: std::io::Error },
    #[error("no certificate for {names}: {error}")]
    Issue { names: String, error: rcgen::Error },
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    file: PathBuf,
}

impl Authority {
    /// Opens the authority in `dir`, or makes one there: `ca.pem` and `ca.key`.
    pub fn open(dir: &Path, now: UnixMillis) -> Result<Self, PkiError> {
        let (file, key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
        let unusable = |error| PkiError::File { file: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        // Two regions may be set up at the same moment: one makes it, both use it.
        let lock = std::fs::File::create(dir.join("ca.lock")).map_err(unusable)?;
        lock.lock().map_err(unusable)?;
        if let Some(authority) = Self::existing(&file, &key_file, now) {
            return Ok(authority);
        }
        let issue = |error| PkiError::Issue { names: "the authority".to_owned(), error };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let params = authority_params(now);
        let certificate = params.self_signed(&key).map_err(issue)?;
        write(&key_file, &key.serialize_pem(), 0o600)?;
        write(&file, &certificate.pem(), 0o644)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate: certificate.into(), file })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    fn existing(file: &Path, key_file: &Path, now: UnixMillis) -> Option<Self> {
        let certificate = CertificateDer::from_pem_file(file).ok()?;
        let key = KeyPair::from_pem(&std::fs::read_to_string(key_file).ok()?).ok()?;
        let authority = Self {
            issuer: Issuer::new(authority_params(now), key),
            certificate,
            file: file.to_owned(),
        };
        // It works when what it signs now is still good near its own leaf's end.
        let (leaf, _) = authority.sign(&["probe.landline.internal".to_owned()], now).ok()?;
        authority
            .accepts(leaf.der(), &["probe.landline.internal".to_owned()], now)
            .then_some(authority)
    }

    /// Makes `STEM.pem` and `STEM.key` for `names`, unless they are there and good.
    pub fn provide(&self, stem: &Path, names: &[String], now: UnixMillis) -> Result<(), PkiError> {
        let (file, key_file) = (stem.with_extension("pem"), stem.with_extension("key"));
        if self.is_good(&file, &key_file, names, now) {
            return Ok(());
        }
        if let Some(dir) = stem.parent() {
            std::fs::create_dir_all(dir)
                .map_err(|error| PkiError::File { file: dir.to_owned(), error })?;
        }
        let (certificate, key) = self
            .sign(names, now)
            .map_err(|error| PkiError::Issue { names: names.join(", "), error })?;
        write(&key_file, &key.serialize_pem(), 0o600)?;
        write(&file, &certificate.pem(), 0o644)
    }

    fn sign(
        &self,
        names: &[String],
        now: UnixMillis,
    ) -> Result<(Certificate, KeyPair), rcgen::Error> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(
            DnType::CommonName,
            names
                .iter()
                .find(|name| name.as_str() != "localhost")
                .map_or("localhost", |n| n.as_str()),
        );
        set_validity(&mut params, now, LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate, key))
    }

    fn is_good(&self, file: &Path, key_file: &Path, names: &[String], now: UnixMillis) -> bool {
        let (Ok(certificate), Ok(key)) =
            (CertificateDer::from_pem_file(file), PrivateKeyDer::from_pem_file(key_file))
        else {
            return false;
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = CertifiedKey::from_der(vec![certificate.clone()], key, &provider);
        pair.is_ok() && self.accepts(&certificate, names, now)
    }

    /// Whether a certificate is ours, carries every name and is not near its end.
    fn accepts(&self, certificate: &CertificateDer<'_>, names: &[String], now: UnixMillis) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(self.certificate.clone()).is_err() {
            return false;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let Ok(verifier) =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
        else {
            return false;
        };
        let moment = |days: i64| {
            let seconds = (now.0 + days * DAY_MS).max(0) as u64 / 1000;
            UnixTime::since_unix_epoch(Duration::from_secs(seconds))
        };
        names.iter().all(|name| {
            ServerName::try_from(name.as_str()).is_ok_and(|name| {
                [0, RENEW_BEFORE_DAYS].into_iter().all(|days| {
                    verifier.verify_server_cert(certificate, &[], &name, &[], moment(days)).is_ok()
                })
            })
        })
    }
}

fn authority_params(now: UnixMillis) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Landline trial authority");
    set_validity(&mut params, now, AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Valid from the midnight UTC before `now` to that `days` later.
fn set_validity(params: &mut CertificateParams, now: UnixMillis, days: i64) {
    let date = |days: i64| {
        let shown = UnixMillis(now.0 + days * DAY_MS).to_string();
        let mut parts = shown.split(['-', 'T']).map(|part| part.parse::<i32>().unwrap_or(1));
        let mut next = || parts.next().unwrap_or(1);
        rcgen::date_time_ymd(next(), next() as u8, next() as u8)
    };
    params.not_before = date(-1);
    params.not_after = date(days);
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    crate::files::replace(file, text.as_bytes(), mode)
        .map_err(|error| PkiError::File { file: file.to_owned(), error })
}
