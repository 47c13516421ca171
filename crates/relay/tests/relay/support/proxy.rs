use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use landline_control::{
    Adopt, Close, Consent, Event, Framer, FromRelay, Hello, LegId, LegKeys, LegLocal, LegSpec,
    LegStats, Op, Open, Outcome, Recording, Remote, Request, RequestId, Resume, SessionId,
    TakeOver, ToRelay, VERSION, encode,
};
use landline_region::{AccountSid, CallSid, RecordingSid, RegionCode, UnixMillis};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Authority, PATIENCE, TestRelay};

/// A proxy's end of the control connection.
pub struct Proxy {
    stream: TlsStream<TcpStream>,
    framer: Framer,
    next_request: u64,
    events: VecDeque<(SessionId, Event)>,
    pub relay: Option<Hello>,
    pub drained: bool,
    /// What the relay told of sessions' legs.
    pub counted: Vec<(SessionId, Vec<(LegId, LegStats)>)>,
    /// Where the relay takes connections for media.
    pub streams: Vec<SocketAddr>,
    /// Each leg's keys, as told last, and how often they were.
    pub keys: BTreeMap<(SessionId, LegId), (LegKeys, u32)>,
}

impl Proxy {
    /// Connected and greeted as `name` of `ie1`.
    pub async fn connect(relay: &TestRelay, name: &str, incarnation: u64) -> Proxy {
        let host = format!("{name}.ie1.landline.internal");
        let address = relay.handle.control_addr();
        let mut proxy = Self::tls(address, &relay.authority, &[&host]).await.unwrap();
        proxy.hello(name, "ie1", VERSION, incarnation).await;
        match proxy.receive().await {
            Some(FromRelay::Hello(hello)) => proxy.relay = Some(hello),
            other => panic!("no greeting but {other:?}"),
        }
        proxy
    }

    /// A connection on which nothing was said.
    pub async fn tls(
        address: SocketAddr,
        authority: &Authority,
        names: &[&str],
    ) -> std::io::Result<Proxy> {
        let identity = authority.issue(names);
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config =
            client_config(authority).with_client_auth_cert(vec![certificate], key).unwrap();
        Self::with_config(address, config).await
    }

