//! The ports that legs with ICE share, so that browsers take no pair: one for
//! each shard on each media address.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::config::{RelayConfig, StartError};

/// A socket of one shard.
#[derive(Debug)]
pub(crate) struct IceSocket<S> {
    pub socket: S,
    pub port: u16,
    /// Index of the media address in the configuration.
    pub address: usize,
}

/// Binds them all: for each shard, those of each media address.
pub(crate) fn bind<S>(
    config: &RelayConfig,
    shards: usize,
    socket: impl Fn(IpAddr, u16) -> io::Result<(S, u16)>,
) -> Result<Vec<Vec<IceSocket<S>>>, StartError> {
    let mut all: Vec<Vec<IceSocket<S>>> = (0..shards).map(|_| Vec::new()).collect();
    for (address, media) in config.media.iter().enumerate() {
        let bind = |port| {
            let (socket, port) = socket(media.bind, port)?;
            Ok(IceSocket { socket, port, address })
        };
        let mut range = config.ports.clone();
        for (shard, sockets) in all.iter_mut().enumerate() {
            sockets.push(match config.ice_port {
                Some(first) => {
                    let port = nth(first, shard).ok_or(StartError::IcePorts { first, shards })?;
                    let at = SocketAddr::new(media.bind, port);
                    bind(port).map_err(|source| StartError::IceAddress { address: at, source })?
                }
                None => first_free(&mut range, bind).map_err(|source| StartError::NoIcePort {
                    address: media.bind,
                    first: *config.ports.start(),
                    last: *config.ports.end(),
                    shards,
                    source,
                })?,
            });
        }
    }
    Ok(all)
}

fn nth(first: u16, shard: usize) -> Option<u16> {
    match first {
        0 => Some(0),
        first => first.checked_add(u16::try_from(shard).ok()?),
    }
}

/// Others on the machine may have some of the range, a second relay say.
fn first_free<S>(
    range: &mut impl Iterator<Item = u16>,
    bind: impl Fn(u16) -> io::Result<S>,
) -> io::Result<S> {
    let mut problem = io::ErrorKind::AddrInUse.into();
    for port in range.filter(|port| *port >= 1024) {
        match bind(port) {
            Ok(bound) => return Ok(bound),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MediaAddress, TlsFiles};
    use landline_control::RelayId;

    fn config(ports: std::ops::RangeInclusive<u16>, ice_port: Option<u16>) -> RelayConfig {
        let files = || "unused".into();
        let tls = TlsFiles { certificate: files(), key: files(), authorities: files() };
        let media = |ip: &str| MediaAddress::direct(ip.parse().unwrap());
        let name = RelayId("relay-1".into());
        let mut config = RelayConfig::new(name, "ie1".parse().unwrap(), tls, media("192.0.2.1"));
        config.media.push(media("2001:db8::1"));
        (config.ports, config.ice_port) = (ports, ice_port);
        config
    }

    /// Which ports each shard gets, where others have `used` of them.
    fn bound(config: &RelayConfig, used: &[u16]) -> Result<Vec<Vec<u16>>, String> {
        let free = |_, port| match used.contains(&port) {
            true => Err(io::ErrorKind::AddrInUse.into()),
            false => Ok(((), port)),
        };
        let all = bind(config, 3, free).map_err(|error| error.to_string())?;
        Ok(all.iter().map(|of| of.iter().map(|it| it.port).collect()).collect())
    }

    #[test]
    fn each_shard_has_the_next_port_on_each_address() {
        let exactly = config(4000..=4999, Some(3478));
        let ports = [[3478, 3478], [3479, 3479], [3480, 3480]];
        assert_eq!(bound(&exactly, &[]).unwrap(), ports);
        let message = bound(&exactly, &[3480]).unwrap_err();
        assert!(message.contains("relay.ice_port") && message.contains("192.0.2.1:3480"));
        let message = bound(&config(4000..=4999, Some(65_534)), &[]).unwrap_err();
        assert!(message.contains("relay.ice_port 65534"), "{message}");
    }

    #[test]
    fn where_none_is_named_the_first_free_ones_of_the_range_serve() {
        let ranged = config(4000..=4005, None);
        let ports = [[4000, 4000], [4002, 4002], [4005, 4005]];
        assert_eq!(bound(&ranged, &[4001, 4003, 4004]).unwrap(), ports);
        let message = bound(&ranged, &[4001, 4002, 4003, 4004]).unwrap_err();
        assert!(message.contains("4000-4005") && message.contains("relay.ports"), "{message}");
    }
}
