//! What a configuration must be beyond its syntax.

use std::net::SocketAddr;
use std::path::Path;

use super::load::Finding;
use super::{Codes, Config, Problem, Proxy, Regions, Relay, Voicemail};

/// What a role wants of the files that the configuration names.
pub trait CheckFiles {
    /// Names every certificate, key or authority that cannot be read.
    fn missing_files(&self) -> Vec<Problem>;
}

impl CheckFiles for Config {
    fn missing_files(&self) -> Vec<Problem> {
        let mut config = self.clone();
        let read_at_start = |key: &str| {
            key.ends_with("ca") || key.ends_with(".certificate") || key.ends_with(".key")
        };
        config
            .paths_mut()
            .into_iter()
            .filter(|(key, _)| read_at_start(key))
            .filter_map(|(key, path)| unreadable(key, path))
            .collect()
    }
}

fn unreadable(key: &str, path: &Path) -> Option<Problem> {
    let error = std::fs::File::open(path).err()?;
    let text = format!(
        "{key}: {} cannot be read: {error}; `landline pki init` makes a set for trying out",
        path.display()
    );
    Some(Problem { line: None, text })
}

pub(super) fn config(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    if config.region.contracting_entity.trim().is_empty() {
        findings.add("region.contracting_entity", "wanted a name, as `Landline Ireland Ltd`");
    }
    at_least_one("database.retention_days", config.database.retention_days, &mut findings);
    if config.egress.minimum_group < 2 {
        findings.add("egress.minimum_group", "wanted 2 or more: a group of one is a person");
    }
    if let Some(backup) = &config.backup {
        at_least_one("backup.keep_days", backup.keep_days, &mut findings);
    }
    if config.proxy.is_none() && config.relay.is_none() && config.console.is_none() {
        findings.add(
            "region",
            "none of [proxy], [relay] and [console] follows: there is nothing to run",
        );
    }
    if let Some(proxy) = &config.proxy {
        check_proxy(proxy, &mut findings);
    }
    if let Some(relay) = &config.relay {
        check_relay(relay, &mut findings);
    }
    if let Some(console) = &config.console {
        let limits = &console.limits;
        at_least_one("console.limits.max_connections", limits.max_connections, &mut findings);
        let rate = limits.requests_per_second;
        at_least_one("console.limits.requests_per_second", rate, &mut findings);
        at_least_one("console.limits.burst", limits.burst, &mut findings);
        check_edges(console.phone.edges.as_deref().unwrap_or_default(), &mut findings);
    }
    check_sockets(config, &mut findings);
    if config.telemetry.log_level.parse::<tracing_subscriber::filter::Targets>().is_err() {
        findings.add(
            "telemetry.log_level",
            "wanted off, error, warn, info, debug or trace, or a list by module, as `info,landline_proxy=debug`",
        );
    }
    findings.0
}

pub(super) fn against_regions(config: &Config, regions: &Regions) -> Vec<Finding> {
    let mut findings = Findings::default();
    let code = config.region.code;
    match regions.find(code) {
        None => findings.add(
            "region.code",
            format!(
                "{code} is not in {}; known there: {}",
                config.directory.regions.display(),
                regions
                    .regions
                    .iter()
                    .map(|item| item.code.to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        ),
        Some(item) if item.jurisdiction != config.region.jurisdiction => findings.add(
            "region.jurisdiction",
            format!(
                "{} here, {} in {}; a region stands under one law",
                config.region.jurisdiction,
                item.jurisdiction,
                config.directory.regions.display()
            ),
        ),
        Some(_) => {}
    }
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.0.push((key.into(), text.into()));
    }
}

/// What a mailbox can be.
fn check_voicemail(voicemail: Voicemail, findings: &mut Findings) {
    let Voicemail { max_seconds, max_messages } = voicemail;
    if !(2..=3600).contains(&max_seconds) {
        findings.add("proxy.voicemail.max_seconds", "wanted 2 to 3600");
    }
    if !(1..=1000).contains(&max_messages) {
        findings.add("proxy.voicemail.max_messages", "wanted 1 to 1000");
    }
}

/// What phones can dial, and no two that could be meant by one number.
fn check_codes(codes: &Codes, findings: &mut Findings) {
    let is_code = |code: &str| {
        code.len() <= 6 && code.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'#'))
    };
    let all = [
        ("proxy.codes.pickup", &codes.pickup),
        ("proxy.codes.park", &codes.park),
        ("proxy.codes.voicemail", &codes.voicemail),
    ];
    for (key, code) in all {
        if !code.is_empty() && (!is_code(code) || !code.starts_with(['*', '#'])) {
            findings.add(key, "wanted `*` or `#` and up to five digits, `*` or `#`, or nothing");
        }
    }
    for (n, (key, code)) in all.iter().enumerate() {
        let begins = |other: &&(&str, &String)| {
            other.1.starts_with(code.as_str()) || code.starts_with(other.1.as_str())
        };
        let mut former = all[..n].iter().filter(|other| !other.1.is_empty());
        if let Some((other, _)) = former.find(begins).filter(|_| !code.is_empty()) {
            findings.add(*key, format!("begins as {other} does"));
        }
    }
    at_least_one("proxy.codes.park_seconds", codes.park_seconds, findings);
}

