//! Certificates: what this proxy shows, whom it believes.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use landline_region::RegionCode;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, KeyLogFile, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{ClientTls, RegionIdentity, StartError, TlsFiles};

/// Names of one client's certificate that are looked at.
const MAX_DOMAINS: usize = 8;
/// Where Debian and its kin keep the authorities they trust.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a certificate says its holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Proxy,
    Relay,
}

impl Role {
    /// The DNS name in certificates of the region's authority.
    pub(crate) fn name(self, region: RegionCode) -> String {
        match self {
            Self::Proxy => format!("proxy.{region}.landline.internal"),
            Self::Relay => format!("relay.{region}.landline.internal"),
        }
    }
}

/// Set once, before any proxy starts.
static SECRETS_ARE_REVEALED: AtomicBool = AtomicBool::new(false);

/// Writes the secrets of every TLS session of this process's proxies, also
/// those between regions, into the file that `SSLKEYLOGFILE` names, so that a
/// capture can be read. The variable alone does nothing. For conformance runs:
/// whoever has that file reads what mTLS protects.
pub fn reveal_session_secrets() {
    SECRETS_ARE_REVEALED.store(true, Ordering::Relaxed);
}

fn server(mut config: ServerConfig) -> ServerConfig {
    if SECRETS_ARE_REVEALED.load(Ordering::Relaxed) {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    config
}

fn client(mut config: ClientConfig) -> ClientConfig {
    if SECRETS_ARE_REVEALED.load(Ordering::Relaxed) {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    config
}

/// A configuration made from files, made again when they change: a renewed
/// certificate must reach new connections without a restart.
pub(crate) struct Reloading<C> {
    current: ArcSwap<C>,
    files: Vec<std::path::PathBuf>,
    changed: std::sync::Mutex<Vec<Option<SystemTime>>>,
    make: Box<dyn Fn() -> Result<C, StartError> + Send + Sync>,
}

impl<C> Reloading<C> {
    fn new(
        files: Vec<std::path::PathBuf>,
        make: impl Fn() -> Result<C, StartError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, StartError> {
        let changed = std::sync::Mutex::new(modified(&files));
        let current = ArcSwap::from_pointee(make()?);
        Ok(Arc::new(Self { current, files, changed, make: Box::new(make) }))
    }

    pub(crate) fn load(&self) -> Arc<C> {
        self.current.load_full()
    }

    /// Reads the files again if one changed. After an error the former
    /// configuration stays, and the files are tried again at the next change.
    pub(crate) fn refresh(&self) -> Result<bool, StartError> {
        let now = modified(&self.files);
        let mut changed = self.changed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *changed == now {
            return Ok(false);
        }
        *changed = now;
        self.current.store(Arc::new((self.make)()?));
        Ok(true)
    }
}

fn modified(files: &[std::path::PathBuf]) -> Vec<Option<SystemTime>> {
    files
        .iter()
        .map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
        .collect()
}

/// What clients see on the TLS and WSS listeners.
#[derive(Clone)]
pub(crate) struct ForClients {
    /// Asks for a certificate where that is wanted.
    pub(crate) tls: Arc<Reloading<ServerConfig>>,
    pub(crate) wss: Arc<Reloading<ServerConfig>>,
}

impl ForClients {
    pub(crate) fn read(wanted: &ClientTls) -> Result<Self, StartError> {
        let wss = serving(ClientTls { clients: None, ..wanted.clone() })?;
        let tls = match wanted.clients {
            Some(_) => serving(wanted.clone())?,
            None => Arc::clone(&wss),
        };
        Ok(Self { tls, wss })
    }

    pub(crate) fn refresh(&self) -> Result<bool, StartError> {
        let (tls, wss) = (self.tls.refresh(), self.wss.refresh());
        Ok(tls? | wss?)
    }
}

fn serving(wanted: ClientTls) -> Result<Arc<Reloading<ServerConfig>>, StartError> {
    let pairs = std::iter::once(&wanted.files).chain(&wanted.others);
    let files = pairs.flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]);
    let authorities = wanted.clients.iter().map(|it| it.authorities.clone());
    Reloading::new(files.chain(authorities).collect(), move || {
        let first = certified(&wanted.files)?;
        let others = wanted.others.iter().map(certified).collect::<Result<Vec<_>, _>>()?;
        let builder = server_builder(&wanted.files.certificate)?;
        let builder = match &wanted.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(read_authorities(&clients.authorities)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = match clients.required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let built = verifier.build();
                let built = built.map_err(|error| file_error(&clients.authorities, error))?;
                builder.with_client_cert_verifier(built)
            }
        };
        Ok(server(builder.with_cert_resolver(Arc::new(ByName { first, others }))))
    })
}

