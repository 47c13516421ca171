//! DTLS-SRTP with webrtc-dtls and webrtc-srtp at the other end: handshake, key
//! export and packets of an implementation that shares nothing with ours.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{address, config, remote, rtcp_packet, rtp_packet, spec};
use landline_control::{DtlsRole, Fingerprint, HashFunction, MediaFault, Protocol, SrtpSuite};
use landline_media::{Component, Leg, LegOutput, PacketBuf, Received, fingerprint};
use webrtc_dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::Certificate;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::KeyingMaterialExporter;
use webrtc_util::conn::Conn;
use webrtc_util::conn::conn_pipe::pipe;

#[tokio::test]
async fn a_webrtc_server_is_a_peer() {
    converse(DtlsRole::Client, SrtpSuite::AesCm128HmacSha1_80).await;
    converse(DtlsRole::Client, SrtpSuite::AeadAes128Gcm).await;
}

#[tokio::test]
async fn a_webrtc_client_is_a_peer() {
    converse(DtlsRole::Server, SrtpSuite::AesCm128HmacSha1_80).await;
    converse(DtlsRole::Server, SrtpSuite::AeadAes128Gcm).await;
}

/// RFC 5763 §5: who shows another certificate than was signalled is not heard.
#[tokio::test]
async fn a_webrtc_peer_with_another_certificate_than_signalled_gets_no_keys() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut call = Call::new(role, SrtpSuite::AeadAes128Gcm, |signalled| {
            if let Some(octet) = signalled.digest.first_mut() {
                *octet ^= 1;
            }
        });
        call.shake_hands(|call| !call.faults.is_empty()).await;
        assert_eq!(call.faults, [MediaFault::DtlsFingerprintMismatch]);
        assert_eq!(call.leg.suite(), None);
        let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"never sent")).unwrap();
        assert_eq!(call.leg.send(Instant::now(), Component::Rtp, &mut packet), None);
    }
}

/// What each end protects, the other reads; and under the keys that the peer
/// exported (RFC 5764 §4.2) its own SRTP makes the very octets that we send.
async fn converse(role: DtlsRole, suite: SrtpSuite) {
    let mut call = Call::new(role, suite, |_| {});
    call.shake_hands(|call| call.leg.suite().is_some() && call.peer.is_finished()).await;
    assert_eq!(call.leg.suite(), Some(suite));
    let shown = call.shown.lock().unwrap().clone();
    assert_eq!(shown, Some(common::identity().fingerprint()), "the certificate that it saw");

    let connection = call.peer.await.unwrap().expect("its handshake");
    assert_eq!(connection.selected_srtpprotection_profile() as u16, profile(suite) as u16);
    let length = 2 * suite.key_and_salt_len();
    let state = connection.connection_state().await;
    let exported = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], length).await.unwrap();
    let (client, server) = (context(suite, &exported, 0), context(suite, &exported, 1));
    let (mut ours, mut its) = match role {
        DtlsRole::Client => (client, server),
        DtlsRole::Server => (server, client),
    };
    let now = Instant::now();
    for (component, plain) in
        [(Component::Rtp, rtp_packet(1, b"from the relay")), (Component::Rtcp, rtcp_packet())]
    {
        let mut sent = PacketBuf::from_slice(&plain).unwrap();
        call.leg.send(now, component, &mut sent).expect("keys");
        let read = match component {
            Component::Rtp => {
                let same = context(suite, &exported, usize::from(role == DtlsRole::Server))
                    .encrypt_rtp(&plain)
                    .unwrap();
                assert_eq!(sent.as_slice(), &same[..], "equal keys make equal packets");
                ours.decrypt_rtp(sent.as_slice())
            }
            _ => ours.decrypt_rtcp(sent.as_slice()),
        };
        assert_eq!(&read.unwrap()[..], plain, "{component:?} from us to it");
    }
    for plain in [rtp_packet(7, b"from webrtc-rs"), rtcp_packet()] {
        let is_rtcp = landline_media::rtcp::looks_like_rtcp(&plain);
        let sent = if is_rtcp { its.encrypt_rtcp(&plain) } else { its.encrypt_rtp(&plain) };
        let mut packet = PacketBuf::from_slice(&sent.unwrap()).unwrap();
        let heard = call.leg.receive(now, Component::Rtp, address(2, 4000), &mut packet);
        assert!(matches!(heard, Received::Rtp(_) | Received::Rtcp), "{heard:?}");
        assert_eq!(packet.as_slice(), plain);
    }
}