    pub async fn with_config(address: SocketAddr, config: ClientConfig) -> std::io::Result<Proxy> {
        let name = ServerName::try_from("relay-1.ie1.landline.internal").unwrap();
        let stream = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Self {
            stream,
            framer: Framer::default(),
            next_request: 0,
            events: VecDeque::new(),
            relay: None,
            drained: false,
            counted: Vec::new(),
            streams: Vec::new(),
            keys: BTreeMap::new(),
        })
    }

    pub async fn hello(&mut self, name: &str, region: &str, version: u16, incarnation: u64) {
        let region: RegionCode = region.parse().unwrap();
        let name = name.to_owned();
        self.send(&ToRelay::Hello(Hello { version, region, name, incarnation })).await;
    }

    pub async fn send(&mut self, message: &ToRelay) {
        let mut octets = Vec::new();
        encode(message, &mut octets).unwrap();
        self.send_raw(&octets).await;
    }

    pub async fn send_raw(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets).await;
        let _ = self.stream.flush().await;
    }

    /// The next message; `None` when the relay closed the connection. Figures and
    /// keys come when they come, and are kept.
    pub async fn receive(&mut self) -> Option<FromRelay> {
        loop {
            match self.framer.next().unwrap() {
                Some(FromRelay::Counted(sessions)) => {
                    self.counted.extend(sessions);
                    continue;
                }
                Some(FromRelay::Event(session, Event::Keyed(leg, keys))) => {
                    let times = self.keys.get(&(session, leg)).map_or(0, |(_, times)| *times);
                    self.keys.insert((session, leg), (*keys, times + 1));
                    continue;
                }
                Some(FromRelay::Streams(streams)) => {
                    self.streams = streams;
                    continue;
                }
                Some(message) => return Some(message),
                None => {}
            }
            let mut buffer = [0; 4096];
            let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            match read.expect("the relay neither answered nor closed") {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.framer.push(&buffer[..length]),
            }
        }
    }

    /// Whether the relay closes the connection, whatever it says before.
    pub async fn is_closed(&mut self) -> bool {
        while self.receive().await.is_some() {}
        true
    }

    pub async fn request(&mut self, request: Request) -> Outcome {
        let id = self.ask(request).await;
        self.outcome(id).await
    }

    pub async fn ask(&mut self, request: Request) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.send(&ToRelay::Request(id, request)).await;
        id
    }

    pub async fn outcome(&mut self, id: RequestId) -> Outcome {
        loop {
            match self.receive().await.expect("the connection is open") {
                FromRelay::Outcome(of, outcome) if of == id => return outcome,
                FromRelay::Event(session, event) => self.events.push_back((session, event)),
                FromRelay::Draining => self.drained = true,
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub async fn event(&mut self) -> (SessionId, Event) {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.receive().await {
            Some(FromRelay::Event(session, event)) => (session, event),
            other => panic!("no event but {other:?}"),
        }
    }

    pub async fn open(&mut self, session: u64, legs: &[(LegId, LegSpec)]) -> Outcome {
        self.request(Request::Open(open(session, legs))).await
    }

    /// Opens a session that must be opened.
    pub async fn opened(
        &mut self,
        session: u64,
        legs: &[(LegId, LegSpec)],
    ) -> Vec<(LegId, LegLocal)> {
        done(self.open(session, legs).await)
    }

    pub async fn recorded(
        &mut self,
        session: u64,
        recording: u128,
        legs: &[(LegId, LegSpec)],
    ) -> Vec<(LegId, LegLocal)> {
        let mut open = open(session, legs);
        let consent = Consent { by_policy: true, granted_at: UnixMillis(1) };
        open.recording = Some(Recording { sid: RecordingSid::from_u128(recording), consent });
        done(self.request(Request::Open(open)).await)
    }

    pub async fn change(&mut self, session: u64, ops: Vec<Op>) -> Outcome {
        self.request(Request::Change(SessionId(session), ops)).await
    }

    /// Carries out what must be possible.
    pub async fn changed(&mut self, session: u64, ops: Vec<Op>) -> Vec<(LegId, LegLocal)> {
        done(self.change(session, ops).await)
    }

    /// Opens a session that goes on with the keys of another.
    pub async fn resumed(
        &mut self,
        session: u64,
        legs: &[(LegId, LegSpec)],
        keys: Vec<(LegId, LegKeys)>,
    ) -> Vec<(LegId, LegLocal)> {
        let open = open(session, legs);
        done(self.request(Request::Resume(Resume { open, keys, step: 0 })).await)
    }

    pub async fn adopt(&mut self, session: u64, call: u128) -> Outcome {
        let call = CallSid::from_u128(call);
        self.request(Request::Adopt(Adopt { session: SessionId(session), call })).await
    }

    pub async fn take_over(&mut self, session: u64, call: u128, step: u32) -> Outcome {
        let adopt = Adopt { session: SessionId(session), call: CallSid::from_u128(call) };
        self.request(Request::TakeOver(TakeOver { adopt, step })).await
    }

    pub async fn close(&mut self, session: u64) -> Outcome {
        self.request(close(session)).await
    }
}

pub fn close(session: u64) -> Request {
    Request::Close(Close { session: SessionId(session) })
}

pub fn describe(leg: LegId, remote: Remote) -> Op {
    Op::Remote(leg, Box::new(remote))
}

fn open(session: u64, legs: &[(LegId, LegSpec)]) -> Open {
    Open {
        session: SessionId(session),
        account: AccountSid::from_u128(7),
        call: CallSid::from_u128(session.into()),
        recording: None,
        legs: legs.to_vec(),
    }
}

fn done(outcome: Outcome) -> Vec<(LegId, LegLocal)> {
    match outcome {
        Outcome::Done(locals) => locals,
        other => panic!("not done but {other:?}"),
    }
}

pub fn client_config(
    authority: &Authority,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}
