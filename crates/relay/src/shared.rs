use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use landline_control::{FromRelay, IpFamily};
use landline_media::Identity;
use landline_region::Entropy;
use tokio::runtime::Handle;

use crate::config::{RelayConfig, StartError};
use crate::ice_ports::IceSocket;
use crate::metrics::Metrics;
use crate::owner::Owners;
use crate::ports::{PortAllocator, PortUse};
use crate::sounds::Clips;
use crate::streams::Fragments;

/// What all shards and the control server see of the relay.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: RelayConfig,
    pub metrics: Metrics,
    pub addresses: Vec<LocalAddress>,
    /// Where peers' connections are taken, as they are told.
    pub streams: Vec<SocketAddr>,
    /// The ports that legs with ICE share, as their peers are told.
    pub ice: Vec<SocketAddr>,
    pub fragments: Fragments,
    /// Of every DTLS leg.
    pub identity: Arc<Identity>,
    /// Where the ends of recordings are awaited.
    pub runtime: Handle,
    /// A clone is held as long as a recording is being finished.
    pub finishing: Arc<()>,
    pub draining: AtomicBool,
    pub stopping: AtomicBool,
    pub sessions: AtomicUsize,
    /// What is played to people.
    pub clips: Arc<Clips>,
}

#[derive(Debug)]
pub(crate) struct LocalAddress {
    pub advertise: IpAddr,
    pub ports: PortAllocator,
}

impl Shared {
    pub fn new<S>(
        config: RelayConfig,
        streams: Vec<SocketAddr>,
        ice: &[Vec<IceSocket<S>>],
        identity: Arc<Identity>,
        entropy: &mut Entropy,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let mut addresses = Vec::new();
        let mut told = Vec::new();
        for (index, media) in config.media.iter().enumerate() {
            let there = ice.iter().flatten().filter(|socket| socket.address == index);
            let taken: Vec<u16> = there.map(|socket| socket.port).collect();
            told.extend(taken.iter().map(|port| SocketAddr::new(media.advertise, *port)));
            let (range, rest) = (&config.ports, config.port_quarantine);
            let ports = PortAllocator::new(media.bind, range, &taken, rest, entropy)?;
            if config.ice_port.is_none() && ports.are_few() {
                tracing::warn!(
                    address = %media.bind,
                    "relay.ports leaves few pairs for phones: browsers have the first ports of \
                     it; widen it, or name others for browsers in relay.ice_port"
                );
            }
            addresses.push(LocalAddress { advertise: media.advertise, ports });
        }
        let metrics = Metrics::register(&config.registry, config.region, &config.name)?;
        let missing = metrics.missing_sounds.clone();
        let (kept, limits) = (metrics.sounds.clone(), &config.limits);
        let keep = (limits.sound_octets, limits.sound_time);
        let clips = Clips::new(config.sounds.clone(), keep, missing, kept);
        Ok(Self {
            metrics,
            clips: Arc::new(clips),
            addresses,
            streams,
            ice: told,
            fragments: Fragments::default(),
            identity,
            runtime,
            finishing: Arc::new(()),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            config,
        })
    }

    /// Takes no new sessions from now on and tells the proxies so.
    pub fn drain(&self, owners: &Owners) {
        self.draining.store(true, Ordering::Relaxed);
        owners.tell_all(&FromRelay::Draining);
    }

    pub fn resume(&self, owners: &Owners) {
        self.draining.store(false, Ordering::Relaxed);
        owners.tell_all(&FromRelay::Resumed);
    }

    pub fn open_sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Asks the shards to end; they notice when they wake.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes a place for one more session, if there is one.
    pub fn admit_session(&self) -> bool {
        let limit = self.config.limits.sessions;
        let step = |open| (open < limit).then_some(open + 1);
        let admitted =
            self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok();
        if admitted {
            self.metrics.sessions.inc();
        }
        admitted
    }

    pub fn end_session(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        self.metrics.sessions.dec();
    }

    pub fn report_ports(&self, now: Instant) {
        let PortUse { free, used, quarantined } = self.ports(now);
        self.metrics.ports_free.set(free as i64);
        self.metrics.ports_used.set(used as i64);
        self.metrics.ports_quarantined.set(quarantined as i64);
    }

    /// Of all addresses together.
    pub fn ports(&self, now: Instant) -> PortUse {
        let none = PortUse { free: 0, used: 0, quarantined: 0 };
        self.addresses.iter().map(|address| address.ports.usage(now)).fold(none, |sum, one| {
            PortUse {
                free: sum.free + one.free,
                used: sum.used + one.used,
                quarantined: sum.quarantined + one.quarantined,
            }
        })
    }
}

impl LocalAddress {
    pub fn is(&self, family: IpFamily) -> bool {
        match family {
            IpFamily::V4 => self.ports.address.is_ipv4(),
            IpFamily::V6 => self.ports.address.is_ipv6(),
        }
    }

    pub fn advertised(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.advertise, port)
    }
}