/// Our leg at one end of a pipe and webrtc-dtls at the other.
struct Call<C> {
    leg: Leg,
    wire: C,
    peer: tokio::task::JoinHandle<Result<DTLSConn, webrtc_dtls::Error>>,
    /// The fingerprint of the certificate that the peer was shown.
    shown: Arc<Mutex<Option<Fingerprint>>>,
    faults: Vec<MediaFault>,
}

impl Call<()> {
    /// `role` is ours; `signalled` changes what our side is told of the peer's
    /// certificate.
    fn new(
        role: DtlsRole,
        suite: SrtpSuite,
        signalled: impl Fn(&mut Fingerprint),
    ) -> Call<impl Conn> {
        // Two providers are linked, and webrtc-dtls panics where none is chosen.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (wire, far) = pipe();
        let certificate = Certificate::generate_self_signed(vec!["peer".to_owned()]).unwrap();
        let mut theirs = fingerprint(HashFunction::Sha256, &certificate.certificate[0]);
        signalled(&mut theirs);
        let shown = Arc::new(Mutex::new(None));
        let peer_config = peer_config(certificate, suite, Arc::clone(&shown));
        let is_client = role == DtlsRole::Server;
        let peer = tokio::spawn(DTLSConn::new(Arc::new(far), peer_config, is_client, None));

        let now = Instant::now();
        let mut leg = Leg::new(config(spec(Protocol::Dtls), 1), now);
        let mut description = leg.local(address(2, 4000), address(2, 4000));
        description.fingerprint = Some(theirs);
        leg.set_remote(now, &remote(&description, role)).unwrap();
        Call { leg, wire, peer, shown, faults: Vec::new() }
    }
}

impl<C: Conn> Call<C> {
    async fn shake_hands(&mut self, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        let mut buffer = [0; 2048];
        while !done(self) {
            assert!(Instant::now() < end, "no handshake: {:?}", self.leg);
            while let Some(output) = self.leg.poll_output() {
                match output {
                    LegOutput::Transmit { bytes, .. } => {
                        // It is gone once it saw a certificate it did not expect.
                        let _ = self.wire.send(&bytes).await;
                    }
                    LegOutput::Fault(fault) => self.faults.push(fault),
                    LegOutput::Started | LegOutput::Keyed(_) => {}
                }
            }
            let heard = self.wire.recv(&mut buffer);
            if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(5), heard).await {
                let mut packet = PacketBuf::from_slice(&buffer[..length]).unwrap();
                let from = address(2, 4000);
                self.leg.receive(Instant::now(), Component::Rtp, from, &mut packet);
            }
            self.leg.handle_timeout(Instant::now());
        }
    }
}

fn peer_config(
    certificate: Certificate,
    suite: SrtpSuite,
    shown: Arc<Mutex<Option<Fingerprint>>>,
) -> Config {
    Config {
        certificates: vec![certificate],
        srtp_protection_profiles: vec![profile(suite)],
        client_auth: ClientAuthType::RequireAnyClientCert,
        extended_master_secret: ExtendedMasterSecretType::Require,
        flight_interval: Duration::from_millis(200),
        // The fingerprint is the proof (RFC 5763 §5), not the chain.
        insecure_skip_verify: true,
        verify_peer_certificate: Some(Arc::new(move |chain, _| {
            let leaf = chain.first().map(|leaf| fingerprint(HashFunction::Sha256, leaf));
            *shown.lock().unwrap() = leaf;
            Ok(())
        })),
        ..Config::default()
    }
}

fn profile(suite: SrtpSuite) -> SrtpProtectionProfile {
    match suite {
        SrtpSuite::AesCm128HmacSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        SrtpSuite::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpSuite::AeadAes256Gcm => unreachable!("DTLS 1.2 of ours does not choose it"),
    }
}

/// Writer 0 is the DTLS client.
fn context(suite: SrtpSuite, exported: &[u8], writer: usize) -> Context {
    let (key, salt) = (suite.key_len(), suite.key_and_salt_len() - suite.key_len());
    let (keys, salts) = exported.split_at(2 * key);
    let profile = match suite {
        SrtpSuite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpSuite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpSuite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let (key, salt) = (&keys[writer * key..][..key], &salts[writer * salt..][..salt]);
    Context::new(key, salt, profile, None, None).unwrap()
}
