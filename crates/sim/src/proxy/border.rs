//! The connections between the regions' proxies, and what may go over them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use landline_call::crossing::carried;
use landline_region::egress;
use landline_sip as sip;
use landline_sip::{ClientKey, Flow, FlowId, Frame, Framer, Limits, SendTo, Transport};

use super::ProxyHost;
use crate::cx::{Cx, Node, border_address, node_at};
use crate::plan::Sabotage;
use crate::relay::in_pieces;
use crate::stream::{Kind, What};
use crate::tenants::{self, NAMES};

/// Requests remembered for one connection.
const RECENT: usize = 512;

#[derive(Default)]
pub(super) struct Borders {
    by_flow: BTreeMap<FlowId, Border>,
    by_stream: BTreeMap<usize, FlowId>,
    /// The ones that we opened, by where to.
    opened: BTreeMap<SocketAddr, FlowId>,
    last: u64,
}

struct Border {
    stream: usize,
    side: usize,
    flow: Flow,
    framer: Framer,
    /// Requests that fail with the connection.
    recent: Vec<(ClientKey, SendTo)>,
}

/// The region of a proxy's number.
fn region_of(cx: &Cx, node: Node) -> usize {
    let Node::Proxy(number) = node else { return 0 };
    usize::from(tenants::proxies_of(&cx.plan, 1).contains(&number))
}

impl ProxyHost {
    /// Sends over a connection to another proxy, and opens it if need be.
    pub(super) fn cross(
        &mut self,
        cx: &mut Cx,
        to: SendTo,
        octets: &Bytes,
        key: Option<ClientKey>,
    ) {
        let node = self.node();
        cx.note(format_args!("{node:?} crosses by {to:?}"));
        let found = match &to {
            SendTo::Flow(flow) => self.border_flow(flow.id),
            SendTo::Region { host, port, .. } => self.open_border(cx, host, *port),
            SendTo::Address { .. } => None,
        };
        let Some(id) = found else { return self.send_failed(cx, key, to) };
        let Some(border) = self.life.as_mut().and_then(|it| it.borders.by_flow.get_mut(&id)) else {
            return;
        };
        if let Some(key) = key.filter(|_| border.recent.len() < RECENT) {
            border.recent.push((key, to));
        }
        let (stream, side) = (border.stream, border.side);
        let peer = cx.streams.get(stream).ends[1 - side];
        let octets = leaking(cx, octets);
        if region_of(cx, peer) != self.region {
            self.inspect(cx, region_of(cx, peer), &octets);
        }
        in_pieces(cx, stream, side, &octets);
    }

    fn border_flow(&self, id: FlowId) -> Option<FlowId> {
        self.life.as_ref()?.borders.by_flow.contains_key(&id).then_some(id)
    }

    fn open_border(&mut self, cx: &mut Cx, host: &str, port: u16) -> Option<FlowId> {
        let remote = SocketAddr::new(host.parse().ok()?, port);
        if let Some(id) = self.life.as_ref()?.borders.opened.get(&remote) {
            return Some(*id);
        }
        let peer = node_at(remote)?;
        let stream = cx.connect(Kind::Border, self.node(), peer, self.lives);
        let id = self.add_border(cx, stream, 0, remote, peer)?;
        self.life.as_mut()?.borders.opened.insert(remote, id);
        Some(id)
    }

    fn add_border(
        &mut self,
        cx: &Cx,
        stream: usize,
        side: usize,
        remote: SocketAddr,
        peer: Node,
    ) -> Option<FlowId> {
        let local = border_address(self.number);
        let region = tenants::region(region_of(cx, peer));
        let borders = &mut self.life.as_mut()?.borders;
        borders.last += 1;
        let id = FlowId(borders.last);
        let peer: Option<Arc<str>> = Some(region.as_str().into());
        let flow = Flow { id, transport: Transport::Tls, local, remote, peer };
        let framer = Framer::new(Limits::default());
        borders.by_flow.insert(id, Border { stream, side, flow, framer, recent: Vec::new() });
        borders.by_stream.insert(stream, id);
        Some(id)
    }

