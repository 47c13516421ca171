//! Regions with a console each, and a client for them.
#![allow(dead_code, reason = "each test uses its own part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use hyper_util::rt::TokioIo;
use landline_call::StartCall;
use landline_call::directory::{AccountEntry, RegionEntry};
use landline_call::record::{
    CallDirection, CallEvent, Cause, Closed, LegOpened, LegRole, Opened, Party, Step,
};
use landline_call::tenancy::{Account, EdgePolicy};
use landline_console::{
    CallControl, Console, ConsoleConfig, ConsoleHandle, Limits, Phone, PhoneFile, RegionInfo,
    TlsFiles, WebhookConfig,
};
use landline_control::Protocol;
use landline_region::{
    AccountSid, CallSid, Jurisdiction, LegSid, Personal, RegionCode, UnixMillis, UserSid,
};
use landline_store::{ApiRole, KeyRing, NewAccount, Store, StoreConfig, directory};
use prometheus::Registry;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[path = "../../../store/tests/common/database.rs"]
mod database;

use database::TestDatabase;

/// Runs each test on both engines, as `NAME::sqlite` and `NAME::postgres`.
#[macro_export]
macro_rules! on_both_engines {
    ($(async fn $name:ident($world:ident: World) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn check($world: $crate::support::World) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check($crate::support::World::new($crate::support::Engine::Sqlite).await.unwrap()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(world) = $crate::support::World::new($crate::support::Engine::Postgres).await {
                    check(world).await;
                }
            }
        }
    )+};
}

#[derive(Clone, Copy, PartialEq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// ie1, home of acme, and us1, home of globex; one directory.
pub struct World {
    pub ie1: Region,
    pub us1: Region,
    pub acme: Account,
    pub globex: Account,
    pub dir: TempDir,
    authority: Authority,
}

/// What a world's regions are started with.
#[derive(Clone)]
pub struct Settings {
    pub limits: Limits,
    pub webhooks: WebhookConfig,
    pub phone: Phone,
    /// Whether webhooks may be certified by the world's own authority.
    pub trusts_own: bool,
    pub account_countries: Option<Vec<&'static str>>,
}

impl Default for Settings {
    fn default() -> Self {
        let limits = Limits { requests_per_second: 1000, burst: 1000, ..Limits::default() };
        let webhooks = WebhookConfig::default();
        let phone = Phone {
            files: vec![
                PhoneFile {
                    path: "index.html",
                    media_type: "text/html; charset=utf-8",
                    bytes: b"<!doctype html>",
                },
                PhoneFile {
                    path: "phone.js",
                    media_type: "text/javascript",
                    bytes: b"'use strict'",
                },
            ],
            edges: vec!["wss://sip.example:8443".to_owned()],
            voicemail_code: Some("*97".to_owned()),
        };
        Self { limits, webhooks, phone, trusts_own: false, account_countries: None }
    }
}

pub struct Region {
    pub code: RegionCode,
    pub store: Store,
    pub address: SocketAddr,
    pub calls: Arc<Calls>,
    pub registry: Registry,
    pub ca: PathBuf,
    console: Option<ConsoleHandle>,
    config: Box<dyn Fn(Store, Registry) -> ConsoleConfig + Send + Sync>,
    opening: StoreConfig,
    database: Option<TestDatabase>,
    roots: RootCertStore,
}

/// What the proxy would hear.
#[derive(Default)]
pub struct Calls {
    pub hung_up: Mutex<Vec<CallSid>>,
    pub started: Mutex<Vec<StartCall>>,
    pub deaf: std::sync::atomic::AtomicBool,
}

impl CallControl for Calls {
    fn hang_up(&self, call: CallSid) -> bool {
        self.hung_up.lock().unwrap().push(call);
        !self.deaf.load(Relaxed)
    }

    fn start(&self, call: StartCall) -> bool {
        self.started.lock().unwrap().push(call);
        !self.deaf.load(Relaxed)
    }
}

impl World {
    pub async fn new(engine: Engine) -> Option<Self> {
        Self::with(engine, Settings::default()).await
    }

    pub async fn with_limits(engine: Engine, limits: Limits) -> Option<Self> {
        Self::with(engine, Settings { limits, ..Settings::default() }).await
    }

