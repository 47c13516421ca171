//! DTLS by `rtc-dtls`: DTLS 1.2, both roles, peers with RSA and with ECDSA
//! certificates.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use landline_control::{DtlsRole, SrtpSuite};
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::{SignatureScheme, default_provider};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::guard::{Fragment, Records};
use super::{Engine, Established, FLIGHT_INTERVAL, Failed, MTU};
use crate::identity::{Identity, IdentityError};

/// The implementation keeps associations by address. A leg has one, and decides
/// itself where its datagrams go.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// Flights repeated because the peer repeated its own, of the seven that the
/// implementation repeats at all; and how far apart.
const MAX_PROMPTED: u32 = 3;
const PROMPT_INTERVAL: Duration = Duration::from_millis(100);

/// RFC 5705 label of RFC 5764 §4.2.
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";

/// What both roles need, computed once for an identity.
pub struct PrimaryConfig {
    client: Arc<HandshakeConfig>,
    server: Arc<HandshakeConfig>,
    pub is_ecdsa: bool,
}

impl PrimaryConfig {
    pub fn new(certificate: &[u8], private_key: &[u8]) -> Result<Self, IdentityError> {
        let unusable = |error: &dyn std::fmt::Display| IdentityError::Unusable(error.to_string());
        let provider = default_provider().map_err(|error| unusable(&error))?;
        let schemes = [SignatureScheme::EcdsaP256Sha256, SignatureScheme::RsaPkcs1Sha256];
        let (scheme, key) = schemes
            .into_iter()
            .find_map(|scheme| {
                let key = provider.crypto().import_signing_key(scheme, private_key).ok()?;
                Some((scheme, key))
            })
            .ok_or_else(|| unusable(&"the key is neither P-256 nor RSA in PKCS#8"))?;
        let chain = vec![certificate.to_vec().into()];
        let certificate = Certificate::from_signing_key(chain, key);
        let build = |is_client| {
            let config = ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_cipher_suites(vec![
                    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
                    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
                    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
                    CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
                ])
                .with_srtp_protection_profiles(vec![
                    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                ])
                // Self-signed certificates are known by their fingerprints
                // (RFC 5763 §5): the leg compares them. The peer must show one.
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_flight_interval(FLIGHT_INTERVAL)
                .with_mtu(MTU);
            config.build(is_client, None).map(Arc::new).map_err(|error| unusable(&error))
        };
        let is_ecdsa = matches!(scheme, SignatureScheme::EcdsaP256Sha256);
        Ok(Self { client: build(true)?, server: build(false)?, is_ecdsa })
    }
}

pub struct Primary {
    endpoint: Endpoint,
    role: DtlsRole,
    client: Arc<HandshakeConfig>,
    complete: bool,
    reported: bool,
    /// Handshake fragments the implementation has been given; the limits on
    /// what an association may receive bound it.
    seen: Vec<Fragment>,
    prompted: u32,
    last_prompt: Option<Instant>,
}

impl Primary {
    pub fn new(identity: &Identity, role: DtlsRole) -> Self {
        let config = identity.primary();
        let server = (role == DtlsRole::Server).then(|| config.server.clone());
        Self {
            endpoint: Endpoint::new(PEER, Default::default(), server),
            role,
            client: config.client.clone(),
            complete: false,
            reported: false,
            seen: Vec::new(),
            prompted: 0,
            last_prompt: None,
        }
    }

    /// Whether the datagram holds nothing but what was received before.
    fn is_repeat(&mut self, datagram: &[u8]) -> bool {
        let mut fresh = 0;
        let records = Records::read(datagram, |fragment| {
            if !self.seen.contains(&fragment) {
                self.seen.push(fragment);
                fresh += 1;
            }
            true
        });
        // A first ClientHello that is repeated gets its HelloVerifyRequest again
        // from the implementation: that flight has no timer.
        let first_hello = self.role == DtlsRole::Server
            && self.seen.iter().all(|fragment| fragment.sequence == 0);
        let plain = |records: Records| records.others == 0 && records.fragments > 0;
        records.is_some_and(plain) && fresh == 0 && !first_hello
    }

    /// The peer repeats its flight, so ours was lost: it is sent again at once
    /// (RFC 6347 §4.2.4, WAITING). The implementation would stop its timer for
    /// good when it saw the repeat, so it is not shown.
    fn prompt(&mut self, now: Instant) -> Result<(), Failed> {
        let recent = self.last_prompt.is_some_and(|last| now < last + PROMPT_INTERVAL);
        let Some(due) = self.endpoint.poll_timeout(&PEER) else { return Ok(()) };
        if recent || self.prompted == MAX_PROMPTED {
            return Ok(());
        }
        self.prompted += 1;
        self.last_prompt = Some(now);
        self.endpoint.handle_timeout(PEER, due).map_err(|_| Failed)
    }

    fn outcome(&self) -> Result<Established, Failed> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(Failed)?;
        let suite = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpSuite::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpSuite::AesCm128HmacSha1_80,
            _ => return Err(Failed),
        };
        let certificate = state.peer_certificates.first().ok_or(Failed)?.clone();
        let length = 2 * suite.key_and_salt_len();
        let exported = state.export_keying_material(EXPORTER, &[], length).map_err(|_| Failed)?;
        Established::new(suite, certificate, exported.as_ref().to_vec(), self.role)
    }
}

impl Engine for Primary {
    fn start(&mut self, now: Instant) -> Result<(), Failed> {
        self.endpoint.connect(now, PEER, self.client.clone(), None).map_err(|_| Failed)
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Failed> {
        if !self.complete && self.is_repeat(datagram) {
            return self.prompt(now);
        }
        let events = self.endpoint.read(now, PEER, None, BytesMut::from(datagram));
        for event in events.map_err(|_| Failed)? {
            match event {
                EndpointEvent::HandshakeComplete => self.complete = true,
                // A peer that goes away before the end must begin anew.
                EndpointEvent::PeerClosed if !self.complete => return Err(Failed),
                // Nothing but keys is wanted from the association.
                _ => {}
            }
        }
        Ok(())
    }

    fn transmit(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|datagram| datagram.message.into())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&PEER)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Failed> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return Ok(());
        }
        self.endpoint.handle_timeout(PEER, now).map_err(|_| Failed)
    }

    fn established(&mut self) -> Option<Result<Established, Failed>> {
        if !self.complete || self.reported {
            return None;
        }
        self.reported = true;
        Some(self.outcome())
    }
}
