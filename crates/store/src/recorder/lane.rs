//! The buffer between shards and the sealing thread: packets one after the
//! other in one allocation, swapped whole for an empty one.

use std::collections::HashMap;

use landline_control::{LegId, Recorded};
use landline_region::RecordingSid;
use tokio::sync::oneshot;

use super::{Full, RecordingStart};

/// Recording, leg, time and length before each packet.
const HEADER: usize = 16 + 2 + 4 + 2;
/// Starts and changes that may wait; twice as many ends.
const CONTROLS: usize = 4096;

pub enum Control {
    Start(Box<RecordingStart>),
    PayloadTypes { leg: LegId, types: Vec<u8> },
    Finish(oneshot::Sender<Recorded>),
}

pub struct Lane {
    octets: Vec<u8>,
    limit: usize,
    /// Each with the length of `octets` when it came.
    controls: Vec<(usize, RecordingSid, Control)>,
    /// Packets refused by recording, and the arrival of the first.
    dropped: HashMap<RecordingSid, (u32, u32)>,
}

/// What lay in a lane, in order.
pub enum Item<'a> {
    Control(RecordingSid, Control),
    Packet { recording: RecordingSid, leg: LegId, at_ms: u32, packet: &'a [u8] },
    Dropped { recording: RecordingSid, at_ms: u32, packets: u32 },
}

impl Lane {
    pub fn new(limit: usize) -> Self {
        Self {
            octets: Vec::with_capacity(limit),
            limit,
            controls: Vec::new(),
            dropped: HashMap::new(),
        }
    }

    pub fn packet(
        &mut self,
        recording: RecordingSid,
        leg: LegId,
        at_ms: u32,
        packet: &[u8],
    ) -> Result<(), Full> {
        let length = u16::try_from(packet.len()).ok();
        let room = self.octets.len() + HEADER + packet.len() <= self.limit;
        let Some(length) = length.filter(|_| room) else {
            self.drop_packet(recording, at_ms);
            return Err(Full);
        };
        self.octets.extend_from_slice(&recording.as_u128().to_be_bytes());
        self.octets.extend_from_slice(&leg.0.to_be_bytes());
        self.octets.extend_from_slice(&at_ms.to_be_bytes());
        self.octets.extend_from_slice(&length.to_be_bytes());
        self.octets.extend_from_slice(packet);
        Ok(())
    }

    pub fn control(&mut self, recording: RecordingSid, control: Control) -> Result<(), Full> {
        let limit = if matches!(control, Control::Finish(_)) { 2 * CONTROLS } else { CONTROLS };
        if self.controls.len() >= limit {
            return Err(Full);
        }
        self.controls.push((self.octets.len(), recording, control));
        Ok(())
    }

    fn drop_packet(&mut self, recording: RecordingSid, at_ms: u32) {
        let (packets, _) = self.dropped.entry(recording).or_insert((0, at_ms));
        *packets = packets.saturating_add(1);
    }

    /// Visits and removes everything. Ends come last, so that what was dropped
    /// is marked in its recording before.
    pub fn drain(&mut self, mut visit: impl FnMut(Item<'_>)) {
        let mut offset = 0;
        let mut ends = Vec::new();
        for (upto, recording, control) in self.controls.drain(..) {
            offset = packets(&self.octets, offset, upto, &mut visit);
            match control {
                Control::Finish(_) => ends.push((recording, control)),
                _ => visit(Item::Control(recording, control)),
            }
        }
        packets(&self.octets, offset, self.octets.len(), &mut visit);
        self.octets.clear();
        for (recording, (packets, at_ms)) in self.dropped.drain() {
            visit(Item::Dropped { recording, at_ms, packets });
        }
        for (recording, end) in ends {
            visit(Item::Control(recording, end));
        }
    }
}

fn packets(
    octets: &[u8],
    mut offset: usize,
    upto: usize,
    visit: &mut impl FnMut(Item<'_>),
) -> usize {
    while offset < upto {
        let Some((header, rest)) = octets[offset..upto].split_at_checked(HEADER) else { break };
        let (recording, header) = header.split_at(16);
        let &[l0, l1, t0, t1, t2, t3, n0, n1] = header else { break };
        let length = usize::from(u16::from_be_bytes([n0, n1]));
        let (Ok(recording), Some(packet)) = (recording.try_into(), rest.get(..length)) else {
            break;
        };
        visit(Item::Packet {
            recording: RecordingSid::from_u128(u128::from_be_bytes(recording)),
            leg: LegId(u16::from_be_bytes([l0, l1])),
            at_ms: u32::from_be_bytes([t0, t1, t2, t3]),
            packet,
        });
        offset += HEADER + length;
    }
    upto
}
