use std::path::Path;
use std::sync::Arc;

use landline_region::RegionCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{StartError, TlsFiles};

/// Under which the parts of a region know each other:
/// `<name>.<region>.landline.internal`.
const INTERNAL_DOMAIN: &str = ".landline.internal";

/// The control server's side of mutual TLS: a client certificate is required.
/// Its region is checked after the handshake, with [`peer_region`].
pub(crate) fn server_config(
    files: &TlsFiles,
    region: RegionCode,
) -> Result<Arc<ServerConfig>, StartError> {
    let chain = certificates(&files.certificate)?;
    if chain.first().map(|leaf| region_of(leaf)) != Some(PeerRegion::One(region)) {
        let example = format!("relay.{region}{INTERNAL_DOMAIN}");
        return Err(StartError::CertificateRegion {
            path: files.certificate.clone(),
            region,
            example,
        });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error))?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(&files.authorities)? {
        roots.add(authority).map_err(|error| wrong(&files.authorities, error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| wrong(&files.authorities, error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong(&files.certificate, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.key, error))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, error))?.collect();
    match found.map_err(|error| wrong(path, error))? {
        found if found.is_empty() => Err(wrong(path, "it holds no certificate")),
        found => Ok(found),
    }
}

fn wrong(path: &Path, reason: impl ToString) -> StartError {
    StartError::Tls { path: path.to_owned(), reason: reason.to_string() }
}

/// To which region a peer's certificate belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRegion {
    One(RegionCode),
    /// No internal name, names of several regions, or not readable.
    Unclear,
}

pub(crate) fn peer_region(chain: Option<&[CertificateDer<'_>]>) -> PeerRegion {
    chain.and_then(|chain| chain.first()).map_or(PeerRegion::Unclear, region_of)
}

fn region_of(certificate: &CertificateDer<'_>) -> PeerRegion {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return PeerRegion::Unclear;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return PeerRegion::Unclear;
    };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    one_region(names)
}

fn one_region<'a>(names: impl Iterator<Item = &'a str>) -> PeerRegion {
    let mut found = None;
    for name in names {
        let name = name.to_ascii_lowercase();
        let Some(inner) = name.strip_suffix(INTERNAL_DOMAIN) else { continue };
        let region = match inner.split_once('.') {
            Some((host, region)) if !host.is_empty() && host != "*" => region.parse().ok(),
            _ => None,
        };
        match (found, region) {
            (_, None) => return PeerRegion::Unclear,
            (Some(former), Some(region)) if former != region => return PeerRegion::Unclear,
            (_, region) => found = region,
        }
    }
    found.map_or(PeerRegion::Unclear, PeerRegion::One)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(names: &[&str]) -> PeerRegion {
        one_region(names.iter().copied())
    }

    #[test]
    fn a_certificate_belongs_to_the_one_region_that_it_names() {
        let ie1 = PeerRegion::One("ie1".parse().unwrap());
        assert_eq!(region(&["proxy.ie1.landline.internal"]), ie1);
        assert_eq!(region(&["sip.example.com", "Proxy-2.IE1.landline.internal"]), ie1);
    }

    #[test]
    fn a_certificate_of_no_region_or_of_two_is_of_none() {
        for names in [
            &["ie1.landline.internal"][..],
            &["proxy.ie1.landline.internal.example.com"],
            &["a.proxy.ie1.landline.internal"],
            &["*.ie1.landline.internal"],
            &["proxy.ie1.landline.internal", "proxy.us1.landline.internal"],
            &[],
        ] {
            assert_eq!(region(names), PeerRegion::Unclear, "{names:?}");
        }
    }
}
