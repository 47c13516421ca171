//! Regions on loopback with databases, certificates and raw SIP clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use landline_call::FeatureCodes;
use landline_call::directory::{AccountEntry, InterRegionAddress, RegionEntry};
use landline_call::tenancy::{CallsFrom, DigestSecrets, EdgePolicy, MediaPolicy};
use landline_proxy::{
    InterRegionListener, Limits, ListenerConfig, Origins, Proxy, ProxyConfig, ProxyHandle,
    RegionIdentity, TlsFiles, Transport,
};
use landline_region::egress::{Declared, Gate};
use landline_region::{Personal, RegionCode, Secret};
use landline_sip::Method;
use landline_sip::digest::{self, Algorithm};
use landline_store::{KeyRing, NewAccount, NewUser, Store, StoreConfig, directory};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
pub const PASSWORD: &str = "correct-horse";
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One certificate authority, one directory, and the regions under them.
pub struct World {
    pub dir: TempDir,
    authority: Issuer<'static, KeyPair>,
    pub authorities: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let authorities = dir.path().join("ca.pem");
        std::fs::write(&authorities, certificate.pem()).unwrap();
        Self { dir, authority: Issuer::new(params, key), authorities }
    }

    /// A certificate for these names, and its key.
    pub fn issue(&self, stem: &str, names: &[&str]) -> TlsFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let files = TlsFiles {
            certificate: self.dir.path().join(format!("{stem}.pem")),
            key: self.dir.path().join(format!("{stem}.key")),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    pub fn directory(&self) -> PathBuf {
        self.dir.path().join("directory.json")
    }

    /// A region with its database and certificates, and one account of the
    /// users alice and bob.
    pub async fn region(&self, code: &str, domain: &str) -> Region {
        let code: RegionCode = code.parse().unwrap();
        let home = self.dir.path().join(code.as_str());
        std::fs::create_dir_all(&home).unwrap();
        let key_ring = home.join("keys");
        KeyRing::create(&key_ring, code).unwrap();
        let url = format!("sqlite:{}", home.join("region.db").display());
        let regions = ["ie1", "us1"].map(|code| code.parse().unwrap()).into();
        let egress = Declared { regions, ..Declared::default() };
        let config = StoreConfig { egress, ..StoreConfig::new(url, code, key_ring) };
        let store = Store::open(&config).await.unwrap();
        let region = Region {
            code,
            home,
            store,
            directory: self.directory(),
            identity: RegionIdentity {
                files: self.issue(
                    code.as_str(),
                    &[
                        &format!("proxy.{code}.landline.internal"),
                        &format!("proxy-1.{code}.landline.internal"),
                    ],
                ),
                authorities: self.authorities.clone(),
            },
            client_tls: self.issue(&format!("{code}-clients"), &["localhost", "127.0.0.1", "::1"]),
        };
        self.enter(code, Vec::new());
        region.add_account(domain).await;
        region
    }

    pub fn client_tls(&self) -> Arc<rustls::ClientConfig> {
        client_config(&self.authorities, None)
    }

    /// Of a client that shows this certificate.
    pub fn tls_of(&self, files: &TlsFiles) -> Arc<rustls::ClientConfig> {
        client_config(&self.authorities, Some(files))
    }

    /// A carrier that takes TLS from whoever shows a certificate of the authority.
    pub fn acceptor(&self, files: &TlsFiles) -> tokio_rustls::TlsAcceptor {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authorities).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config).into()
    }

    /// A connection to where proxies and relays connect, for the holder of this
    /// certificate; `None` when it is refused.
    pub async fn connect(
        &self,
        address: SocketAddr,
        files: Option<&TlsFiles>,
    ) -> Option<TlsStream<TcpStream>> {
        let name = ServerName::try_from("proxy.ie1.landline.internal").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(client_config(&self.authorities, files));
        connector.connect(name, stream).await.ok()
    }

    /// Tells the directory where a region's proxy is.
    pub fn announce(&self, region: &Region, proxy: &ProxyHandle) {
        let address = proxy.inter_region_address().unwrap();
        let own = InterRegionAddress { host: address.ip().to_string(), port: address.port() };
        self.enter(region.code, vec![own]);
    }

    fn enter(&self, code: RegionCode, proxies: Vec<InterRegionAddress>) {
        let jurisdiction = "IE".parse().unwrap();
        let entry = RegionEntry { jurisdiction, proxies, public_uri: None, console: None };
        let gate = Gate::new(code, Declared::default());
        directory::update(&gate, &self.directory(), &[], |directory| {
            directory.regions.insert(code, entry);
            Ok(())
        })
        .unwrap();
    }
}