fn check_proxy(proxy: &Proxy, findings: &mut Findings) {
    check_proxy_name("proxy.name", &proxy.name, findings);
    if proxy.listen.is_empty() {
        findings.add("proxy.listen", "wanted at least one [[proxy.listen]]");
    }
    for (index, listen) in proxy.listen.iter().enumerate() {
        if listen.transport.is_secure() && proxy.tls.is_none() {
            let text = format!("{} needs [proxy.tls] with certificate and key", listen.transport);
            findings.add(format!("proxy.listen[{index}].transport"), text);
        }
        if listen.address.0.ip().is_unspecified() && listen.advertise.is_none() {
            let text = "every address of the machine: `advertise = \"HOST:PORT\"` must say what peers are told";
            findings.add(format!("proxy.listen[{index}].address"), text);
        }
    }
    if proxy.tls.as_ref().is_some_and(|it| it.require_client_certificate && it.client_ca.is_none())
    {
        let text = "needs `client_ca`: whose certificates are they to be?";
        findings.add("proxy.tls.require_client_certificate", text);
    }
    if let Some(push) = &proxy.push {
        let is_name = |name: &String| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        };
        if push.providers.is_empty() || !push.providers.iter().all(is_name) {
            findings.add("proxy.push.providers", "wanted names as `[\"apns\", \"fcm\"]`");
        }
        if !push.url.starts_with("https://") {
            findings.add("proxy.push.url", "wanted https://HOST[:PORT]/PATH");
        }
    }
    if proxy.inter_region.address.0.ip().is_unspecified() && proxy.inter_region.advertise.is_none()
    {
        let text = "every address of the machine: `advertise = \"HOST:PORT\"` must say where other regions connect";
        findings.add("proxy.inter_region.address", text);
    }
    if proxy.relays.is_empty() {
        findings.add("proxy.relays", "wanted at least one [[proxy.relays]]: calls need a relay");
    }
    for (index, link) in proxy.relays.iter().enumerate() {
        check_name(&format!("proxy.relays[{index}].name"), &link.name, findings);
        if proxy.relays[..index].iter().any(|earlier| earlier.name == link.name) {
            findings
                .add(format!("proxy.relays[{index}].name"), "another relay has this name already");
        }
    }
    for (index, origin) in proxy.origins.iter().flatten().enumerate() {
        if origin != "*"
            && let Err(error) = origin.parse::<landline_proxy::Origin>()
        {
            findings.add(format!("proxy.origins[{index}]"), error.to_string());
        }
    }
    check_codes(&proxy.codes, findings);
    check_voicemail(proxy.voicemail, findings);
    let registrar = &proxy.registrar;
    let ordered = registrar.min_expires_seconds <= registrar.default_expires_seconds
        && registrar.default_expires_seconds <= registrar.max_expires_seconds;
    if registrar.min_expires_seconds == 0 || !ordered {
        findings.add(
            "proxy.registrar",
            "wanted 0 < min_expires_seconds ≤ default_expires_seconds ≤ max_expires_seconds",
        );
    }
    at_least_one(
        "proxy.registrar.max_contacts_per_user",
        registrar.max_contacts_per_user,
        findings,
    );
    at_least_one("proxy.limits.max_calls", proxy.limits.max_calls, findings);
    at_least_one("proxy.limits.max_connections", proxy.limits.max_connections, findings);
    at_least_one("proxy.limits.ring_timeout_seconds", proxy.limits.ring_timeout_seconds, findings);
    let (least, interval) =
        (proxy.limits.min_session_expires_seconds, proxy.limits.session_expires_seconds);
    if least < 90 || interval < least {
        findings.add(
            "proxy.limits",
            "wanted 90 ≤ min_session_expires_seconds ≤ session_expires_seconds (RFC 4028 §4)",
        );
    }
    check_peers(proxy, findings);
    let abandoned_after = proxy.limits.abandoned_after_minutes;
    at_least_one("proxy.limits.abandoned_after_minutes", abandoned_after, findings);
    let longest_wait = proxy.limits.longest_wait_milliseconds;
    at_least_one("proxy.limits.longest_wait_milliseconds", longest_wait, findings);
}

