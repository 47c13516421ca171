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
    if chain.first().map(|leaf| Peer::of(leaf).region) != Some(PeerRegion::One(region)) {
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

/// Who a certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub region: PeerRegion,
    /// The first labels of its internal names, in lower case: its role, and the
    /// names it may go by.
    pub hosts: Vec<String>,
}

/// To which region a peer's certificate belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRegion {
    One(RegionCode),
    /// No internal name, names of several regions, or not readable.
    Unclear,
}

pub(crate) fn peer(chain: Option<&[CertificateDer<'_>]>) -> Peer {
    chain.and_then(|chain| chain.first()).map_or(Peer::UNCLEAR, Peer::of)
}

impl Peer {
    const UNCLEAR: Self = Self { region: PeerRegion::Unclear, hosts: Vec::new() };

    /// Whether the certificate is for a host of this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Self::UNCLEAR;
        };
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return Self::UNCLEAR;
        };
        Self::named(names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        }))
    }

    fn named<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (mut found, mut hosts) = (None, Vec::new());
        for name in names {
            let name = name.to_ascii_lowercase();
            let Some(inner) = name.strip_suffix(INTERNAL_DOMAIN) else { continue };
            let host = inner.split_once('.').filter(|(host, _)| !host.is_empty() && *host != "*");
            let Some((host, region)) = host else { return Self::UNCLEAR };
            let Ok(region) = region.parse::<RegionCode>() else { return Self::UNCLEAR };
            if found.is_some_and(|former| former != region) {
                return Self::UNCLEAR;
            }
            found = Some(region);
            hosts.push(host.to_owned());
        }
        found.map_or(Self::UNCLEAR, |region| Self { region: PeerRegion::One(region), hosts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(names: &[&str]) -> PeerRegion {
        Peer::named(names.iter().copied()).region
    }

    #[test]
    fn a_certificate_is_for_the_hosts_that_it_names_inside_its_region() {
        let names = ["proxy.ie1.landline.internal", "IE1-Proxy-2.ie1.landline.internal", "a.b"];
        let peer = Peer::named(names.into_iter());
        assert!(peer.is_named("ie1-proxy-2") && peer.is_named("proxy"));
        assert!(!peer.is_named("ie1-proxy-1") && !peer.is_named("a") && !peer.is_named(""));
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