fn client_config(authorities: &Path, shown: Option<&TlsFiles>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authorities).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

pub struct Region {
    pub code: RegionCode,
    pub home: PathBuf,
    pub store: Store,
    pub directory: PathBuf,
    pub identity: RegionIdentity,
    pub client_tls: TlsFiles,
}

impl Region {
    /// Every transport on IPv4 and IPv6.
    pub fn config(&self) -> ProxyConfig {
        let transports =
            [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
        let listeners = [V4, V6].into_iter().flat_map(|ip| {
            transports.map(|transport| ListenerConfig::new(transport, SocketAddr::new(ip, 0)))
        });
        ProxyConfig {
            keeper: None,
            name: "proxy-1".to_owned(),
            region: self.code,
            listeners: listeners.collect(),
            client_tls: Some(self.client_tls.clone().into()),
            origins: Origins::These(vec!["https://phone.test".parse().unwrap()]),
            identity: self.identity.clone(),
            inter_region: Some(InterRegionListener {
                bind: SocketAddr::new(V4, 0),
                advertised: None,
            }),
            relays: Vec::new(),
            peering: None,
            peers: Vec::new(),
            store: self.store.clone(),
            ledger: self.home.join("ledger"),
            directory: self.directory.clone(),
            dns: Default::default(),
            trunk_authorities: None,
            transcoding: true,
            codes: FeatureCodes::default(),
            push: None,
            limits: Limits { shutdown: Duration::from_millis(500), ..Limits::default() },
            registry: prometheus::Registry::new(),
        }
    }

    pub async fn start(&self) -> ProxyHandle {
        Proxy::start(self.config()).await.unwrap()
    }

    pub async fn add_account(&self, domain: &str) {
        let new = NewAccount::new(domain, domain, self.code);
        let account = self.store.account_create(&new).await.unwrap();
        let entry = AccountEntry {
            sid: account.sid,
            home_region: self.code,
            edge_policy: EdgePolicy::Forward,
            calls_from: CallsFrom::Any,
        };
        directory::update(self.store.gate(), &self.directory, &[], |directory| {
            directory.accounts.insert(domain.to_owned(), entry);
            Ok(())
        })
        .unwrap();
        for user in ["alice", "bob"] {
            self.add_user(domain, user).await;
        }
    }

    pub async fn add_user(&self, domain: &str, user: &str) {
        self.add_user_with(domain, user, MediaPolicy::Auto).await;
    }

    pub async fn add_user_with(&self, domain: &str, user: &str, media: MediaPolicy) {
        let account = self.store.account_find(domain).await.unwrap();
        let ha1 = |algorithm| Secret::new(digest::ha1(algorithm, user, domain, PASSWORD));
        let new = NewUser {
            name: Personal::new(user.to_owned()),
            digest: DigestSecrets { md5: ha1(Algorithm::Md5), sha256: ha1(Algorithm::Sha256) },
            number: None,
            media,
            recording: None,
        };
        self.store.user_add(account.sid, &new).await.unwrap();
    }
}

/// The value of a metric, summed over the children whose labels contain all of
/// `labels`.
pub fn metric(registry: &prometheus::Registry, name: &str, labels: &[(&str, &str)]) -> f64 {
    let name = format!("landline_proxy_{name}");
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let children = family.map(|family| family.get_metric()).unwrap_or_default();
    let fits = |child: &&prometheus::proto::Metric| {
        labels.iter().all(|(key, value)| {
            child.get_label().iter().any(|pair| pair.name() == *key && pair.value() == *value)
        })
    };
    let value = |child: &prometheus::proto::Metric| {
        child.get_counter().get_value() + child.get_gauge().get_value()
    };
    children.iter().filter(fits).map(value).sum()
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within four seconds: {what}");
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

enum Socket {
    Udp(UdpSocket),
    Stream { stream: Box<dyn Duplex>, read: Vec<u8> },
    Web(Box<WebSocketStream<Box<dyn Duplex>>>),
}

/// A phone that knows only sockets and text.
pub struct Client {
    socket: Socket,
    transport: Transport,
    pub local: SocketAddr,
    count: u32,
    tag: u64,
}

impl Client {
    pub async fn connect(
        transport: Transport,
        server: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Self {
        let any = SocketAddr::new(server.ip(), 0);
        let (socket, local) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(any).await.unwrap();
                socket.connect(server).await.unwrap();
                let local = socket.local_addr().unwrap();
                (Socket::Udp(socket), local)
            }
            other => {
                let stream = TcpStream::connect(server).await.unwrap();
                let local = stream.local_addr().unwrap();
                (open(other, stream, tls).await, local)
            }
        };
        let tag = u64::from(local.port()) << 16 | u64::from(std::process::id());
        Self { socket, transport, local, count: 0, tag }
    }

    /// The certificate that a TLS listener shows.
    pub async fn certificate(server: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> Vec<u8> {
        Self::certificate_for(server, tls, ServerName::IpAddress(server.ip().into())).await
    }

    /// To who asks for this name.
    pub async fn certificate_for(
        server: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Vec<u8> {
        let stream = TcpStream::connect(server).await.unwrap();
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    pub async fn send(&mut self, message: impl AsRef<[u8]>) {
        let octets = message.as_ref();
        match &mut self.socket {
            Socket::Udp(socket) => {
                socket.send(octets).await.unwrap();
            }
            Socket::Stream { stream, .. } => {
                // The peer may have closed by now: the test sees it on reading.
                let _closed = stream.write_all(octets).await;
                let _closed = stream.flush().await;
            }
            Socket::Web(socket) => {
                let message = match std::str::from_utf8(octets) {
                    Ok(text) => Message::text(text),
                    Err(_) => Message::binary(octets.to_vec()),
                };
                let _closed = socket.send(message).await;
            }
        }
    }

    /// The next message; `None` when the connection was closed.
    pub async fn receive(&mut self) -> Option<String> {
        timeout(PATIENCE, self.next()).await.expect("nothing came")
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(150), self.next()).await.is_err()
    }

    async fn next(&mut self) -> Option<String> {
        match &mut self.socket {
            Socket::Udp(socket) => {
                let mut buffer = vec![0; 65_536];
                let length = socket.recv(&mut buffer).await.unwrap();
                Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
            }
            Socket::Stream { stream, read } => read_message(stream, read).await,
            Socket::Web(socket) => loop {
                match socket.next().await? {
                    Ok(Message::Text(text)) => return Some(text.to_string()),
                    Ok(Message::Binary(octets)) => {
                        return Some(String::from_utf8_lossy(&octets).into_owned());
                    }
                    Ok(_) => {}
                    Err(_) => return None,
                }
            },
        }
    }

    /// Registers with a challenge, and gives the final response.
    pub async fn register(&mut self, user: &str, domain: &str, expires: u32) -> String {
        let contact = self.contact(user);
        let contact = format!("Contact: <{contact}>;expires={expires}\r\n");
        self.register_with(user, domain, PASSWORD, &contact).await
    }

    /// The contacts that the registrar has for the user.
    pub async fn fetch(&mut self, user: &str, domain: &str) -> Vec<String> {
        let response = self.register_with(user, domain, PASSWORD, "").await;
        assert!(response.starts_with("SIP/2.0 200"), "{response}");
        let contacts = response.lines().filter_map(|line| line.strip_prefix("Contact: "));
        contacts.map(str::to_owned).collect()
    }

    pub async fn register_with(
        &mut self,
        user: &str,
        domain: &str,
        password: &str,
        contact: &str,
    ) -> String {
        let first = self.request("REGISTER", user, domain, contact).await;
        assert!(first.starts_with("SIP/2.0 401"), "{first}");
        let uri = format!("sip:{domain}");
        let credentials = credentials(&first, &Method::Register, &uri, user, domain, password);
        self.request("REGISTER", user, domain, &format!("{contact}{credentials}")).await
    }

    /// Sends a request out of a dialog and gives the first final response.
    pub async fn request(
        &mut self,
        method: &str,
        user: &str,
        domain: &str,
        headers: &str,
    ) -> String {
        let text = self.text(method, user, domain, headers);
        self.send(&text).await;
        loop {
            let response = self.receive().await.expect("the connection was closed");
            if !response.starts_with("SIP/2.0 1") {
                return response;
            }
        }
    }

    pub fn text(&mut self, method: &str, user: &str, domain: &str, headers: &str) -> String {
        self.count += 1;
        let Self { local, count, tag, .. } = self;
        let transport = self.transport.as_str();
        format!(
            "{method} sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};branch=z9hG4bK-{tag:x}-{count};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@{domain}>;tag={tag:x}\r\n\
             To: <sip:{user}@{domain}>\r\n\
             Call-ID: {tag:x}@test\r\n\
             CSeq: {count} {method}\r\n\
             {headers}Content-Length: 0\r\n\r\n"
        )
    }

    pub fn contact(&self, user: &str) -> String {
        let transport = self.transport.uri_param();
        format!("sip:{user}@{};transport={transport}", self.local)
    }
}

async fn open(transport: Transport, stream: TcpStream, tls: &Arc<rustls::ClientConfig>) -> Socket {
    let stream: Box<dyn Duplex> = match transport.is_secure() {
        true => {
            let name = ServerName::IpAddress(stream.peer_addr().unwrap().ip().into());
            Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.unwrap())
        }
        false => Box::new(stream),
    };
    match transport {
        Transport::Ws | Transport::Wss => {
            let mut request = "ws://localhost/".into_client_request().unwrap();
            request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().unwrap());
            let (socket, response) =
                tokio_tungstenite::client_async(request, stream).await.unwrap();
            assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "sip");
            Socket::Web(Box::new(socket))
        }
        _ => Socket::Stream { stream, read: Vec::new() },
    }
}

