//! A relay on loopback, proxies that control it over real mutual TLS, and
//! phones with real sockets.

pub mod authority;
pub mod browser;
pub mod phone;
pub mod proxy;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use landline_control::{
    Direction, IpFamily, LegId, LegLocal, LegSpec, PayloadType, Protocol, RelayId, Remote,
    SrtpSuite,
};
use landline_relay::{MediaAddress, Relay, RelayConfig, RelayHandle, TlsFiles};

pub use authority::Authority;
pub use phone::Phone;
pub use proxy::Proxy;

pub const A: LegId = LegId(0);
pub const B: LegId = LegId(1);
pub const C: LegId = LegId(2);

/// Generous: machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct TestRelay {
    pub handle: RelayHandle,
    pub authority: Authority,
    /// Holds the files of the relay's configuration.
    _directory: tempfile::TempDir,
}

/// A relay of `ie1` on 127.0.0.1, with short times.
pub async fn relay() -> TestRelay {
    relay_with(|_| {}).await
}

pub async fn relay_with(change: impl FnOnce(&mut RelayConfig)) -> TestRelay {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let mut config = config(&authority, directory.path());
    change(&mut config);
    let handle = Relay::start(config).await.unwrap();
    TestRelay { handle, authority, _directory: directory }
}

pub fn config(authority: &Authority, directory: &std::path::Path) -> RelayConfig {
    let tls = tls_files(authority, directory, "relay-1.ie1.landline.internal");
    let name = RelayId("relay-1".into());
    let media = MediaAddress::direct(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut config = RelayConfig::new(name, "ie1".parse().unwrap(), tls, media);
    config.ports = free_ports();
    config.ice_port = Some(0);
    config.shards = Some(2);
    config.port_quarantine = Duration::from_millis(300);
    config.proxy_grace = Duration::from_millis(300);
    config
}

/// A hundred ports below the ephemeral ones, other for each test process: the
/// relay skips those that are taken, but a test of exhaustion may not.
pub fn free_ports() -> std::ops::RangeInclusive<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let block = (std::process::id() as u16).wrapping_mul(7) % 200;
    let first = 10_000 + block * 100 + NEXT.fetch_add(100, Ordering::Relaxed) % 2_000;
    first..=first + 99
}

pub fn tls_files(authority: &Authority, directory: &std::path::Path, host: &str) -> TlsFiles {
    let identity = authority.issue(&[host]);
    let files = TlsFiles {
        certificate: directory.join("relay.pem"),
        key: directory.join("relay.key"),
        authorities: directory.join("ca.pem"),
    };
    std::fs::write(&files.certificate, identity.certificate).unwrap();
    std::fs::write(&files.key, identity.key).unwrap();
    std::fs::write(&files.authorities, authority.pem()).unwrap();
    files
}

impl TestRelay {
    /// The value of a metric, summed over those label sets that match.
    pub fn metric(&self, name: &str, label: Option<&str>) -> f64 {
        let name = format!("landline_relay_{name}");
        let families = self.handle.registry().gather();
        let metrics = families.iter().filter(|f| f.name() == name).flat_map(|f| f.get_metric());
        let labelled = metrics
            .filter(|m| label.is_none_or(|label| m.get_label().iter().any(|l| l.value() == label)));
        labelled.map(|m| m.get_counter().get_value() + m.get_gauge().get_value()).sum()
    }

    /// Waits until a metric has grown to `value`.
    pub async fn metric_reaches(&self, name: &str, label: Option<&str>, value: f64) {
        until(|| self.metric(name, label) >= value).await;
    }
}

/// Waits until something is so; fails when it is not in the end.
#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "it never became so, at {caller}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub fn spec(protocol: Protocol) -> LegSpec {
    let suites = match protocol {
        Protocol::Sdes => vec![SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AeadAes128Gcm],
        _ => Vec::new(),
    };
    LegSpec { protocol, ice: false, rtcp_mux: false, family: IpFamily::V4, suites }
}

/// What a phone's description says of plain RTP at these addresses.
pub fn remote(rtp: SocketAddr, rtcp: SocketAddr) -> Remote {
    Remote {
        rtp,
        rtcp,
        rtcp_mux: rtp == rtcp,
        ice: None,
        dtls: None,
        sdes: None,
        direction: Direction::SendReceive,
        payload_types: vec![PayloadType {
            number: 0,
            encoding: "PCMU".into(),
            clock_rate: 8000,
            channels: 1,
        }],
    }
}

/// An RTP packet of 20 ms of PCMU whose octets tell it from others.
pub fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend((0..160).map(|n| (n as u8) ^ (sequence as u8) ^ (ssrc as u8)));
    packet
}

/// A sender report with an empty CNAME chunk behind it: a valid compound.
pub fn rtcp(ssrc: u32, count: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0; 12]);
    packet.extend_from_slice(&count.to_be_bytes());
    packet.extend_from_slice(&(count * 160).to_be_bytes());
    packet.extend_from_slice(&[0x81, 202, 0, 2]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[1, 0, 0, 0]);
    packet
}

pub fn local(locals: &[(LegId, LegLocal)], leg: LegId) -> LegLocal {
    locals.iter().find(|(id, _)| *id == leg).unwrap().1.clone()
}
