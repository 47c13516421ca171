//! The server's side where the client decides on the version: DTLS 1.3 by
//! `dimpl` for who offers it, and for all others what takes RSA peers as well.

use std::time::Instant;

use landline_control::DtlsRole;

use super::dimpl::Dimpl;
use super::primary::Primary;
use super::{Engine, Established, Failed};
use crate::identity::Identity;

/// Datagrams of a ClientHello: with a post-quantum key share it has two, and
/// may be repeated. What is not understood by then is left to the other.
const MAX_HELD: usize = 6;

pub struct Versions {
    /// As long as it may be, or is, DTLS 1.3.
    newer: Option<Box<Dimpl>>,
    older: Primary,
    /// What was received until the client had said what it speaks.
    held: Option<Vec<Vec<u8>>>,
}

impl Versions {
    pub fn new(identity: &Identity, now: Instant) -> Result<Self, Failed> {
        Ok(Self {
            newer: Some(Box::new(Dimpl::any(identity, DtlsRole::Server, now)?)),
            older: Primary::new(identity, DtlsRole::Server),
            held: Some(Vec::new()),
        })
    }

    fn engine(&self) -> &dyn Engine {
        match &self.newer {
            Some(newer) => &**newer,
            None => &self.older,
        }
    }

    fn engine_mut(&mut self) -> &mut dyn Engine {
        match &mut self.newer {
            Some(newer) => &mut **newer,
            None => &mut self.older,
        }
    }
}

/// Whether the client offers DTLS 1.3; `None` as long as that is not known.
fn offers_newer(newer: &mut Dimpl, now: Instant, datagram: &[u8], held: usize) -> Option<bool> {
    // An error says no more than that this version is not for it.
    let is_refused = newer.receive(now, datagram).is_err();
    match newer.is_dtls_1_3() {
        Some(is_newer) => Some(is_newer && !is_refused),
        // It was asked for more (RFC 9147 §5.1): who offers this version is.
        None if newer.has_answered() => None,
        None => (is_refused || held >= MAX_HELD).then_some(false),
    }
}

impl Engine for Versions {
    fn start(&mut self, now: Instant) -> Result<(), Failed> {
        self.engine_mut().start(now)
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Failed> {
        let (Some(newer), Some(held)) = (&mut self.newer, &mut self.held) else {
            return self.engine_mut().receive(now, datagram);
        };
        held.push(datagram.to_vec());
        match offers_newer(newer, now, datagram, held.len()) {
            None => Ok(()),
            Some(true) => {
                self.held = None;
                Ok(())
            }
            Some(false) => {
                self.newer = None;
                let held = self.held.take().unwrap_or_default();
                held.iter().try_for_each(|datagram| self.older.receive(now, datagram))
            }
        }
    }

    fn transmit(&mut self) -> Option<Vec<u8>> {
        self.engine_mut().transmit()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.engine().poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Failed> {
        self.engine_mut().handle_timeout(now)
    }

    fn established(&mut self) -> Option<Result<Established, Failed>> {
        self.engine_mut().established()
    }
}
