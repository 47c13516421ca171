//! One HTTPS request to an address of somebody else's choosing.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Uri, header, uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::{WebhookConfig, is_public};
use crate::StartError;

/// What the operating system trusts, on Debian and its like.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const MAX_URL: usize = 2048;
/// A receiver's head beyond this is no answer. Its body is not read at all.
const MAX_HEAD: usize = 16 << 10;
/// Addresses of one host that are tried.
const MAX_TRIED: usize = 4;

/// Where to send: an `https` URL, taken apart.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// As DNS or TLS want it: without brackets.
    host: String,
    port: u16,
    authority: uri::Authority,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wanted https://HOST[:PORT]/PATH, without user or fragment, of at most 2048 characters")]
pub struct InvalidEndpoint;

impl Endpoint {
    pub fn parse(url: &str) -> Result<Self, InvalidEndpoint> {
        let fine = url.len() <= MAX_URL && !url.contains('#');
        let uri: Uri = url.parse().ok().filter(|_| fine).ok_or(InvalidEndpoint)?;
        let authority = uri.authority().ok_or(InvalidEndpoint)?.clone();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let named = ServerName::try_from(host.as_str()).is_ok();
        if uri.scheme() != Some(&uri::Scheme::HTTPS) || authority.as_str().contains('@') || !named {
            return Err(InvalidEndpoint);
        }
        // `host:` without digits is none of the two.
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.ends_with(']') => {
                digits.parse().ok().filter(|port| *port > 0).ok_or(InvalidEndpoint)?
            }
            _ => 443,
        };
        let path = uri.path_and_query().map_or("/", uri::PathAndQuery::as_str).to_owned();
        Ok(Self { host, port, authority, path })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address that the URL itself names, if it names one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// Why an attempt failed: words from a closed set, nothing of the receiver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Its name leads nowhere.
    Lookup,
    /// Its name leads to addresses that are not sent to.
    Address,
    Connect,
    /// Its certificate is not trusted or of another name, or there is no TLS.
    Tls,
    /// It answered with something else than HTTP.
    Http,
    /// Any status but 2xx; a redirection is not followed.
    Status(u16),
    Timeout,
}

impl Failure {
    pub fn name(self) -> String {
        match self {
            Self::Lookup => "lookup".to_owned(),
            Self::Address => "address_not_allowed".to_owned(),
            Self::Connect => "connect".to_owned(),
            Self::Tls => "tls".to_owned(),
            Self::Http => "http".to_owned(),
            Self::Status(status) => format!("status_{status}"),
            Self::Timeout => "timeout".to_owned(),
        }
    }
}

/// Sends to permitted addresses.
pub struct Client {
    tls: TlsConnector,
    allow: Vec<IpNet>,
}

impl Client {
    pub fn new(config: &WebhookConfig) -> Result<Self, StartError> {
        let mut roots = RootCertStore::empty();
        let system = Path::new(SYSTEM_AUTHORITIES);
        if system.exists() {
            // A certificate of the system's that cannot be read is not ours to refuse.
            let (_added, _ignored) = roots.add_parsable_certificates(
                CertificateDer::pem_file_iter(system)
                    .map_err(|error| unusable(system, error))?
                    .flatten(),
            );
        }
        if let Some(file) = &config.authorities {
            for certificate in
                CertificateDer::pem_file_iter(file).map_err(|error| unusable(file, error))?
            {
                let certificate = certificate.map_err(|error| unusable(file, error))?;
                roots.add(certificate).map_err(|error| unusable(file, error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(system, error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), allow: config.allow.clone() })
    }

    pub fn may_reach(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        is_public(ip) || self.allow.iter().any(|network| network.contains(&ip))
    }

    /// Sends a request of `headers` and `body`. The address that was looked at
    /// is the one that is connected to.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        headers: &[(&str, String)],
        body: String,
    ) -> Result<(), Failure> {
        let stream = self.connect(endpoint).await?;
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| Failure::Tls)?;
        let stream = self.tls.connect(name, stream).await.map_err(|_| Failure::Tls)?;
        let handshake = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await;
        let (mut sender, connection) = handshake.map_err(|_| Failure::Http)?;
        let mut request = Request::post(&endpoint.path)
            .header(header::HOST, endpoint.authority.as_str())
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(body)).map_err(|_| Failure::Http)?;
        // Driven until it is dropped, with or without an answer.
        let mut driven = JoinSet::new();
        driven.spawn(connection);
        let response = sender.send_request(request).await.map_err(|_| Failure::Http)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Failure::Status(status.as_u16())),
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<TcpStream, Failure> {
        let host = (endpoint.host.as_str(), endpoint.port);
        let found = tokio::net::lookup_host(host).await.map_err(|_| Failure::Lookup)?;
        let allowed: Vec<SocketAddr> =
            found.filter(|address| self.may_reach(address.ip())).take(MAX_TRIED).collect();
        if allowed.is_empty() {
            return Err(Failure::Address);
        }
        for address in allowed {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Ok(stream);
            }
        }
        Err(Failure::Connect)
    }
}

fn unusable(path: &Path, problem: impl ToString) -> StartError {
    StartError::File { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_https_and_names_a_host_and_nobody() {
        let read = |url: &str| {
            let endpoint = Endpoint::parse(url).ok()?;
            Some((endpoint.host, endpoint.port, endpoint.path))
        };
        let wanted = |host: &str, port, path: &str| Some((host.to_owned(), port, path.to_owned()));
        assert_eq!(read("https://a.example/x?y=1"), wanted("a.example", 443, "/x?y=1"));
        assert_eq!(read("https://a.example:8443"), wanted("a.example", 8443, "/"));
        assert_eq!(read("https://[2001:db8::1]/"), wanted("2001:db8::1", 443, "/"));
        assert_eq!(read("https://[::1]:444/"), wanted("::1", 444, "/"));
        for bad in [
            "http://a.example/",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "https://a.example:0/",
            "https://a.example:99999/",
            "https:///x",
            "//a.example/",
            "/x",
            "https://a b/",
            "",
            &format!("https://a.example/{}", "x".repeat(2048)),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
