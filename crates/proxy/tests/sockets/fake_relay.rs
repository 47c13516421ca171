//! A relay that says what a relay says and moves no media.

use std::net::SocketAddr;
use std::sync::Arc;

use landline_control::{
    Framer, FromRelay, Hello, LegId, LegLocal, LegSpec, LegStats, Op, Outcome, Protocol, Refusal,
    Request, ToRelay, VERSION, encode,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::{V4, World};
use landline_proxy::TlsFiles;

/// A relay that greets and answers pings.
pub struct FakeRelay {
    pub listener: TcpListener,
    pub acceptor: TlsAcceptor,
    pub hello: Hello,
}

impl FakeRelay {
    pub async fn new(world: &World, files: &TlsFiles) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&world.authorities).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&files.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            )
            .unwrap();
        let hello = Hello {
            version: VERSION,
            region: "ie1".parse().unwrap(),
            name: "relay-1".to_owned(),
            incarnation: 1,
        };
        let listener = TcpListener::bind((V4, 0)).await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), hello }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection after both greeted; the proxy's words with it.
    pub async fn greet(&self) -> (TlsStream<TcpStream>, Framer, Hello) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = self.acceptor.accept(stream).await.unwrap();
        let mut framer = Framer::default();
        let Some(ToRelay::Hello(theirs)) = read(&mut stream, &mut framer).await else {
            panic!("no greeting");
        };
        let mut octets = Vec::new();
        encode(&FromRelay::Hello(self.hello.clone()), &mut octets).unwrap();
        stream.write_all(&octets).await.unwrap();
        (stream, framer, theirs)
    }
}

pub async fn read(stream: &mut TlsStream<TcpStream>, framer: &mut Framer) -> Option<ToRelay> {
    loop {
        if let Some(message) = framer.next().unwrap() {
            return Some(message);
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => framer.push(&buffer[..length]),
        }
    }
}

impl FakeRelay {
    /// Carries out what the next proxy to connect asks, until it hangs up.
    pub async fn serve(self) {
        let (mut stream, mut framer, _) = self.greet().await;
        while let Some(message) = read(&mut stream, &mut framer).await {
            let answer = match message {
                ToRelay::Request(id, request) => FromRelay::Outcome(id, carry_out(request)),
                ToRelay::Ping(number) => FromRelay::Pong(number),
                ToRelay::Hello(_) => continue,
            };
            let mut octets = Vec::new();
            encode(&answer, &mut octets).unwrap();
            stream.write_all(&octets).await.unwrap();
        }
    }
}

fn carry_out(request: Request) -> Outcome {
    match request {
        Request::Open(open) => Outcome::Done(open.legs.iter().map(allocate).collect()),
        Request::Resume(it) => Outcome::Done(it.open.legs.iter().map(allocate).collect()),
        Request::Change(_, ops) => {
            let added = ops.into_iter().filter_map(|op| match op {
                Op::Add(leg, spec) => Some(allocate(&(leg, spec))),
                _ => None,
            });
            Outcome::Done(added.collect())
        }
        Request::Adopt(_) | Request::TakeOver(_) => Outcome::Refused(Refusal::UnknownSession),
        Request::Close(_) => {
            Outcome::Closed { legs: vec![(LegId(0), LegStats::default())], recording: None }
        }
    }
}

fn allocate((leg, spec): &(LegId, LegSpec)) -> (LegId, LegLocal) {
    assert_eq!(spec.protocol, Protocol::Rtp, "these tests speak plain RTP");
    let port = 20_000 + leg.0 * 2;
    let local = LegLocal {
        rtp: SocketAddr::new(V4, port),
        rtcp: SocketAddr::new(V4, port + 1),
        ice: None,
        fingerprint: None,
        sdes: Vec::new(),
    };
    (*leg, local)
}