    pub async fn with(engine: Engine, mut settings: Settings) -> Option<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        if settings.trusts_own {
            settings.webhooks.authorities = Some(dir.path().join("ca.pem"));
        }
        let snapshot = dir.path().join("directory.json");
        for (code, law) in [("ie1", "IE"), ("us1", "US")] {
            let code = code.parse().unwrap();
            let gate = landline_region::egress::Gate::new(code, Default::default());
            directory::region_add(&gate, &snapshot, code, entry(law, None)).unwrap();
        }
        let ie1 = Region::start("ie1", "IE", engine, dir.path(), &authority, &settings).await?;
        let us1 = Region::start("us1", "US", engine, dir.path(), &authority, &settings).await?;
        let acme = ie1.account(&snapshot, "Acme Ltd", "acme.test").await;
        let globex = us1.account(&snapshot, "Globex", "globex.test").await;
        for (region, law) in [(&ie1, "IE"), (&us1, "US")] {
            let own = entry(law, Some(region.base_url()));
            directory::region_add(region.store.gate(), &snapshot, region.code, own).unwrap();
        }
        let world = Self { ie1, us1, acme, globex, dir, authority };
        world.directory_is_known().await;
        Some(world)
    }

    /// The consoles follow the directory's file.
    async fn directory_is_known(&self) {
        for region in [&self.ie1, &self.us1] {
            for attempt in 0.. {
                let shown = region.get("/v1/region", None).await.json();
                let known = |code: &str| {
                    let list = shown["regions"].as_array().unwrap();
                    list.iter().any(|it| it["code"] == code && it["base_url"].is_string())
                };
                if known("ie1") && known("us1") {
                    break;
                }
                assert!(attempt < 100, "the directory is not followed: {shown}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }

    /// A certificate for 127.0.0.1 by the world's own authority.
    pub fn certificate(&self, stem: &str) -> TlsFiles {
        self.authority.issue(self.dir.path(), stem)
    }

    pub async fn key(&self, role: ApiRole) -> Key {
        self.ie1.key(&self.acme, role).await
    }
}

fn entry(law: &str, console: Option<String>) -> RegionEntry {
    RegionEntry {
        jurisdiction: law.parse().unwrap(),
        proxies: Vec::new(),
        public_uri: None,
        console,
    }
}

#[derive(Debug, Clone)]
pub struct Key {
    pub sid: String,
    pub secret: String,
}

impl Key {
    pub fn basic(&self) -> String {
        let pair = format!("{}:{}", self.sid, self.secret);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}.{}", self.sid, self.secret)
    }
}

impl Region {
    async fn start(
        code: &str,
        law: &str,
        engine: Engine,
        dir: &Path,
        authority: &Authority,
        settings: &Settings,
    ) -> Option<Self> {
        let (database, url) = match engine {
            Engine::Sqlite => {
                (None, format!("sqlite:{}", dir.join(format!("{code}.db")).display()))
            }
            Engine::Postgres => {
                let database = TestDatabase::create().await?;
                let url = database.url.clone();
                (Some(database), url)
            }
        };
        let region: RegionCode = code.parse().unwrap();
        let ring = dir.join(format!("{code}.keys"));
        KeyRing::create(&ring, region).unwrap();
        let mut opening = StoreConfig::new(url, region, ring);
        opening.egress.account_countries = settings
            .account_countries
            .as_ref()
            .map(|codes| codes.iter().map(|code| code.parse().unwrap()).collect());
        let store = Store::open(&opening).await.unwrap();
        let calls = Arc::new(Calls::default());
        let registry = Registry::new();
        let tls = authority.issue(dir, code);
        let (heard, settings, directory) =
            (Arc::clone(&calls), settings.clone(), dir.join("directory.json"));
        let (law, code): (Jurisdiction, String) = (law.parse().unwrap(), code.to_owned());
        let config = move |store: Store, registry: Registry| ConsoleConfig {
            region: RegionInfo {
                code: region,
                jurisdiction: law,
                contracting_entity: format!("Landline {law} Ltd"),
                data_protection_officer: Some(format!("dpo@{code}.example")),
            },
            listen: ([127, 0, 0, 1], 0).into(),
            tls: tls.clone(),
            store,
            directory: directory.clone(),
            calls: Some(Arc::clone(&heard) as Arc<dyn CallControl>),
            limits: settings.limits.clone(),
            webhooks: settings.webhooks.clone(),
            phone: Some(settings.phone.clone()),
            registry,
        };
        let console = Console::start(config(store.clone(), registry.clone())).await.unwrap();
        let (address, ca) = (console.address(), dir.join("ca.pem"));
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        Some(Self {
            code: region,
            store,
            address,
            calls,
            registry,
            ca,
            console: Some(console),
            config: Box::new(config),
            opening,
            database,
            roots,
        })
    }

    /// Ends console and database, and starts them again, at another port.
    pub async fn restart(&mut self) {
        self.console = None;
        self.store.close().await;
        self.store = Store::open(&self.opening).await.unwrap();
        self.registry = Registry::new();
        let config = (self.config)(self.store.clone(), self.registry.clone());
        let console = Console::start(config).await.unwrap();
        self.address = console.address();
        self.console = Some(console);
    }

    pub fn base_url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub async fn account(&self, snapshot: &Path, name: &str, domain: &str) -> Account {
        let account =
            self.store.account_create(&NewAccount::new(name, domain, self.code)).await.unwrap();
        let entry = AccountEntry {
            sid: account.sid,
            home_region: self.code,
            edge_policy: EdgePolicy::default(),
            calls_from: Default::default(),
        };
        directory::account_add(self.store.gate(), snapshot, domain, entry).unwrap();
        account
    }

    pub async fn key(&self, account: &Account, role: ApiRole) -> Key {
        let (key, secret) = self.store.key_create(account.sid, role, "test").await.unwrap();
        Key { sid: key.sid.to_string(), secret: secret.expose().clone() }
    }

    pub async fn get(&self, path: &str, key: Option<&Key>) -> Answer {
        self.ask("GET", path, key, &[], "").await
    }

    pub async fn post(&self, path: &str, key: &Key, form: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.ask("POST", path, Some(key), &headers, form.to_owned()).await
    }

    pub async fn post_json(&self, path: &str, key: &Key, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.ask("POST", path, Some(key), &headers, body.to_string()).await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        key: Option<&Key>,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if let Some(key) = key {
            request = request.header("authorization", key.basic());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driven = tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(Body::new(body), 256 << 20).await.unwrap();
        driven.abort();
        Answer { status: head.status, headers: head.headers, body: body.to_vec() }
    }

    /// A call of one second, answered after 200 ms, or still open.
    pub async fn call(
        &self,
        account: &Account,
        number: u128,
        opened: i64,
        closed: bool,
    ) -> CallSid {
        let events = events(account, number, opened, closed);
        let applied = self.store.apply_events(&events).await.unwrap();
        assert_eq!(applied.applied, events.len());
        CallSid::from_u128(number)
    }

    /// Ends a call as its proxy would.
    pub async fn end(&self, account: &Account, number: u128, opened: i64) {
        let events = events(account, number, opened, true);
        self.store.apply_events(&events[3..]).await.unwrap();
    }
}

pub fn events(account: &Account, number: u128, opened: i64, closed: bool) -> Vec<CallEvent> {
    let leg = LegSid::from_u128(number.wrapping_mul(10));
    let mut steps = vec![
        (
            0,
            Step::Opened(Opened {
                direction: CallDirection::Outbound,
                from: Personal::new("alice.murphy".to_owned()),
                to: Personal::new(format!("+3531555{:04}", number % 10_000)),
                home_region: account.home_region,
                signalling_region: account.home_region,
                contracting_entity: account.contracting_entity.clone(),
                proxy: "proxy-1".to_owned(),
                recording: None,
            }),
        ),
        (
            10,
            Step::LegOpened(LegOpened {
                leg,
                role: LegRole::A,
                party: Party::User(UserSid::from_u128(5)),
                sip_call_id: Personal::new("secret-call-id@192.0.2.7".to_owned()),
                media: Some(Protocol::Dtls),
            }),
        ),
        (200, Step::Answered { leg }),
    ];
    if closed {
        steps.push((
            1200,
            Step::Closed(Closed {
                cause: Cause::HungUpByAdmin,
                sip_status: 200,
                relay: None,
                media_region: Some(account.home_region),
                recorded: None,
            }),
        ));
    }
    let event = |(sequence, (after, step)): (usize, (i64, Step))| CallEvent {
        call: CallSid::from_u128(number),
        account: account.sid,
        sequence: sequence as u32,
        at: UnixMillis(opened + after),
        step,
    };
    steps.into_iter().enumerate().map(event).collect()
}

pub fn uri(account: AccountSid, rest: &str) -> String {
    format!("/2010-04-01/Accounts/{account}{rest}")
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The answer's JSON, if it has this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        match self.body.is_empty() {
            true => Value::Null,
            false => self.json(),
        }
    }

    /// A problem document of this status and kind.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        let document = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{document}");
        assert_eq!(document["type"], format!("urn:landline:problem:{kind}"), "{document}");
        assert_eq!(document["status"], status, "{document}");
        assert!(document["detail"].as_str().is_some_and(|it| !it.is_empty()), "{document}");
        document
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // OpenSSL takes a leaf of its issuer's name for self-signed.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Self { der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, dir: &Path, stem: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = TlsFiles {
            certificate: dir.join(format!("{stem}.pem")),
            key: dir.join(format!("{stem}.key")),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

/// 700 Hz as people have it: two channels at 44.1 kHz, less for the long one.
pub fn tone_file(seconds: u32) -> Vec<u8> {
    let (channels, sample_rate) = if seconds < 60 { (2, 44_100) } else { (1, 8000) };
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format };
    let mut out = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut out, spec).unwrap();
    let mut samples = vec![0; (seconds * sample_rate) as usize];
    landline_media::audio::ToneGenerator::new(700.0, sample_rate).fill(&mut samples);
    for sample in samples {
        (0..channels).for_each(|_| writer.write_sample(sample).unwrap());
    }
    writer.finalize().unwrap();
    out.into_inner()
}
