//! A customer's own HTTPS server, which webhooks are sent to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use landline_console::TlsFiles;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub struct Receiver {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Clone)]
pub struct Heard {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Heard {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Receiver {
    /// Answers with these statuses in turn, then with 204. A 302 leads to its
    /// own `/elsewhere`.
    pub async fn start(files: &TlsFiles, statuses: &[u16]) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), files, statuses).await
    }

    pub async fn at(address: SocketAddr, files: &TlsFiles, statuses: &[u16]) -> Self {
        let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap();
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                chain.map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let log = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, heard, statuses) = (acceptor.clone(), log.clone(), statuses.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        answer(request, heard.clone(), statuses.clone())
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, heard, task }
    }

    pub fn url(&self) -> String {
        format!("https://{}/events?of=acme", self.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard so many requests.
    #[track_caller]
    pub fn hears(&self, count: usize) -> impl Future<Output = Vec<Heard>> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            for _ in 0..400 {
                let heard = self.heard();
                if heard.len() >= count {
                    return heard;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            panic!("{caller}: heard {:?}, wanted {count}", self.heard());
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    heard: Arc<Mutex<Vec<Heard>>>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    heard.lock().unwrap().push(Heard { path: head.uri.to_string(), headers: head.headers, body });
    let status = statuses.lock().unwrap().pop_front().unwrap_or(204);
    let response = Response::builder().status(status).header("location", "/elsewhere");
    Ok(response.body(Body::from("x".repeat(if status == 204 { 0 } else { 100_000 }))).unwrap())
}