fn certified(files: &TlsFiles) -> Result<Certified, StartError> {
    let (chain, key) = read_pair(files)?;
    let names = chain.first().map(names_in).unwrap_or_default();
    let key = CertifiedKey::from_der(chain, key, &provider());
    Ok(Certified { names, key: Arc::new(key.map_err(|error| pair_error(files, &error))?) })
}

#[derive(Debug)]
struct Certified {
    /// Lower case; the first label may be `*`.
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl Certified {
    /// RFC 6125 §6.4: a wildcard stands for one label.
    fn is_for(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let covers = |own: &String| {
            own == name || own.strip_prefix("*.").is_some_and(|own| Some(own) == parent)
        };
        self.names.iter().any(covers)
    }
}

/// The certificate of the name that a client asks for.
#[derive(Debug)]
struct ByName {
    first: Certified,
    others: Vec<Certified>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let all = std::iter::once(&self.first).chain(&self.others);
        let found = name.and_then(|name| all.into_iter().find(|it| it.is_for(&name)));
        Some(Arc::clone(&found.unwrap_or(&self.first).key))
    }
}

/// The SIP domains that a verified certificate speaks for (RFC 5922 §7.1): those
/// of its SIP URIs, or where it has none, its DNS names. Wildcards speak for
/// nobody (§7.2).
pub(crate) fn domains_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let uris = uris_in(certificate);
    let domains = uris.iter().filter_map(|uri| uri.strip_prefix("sip:"));
    // With a user part it is of a user, and not of the domain.
    let domains: Vec<String> =
        domains.filter(|it| !it.contains(['@', ';', '?', ':'])).map(str::to_owned).collect();
    let names = match domains.is_empty() {
        true => names_in(certificate),
        false => domains,
    };
    let fine = |name: &String| !name.contains(['*', ' ']) && !name.is_empty() && name.len() < 256;
    names.into_iter().filter(fine).take(MAX_DOMAINS).collect()
}

/// What other regions' proxies see: our region's name; they must prove theirs.
pub(crate) fn for_regions(
    identity: &RegionIdentity,
) -> Result<Arc<Reloading<ServerConfig>>, StartError> {
    let files = watched(identity);
    let identity = identity.clone();
    Reloading::new(files, move || {
        let (chain, key) = read_pair(&identity.files)?;
        let roots = Arc::new(read_authorities(&identity.authorities)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| file_error(&identity.authorities, error))?;
        server_builder(&identity.files.certificate)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map(server)
            .map_err(|error| pair_error(&identity.files, &error))
    })
}

/// How we connect to proxies of other regions and to our relays.
pub(crate) fn as_region(
    identity: &RegionIdentity,
) -> Result<Arc<Reloading<ClientConfig>>, StartError> {
    let files = watched(identity);
    let identity = identity.clone();
    Reloading::new(files, move || {
        let (chain, key) = read_pair(&identity.files)?;
        client_builder(&identity.authorities)?
            .with_root_certificates(read_authorities(&identity.authorities)?)
            .with_client_auth_cert(chain, key)
            .map(client)
            .map_err(|error| pair_error(&identity.files, &error))
    })
}

/// How we connect to carriers and to clients' TLS addresses. A carrier that asks
/// who we are is shown what clients see.
pub(crate) fn as_client(
    extra: Option<&Path>,
    own: Option<&TlsFiles>,
) -> Result<Arc<Reloading<ClientConfig>>, StartError> {
    let (extra, own) = (extra.map(Path::to_owned), own.cloned());
    let pair = own.iter().flat_map(|own| [own.certificate.clone(), own.key.clone()]);
    Reloading::new(pair.chain(extra.clone()).collect(), move || {
        let system = Path::new(SYSTEM_AUTHORITIES);
        let roots = carrier_authorities(system, extra.as_deref())?;
        let builder = client_builder(system)?.with_root_certificates(roots);
        let Some(own) = &own else { return Ok(client(builder.with_no_client_auth())) };
        let (chain, key) = read_pair(own)?;
        let built = builder.with_client_auth_cert(chain, key).map(client);
        built.map_err(|error| pair_error(own, &error))
    })
}