/// They stand in the page's Content-Security-Policy: nothing may follow the port.
fn check_edges(edges: &[String], findings: &mut Findings) {
    for (index, edge) in edges.iter().enumerate() {
        let origin = edge.strip_prefix("wss://").map(|rest| format!("https://{rest}"));
        let fits = origin.is_some_and(|origin| {
            !origin.ends_with(":*") && origin.parse::<landline_proxy::Origin>().is_ok()
        });
        if !fits {
            let text = format!("`{edge}` is no edge: wanted wss://HOST or wss://HOST:PORT");
            findings.add(format!("console.phone.edges[{index}]"), text);
        }
    }
}

fn check_peers(proxy: &Proxy, findings: &mut Findings) {
    match (&proxy.peering, proxy.peers.is_empty()) {
        (None, false) => findings.add(
            "proxy.peering",
            "wanted IP:PORT, where the proxies of [[proxy.peers]] connect: a call is held by both or by none",
        ),
        (Some(_), true) => findings.add(
            "proxy.peers",
            "wanted the region's other proxies as [[proxy.peers]]: nobody else is let in at `proxy.peering`",
        ),
        _ => {}
    }
    for (index, peer) in proxy.peers.iter().enumerate() {
        let key = format!("proxy.peers[{index}].name");
        check_proxy_name(&key, &peer.name, findings);
        let is_same = |name: &str| name.eq_ignore_ascii_case(&peer.name);
        if is_same(&proxy.name) {
            findings.add(key, "is this proxy: wanted the others of the region");
        } else if proxy.peers[..index].iter().any(|earlier| is_same(&earlier.name)) {
            findings.add(key, "another peer has this name already");
        }
    }
}

fn check_relay(relay: &Relay, findings: &mut Findings) {
    check_name("relay.name", &relay.name, findings);
    if relay.media.is_empty() {
        findings.add("relay.media", "wanted at least one [[relay.media]] with an address");
    }
    for (index, media) in relay.media.iter().enumerate() {
        if media.address.is_unspecified() && media.advertise.is_none() {
            let text = "every address of the machine: `advertise = \"IP\"` must say what SDP names";
            findings.add(format!("relay.media[{index}].address"), text);
        }
        if media.advertise.is_some_and(|ip| ip.is_ipv4() != media.address.is_ipv4()) {
            let text = "wanted an address of the same family as `address`";
            findings.add(format!("relay.media[{index}].advertise"), text);
        }
    }
    if relay.shards > 256 {
        findings.add("relay.shards", "wanted 0 (one for each processor) to 256");
    }
    if relay.ice_port.is_some() && relay.shards == 0 {
        let text = "wanted a number beside `ice_port`: each shard has a port from there on, and 0 makes as many as the machine has processors";
        findings.add("relay.shards", text);
    }
    if let Some(first) = relay.ice_port
        && ice_ports(first, relay).is_none()
    {
        let text = format!("wanted 1 to 65535, with a port for each shard from there on: {first}");
        findings.add("relay.ice_port", text);
    }
    at_least_one("relay.limits.max_sessions", relay.limits.max_sessions, findings);
    at_least_one("relay.timeouts.media_seconds", relay.timeouts.media_seconds, findings);
}