async fn read_message(stream: &mut Box<dyn Duplex>, read: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(length) = message_length(read) {
            let message = read.drain(..length).collect::<Vec<_>>();
            return Some(String::from_utf8_lossy(&message).into_owned());
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => read.extend_from_slice(&buffer[..length]),
        }
    }
}

fn message_length(read: &[u8]) -> Option<usize> {
    if read == b"\r\n" {
        return Some(2);
    }
    let head = read.windows(4).position(|octets| octets == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    (read.len() >= head + body).then_some(head + body)
}

/// An answer to the SHA-256 challenge of a response.
pub fn credentials(
    response: &str,
    method: &Method,
    uri: &str,
    user: &str,
    domain: &str,
    password: &str,
) -> String {
    let challenge = response
        .lines()
        .find(|line| line.contains("-Authenticate: ") && line.contains("SHA-256"))
        .unwrap_or_else(|| panic!("no SHA-256 challenge: {response}"));
    let header = match challenge.starts_with("Proxy-") {
        true => "Proxy-Authorization",
        false => "Authorization",
    };
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let ha1 = digest::ha1(Algorithm::Sha256, user, domain, password);
    let qop = Some(("00000001", "c0ffee"));
    let answer = digest::response(Algorithm::Sha256, &ha1, method, uri, nonce, qop);
    format!(
        "{header}: Digest username=\"{user}\", realm=\"{domain}\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{answer}\", algorithm=SHA-256, qop=auth, nc=00000001, \
         cnonce=\"c0ffee\"\r\n"
    )
}
