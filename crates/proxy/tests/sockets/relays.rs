//! The control connection to relays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landline_control::{Framer, FromRelay, Hello, RelayId, ToRelay, VERSION, encode};
use landline_proxy::{HostPort, Proxy, ProxyHandle, RelayAddress, TlsFiles};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::{Region, V4, World, until};

/// A relay that greets and answers pings.
struct FakeRelay {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    hello: Hello,
}

impl FakeRelay {
    async fn new(world: &World, files: &TlsFiles) -> Self {
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

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection after both greeted; the proxy's words with it.
    async fn greet(&self) -> (TlsStream<TcpStream>, Framer, Hello) {
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

async fn read(stream: &mut TlsStream<TcpStream>, framer: &mut Framer) -> Option<ToRelay> {
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

async fn start(region: &Region, relay: &FakeRelay) -> ProxyHandle {
    let mut config = region.config();
    config.relays = vec![RelayAddress {
        id: RelayId("relay-1".to_owned()),
        control: HostPort { host: "localhost".to_owned(), port: relay.address().port() },
    }];
    Proxy::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_link_greets_pings_and_comes_back() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let relay = FakeRelay::new(&world, &world.issue("r", &["relay.ie1.landline.internal"])).await;
    let proxy = start(&region, &relay).await;
    let (mut stream, mut framer, first) = relay.greet().await;
    assert_eq!((first.version, first.name.as_str()), (VERSION, "proxy-1"));
    until("the link is up", || proxy.status().relays_connected == 1).await;
    assert!(matches!(read(&mut stream, &mut framer).await, Some(ToRelay::Ping(_))));

    drop(stream);
    until("the loss is seen", || proxy.status().relays_connected == 0).await;
    let (_stream, _framer, second) = relay.greet().await;
    assert_eq!(first.incarnation, second.incarnation, "the proxy did not restart");
    until("the link is up again", || proxy.status().relays_connected == 1).await;
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_another_name_or_region_is_not_used() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let files = world.issue("r", &["relay.ie1.landline.internal"]);
    let mut relay = FakeRelay::new(&world, &files).await;
    relay.hello.name = "relay-2".to_owned();
    let proxy = start(&region, &relay).await;
    let (mut stream, mut framer, _) = relay.greet().await;
    assert_eq!(read(&mut stream, &mut framer).await, None, "the proxy hung up");
    assert_eq!(proxy.status().relays_connected, 0);
    proxy.shutdown().await;

    let files = world.issue("other", &["relay.us1.landline.internal"]);
    let relay = FakeRelay::new(&world, &files).await;
    let proxy = start(&region, &relay).await;
    let (stream, _) = relay.listener.accept().await.unwrap();
    let greeted = relay.acceptor.accept(stream).await;
    let heard = match greeted {
        Err(_) => None,
        Ok(mut stream) => read(&mut stream, &mut Framer::default()).await,
    };
    assert_eq!(heard, None, "a relay of another region hears nothing");
    assert_eq!(proxy.status().relays_connected, 0);
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_falls_silent_is_lost() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let relay = FakeRelay::new(&world, &world.issue("r", &["relay.ie1.landline.internal"])).await;
    let proxy = start(&region, &relay).await;
    let _silent = relay.greet().await;
    until("the link is up", || proxy.status().relays_connected == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(proxy.status().relays_connected, 1);
    until("the silence is noticed", || proxy.status().relays_connected == 0).await;
    proxy.shutdown().await;
}
