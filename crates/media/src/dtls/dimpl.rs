//! DTLS by `dimpl`: DTLS 1.2 and 1.3, both roles, peers with ECDSA certificates.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use dimpl::{Config, Dtls, DtlsCertificate, Output, ProtocolVersion, SrtpProfile};
use landline_control::{DtlsRole, SrtpSuite};

use super::{Engine, Established, FLIGHT_INTERVAL, Failed, MTU};
use crate::identity::Identity;
use crate::packet::MAX_PACKET;

/// Of one flight, ever further apart: half a minute, after which the leg gives up.
const RETRIES: usize = 6;

/// Datagrams waiting to be sent: a flight has a handful.
const MAX_FLIGHT: usize = 32;

pub struct Dimpl {
    dtls: Dtls,
    role: DtlsRole,
    flight: VecDeque<Vec<u8>>,
    timeout: Option<Instant>,
    certificate: Option<Vec<u8>>,
    outcome: Option<Result<Established, Failed>>,
    has_answered: bool,
}

type Make = fn(Arc<Config>, DtlsCertificate, Instant) -> Dtls;

/// What every association shares; costs milliseconds to make.
pub fn config() -> Option<Arc<Config>> {
    let config =
        Config::builder().mtu(MTU).flight_start_rto(FLIGHT_INTERVAL).flight_retries(RETRIES);
    config.build().ok().map(Arc::new)
}

impl Dimpl {
    /// DTLS 1.2 and no other.
    pub fn older(identity: &Identity, role: DtlsRole, now: Instant) -> Result<Self, Failed> {
        Self::new(identity, role, now, Dtls::new_12)
    }

    /// DTLS 1.3 and no other.
    pub fn newer(identity: &Identity, role: DtlsRole, now: Instant) -> Result<Self, Failed> {
        Self::new(identity, role, now, Dtls::new_13)
    }

    /// The highest version that both have.
    pub fn any(identity: &Identity, role: DtlsRole, now: Instant) -> Result<Self, Failed> {
        Self::new(identity, role, now, Dtls::new_auto)
    }

    fn new(identity: &Identity, role: DtlsRole, now: Instant, make: Make) -> Result<Self, Failed> {
        let certificate = DtlsCertificate {
            certificate: identity.certificate().to_vec(),
            private_key: identity.private_key().to_vec(),
        };
        let config = identity.dimpl().ok_or(Failed)?;
        Ok(Self {
            dtls: make(config, certificate, now),
            role,
            flight: VecDeque::new(),
            timeout: None,
            certificate: None,
            outcome: None,
            has_answered: false,
        })
    }

    /// Once the peer's first message has said.
    pub fn is_dtls_1_3(&self) -> Option<bool> {
        self.dtls.protocol_version().map(|version| version == ProtocolVersion::DTLS1_3)
    }

    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    fn drain(&mut self) {
        let mut buffer = [0; MAX_PACKET];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Timeout(at) => {
                    self.timeout = Some(at);
                    return;
                }
                Output::BufferTooSmall { .. } => return,
                Output::Packet(datagram) if self.flight.len() < MAX_FLIGHT => {
                    self.has_answered = true;
                    self.flight.push_back(datagram.to_vec());
                }
                Output::PeerCert(certificate) => self.certificate = Some(certificate.to_vec()),
                Output::KeyingMaterial(material, profile) => {
                    let certificate = self.certificate.clone();
                    self.outcome = Some(outcome(&material, profile, certificate, self.role));
                }
                _ => {}
            }
        }
    }
}

fn outcome(
    material: &[u8],
    profile: SrtpProfile,
    certificate: Option<Vec<u8>>,
    role: DtlsRole,
) -> Result<Established, Failed> {
    let suite = match profile {
        SrtpProfile::AEAD_AES_256_GCM => SrtpSuite::AeadAes256Gcm,
        SrtpProfile::AEAD_AES_128_GCM => SrtpSuite::AeadAes128Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => SrtpSuite::AesCm128HmacSha1_80,
        _ => return Err(Failed),
    };
    Established::new(suite, certificate.ok_or(Failed)?, material.to_vec(), role)
}

impl Engine for Dimpl {
    fn start(&mut self, now: Instant) -> Result<(), Failed> {
        self.dtls.set_active(true);
        self.handle_timeout(now)
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Failed> {
        self.dtls.handle_timeout(now).map_err(|_| Failed)?;
        let taken = self.dtls.handle_packet(datagram);
        self.drain();
        taken.map_err(|_| Failed)
    }

    fn transmit(&mut self) -> Option<Vec<u8>> {
        self.flight.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Failed> {
        let handled = self.dtls.handle_timeout(now);
        self.drain();
        handled.map_err(|_| Failed)
    }

    fn established(&mut self) -> Option<Result<Established, Failed>> {
        self.outcome.take()
    }
}
