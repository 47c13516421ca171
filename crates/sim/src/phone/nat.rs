//! The address translation in front of a phone: it maps as it likes, lets in
//! only who was spoken to, and forgets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A mapping that was not used for so long is gone.
const FORGETS: Duration = Duration::from_secs(60);
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

pub struct Nat {
    public: IpAddr,
    /// Each destination gets a port of its own (RFC 4787 §4.1).
    is_symmetric: bool,
    next_port: u16,
    out: BTreeMap<(SocketAddr, SocketAddr), u16>,
    back: BTreeMap<u16, Mapping>,
}

struct Mapping {
    private: SocketAddr,
    spoken_to: BTreeSet<IpAddr>,
    used: Duration,
}

impl Nat {
    pub fn new(public: IpAddr, is_symmetric: bool) -> Self {
        let (out, back) = Default::default();
        Self { public, is_symmetric, next_port: 10_000, out, back }
    }

    /// Whence a datagram seems to come.
    pub fn outward(
        &mut self,
        private: SocketAddr,
        to: SocketAddr,
        at: Duration,
    ) -> Option<SocketAddr> {
        let key = (private, if self.is_symmetric { to } else { NOBODY });
        let known = self.out.get(&key).copied();
        let fresh = known
            .filter(|port| self.back.get(port).is_some_and(|mapping| at - mapping.used < FORGETS));
        let port = match fresh {
            Some(port) => port,
            None => {
                if let Some(old) = known {
                    self.back.remove(&old);
                }
                self.next_port = self.next_port.checked_add(7).unwrap_or(10_000);
                self.out.insert(key, self.next_port);
                let spoken_to = BTreeSet::new();
                self.back.insert(self.next_port, Mapping { private, spoken_to, used: at });
                self.next_port
            }
        };
        let mapping = self.back.get_mut(&port)?;
        mapping.used = at;
        mapping.spoken_to.insert(to.ip());
        Some(SocketAddr::new(self.public, port))
    }

    /// Whom behind it a datagram is for.
    pub fn inward(&mut self, port: u16, from: SocketAddr, at: Duration) -> Option<SocketAddr> {
        let mapping = self.back.get(&port)?;
        let lets_in = at - mapping.used < FORGETS && mapping.spoken_to.contains(&from.ip());
        lets_in.then_some(mapping.private)
    }

    /// It restarts: every mapping is another from now on.
    pub fn rebind(&mut self) {
        self.out.clear();
        self.back.clear();
    }
}
