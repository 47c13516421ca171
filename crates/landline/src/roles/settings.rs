//! From the configuration's words to those of the relay and the proxy.

use std::sync::Arc;
use std::time::Duration;

use landline_call::{FeatureCodes, PeerId};
use landline_console::{CallControl, ConsoleConfig};
use landline_control::RelayId;
use landline_proxy::{
    DnsConfig, InterRegionListener, ListenerConfig, Origins, PeerAddress, ProxyConfig,
    RegionIdentity, RelayAddress,
};
use landline_relay::{MediaAddress, RecordingSink, RelayConfig, SoundSource};
use landline_store::Store;
use prometheus::Registry;

use crate::config::{
    ClientTls, Config, Console, Engine, KeyPair, Listen, Proxy, Regions, Relay, Transport,
};

pub fn relay(
    config: &Config,
    relay: &Relay,
    recordings: Arc<dyn RecordingSink>,
    sounds: Arc<dyn SoundSource>,
    registry: &Registry,
) -> RelayConfig {
    let tls = landline_relay::TlsFiles {
        certificate: relay.identity.certificate.clone(),
        key: relay.identity.key.clone(),
        authorities: config.ca.clone(),
    };
    let media: Vec<MediaAddress> = relay
        .media
        .iter()
        .map(|media| MediaAddress {
            bind: media.address,
            advertise: media.advertise.unwrap_or(media.address),
        })
        .collect();
    let name = RelayId(relay.name.clone());
    let first = media.first().copied().unwrap_or(MediaAddress::direct(relay.control.0.ip()));
    let mut settings = RelayConfig::new(name, config.region.code, tls, first);
    settings.media = media;
    settings.control_listen = relay.control.0;
    settings.ports = relay.ports.first..=relay.ports.last;
    settings.ice_port = relay.ice_port;
    settings.stream_port = relay.tcp_port;
    settings.dtls_1_3 = relay.dtls_1_3;
    settings.engine = match relay.engine {
        Engine::Epoll => landline_relay::Engine::Epoll,
        Engine::IoUring => landline_relay::Engine::IoUring,
    };
    settings.shards = (relay.shards > 0).then_some(usize::from(relay.shards));
    settings.limits.sessions = relay.limits.max_sessions as usize;
    settings.media_timeout = seconds(relay.timeouts.media_seconds);
    settings.port_quarantine = seconds(relay.timeouts.port_quarantine_seconds);
    settings.recordings = Some(recordings);
    settings.sounds = Some(sounds);
    settings.registry = registry.clone();
    settings
}

pub fn proxy(
    config: &Config,
    proxy: &Proxy,
    regions: &Regions,
    store: Store,
    registry: &Registry,
) -> ProxyConfig {
    let relays = proxy
        .relays
        .iter()
        .map(|link| RelayAddress { id: RelayId(link.name.clone()), control: link.address.clone() })
        .collect();
    let peers = proxy
        .peers
        .iter()
        .map(|link| PeerAddress { id: PeerId(link.name.clone()), address: link.address.clone() });
    let peers = peers.collect();
    ProxyConfig {
        name: proxy.name.clone(),
        region: config.region.code,
        listeners: listeners(proxy),
        keeper: None,
        client_tls: proxy.tls.as_ref().map(client_tls),
        origins: origins(proxy, regions),
        identity: RegionIdentity {
            files: tls_files(&proxy.identity),
            authorities: config.ca.clone(),
        },
        inter_region: Some(InterRegionListener {
            bind: proxy.inter_region.address.0,
            advertised: proxy.inter_region.advertise.clone(),
        }),
        relays,
        peering: proxy.peering.map(|address| address.0),
        peers,
        store,
        ledger: config.data_dir.join("ledger"),
        directory: config.directory.snapshot.clone(),
        dns: match proxy.dns_servers.is_empty() {
            true => DnsConfig::System,
            false => DnsConfig::Servers(proxy.dns_servers.iter().map(|server| server.0).collect()),
        },
        trunk_authorities: proxy.trunk_ca.clone(),
        transcoding: proxy.transcoding,
        codes: FeatureCodes {
            pickup: proxy.codes.pickup.clone(),
            park: proxy.codes.park.clone(),
            voicemail: proxy.codes.voicemail.clone(),
        },
        push: None,
        limits: limits(proxy),
        registry: registry.clone(),
    }
}

/// Where clients and carriers come in.
pub fn listeners(proxy: &Proxy) -> Vec<ListenerConfig> {
    let listener = |listen: &Listen| ListenerConfig {
        transport: transport(listen.transport),
        bind: listen.address.0,
        advertised: listen.advertise.clone(),
    };
    proxy.listen.iter().map(listener).collect()
}

/// Who may open a WebSocket: where nothing is said, the regions' own pages.
pub fn origins(proxy: &Proxy, regions: &Regions) -> Origins {
    let consoles = || {
        let consoles = regions.regions.iter().filter_map(|region| region.console.as_deref());
        consoles.map(origin_of).collect()
    };
    let texts: Vec<&str> = match &proxy.origins {
        Some(list) => list.iter().map(String::as_str).collect(),
        None => consoles(),
    };
    match texts.contains(&"*") {
        true => Origins::Any,
        false => Origins::These(texts.iter().filter_map(|text| text.parse().ok()).collect()),
    }
}

