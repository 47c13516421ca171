//! Where a SIP URI leads: RFC 3263.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use landline_region::{Entropy, Seed};
use landline_sip::{Scheme, Target, Transport, Uri};

use crate::{DnsConfig, StartError};

/// Addresses tried for one request: past them the caller has hung up.
const MOST_TARGETS: usize = 12;
/// SRV and NAPTR records looked at of one answer.
const MOST_RECORDS: usize = 32;

pub(crate) struct Dns {
    resolver: TokioResolver,
    hosts: Hosts,
    entropy: Mutex<Entropy>,
    /// Transports we can send requests by, best first (RFC 3263 §4.1 leaves the
    /// order to us where the domain states none).
    transports: Vec<Transport>,
}

impl Dns {
    pub(crate) fn new(
        config: &DnsConfig,
        transports: &[Transport],
        seed: Seed,
    ) -> Result<Self, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Dns(error.to_string());
        let mut builder = match config {
            DnsConfig::System => TokioResolver::builder_tokio().map_err(|error| failed(&error))?,
            DnsConfig::Servers(servers) => {
                let servers = servers.iter().map(|server| name_server(*server)).collect();
                TokioResolver::builder_with_config(
                    ResolverConfig::from_parts(None, Vec::new(), servers),
                    TokioRuntimeProvider::default(),
                )
            }
        };
        // Timer B gives a request 32 s; a dead server may not eat them.
        builder.options_mut().timeout = Duration::from_secs(2);
        builder.options_mut().attempts = 2;
        let resolver = builder.build().map_err(|error| failed(&error))?;
        let order = [Transport::Udp, Transport::Tcp, Transport::Tls];
        Ok(Self {
            resolver,
            hosts: Hosts::from_system().unwrap_or_default(),
            entropy: Mutex::new(Entropy::new(seed)),
            transports: order.into_iter().filter(|known| transports.contains(known)).collect(),
        })
    }

    /// What to try for a URI, best first; empty when nothing was found.
    pub(crate) async fn targets(&self, uri: &Uri) -> Vec<Target> {
        let Some(next_hop) = NextHop::of(uri) else {
            return Vec::new();
        };
        let mut targets = self.find(&next_hop).await;
        targets.truncate(MOST_TARGETS);
        targets
    }

    /// The addresses of a host name, as `/etc/hosts` or the DNS has them.
    pub(crate) async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(ip) = host.parse() {
            return vec![ip];
        }
        match self.resolver.lookup_ip(host).await {
            Ok(found) => found.iter().take(MOST_TARGETS).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// What comes of the first of a host's addresses that serves, or else of the
    /// last; `nowhere` if it has none.
    pub(crate) async fn first_of<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        host: &str,
        port: u16,
        nowhere: E,
        mut open: impl FnMut(SocketAddr) -> F,
    ) -> Result<T, E> {
        let mut last = nowhere;
        for ip in self.addresses(host).await {
            match open(SocketAddr::new(ip, port)).await {
                Ok(opened) => return Ok(opened),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn find(&self, hop: &NextHop) -> Vec<Target> {
        let fallback = match hop.secure {
            true => Transport::Tls,
            false => Transport::Udp,
        };
        // RFC 3263 §4.1 and §4.2: a port or an address asks for no SRV.
        if hop.address().is_some() || hop.port.is_some() || self.is_local(&hop.host) {
            let transport = hop.transport.unwrap_or(fallback);
            return self.at(hop, &hop.host, transport, hop.port_for(transport)).await;
        }
        let services = match hop.transport {
            Some(transport) => vec![(service_name(&hop.host, transport, hop.secure), transport)],
            None => self.services(hop).await,
        };
        let mut targets = Vec::new();
        for (name, transport) in services {
            for SRV { port, target, .. } in self.services_at(&name).await {
                let host = target.to_utf8();
                targets.extend(self.at(hop, host.trim_end_matches('.'), transport, port).await);
                if targets.len() >= MOST_TARGETS {
                    return targets;
                }
            }
        }
        if targets.is_empty() {
            let transport = hop.transport.unwrap_or(fallback);
            targets = self.at(hop, &hop.host, transport, hop.port_for(transport)).await;
        }
        targets
    }

    /// The SRV names to ask: as the domain's NAPTR records order them, else as
    /// we prefer (§4.1).
    async fn services(&self, hop: &NextHop) -> Vec<(String, Transport)> {
        let mut records = self.naptr(&hop.host).await;
        records.sort_by_key(|record| (record.order, record.preference));
        let stated: Vec<_> = records
            .iter()
            .filter_map(|record| {
                let transport = service_transport(&record.services)?;
                let usable =
                    self.transports.contains(&transport) && (!hop.secure || transport.is_secure());
                usable.then(|| (record.replacement.to_utf8(), transport))
            })
            .collect();
        if !stated.is_empty() {
            return stated;
        }
        let preferred = self.transports.iter().filter(|known| !hop.secure || known.is_secure());
        preferred
            .map(|transport| (service_name(&hop.host, *transport, hop.secure), *transport))
            .collect()
    }

    async fn naptr(&self, host: &str) -> Vec<NAPTR> {
        let Ok(answer) = self.resolver.lookup(absolute(host), RecordType::NAPTR).await else {
            return Vec::new();
        };
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::NAPTR(naptr) if naptr.flags.eq_ignore_ascii_case(b"s") => Some(naptr.clone()),
            _ => None,
        });
        records.take(MOST_RECORDS).collect()
    }

    async fn services_at(&self, name: &str) -> Vec<SRV> {
        let Ok(answer) = self.resolver.lookup(absolute(name), RecordType::SRV).await else {
            return Vec::new();
        };
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            // A root target: the service is decidedly not there (RFC 2782).
            RData::SRV(srv) if !srv.target.is_root() => Some(srv.clone()),
            _ => None,
        });
        let records = records.take(MOST_RECORDS).collect();
        let mut entropy = self.entropy.lock().unwrap_or_else(PoisonError::into_inner);
        in_order(records, || entropy.u64())
    }

    /// A TLS peer must prove the name that was asked for, not the one that an
    /// unauthenticated record led to (RFC 5922 §4).
    async fn at(&self, hop: &NextHop, host: &str, transport: Transport, port: u16) -> Vec<Target> {
        let named = transport.is_secure() && hop.address().is_none();
        let server_name = named.then(|| Arc::from(hop.host.as_str()));
        let to_target = |ip| Target {
            transport,
            addr: SocketAddr::new(ip, port),
            server_name: server_name.clone(),
        };
        self.addresses(host).await.into_iter().map(to_target).collect()
    }

    /// Names of this machine's own making have no NAPTR and SRV records, and no
    /// server need be asked.
    fn is_local(&self, host: &str) -> bool {
        let Ok(mut name) = Name::from_utf8(host) else {
            return false;
        };
        name.set_fqdn(true);
        let known =
            |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)).is_some();
        name.is_localhost() || known(RecordType::A) || known(RecordType::AAAA)
    }
}

