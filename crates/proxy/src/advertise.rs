//! What peers are told of where we are.

use std::net::{SocketAddr, UdpSocket};

use landline_call::{CoreConfig, CoreLimits, CoreTimers, LocalAddress};
use landline_region::PseudonymKey;
use landline_sip::{Listener, Transport};

use crate::{HostPort, ListenerConfig, ProxyConfig, StartError};

/// A client listener after it was bound.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) transport: Transport,
    pub(crate) local: SocketAddr,
    pub(crate) advertised: HostPort,
}

impl Bound {
    pub(crate) fn new(wanted: &ListenerConfig, local: SocketAddr) -> Result<Self, StartError> {
        let transport = wanted.transport;
        let advertised = match &wanted.advertised {
            Some(advertised) => advertised.clone(),
            None => {
                let missing = StartError::NoAdvertisedAddress { transport, address: local };
                reachable(local).ok_or(missing)?.into()
            }
        };
        Ok(Self { transport, local, advertised })
    }
}

/// The address a listener is reached at: the bound one, or for a listener on
/// every address the one that the machine sends from.
fn reachable(local: SocketAddr) -> Option<SocketAddr> {
    if !local.ip().is_unspecified() {
        return Some(local);
    }
    // Connecting a datagram socket sends nothing; documentation addresses of
    // RFC 5737 and RFC 3849 stand for the world outside.
    let (any, outside) = match local {
        SocketAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        SocketAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = UdpSocket::bind(any).ok()?;
    let outward = socket.connect(outside).and_then(|()| socket.local_addr()).ok()?;
    Some(SocketAddr::new(outward.ip(), local.port()))
}

pub(crate) fn endpoint_listeners(bound: &[Bound]) -> Vec<Listener> {
    let listener = |bound: &Bound| Listener {
        transport: bound.transport,
        local: bound.local,
        advertised: (bound.advertised.host.clone(), bound.advertised.port),
    };
    bound.iter().map(listener).collect()
}

pub(crate) fn core_config(
    config: &ProxyConfig,
    bound: &[Bound],
    inter_region: Option<&HostPort>,
    pseudonyms: PseudonymKey,
    signing_key: [u8; 32],
    product: &str,
) -> CoreConfig {
    let address = |bound: &Bound| LocalAddress {
        transport: bound.transport,
        local: bound.local,
        host: bound.advertised.host.clone(),
        port: bound.advertised.port,
    };
    let limits = CoreLimits {
        calls: config.limits.calls,
        bindings_per_user: config.limits.contacts_per_user,
        voicemails_per_user: config.limits.voicemails_per_user,
        ..CoreLimits::default()
    };
    let timers = CoreTimers {
        no_answer: config.limits.ring,
        parked: config.limits.parked,
        message: config.limits.longest_message,
        min_expiry: config.limits.min_expiry,
        default_expiry: config.limits.default_expiry,
        max_expiry: config.limits.max_expiry,
        session: config.limits.session,
        min_session: config.limits.min_session,
        ..CoreTimers::default()
    };
    CoreConfig {
        addresses: bound.iter().map(address).collect(),
        inter_region: inter_region.map(|own| (own.host.clone(), own.port)),
        signing_key,
        push: config.push.as_ref().map(|it| it.policy.clone()),
        has_peers: !config.peers.is_empty(),
        transcoding: config.transcoding,
        codes: config.codes.clone(),
        product: Some(product.to_owned()),
        limits,
        timers,
        ..CoreConfig::new(config.region, config.name.clone(), pseudonyms)
    }
}
