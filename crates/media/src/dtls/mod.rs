//! DTLS-SRTP handshakes (RFC 5764) behind one small interface, so that what
//! implements DTLS can be chosen and exchanged.

mod dimpl;
mod guard;
mod primary;
mod versions;

use std::time::{Duration, Instant};

use landline_control::{DtlsRole, SrtpSuite};
use zeroize::Zeroize;

pub use self::dimpl::config as dimpl_config;
use self::guard::Guard;
pub use self::primary::PrimaryConfig;
use crate::identity::Identity;
use crate::leg::DtlsBackend;

/// The longest datagram sent: a path may carry no more (RFC 8261 §5 names 1200
/// for WebRTC's DTLS).
const MTU: usize = 1150;

/// How soon a flight is repeated. RFC 6347 §4.2.4.1 proposes a second; a call
/// is silent meanwhile, and RFC 9147 §5.8.2 allows less for real-time media.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(500);

/// Handshakes begun anew after an error, before the peer counts as unable.
const MAX_ATTEMPTS: u32 = 8;

/// The handshake cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// What a finished handshake yields.
pub struct Established {
    pub suite: SrtpSuite,
    /// The peer's certificate, DER, whose key the peer has proven to hold.
    /// Nothing else is known about it: compare its fingerprint.
    pub certificate: Vec<u8>,
    keying: Keying,
}

/// RFC 5764 §4.2: client key, server key, client salt, server salt.
struct Keying {
    material: Vec<u8>,
    role: DtlsRole,
}

/// What an implementation must do.
trait Engine: Send {
    /// Sends the first flight, as the client.
    fn start(&mut self, now: Instant) -> Result<(), Failed>;
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Failed>;
    fn transmit(&mut self) -> Option<Vec<u8>>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Failed>;
    /// Once, when the handshake is over.
    fn established(&mut self) -> Option<Result<Established, Failed>>;
}

/// One association, from the first flight to the end of the leg: the last
/// flight may have to be repeated.
pub struct Association {
    engine: Box<dyn Engine>,
    role: DtlsRole,
    guard: Guard,
    attempts: u32,
    over: bool,
}

impl Association {
    pub fn new(
        identity: &Identity,
        backend: DtlsBackend,
        role: DtlsRole,
        now: Instant,
    ) -> Result<Self, Failed> {
        let engine = engine(identity, backend, role, now)?;
        let mut association =
            Self { engine, role, guard: Guard::default(), attempts: 0, over: false };
        if role == DtlsRole::Client {
            association.engine.start(now)?;
        }
        Ok(association)
    }

    /// Takes a datagram from the peer's address. An error ends the attempt, not
    /// the association: before keys exist anybody could forge the record that
    /// caused it. False: it was not even given to the implementation.
    pub fn receive(
        &mut self,
        now: Instant,
        identity: &Identity,
        backend: DtlsBackend,
        datagram: &[u8],
    ) -> Result<bool, Failed> {
        if !self.guard.admits(datagram) {
            return Ok(false);
        }
        match self.engine.receive(now, datagram) {
            Err(Failed) if !self.over => {
                self.attempts += 1;
                self.begin_anew(identity, backend, now).map(|()| true)
            }
            _ => Ok(true),
        }
    }

    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.engine.transmit()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout().filter(|_| !self.over)
    }

    /// Repeats flights. When the implementation gives up, begins anew: how long
    /// is long enough is the leg's decision.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        identity: &Identity,
        backend: DtlsBackend,
    ) -> Result<(), Failed> {
        match self.engine.handle_timeout(now) {
            Err(Failed) if !self.over => self.begin_anew(identity, backend, now),
            _ => Ok(()),
        }
    }

    fn begin_anew(
        &mut self,
        identity: &Identity,
        backend: DtlsBackend,
        now: Instant,
    ) -> Result<(), Failed> {
        if self.attempts > MAX_ATTEMPTS {
            return Err(Failed);
        }
        self.engine = engine(identity, backend, self.role, now)?;
        self.guard = Guard::default();
        if self.role == DtlsRole::Client { self.engine.start(now) } else { Ok(()) }
    }

    /// Once, when the handshake is over.
    pub fn established(&mut self) -> Option<Result<Established, Failed>> {
        let established = self.engine.established();
        self.over |= established.is_some();
        established
    }
}

fn engine(
    identity: &Identity,
    backend: DtlsBackend,
    role: DtlsRole,
    now: Instant,
) -> Result<Box<dyn Engine>, Failed> {
    Ok(match backend {
        DtlsBackend::Primary if role == DtlsRole::Server && identity.is_ecdsa() => {
            Box::new(versions::Versions::new(identity, now)?)
        }
        DtlsBackend::Primary | DtlsBackend::Primary12 => {
            Box::new(primary::Primary::new(identity, role))
        }
        DtlsBackend::Dimpl => Box::new(dimpl::Dimpl::older(identity, role, now)?),
        DtlsBackend::Dimpl13 => Box::new(dimpl::Dimpl::newer(identity, role, now)?),
    })
}

impl Established {
    /// Key and salt that we protect with.
    pub fn send(&self) -> Vec<u8> {
        self.key_and_salt(self.keying.role)
    }

    /// Key and salt that the peer protects with.
    pub fn receive(&self) -> Vec<u8> {
        self.key_and_salt(match self.keying.role {
            DtlsRole::Client => DtlsRole::Server,
            DtlsRole::Server => DtlsRole::Client,
        })
    }

    fn key_and_salt(&self, writer: DtlsRole) -> Vec<u8> {
        let key = self.suite.key_len();
        let salt = self.suite.key_and_salt_len() - key;
        let (keys, salts) = self.keying.material.split_at(2 * key);
        let (key, salt) = match writer {
            DtlsRole::Client => (&keys[..key], &salts[..salt]),
            DtlsRole::Server => (&keys[key..], &salts[salt..]),
        };
        [key, salt].concat()
    }

    fn new(
        suite: SrtpSuite,
        certificate: Vec<u8>,
        material: Vec<u8>,
        role: DtlsRole,
    ) -> Result<Self, Failed> {
        let keying = Keying { material, role };
        if keying.material.len() != 2 * suite.key_and_salt_len() {
            return Err(Failed);
        }
        Ok(Self { suite, certificate, keying })
    }
}

impl Drop for Keying {
    fn drop(&mut self) {
        self.material.zeroize();
    }
}