/// The part of a URI that RFC 3263 looks at.
struct NextHop {
    host: String,
    port: Option<u16>,
    transport: Option<Transport>,
    secure: bool,
}

impl NextHop {
    fn of(uri: &Uri) -> Option<Self> {
        let secure = match uri.scheme {
            Scheme::Sip => false,
            Scheme::Sips => true,
            _ => return None,
        };
        let stated = match uri.param("transport") {
            None => None,
            Some(name) => Some(Transport::parse(name)?),
        };
        // `sips:…;transport=tcp` is TLS over TCP (RFC 3261 §26.2.2).
        let transport = match stated {
            Some(Transport::Tcp) if secure => Some(Transport::Tls),
            Some(Transport::Udp) if secure => return None,
            other => other,
        };
        let host = uri.param("maddr").map_or_else(|| uri.host.to_string(), str::to_owned);
        let host = host.trim_matches(['[', ']']).to_owned();
        Some(Self { host, port: uri.port, transport, secure })
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn port_for(&self, transport: Transport) -> u16 {
        self.port.unwrap_or(transport.default_port())
    }
}

fn service_name(host: &str, transport: Transport, secure: bool) -> String {
    match transport {
        Transport::Tls => format!("_sips._tcp.{host}"),
        Transport::Tcp if secure => format!("_sips._tcp.{host}"),
        Transport::Tcp => format!("_sip._tcp.{host}"),
        Transport::Ws => format!("_sip._ws.{host}"),
        Transport::Wss => format!("_sips._wss.{host}"),
        Transport::Udp => format!("_sip._udp.{host}"),
    }
}

/// The services of RFC 3263 §4.1 that we speak.
fn service_transport(services: &[u8]) -> Option<Transport> {
    let known: [(&[u8], Transport); 3] =
        [(b"SIP+D2U", Transport::Udp), (b"SIP+D2T", Transport::Tcp), (b"SIPS+D2T", Transport::Tls)];
    let found = known.iter().find(|(name, _)| services.eq_ignore_ascii_case(name));
    found.map(|(_, transport)| *transport)
}

/// RFC 2782: by priority; within one, drawn one after the other with the
/// chance of each by its weight, zero weights with a small one.
fn in_order(mut records: Vec<SRV>, mut random: impl FnMut() -> u64) -> Vec<SRV> {
    records.sort_by_key(|record| (record.priority, Reverse(record.weight)));
    let mut ordered: Vec<SRV> = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let same = records.iter().take_while(|record| record.priority == priority).count();
        let chance = |record: &SRV| u64::from(record.weight) * 100 + 1;
        let total: u64 = records.iter().take(same).map(chance).sum();
        let mut drawn = random() % total.max(1);
        let mut index = 0;
        for record in records.iter().take(same) {
            if drawn < chance(record) {
                break;
            }
            drawn -= chance(record);
            index += 1;
        }
        ordered.push(records.remove(index.min(same - 1)));
    }
    ordered
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())];
    NameServerConfig::new(server.ip(), true, connections)
}

/// Service names are never looked for under the machine's own search domains.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
