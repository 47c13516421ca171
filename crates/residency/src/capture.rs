//! Captures: pcap and pcapng files to flows. TCP octets are put in order and
//! said once; datagrams of a flow stand one after another.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A flow of more than this is cut, and the cut said.
const MOST_OCTETS: usize = 512 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// 6 TCP, 17 UDP, 1 ICMP …
    pub protocol: u8,
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// What one side sent the other.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    pub packets: u64,
    /// On the wire, from the IP header on.
    pub octets: u64,
    pub payload: Vec<u8>,
    /// Sequence number of the next octet, TCP.
    next: Option<u32>,
    /// Segments that came too early.
    early: BTreeMap<u32, Vec<u8>>,
    pub cut: bool,
}

/// Reads a capture to its end, or to where its writer stopped.
pub fn read_flows(path: &Path) -> Result<BTreeMap<FlowKey, Flow>> {
    let octets = std::fs::read(path).with_context(|| path.display().to_string())?;
    let packets = match octets.get(..4) {
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(&octets),
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => pcap(&octets),
        _ => bail!("{}: neither pcapng nor little-endian pcap", path.display()),
    };
    let mut flows = BTreeMap::new();
    for (link, packet) in packets {
        if let Some(ip) = network_layer(link, packet) {
            take(&mut flows, ip);
        }
    }
    for flow in flows.values_mut() {
        flow.flush();
    }
    Ok(flows)
}

fn u16_le(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn u32_le(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

fn u16_be(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn u32_be(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

fn pcap(octets: &[u8]) -> Vec<(u16, &[u8])> {
    let link = u16_le(octets, 20).unwrap_or(1);
    let mut packets = Vec::new();
    let mut at = 24;
    while let Some(length) = u32_le(octets, at + 8).map(|it| it as usize) {
        let Some(packet) = octets.get(at + 16..at + 16 + length) else { break };
        packets.push((link, packet));
        at += 16 + length;
    }
    packets
}

/// Section header, interface description and enhanced packet blocks, little-endian.
fn pcapng(octets: &[u8]) -> Vec<(u16, &[u8])> {
    let mut packets = Vec::new();
    let mut links = Vec::new();
    let mut at = 0;
    while let (Some(kind), Some(length)) = (u32_le(octets, at), u32_le(octets, at + 4)) {
        let length = length as usize;
        let Some(block) = octets.get(at..at + length).filter(|_| length >= 12) else { break };
        match kind {
            0x0a0d_0d0a => links.clear(),
            1 => links.push(u16_le(block, 8).unwrap_or(1)),
            6 => {
                let interface = u32_le(block, 8).unwrap_or(0) as usize;
                let captured = u32_le(block, 20).unwrap_or(0) as usize;
                if let (Some(&link), Some(packet)) =
                    (links.get(interface), block.get(28..28 + captured))
                {
                    packets.push((link, packet));
                }
            }
            _ => {}
        }
        at += length;
    }
    packets
}

/// The IP packet within a frame.
fn network_layer(link: u16, frame: &[u8]) -> Option<&[u8]> {
    match link {
        // Ethernet, with or without a VLAN tag.
        1 => match u16_be(frame, 12)? {
            0x8100 => frame.get(18..),
            0x0800 | 0x86dd => frame.get(14..),
            _ => None,
        },
        101 | 228 | 229 => Some(frame),
        113 => frame.get(16..),
        276 => frame.get(20..),
        _ => None,
    }
}

struct Ip<'a> {
    protocol: u8,
    from: IpAddr,
    to: IpAddr,
    /// Later fragments have no ports: they go by the packet's identification.
    fragment: Option<u16>,
    rest: &'a [u8],
}

fn parse_ip(packet: &[u8]) -> Option<Ip<'_>> {
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let total = usize::from(u16_be(packet, 2)?).min(packet.len());
            let address =
                |at: usize| -> Option<IpAddr> { Some(Ipv4Addr::from(u32_be(packet, at)?).into()) };
            Some(Ip {
                protocol: *packet.get(9)?,
                from: address(12)?,
                to: address(16)?,
                fragment: (u16_be(packet, 6)? & 0x1fff != 0).then_some(u16_be(packet, 4)?),
                rest: packet.get(header..total)?,
            })
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            Some(Ip {
                protocol: *packet.get(6)?,
                from: address(8)?,
                to: address(24)?,
                fragment: None,
                rest: packet.get(40..)?,
            })
        }
        _ => None,
    }
}