/// A console's URL may have a path; an origin has none.
fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/')).map(|at| host + at);
    end.and_then(|end| url.get(..end)).unwrap_or(url)
}

/// The web phone, where browsers have a way in.
fn phone(config: &Config, console: &Console) -> Option<landline_console::Phone> {
    let edges = console.phone.edges.clone().unwrap_or_else(|| {
        let proxies = config.proxy.iter().flat_map(|proxy| &proxy.listen);
        let secure = proxies.filter(|listen| listen.transport == Transport::Wss);
        let url = |listen: &Listen| match &listen.advertise {
            Some(advertised) => format!("wss://{advertised}"),
            None => format!("wss://{}", listen.address.0),
        };
        secure.map(url).collect()
    });
    let file = |file: &landline_webphone::File| landline_console::PhoneFile {
        path: file.path,
        media_type: file.media_type,
        bytes: file.bytes,
    };
    let files = landline_webphone::FILES.iter().map(file).collect();
    // A console alone takes its region's proxies to have the usual code.
    let usual = || landline_call::FeatureCodes::default().voicemail;
    let code = config.proxy.as_ref().map_or_else(usual, |proxy| proxy.codes.voicemail.clone());
    let voicemail_code = (!code.is_empty()).then_some(code);
    (!edges.is_empty()).then_some(landline_console::Phone { files, edges, voicemail_code })
}

pub fn console(
    config: &Config,
    console: &Console,
    store: Store,
    calls: Option<Arc<dyn CallControl>>,
    registry: &Registry,
) -> ConsoleConfig {
    let limits = &console.limits;
    ConsoleConfig {
        region: landline_console::RegionInfo {
            code: config.region.code,
            jurisdiction: config.region.jurisdiction,
            contracting_entity: config.region.contracting_entity.clone(),
            data_protection_officer: config.region.data_protection_officer.clone(),
        },
        listen: console.address.0,
        tls: landline_console::TlsFiles {
            certificate: console.tls.certificate.clone(),
            key: console.tls.key.clone(),
        },
        store,
        directory: config.directory.snapshot.clone(),
        calls,
        limits: landline_console::Limits {
            connections: limits.max_connections as usize,
            requests_per_second: limits.requests_per_second,
            burst: limits.burst,
        },
        webhooks: landline_console::WebhookConfig {
            allow: console.webhooks.allow.clone(),
            authorities: console.webhooks.ca.clone(),
            ..landline_console::WebhookConfig::default()
        },
        phone: phone(config, console),
        registry: registry.clone(),
    }
}

pub fn limits(proxy: &Proxy) -> landline_proxy::Limits {
    let (limits, registrar) = (&proxy.limits, &proxy.registrar);
    landline_proxy::Limits {
        connections: limits.max_connections as usize,
        calls: limits.max_calls as usize,
        ring: seconds(limits.ring_timeout_seconds),
        parked: seconds(proxy.codes.park_seconds),
        longest_message: seconds(proxy.voicemail.max_seconds),
        voicemails_per_user: proxy.voicemail.max_messages,
        session: seconds(limits.session_expires_seconds),
        min_session: seconds(limits.min_session_expires_seconds),
        longest_wait: Duration::from_millis(u64::from(limits.longest_wait_milliseconds)),
        emergency_numbers: limits.emergency_numbers.clone(),
        abandoned_after: Duration::from_secs(60 * u64::from(limits.abandoned_after_minutes)),
        min_expiry: seconds(registrar.min_expires_seconds),
        default_expiry: seconds(registrar.default_expires_seconds),
        max_expiry: seconds(registrar.max_expires_seconds),
        contacts_per_user: registrar.max_contacts_per_user as usize,
        ..landline_proxy::Limits::default()
    }
}

pub fn tls_files(pair: &KeyPair) -> landline_proxy::TlsFiles {
    landline_proxy::TlsFiles { certificate: pair.certificate.clone(), key: pair.key.clone() }
}

pub fn client_tls(tls: &ClientTls) -> landline_proxy::ClientTls {
    let pair = KeyPair { certificate: tls.certificate.clone(), key: tls.key.clone() };
    let required = tls.require_client_certificate;
    let clients = tls.client_ca.clone();
    landline_proxy::ClientTls {
        files: tls_files(&pair),
        others: tls.also.iter().map(tls_files).collect(),
        clients: clients
            .map(|authorities| landline_proxy::ClientCertificates { authorities, required }),
    }
}

const fn transport(transport: Transport) -> landline_proxy::Transport {
    match transport {
        Transport::Udp => landline_proxy::Transport::Udp,
        Transport::Tcp => landline_proxy::Transport::Tcp,
        Transport::Tls => landline_proxy::Transport::Tls,
        Transport::Ws => landline_proxy::Transport::Ws,
        Transport::Wss => landline_proxy::Transport::Wss,
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}
