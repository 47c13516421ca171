//! A relay with sessions that are already set up, for the comparison harness:
//! starts one, opens `SESSIONS` sessions of `MODE` through the control
//! protocol, writes the legs that `peergen media --json` reads, and stays until
//! SIGTERM. Pin it with `taskset`: the relay takes a shard for each core it may
//! use.
//!
//!     MODE=rtp|sdes|dtls SESSIONS=500 SRV_IP=127.0.11.2 GEN_IP=127.0.11.1 \
//!         relay_legs DIRECTORY
//!
//! With `CODECS=PCMU:opus` the two sides speak these and are transcoded.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use landline_benches::speech::{payload_type, speaks};
use landline_control::{
    Direction, DtlsParameters, DtlsRole, Fingerprint, Framer, FromRelay, HashFunction, Hello,
    IpFamily, LegId, LegLocal, LegSpec, Op, Open, Outcome, Protocol, RelayId, Remote, Request,
    RequestId, SdesKey, SdesPair, SessionId, SrtpSuite, ToRelay, VERSION, encode,
};
use landline_media::audio::Codec;
use landline_region::{AccountSid, CallSid};
use landline_relay::{Engine as PacketEngine, MediaAddress, Relay, RelayConfig, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const A: LegId = LegId(0);
const B: LegId = LegId(1);
const SUITE: SrtpSuite = SrtpSuite::AesCm128HmacSha1_80;
const HOST: &str = "relay.ie1.landline.internal";

/// The generator's ports, shared by all sessions: one for each side.
const GENERATOR_PORTS: [u16; 2] = [61001, 61003];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let directory: PathBuf = env::args_os().nth(1).context("say where to write")?.into();
    let settings = Settings::read()?;
    let authority = Authority::new()?;
    let relay = Relay::start(settings.relay(authority.relay_files(&directory)?)).await?;
    let mut proxy = Proxy::connect(&authority, relay.control_addr()).await?;
    let generator = rcgen::generate_simple_self_signed(vec!["generator".into()])?;
    let digest = sha256(generator.cert.der());

    let mut sessions = Vec::new();
    for number in 0..settings.sessions {
        sessions.push(proxy.set_up(&settings, number, &digest).await?);
    }
    let mut legs = json!({ "sessions": sessions });
    if settings.protocol == Protocol::Dtls {
        legs["identity"] = json!({ "certificate": generator.cert.pem(), "key": generator.signing_key.serialize_pem() });
    }
    let (path, part) = (directory.join("legs.json"), directory.join("legs.json.part"));
    std::fs::write(&part, legs.to_string())?;
    std::fs::rename(&part, &path)?;
    println!("{}", json!({ "legs": path, "pids": { "landline-relay": std::process::id() } }));

    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    terminate.recv().await;
    relay.shutdown().await;
    Ok(())
}

fn sha256(der: &[u8]) -> Vec<u8> {
    landline_media::fingerprint(HashFunction::Sha256, der).digest
}

struct Settings {
    sessions: u64,
    protocol: Protocol,
    local: IpAddr,
    generator: IpAddr,
    codecs: [Codec; 2],
    coalesce: Option<Duration>,
    engine: PacketEngine,
}

impl Settings {
    fn read() -> Result<Self> {
        let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let protocol = match or("MODE", "rtp").as_str() {
            "rtp" => Protocol::Rtp,
            "sdes" => Protocol::Sdes,
            "dtls" => Protocol::Dtls,
            other => bail!("MODE is rtp, sdes or dtls, not {other}"),
        };
        let codecs = or("CODECS", "PCMU:PCMU");
        let codecs = codecs.split(':').map(Codec::from_encoding).collect::<Option<Vec<_>>>();
        let codecs = codecs.and_then(|codecs| codecs.try_into().ok());
        let coalesce = env::var("COALESCE_US").ok().map(|us| us.parse()).transpose()?;
        let engine = match or("ENGINE", "epoll").as_str() {
            "io_uring" => PacketEngine::IoUring,
            "epoll" => PacketEngine::Epoll,
            other => bail!("ENGINE is io_uring or epoll, not {other}"),
        };
        Ok(Self {
            engine,
            sessions: or("SESSIONS", "100").parse().context("SESSIONS")?,
            protocol,
            local: or("SRV_IP", "127.0.11.2").parse().context("SRV_IP")?,
            generator: or("GEN_IP", "127.0.11.1").parse().context("GEN_IP")?,
            codecs: codecs.context("CODECS is two of PCMU, PCMA, G722 and opus, as PCMU:opus")?,
            coalesce: coalesce.map(Duration::from_micros),
        })
    }

    fn relay(&self, tls: TlsFiles) -> RelayConfig {
        let media = MediaAddress::direct(self.local);
        let region = "ie1".parse().expect("a region code");
        let mut config = RelayConfig::new(RelayId("bench".into()), region, tls, media);
        config.ports = 10_000..=59_999;
        config.limits.sessions = usize::MAX;
        config.engine = self.engine;
        config.coalesce = self.coalesce.unwrap_or(config.coalesce);
        config
    }

    fn spec(&self, protocol: Protocol) -> LegSpec {
        let family = if self.local.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        let suites = if protocol == Protocol::Sdes { vec![SUITE] } else { Vec::new() };
        let rtcp_mux = protocol == Protocol::Dtls;
        LegSpec { protocol, ice: false, rtcp_mux, family, suites }
    }