fn take(flows: &mut BTreeMap<FlowKey, Flow>, packet: &[u8]) {
    let Some(ip) = parse_ip(packet) else { return };
    let (mut ports, mut payload, mut sequence) = ((0, 0), ip.rest, None);
    match (ip.fragment, ip.protocol) {
        (Some(identification), _) => ports = (identification, identification),
        (None, 6) => {
            let header = usize::from(ip.rest.get(12).copied().unwrap_or(0x50) >> 4) * 4;
            ports = ports_of(ip.rest);
            payload = ip.rest.get(header..).unwrap_or_default();
            let syn = ip.rest.get(13).is_some_and(|flags| flags & 2 != 0);
            sequence = u32_be(ip.rest, 4).map(|it| it.wrapping_add(u32::from(syn)));
        }
        (None, 17) => {
            ports = ports_of(ip.rest);
            payload = ip.rest.get(8..).unwrap_or_default();
        }
        _ => {}
    }
    let key = FlowKey {
        protocol: ip.protocol,
        from: (ip.from, ports.0).into(),
        to: (ip.to, ports.1).into(),
    };
    let flow = flows.entry(key).or_default();
    flow.packets += 1;
    flow.octets += packet.len() as u64;
    match sequence {
        Some(sequence) => flow.segment(sequence, payload),
        None => flow.append(payload),
    }
}

fn ports_of(rest: &[u8]) -> (u16, u16) {
    (u16_be(rest, 0).unwrap_or(0), u16_be(rest, 2).unwrap_or(0))
}

impl Flow {
    fn append(&mut self, octets: &[u8]) {
        if self.payload.len() + octets.len() > MOST_OCTETS {
            self.cut = true;
            return;
        }
        self.payload.extend_from_slice(octets);
    }

    /// RFC 9293 §3.4: what came before is not said again.
    fn segment(&mut self, sequence: u32, octets: &[u8]) {
        let next = *self.next.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(next) as i32;
        if ahead > 0 {
            if self.early.len() < 10_000 {
                self.early.insert(sequence, octets.to_vec());
            } else {
                // Better twice or out of order than not searched.
                self.append(octets);
            }
            return;
        }
        let known = ahead.unsigned_abs() as usize;
        if let Some(new) = octets.get(known..).filter(|new| !new.is_empty()) {
            self.append(new);
            self.next = Some(next.wrapping_add(new.len() as u32));
        }
        let due = self.next.unwrap_or(next);
        let ready = self.early.keys().find(|it| due.wrapping_sub(**it) as i32 >= 0).copied();
        if let Some(ready) = ready
            && let Some(octets) = self.early.remove(&ready)
        {
            self.segment(ready, &octets);
        }
    }

    /// What lies behind a gap is searched all the same.
    fn flush(&mut self) {
        for octets in std::mem::take(&mut self.early).into_values() {
            self.append(&octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_out_of_order_and_sent_twice_are_said_once_and_in_order() {
        let mut flow = Flow::default();
        flow.segment(100, b"one ");
        flow.segment(108, b"three");
        flow.segment(100, b"one ");
        flow.segment(102, b"e two ");
        assert_eq!(flow.payload, b"one two three");
        flow.segment(200, b"behind a gap");
        flow.flush();
        assert!(flow.payload.ends_with(b"behind a gap"));
    }

    #[test]
    fn a_datagram_is_found_in_both_formats() {
        let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        ip.extend([0x13, 0xc4, 0x13, 0xc5, 0, 12, 0, 0]);
        ip.extend(b"ring");
        let mut pcap = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        pcap.extend([0; 8]);
        pcap.extend([0, 0, 1, 0, 101, 0, 0, 0]);
        pcap.extend([0; 8]);
        pcap.extend([32, 0, 0, 0, 32, 0, 0, 0]);
        pcap.extend(&ip);
        let mut ng = Vec::new();
        let mut block = |kind: u32, body: &[u8]| {
            let length = (12 + body.len()) as u32;
            ng.extend(kind.to_le_bytes());
            ng.extend(length.to_le_bytes());
            ng.extend(body);
            ng.extend(length.to_le_bytes());
        };
        block(0x0a0d_0d0a, &[0; 16]);
        block(1, &[101, 0, 0, 0, 0, 0, 4, 0]);
        let mut body = vec![0; 12];
        body.extend([32, 0, 0, 0, 32, 0, 0, 0]);
        body.extend(&ip);
        block(6, &body);
        let directory = tempfile::tempdir().unwrap();
        for (name, octets) in [("a.pcap", pcap), ("a.pcapng", ng)] {
            let path = directory.path().join(name);
            std::fs::write(&path, octets).unwrap();
            let flows = read_flows(&path).unwrap();
            let (key, flow) = flows.first_key_value().unwrap();
            assert_eq!(key.to, "10.0.0.2:5061".parse().unwrap(), "{name}");
            assert_eq!(flow.payload, b"ring", "{name}");
        }
    }
}