    pub(super) fn border(&mut self, cx: &mut Cx, stream: usize, side: usize, what: What) {
        match what {
            What::Opened if side == 1 => {
                let peer = cx.streams.get(stream).ends[0];
                let Node::Proxy(number) = peer else { return };
                let ip = border_address(number).ip();
                let remote = SocketAddr::new(ip, 20_000 + (stream % 40_000) as u16);
                self.add_border(cx, stream, 1, remote, peer);
                cx.accepted(stream, self.lives);
            }
            What::Opened => {}
            What::Octets(octets) => self.crossed(cx, stream, &octets),
            What::Closed | What::Lost => self.border_closed(cx, stream),
        }
    }

    fn crossed(&mut self, cx: &mut Cx, stream: usize, octets: &[u8]) {
        let Some(borders) = self.life.as_mut().map(|life| &mut life.borders) else { return };
        let found = borders.by_stream.get(&stream).and_then(|id| borders.by_flow.get_mut(id));
        let Some(border) = found else { return };
        border.framer.push(octets);
        let flow = border.flow.clone();
        let mut messages = Vec::new();
        loop {
            match border.framer.next() {
                Ok(Some(Frame::Message(message))) => messages.push(message),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return cx.fault(format!("a proxy cannot read another: {error}")),
            }
        }
        for bytes in messages {
            self.sip(cx, sip::Input::Received { flow: flow.clone(), bytes });
        }
    }

    fn border_closed(&mut self, cx: &mut Cx, stream: usize) {
        let Some(borders) = self.life.as_mut().map(|life| &mut life.borders) else { return };
        let Some(id) = borders.by_stream.remove(&stream) else { return };
        let Some(border) = borders.by_flow.remove(&id) else { return };
        borders.opened.retain(|_, flow| *flow != id);
        let (number, count) = (self.number, border.recent.len());
        cx.note(format_args!("proxy {number} loses stream {stream}, and {count} requests with it"));
        for (key, to) in border.recent {
            self.send_failed(cx, Some(key), to);
        }
        self.sip(cx, sip::Input::FlowClosed(id));
    }

    /// Holds a message that leaves the region against what may.
    fn inspect(&self, cx: &mut Cx, peer: usize, octets: &Bytes) {
        let mut declared = egress::Declared::default();
        declared.regions.extend([tenants::region(0), tenants::region(1)]);
        let gate = egress::Gate::new(tenants::region(self.region), declared);
        let destination = egress::Destination::Region(tenants::region(peer));
        let said = carried(octets);
        if let Err(refused) = gate.decide(egress::Flow::InterRegionSip, &destination, &said) {
            if cx.trace.aloud {
                println!("{}", String::from_utf8_lossy(octets));
            }
            cx.fault(format!("a message may not cross: {refused}"));
        }
        cx.model.crossed += 1;
        let secrets: [&[u8]; 2] = [b"customer 4711", b"private matter"];
        let has = |text: &[u8]| octets.windows(text.len()).any(|window| window == text);
        if secrets.iter().any(|secret| has(secret)) {
            cx.fault("a client's own header field crosses".to_owned());
        }
        // The address of a phone crosses with its messages, where it is away.
        for phone in 0..2 * cx.plan.phones {
            let address = format!("192.168.{}.", phone + 1);
            if has(address.as_bytes()) && !cx.model.roams.contains(&phone) {
                cx.fault(format!("the address of phone {phone} crosses, which is at home"));
            }
        }
        for (home, names) in NAMES.iter().enumerate() {
            for (number, name) in names.iter().enumerate() {
                if has(name.as_bytes()) && !cx.model.may_cross(home, number) {
                    cx.fault(format!("{name} crosses, who has no part in it"));
                }
            }
        }
    }
}

/// A proxy that was made to put a client's header field back.
fn leaking(cx: &Cx, octets: &Bytes) -> Bytes {
    if cx.plan.sabotage != Some(Sabotage::BorderLeaks) {
        return octets.clone();
    }
    let end = octets.iter().position(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    let (first, rest) = octets.split_at(end);
    [first, b"X-Customer: customer 4711\r\n", rest].concat().into()
}
