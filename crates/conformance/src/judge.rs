//! The search of everything, and what passed between regions against what is
//! declared to pass.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use landline_residency::{
    Fact, Flow, FlowKey, FlowLine, PlaceKind, Report, Search, decrypted_streams, read_flows,
    scan_database,
};

use crate::cast::{BETWEEN, OUTSIDE, SHARED};
use crate::net::Network;
use crate::region::{CONSOLE, INTER_REGION, MEDIA, Region, SIPS, Shared};
use crate::wire;

/// Searches it all; the flows between regions.
pub fn everything(
    search: &mut Search<'_>,
    shared: &Shared<'_>,
    regions: &[Region<'_>],
    captures: &Path,
    facts: &mut Vec<Fact>,
) -> Result<Vec<FlowLine>> {
    let mut dumps = Vec::new();
    for region in regions {
        at_home(search, shared, region)?;
        made_to_leave(search, region)?;
        let code = region.code();
        dumps.extend(region.cores.iter().map(|(role, _)| format!("{code}'s {role}")));
    }
    let made = !dumps.is_empty();
    let text = format!("crash dumps of {}", if made { dumps.join(", ") } else { "none".into() });
    facts.push(Fact { holds: made, text });
    search.directory(SHARED, &shared.directory.join("shared"), None)?;
    let mut lines = Vec::new();
    for region in regions {
        let file = wire::file(captures, region.code());
        lines.extend(link(search, shared.network, region.code(), &file)?);
        decrypted(search, shared.network, region.code(), &file, &shared.keys, facts)?;
    }
    Ok(lines)
}

fn at_home(search: &mut Search<'_>, shared: &Shared<'_>, region: &Region<'_>) -> Result<()> {
    let code = region.code();
    search.directory(code, &region.directory, None)?;
    search.directory(code, &shared.directory.join("pki").join(code), None)?;
    scan_database(search, code, &region.database_url())?;
    if let Some(cluster) = region.cluster() {
        search.directory(code, &cluster.join("data"), Some(PlaceKind::DatabaseFile))?;
        search.file(code, PlaceKind::Log, "PostgreSQL's log", &cluster.join("log"))?;
    }
    for (name, octets) in &region.listings {
        search.octets(code, PlaceKind::Listing, name, octets);
    }
    Ok(())
}

/// Metrics, health, receipts, reports and logs: nobody is named in them, at
/// home no more than elsewhere.
fn made_to_leave(search: &mut Search<'_>, region: &Region<'_>) -> Result<()> {
    let code = region.code();
    for (name, octets) in &region.pages {
        search.octets(OUTSIDE, PlaceKind::Metrics, &format!("{code}'s {name}"), octets);
    }
    for (name, octets) in &region.handed_out {
        search.octets(OUTSIDE, PlaceKind::Listing, &format!("{code}'s {name}"), octets);
    }
    for role in region.roles() {
        let log = format!("{code}/{role}.log");
        let path = region.directory.join(format!("{role}.log"));
        search.file(OUTSIDE, PlaceKind::Log, &log, &path)?;
    }
    Ok(())
}

/// Messages "port unreachable" (RFC 792) about packets from relay to relay: a
/// call has ended, its port is closed, and the kernel quotes what still came.
fn is_refusal_of_media(messages: &[u8]) -> bool {
    let word = |octets: &[u8], at: usize| {
        let pair = octets.get(at..at + 2)?;
        Some(pair.iter().fold(0, |word, octet| word << 8 | u16::from(*octet)))
    };
    let mut rest = messages;
    while let [3, 3, _, _, _, _, _, _, quoted @ ..] = rest {
        let is_udp = quoted.first() == Some(&0x45) && quoted.get(9) == Some(&17);
        let from_relay_to_relay = [20, 22]
            .into_iter()
            .all(|at| word(quoted, at).is_some_and(|port| MEDIA.contains(&port)));
        let Some(after) = word(quoted, 2).and_then(|length| quoted.get(usize::from(length)..))
        else {
            return false;
        };
        if !is_udp || !from_relay_to_relay {
            return false;
        }
        rest = after;
    }
    rest.is_empty() && !messages.is_empty()
}

/// One region's link: its clients' flows, and those to other regions.
pub fn link(
    search: &mut Search<'_>,
    network: &Network,
    region: &str,
    capture: &Path,
) -> Result<Vec<FlowLine>> {
    let mut lines: BTreeMap<(String, String, String), FlowLine> = BTreeMap::new();
    for (key, flow) in read_flows(capture)? {
        let ends = [key.from, key.to].map(|end| network.region_of(end.ip()));
        let name = format!("{} > {}, protocol {}", key.from, key.to, key.protocol);
        match ends {
            [Some(from), Some(to)] if from != to => {
                // On both links; what left is judged where it left.
                if from == region {
                    let name = format!("{from} > {to}: {name}");
                    search.octets(BETWEEN, PlaceKind::Capture, &name, &flow.payload);
                    count(&mut lines, from, to, &key, &flow);
                }
            }
            _ => {
                let name = format!("client of {region}: {name}");
                search.octets(region, PlaceKind::Capture, &name, &flow.payload);
            }
        }
    }
    Ok(lines.into_values().collect())
}

fn count(
    lines: &mut BTreeMap<(String, String, String), FlowLine>,
    from: &str,
    to: &str,
    key: &FlowKey,
    flow: &Flow,
) {
    let ports = [key.from.port(), key.to.port()];
    let is_sip = key.protocol == 6 && ports.contains(&INTER_REGION) && is_tls(&flow.payload);
    let is_media = key.protocol == 17 && ports.iter().all(|port| MEDIA.contains(port));
    let is_refusal = key.protocol == 1 && is_refusal_of_media(&flow.payload);
    let what = match (is_sip, is_media, is_refusal) {
        (true, ..) => "SIP over mTLS".to_owned(),
        (_, true, _) => "SRTP from relay to relay".to_owned(),
        (.., true) => "ICMP, SRTP quoted that came after a call's end".to_owned(),
        _ => format!("protocol {}, port {} to {}", key.protocol, ports[0], ports[1]),
    };
    let line = lines.entry((from.to_owned(), to.to_owned(), what.clone())).or_insert(FlowLine {
        from: from.to_owned(),
        to: to.to_owned(),
        what,
        connections: 0,
        packets: 0,
        octets: 0,
        declared: is_sip || is_media || is_refusal,
    });
    line.connections += 1;
    line.packets += flow.packets;
    line.octets += flow.octets;
}

/// Records of RFC 8446 §5.1 from beginning to end, and nothing else.
fn is_tls(octets: &[u8]) -> bool {
    let mut rest = octets;
    while let [kind, 3, _, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(20..=23).contains(kind) {
            return false;
        }
        // The last record may be cut by a death or by the capture's end.
        rest = more.get(length..).unwrap_or_default();
    }
    rest.len() < 5
}

/// The TLS of a link with the secrets that the proxies revealed.
pub fn decrypted(
    search: &mut Search<'_>,
    network: &Network,
    region: &str,
    capture: &Path,
    keys: &Path,
    facts: &mut Vec<Fact>,
) -> Result<()> {
    let (mut opened, mut opaque, mut octets) = (0, 0, 0);
    for stream in decrypted_streams(capture, keys, &[INTER_REGION, SIPS, CONSOLE])? {
        let ends = [stream.client, stream.server].map(|end| network.region_of(end.ip()));
        let (held_by, [client, server]) = match ends {
            [Some(client), Some(server)] if client == region => {
                let said = stream.is_opened();
                opened += usize::from(said);
                opaque += usize::from(!said);
                (BETWEEN, [client, server].map(str::to_owned))
            }
            [Some(_), Some(_)] => continue,
            _ => (region, [format!("client of {region}"), region.to_owned()]),
        };
        let sides = [&stream.from_client, &stream.from_server];
        for (way, side) in [[&client, &server], [&server, &client]].into_iter().zip(sides) {
            octets += side.len();
            let name = tls(way[0], way[1], stream.server.port());
            search.octets(held_by, PlaceKind::Decrypted, &name, side);
        }
    }
    let text = format!(
        "{region}: {opened} TLS connections to other regions decrypted, {opaque} without any \
         octet of application data; {octets} octets"
    );
    facts.push(Fact { holds: opened > 0, text });
    Ok(())
}

/// What went one way in the TLS connections to a port.
pub fn tls(from: &str, to: &str, port: u16) -> String {
    format!("{from} > {to}, TLS at port {port}")
}

/// A search that sees nothing at all proves nothing.
pub fn not_blind(report: &mut Report) {
    for kind in [
        PlaceKind::Database,
        PlaceKind::Backup,
        PlaceKind::Listing,
        PlaceKind::File,
        PlaceKind::Capture,
        PlaceKind::Decrypted,
        PlaceKind::CoreDump,
    ] {
        let own: u64 = report
            .searched
            .iter()
            .filter(|place| place.kind == kind)
            .map(|place| place.searched.own)
            .sum();
        let text =
            format!("a region's own canaries were seen in {own} places of kind {}", kind.name());
        report.fact(own > 0, text);
    }
    let forwarded = report
        .declared
        .iter()
        .filter(|it| it.exception.id.starts_with("edge-link"))
        .map(|it| it.hits)
        .sum::<u64>();
    report.fact(forwarded > 0, format!("{forwarded} declared hits in what edges forwarded"));
}

/// An exception that nothing needed would have covered a leak. What stays in
/// memory is a matter of chance.
pub fn nothing_declared_in_vain(report: &mut Report) {
    let vain: Vec<&str> = report
        .declared
        .iter()
        .filter(|it| it.hits == 0 && it.exception.place != PlaceKind::CoreDump)
        .map(|it| it.exception.id.as_str())
        .collect();
    let text = match vain.as_slice() {
        [] => "every exception was needed".to_owned(),
        vain => format!("every exception was needed; not so: {}", vain.join("; ")),
    };
    report.fact(vain.is_empty(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_from_relay_to_relay_may_be_quoted() {
        let message = |port: u16| {
            let mut quoted = [0; 32];
            (quoted[0], quoted[3], quoted[9]) = (0x45, 32, 17);
            quoted[20..22].copy_from_slice(&30_002_u16.to_be_bytes());
            quoted[22..24].copy_from_slice(&port.to_be_bytes());
            [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat()
        };
        assert!(is_refusal_of_media(&[message(30_004), message(30_006)].concat()));
        assert!(!is_refusal_of_media(&[message(30_004), message(53)].concat()));
        assert!(!is_refusal_of_media(&message(30_004)[..39]));
        assert!(!is_refusal_of_media(b"\x08\x00ping"));
        assert!(!is_refusal_of_media(b""));
    }
}
