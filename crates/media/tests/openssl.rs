//! DTLS-SRTP with OpenSSL's command-line peers, which use its own DTLS and can
//! show certificates of either kind. Does nothing where `openssl` is missing.

mod common;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{config, remote, rtp_packet, spec};
use landline_control::{DtlsRole, Fingerprint, HashFunction, Protocol, SrtpSuite};
use landline_media::srtp::Context;
use landline_media::{Component, Leg, LegOutput, PacketBuf, Received, fingerprint};

const LABEL: &str = "EXTRACTOR-dtls_srtp";

#[test]
fn an_openssl_server_with_an_rsa_certificate_is_a_peer() {
    converse(DtlsRole::Client, &rcgen::PKCS_RSA_SHA256, SrtpSuite::AesCm128HmacSha1_80);
}

#[test]
fn an_openssl_client_with_an_rsa_certificate_is_a_peer() {
    converse(DtlsRole::Server, &rcgen::PKCS_RSA_SHA256, SrtpSuite::AeadAes128Gcm);
}

#[test]
fn an_openssl_server_with_an_ecdsa_certificate_is_a_peer() {
    converse(DtlsRole::Client, &rcgen::PKCS_ECDSA_P256_SHA256, SrtpSuite::AeadAes128Gcm);
}

#[test]
fn an_openssl_client_with_an_ecdsa_certificate_is_a_peer() {
    converse(DtlsRole::Server, &rcgen::PKCS_ECDSA_P256_SHA256, SrtpSuite::AesCm128HmacSha1_80);
}

/// Shakes hands as `role` with an OpenSSL that takes one profile only, then
/// hears a packet protected under the keys that OpenSSL exported.
fn converse(role: DtlsRole, algorithm: &'static rcgen::SignatureAlgorithm, suite: SrtpSuite) {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("openssl is not installed: nothing tested");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let certified = Certified::new(directory.path(), algorithm);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ours = socket.local_addr().unwrap();
    let (mut peer, theirs) = Peer::start(role, &certified, suite, ours);

    let now = Instant::now();
    let mut leg = Leg::new(config(spec(Protocol::Dtls), 1), now);
    let mut description = leg.local(theirs, theirs);
    description.fingerprint = Some(certified.fingerprint.clone());
    let exported = run(&mut leg, &socket, &mut peer, || remote(&description, role));
    assert_eq!(leg.suite(), Some(suite));

    let (key, salt) = (16, suite.key_and_salt_len() - 16);
    let (client, server) = (0, 1);
    let writer = if role == DtlsRole::Client { server } else { client };
    let master =
        [&exported[writer * key..][..key], &exported[2 * key + writer * salt..][..salt]].concat();
    let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"from openssl's keys")).unwrap();
    Context::new(suite, &master).unwrap().protect_rtp(&mut packet).unwrap();
    let heard = leg.receive(Instant::now(), Component::Rtp, theirs, &mut packet);
    assert!(matches!(heard, Received::Rtp(_)), "{heard:?}");
}

/// Drives the leg in real time until it has keys and the peer has shown its.
fn run(
    leg: &mut Leg,
    socket: &UdpSocket,
    peer: &mut Peer,
    described: impl Fn() -> landline_control::Remote,
) -> Vec<u8> {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut description = described();
    let end = Instant::now() + Duration::from_secs(10);
    let mut exported = None;
    let mut known = false;
    while Instant::now() < end {
        let mut packet = PacketBuf::new();
        let received = socket.recv_from(packet.receive_area());
        if let Ok((length, from)) = received {
            packet.set_len(length);
            if !known {
                // A client's port is known from its first packet on.
                description.rtp = from;
            }
            leg.receive(Instant::now(), Component::Rtp, from, &mut packet);
        }
        if !known
            && (received.is_ok() || description.dtls.as_ref().unwrap().role == DtlsRole::Client)
        {
            leg.set_remote(Instant::now(), &description).unwrap();
            known = true;
        }
        leg.handle_timeout(Instant::now());
        while let Some(output) = leg.poll_output() {
            if let LegOutput::Transmit { to, bytes, .. } = output {
                assert!(bytes.len() <= 1200);
                socket.send_to(&bytes, to).unwrap();
            }
        }
        exported = exported.or_else(|| peer.exported.try_recv().ok());
        if leg.suite().is_some()
            && let Some(exported) = exported.take()
        {
            return exported;
        }
    }
    panic!("no handshake within ten seconds: {leg:?}, exported {}", exported.is_some());
}

struct Certified {
    certificate: PathBuf,
    key: PathBuf,
    fingerprint: Fingerprint,
}

impl Certified {
    fn new(directory: &Path, algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["peer".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let paths = (directory.join("certificate.pem"), directory.join("key.pem"));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        let fingerprint = fingerprint(HashFunction::Sha256, certificate.der());
        Self { certificate: paths.0, key: paths.1, fingerprint }
    }
}

struct Peer {
    process: Child,
    exported: mpsc::Receiver<Vec<u8>>,
}

impl Peer {
    /// OpenSSL in the role that is not `ours`, and where it is if it is known.
    fn start(
        ours: DtlsRole,
        certified: &Certified,
        suite: SrtpSuite,
        our_address: SocketAddr,
    ) -> (Self, SocketAddr) {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("openssl");
        match ours {
            DtlsRole::Client => {
                command.args(["s_server", "-Verify", "1", "-accept"]).arg(free.to_string())
            }
            DtlsRole::Server => command.args(["s_client", "-connect"]).arg(our_address.to_string()),
        };
        let profile = match suite {
            SrtpSuite::AesCm128HmacSha1_80 => "SRTP_AES128_CM_SHA1_80",
            SrtpSuite::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            SrtpSuite::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
        };
        let length = (2 * suite.key_and_salt_len()).to_string();
        command.args(["-dtls1_2", "-use_srtp", profile, "-keymatexport", LABEL]);
        command.args(["-keymatexportlen", &length, "-cert"]).arg(&certified.certificate);
        command.arg("-key").arg(&certified.key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let output = process.stdout.take().unwrap();
        let (found, exported) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, material)) = line.split_once("Keying material: ") {
                    let _ = found.send(hex::decode(material.trim()).unwrap());
                }
            }
        });
        (Self { process, exported }, free)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