/// One for each shard.
fn ice_ports(first: u16, relay: &Relay) -> Option<std::ops::RangeInclusive<u16>> {
    let last = first.checked_add(relay.shards.max(1) - 1)?;
    (first > 0).then_some(first..=last)
}

/// Names stand in records and metrics.
fn check_name(key: &str, name: &str, findings: &mut Findings) {
    let fine = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !fine {
        findings.add(key, format!("`{name}` is no name: wanted 1 to 63 letters, digits, `-`, `.` or `_`, as `ie1-proxy-1`"));
    }
}

/// Stands in the proxy's certificate too, as `NAME.REGION.landline.internal`.
fn check_proxy_name(key: &str, name: &str, findings: &mut Findings) {
    check_name(key, name, findings);
    if name.contains('.') || ["proxy", "relay"].iter().any(|role| name.eq_ignore_ascii_case(role)) {
        let text = format!(
            "`{name}` cannot stand in a certificate as a host: wanted a name without a dot that is no role's, as `ie1-proxy-1`"
        );
        findings.add(key, text);
    }
}

fn at_least_one(key: &str, value: u32, findings: &mut Findings) {
    if value == 0 {
        findings.add(key, "wanted 1 or more");
    }
}

/// No two sockets of this file may want the same port.
fn check_sockets(config: &Config, findings: &mut Findings) {
    let mut taken: Vec<(String, bool, SocketAddr)> = Vec::new();
    let mut take = |key: String, udp: bool, address: SocketAddr| {
        // A relay's own listeners keep to their family.
        let apart = |other_key: &str, other: SocketAddr| {
            other_key == key && other.is_ipv4() != address.is_ipv4()
        };
        let clash = taken.iter().find(|(other_key, other_udp, other)| {
            *other_udp == udp
                && other.port() == address.port()
                && !apart(other_key, *other)
                && (other.ip() == address.ip()
                    || other.ip().is_unspecified()
                    || address.ip().is_unspecified())
        });
        if let Some((other, ..)) = clash {
            findings
                .add(&key, format!("{address} is taken by {other}; each needs a port of its own"));
        }
        let in_media_range = config
            .relay
            .as_ref()
            .filter(|relay| udp && relay.ports.contains(address.port()))
            .map(|relay| relay.ports);
        if let Some(range) = in_media_range {
            findings.add(&key, format!("port {} lies within relay.ports {range}", address.port()));
        }
        taken.push((key, udp, address));
    };
    if let Some(proxy) = &config.proxy {
        for (index, listen) in proxy.listen.iter().enumerate() {
            let udp = listen.transport == super::Transport::Udp;
            take(format!("proxy.listen[{index}].address"), udp, listen.address.0);
        }
        take("proxy.inter_region.address".to_owned(), false, proxy.inter_region.address.0);
        if let Some(peering) = &proxy.peering {
            take("proxy.peering".to_owned(), false, peering.0);
        }
    }
    if let Some(relay) = &config.relay {
        take("relay.control".to_owned(), false, relay.control.0);
        for (media, port) in relay.media.iter().zip(relay.tcp_port.iter().cycle()) {
            take("relay.tcp_port".to_owned(), false, SocketAddr::new(media.address, *port));
        }
        let ice = relay.ice_port.and_then(|first| ice_ports(first, relay));
        for media in &relay.media {
            for port in ice.clone().into_iter().flatten() {
                take("relay.ice_port".to_owned(), true, SocketAddr::new(media.address, port));
            }
        }
    }
    if let Some(console) = &config.console {
        take("console.address".to_owned(), false, console.address.0);
    }
    let telemetry = [
        ("telemetry.address", config.telemetry.address),
        ("telemetry.relay_address", config.telemetry.relay_address),
    ];
    for (key, address) in telemetry {
        if let Some(address) = address {
            take(key.to_owned(), false, address.0);
        }
    }
}