fn carrier_authorities(system: &Path, extra: Option<&Path>) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    if system.exists() {
        // A certificate of the system's that cannot be read is not ours to refuse.
        let (_added, _ignored) = roots.add_parsable_certificates(
            CertificateDer::pem_file_iter(system)
                .map_err(|error| file_error(system, error))?
                .flatten(),
        );
    }
    if let Some(extra) = extra {
        roots.roots.extend(read_authorities(extra)?.roots);
    }
    Ok(roots)
}

/// Fails unless the identity's certificate is the region's own: another region's
/// would be refused by every peer, one by one, much later.
pub(crate) fn check_identity(
    files: &TlsFiles,
    region: RegionCode,
    name: &str,
) -> Result<(), StartError> {
    let (chain, _key) = read_pair(files)?;
    let own = format!("{}.{region}.landline.internal", name.to_ascii_lowercase());
    let names = chain.first().map(names_in).unwrap_or_default();
    match [Role::Proxy.name(region), own].into_iter().find(|wanted| !names.contains(wanted)) {
        None => Ok(()),
        Some(wanted) => Err(StartError::WrongIdentity {
            path: files.certificate.clone(),
            wanted,
            found: if names.is_empty() { "no DNS name".to_owned() } else { names.join(", ") },
        }),
    }
}

/// The region whose proxy holds this certificate; `None` unless it names one
/// region's proxy and no other's.
pub(crate) fn proxy_region(certificate: &CertificateDer<'_>) -> Option<RegionCode> {
    let mut regions = names_in(certificate).into_iter().filter_map(|name| {
        name.strip_prefix("proxy.")?.strip_suffix(".landline.internal")?.parse().ok()
    });
    let region = regions.next()?;
    regions.all(|other: RegionCode| other == region).then_some(region)
}

/// Whether it is for the region's proxy of this name.
pub(crate) fn is_proxy_named(
    certificate: &CertificateDer<'_>,
    region: RegionCode,
    name: &str,
) -> bool {
    let own = format!("{}.{region}.landline.internal", name.to_ascii_lowercase());
    proxy_region(certificate) == Some(region) && names_in(certificate).contains(&own)
}

fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    alternative_names(certificate, |name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    })
}

fn uris_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    alternative_names(certificate, |name| match name {
        GeneralName::URI(uri) => Some(uri.to_ascii_lowercase()),
        _ => None,
    })
}

fn alternative_names(
    certificate: &CertificateDer<'_>,
    of_kind: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    names.value.general_names.iter().filter_map(of_kind).collect()
}

fn read_pair(
    files: &TlsFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), StartError> {
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| pem_error(&files.key, &error, "private key"))?;
    Ok((chain, key))
}

fn read_authorities(path: &Path) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| file_error(path, error))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem_error(path, &error, "certificate"))?;
    if certificates.is_empty() {
        return Err(file_error(path, "no certificate in PEM form is in this file"));
    }
    // Found here, it is named by its own file and not by its key's.
    if certificates.iter().any(|certificate| X509Certificate::from_der(certificate).is_err()) {
        return Err(file_error(path, "a certificate in this file cannot be read"));
    }
    Ok(certificates)
}

fn server_builder(
    path: &Path,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, StartError> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| file_error(path, error))
}

fn client_builder(
    path: &Path,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, StartError> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| file_error(path, error))
}

/// Named explicitly: which provider is the process's default is the binary's business.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    let provider = PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(provider)
}

fn watched(identity: &RegionIdentity) -> Vec<std::path::PathBuf> {
    vec![
        identity.files.certificate.clone(),
        identity.files.key.clone(),
        identity.authorities.clone(),
    ]
}

fn pair_error(files: &TlsFiles, error: &rustls::Error) -> StartError {
    let problem = match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key does not belong to the certificate {}", files.certificate.display())
        }
        other => other.to_string(),
    };
    file_error(&files.key, problem)
}

fn pem_error(path: &Path, error: &rustls::pki_types::pem::Error, wanted: &str) -> StartError {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) if error.kind() == ErrorKind::NotFound => {
            file_error(path, "there is no such file")
        }
        Error::Io(error) => file_error(path, error),
        Error::NoItemsFound => file_error(path, format!("no {wanted} in PEM form is in this file")),
        other => file_error(path, format!("the {wanted} cannot be read: {other}")),
    }
}

fn file_error(path: &Path, problem: impl ToString) -> StartError {
    StartError::File { path: path.to_owned(), problem: problem.to_string() }
}