    fn remote(&self, codec: Codec, port: u16, mux: bool) -> Remote {
        Remote {
            rtp: SocketAddr::new(self.generator, port),
            rtcp: SocketAddr::new(self.generator, if mux { port } else { port + 1 }),
            rtcp_mux: mux,
            ice: None,
            dtls: None,
            sdes: None,
            direction: Direction::SendReceive,
            payload_types: vec![payload_type(codec)],
        }
    }
}

/// The proxy's end of the control connection.
struct Proxy {
    stream: TlsStream<TcpStream>,
    framer: Framer,
    next_request: u64,
}

impl Proxy {
    async fn connect(authority: &Authority, address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(authority.proxy()?));
        let stream = connector.connect(ServerName::try_from(HOST)?, stream).await?;
        let mut proxy = Self { stream, framer: Framer::default(), next_request: 0 };
        let (region, name) = ("ie1".parse()?, "bench".to_owned());
        let hello = Hello { version: VERSION, region, name, incarnation: 1 };
        proxy.send(&ToRelay::Hello(hello)).await?;
        Ok(proxy)
    }

    /// Opens a session whose legs are joined; returns what the generator needs.
    async fn set_up(&mut self, settings: &Settings, number: u64, digest: &[u8]) -> Result<Value> {
        let session = SessionId(number);
        let open = Open {
            session,
            account: AccountSid::from_u128(1),
            call: CallSid::from_u128(number.into()),
            recording: None,
            legs: vec![(A, settings.spec(Protocol::Rtp)), (B, settings.spec(settings.protocol))],
        };
        let locals = self.request(Request::Open(open)).await?;
        let [(_, at_a), (_, at_b)] = locals.as_slice() else { bail!("two legs were asked for") };
        let [port_a, port_b] = GENERATOR_PORTS;
        let [speaks_a, speaks_b] = settings.codecs;
        let mut leg_b = json!({ "local": port_b, "remote": at_b.rtp.to_string() });
        let mut remote = settings.remote(speaks_b, port_b, settings.protocol == Protocol::Dtls);
        match settings.protocol {
            Protocol::Rtp => {}
            Protocol::Sdes => {
                let send = at_b.sdes.first().context("a key was asked for")?.clone();
                let theirs: Vec<u8> =
                    send.key_and_salt.iter().map(|octet| octet.wrapping_add(1)).collect();
                leg_b["srtp"] = json!({
                    "tx": STANDARD.encode(&theirs),
                    "rx": STANDARD.encode(&send.key_and_salt),
                });
                let receive = SdesKey { tag: send.tag, suite: SUITE, key_and_salt: theirs };
                remote.sdes = Some(SdesPair { send, receive });
            }
            Protocol::Dtls => {
                leg_b["dtls"] = json!("client");
                let fingerprint =
                    Fingerprint { hash: HashFunction::Sha256, digest: digest.to_vec() };
                remote.dtls = Some(DtlsParameters {
                    fingerprints: vec![fingerprint],
                    role: DtlsRole::Server,
                });
            }
        }
        let mut ops = vec![
            Op::Remote(A, Box::new(settings.remote(speaks_a, port_a, false))),
            Op::Remote(B, Box::new(remote)),
            Op::Join(A, B),
        ];
        if speaks_a != speaks_b {
            ops.push(Op::Speak(Box::new([(A, speaks(speaks_a)), (B, speaks(speaks_b))])));
        }
        self.request(Request::Change(session, ops)).await?;
        let leg_a = json!({ "local": port_a, "remote": at_a.rtp.to_string() });
        Ok(json!({ "a": leg_a, "b": leg_b }))
    }

    async fn request(&mut self, request: Request) -> Result<Vec<(LegId, LegLocal)>> {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.send(&ToRelay::Request(id, request)).await?;
        loop {
            match self.receive().await? {
                FromRelay::Outcome(of, Outcome::Done(locals)) if of == id => return Ok(locals),
                FromRelay::Outcome(_, outcome) => bail!("the relay answered {outcome:?}"),
                _ => {}
            }
        }
    }

    async fn send(&mut self, message: &ToRelay) -> Result<()> {
        let mut octets = Vec::new();
        encode(message, &mut octets)?;
        self.stream.write_all(&octets).await?;
        Ok(self.stream.flush().await?)
    }

    async fn receive(&mut self) -> Result<FromRelay> {
        loop {
            if let Some(message) = self.framer.next()? {
                return Ok(message);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await? {
                0 => bail!("the relay closed the control connection"),
                length => self.framer.push(&buffer[..length]),
            }
        }
    }
}

/// Signs both ends' certificates for this run.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    fn issue(&self, host: &str) -> Result<(rcgen::Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![host.to_owned()])?;
        Ok((params.signed_by(&key, &self.0)?, key))
    }

    fn relay_files(&self, directory: &Path) -> Result<TlsFiles> {
        let (certificate, key) = self.issue(HOST)?;
        std::fs::create_dir_all(directory)?;
        let files = TlsFiles {
            certificate: directory.join("relay.pem"),
            key: directory.join("relay.key"),
            authorities: directory.join("authority.pem"),
        };
        std::fs::write(&files.certificate, certificate.pem())?;
        std::fs::write(&files.key, key.serialize_pem())?;
        std::fs::write(&files.authorities, self.0.pem())?;
        Ok(files)
    }

    fn proxy(&self) -> Result<ClientConfig> {
        let (certificate, key) = self.issue("bench.ie1.landline.internal")?;
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)?)
    }
}
