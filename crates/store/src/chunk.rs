//! What a recording's chunk holds, and how chunks are sealed and chained.

use aws_lc_rs::digest::{Context, SHA256};
use landline_control::{LegId, PayloadType};
use landline_region::RecordingSid;
use landline_region::catalogue::sealed::SEALED_CHUNK;

use crate::chain::hash_column;
use crate::error::{Result, StoreError};
use crate::playback::RecordedEntry;
use crate::seal::Sealer;
use crate::sql::{Row, Value, values};

/// A sealed chunk as its row keeps it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Chunk {
    pub recording: RecordingSid,
    /// Counted from 0.
    pub sequence: i64,
    /// Arrival of the first and last packet after the recording's start.
    pub first_ms: u32,
    pub last_ms: u32,
    pub packets: u32,
    /// Packets that arrived within the chunk and could not be kept.
    pub dropped: u32,
    pub sealed: Vec<u8>,
    pub hash: [u8; 32],
}

pub const MISSING: &str = "it is missing";

pub fn broken(recording: RecordingSid, sequence: i64, problem: &str) -> StoreError {
    StoreError::Chunk { recording, chunk: sequence, problem: problem.to_owned() }
}

/// What the first chunk has before it.
pub fn origin(recording: RecordingSid) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(format!("landline recording {recording}").as_bytes());
    finish(context)
}

impl Chunk {
    /// Seals `plain` and chains the chunk to the one before; the other fields
    /// are those given.
    pub fn seal(mut self, sealer: &Sealer, plain: &[u8], previous: &[u8; 32]) -> Self {
        self.sealed = sealer.seal(&SEALED_CHUNK, &self.row_name(), plain);
        self.hash = self.chained(previous);
        self
    }

    pub fn chained(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(b"landline recording chunk 1");
        context.update(previous);
        context.update(&self.recording.as_u128().to_be_bytes());
        context.update(&self.sequence.to_be_bytes());
        for field in [self.first_ms, self.last_ms, self.packets, self.dropped] {
            context.update(&field.to_be_bytes());
        }
        context.update(&self.sealed);
        finish(context)
    }

    pub const COLUMNS: &[&str] =
        &["recording", "sequence", "first_ms", "last_ms", "packets", "dropped", "sealed", "hash"];

    /// As [`Self::COLUMNS`] are.
    pub fn row(&self) -> Vec<Value> {
        values![
            self.recording,
            self.sequence,
            self.first_ms,
            self.last_ms,
            self.packets,
            self.dropped,
            self.sealed.clone(),
            self.hash,
        ]
    }

    /// The chunk that must come next after the one with the hash `previous`.
    pub fn of_row(
        row: &Row,
        recording: RecordingSid,
        sequence: i64,
        previous: &[u8; 32],
    ) -> Result<Self> {
        let broken = |problem| broken(recording, sequence, problem);
        if row.int("sequence")? != sequence {
            return Err(broken(MISSING));
        }
        let field = |name: &str| {
            u32::try_from(row.int(name)?).map_err(|_| broken("its header was changed"))
        };
        let chunk = Self {
            recording,
            sequence,
            first_ms: field("first_ms")?,
            last_ms: field("last_ms")?,
            packets: field("packets")?,
            dropped: field("dropped")?,
            sealed: row.bytes("sealed")?,
            hash: hash_column(row, "hash")?,
        };
        match chunk.chained(previous) == chunk.hash {
            true => Ok(chunk),
            false => Err(broken("it was changed, or does not follow the chunk before it")),
        }
    }

    pub fn row_name(&self) -> String {
        format!("{}/{}", self.recording, self.sequence)
    }
}

fn finish(context: Context) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

const PACKET: u8 = 0;
const DROPPED: u8 = 1;
const PAYLOAD_TYPES: u8 = 2;

/// Kind, leg, time and length, big-endian, before each entry's octets.
const HEADER: usize = 1 + 2 + 4 + 2;

/// Entries longer than this are no RTP packets.
pub const MAX_ENTRY: usize = u16::MAX as usize;

pub fn push_packet(plain: &mut Vec<u8>, leg: LegId, at_ms: u32, packet: &[u8]) {
    push(plain, PACKET, leg, at_ms, packet);
}

pub fn push_dropped(plain: &mut Vec<u8>, at_ms: u32, packets: u32) {
    push(plain, DROPPED, LegId(0), at_ms, &packets.to_be_bytes());
}

/// `types` as [`encode_types`] gives them.
pub fn push_types(plain: &mut Vec<u8>, leg: LegId, types: &[u8]) {
    push(plain, PAYLOAD_TYPES, leg, 0, types);
}

pub fn encode_types(types: &[PayloadType]) -> Vec<u8> {
    postcard::to_stdvec(types).unwrap_or_default()
}

fn push(plain: &mut Vec<u8>, kind: u8, leg: LegId, at_ms: u32, octets: &[u8]) {
    let octets = &octets[..octets.len().min(MAX_ENTRY)];
    plain.push(kind);
    plain.extend_from_slice(&leg.0.to_be_bytes());
    plain.extend_from_slice(&at_ms.to_be_bytes());
    plain.extend_from_slice(&(octets.len() as u16).to_be_bytes());
    plain.extend_from_slice(octets);
}

/// The entries of an opened chunk. `Err` says what is wrong with it.
pub fn entries(mut plain: &[u8]) -> Result<Vec<RecordedEntry>, &'static str> {
    let mut entries = Vec::new();
    while !plain.is_empty() {
        let (header, rest) = plain.split_at_checked(HEADER).ok_or("it ends within an entry")?;
        let &[kind, l0, l1, t0, t1, t2, t3, n0, n1] = header else { return Err("bad entry") };
        let length = usize::from(u16::from_be_bytes([n0, n1]));
        let (octets, rest) = rest.split_at_checked(length).ok_or("it ends within an entry")?;
        let leg = LegId(u16::from_be_bytes([l0, l1]));
        let at_ms = u32::from_be_bytes([t0, t1, t2, t3]);
        entries.push(match kind {
            PACKET => RecordedEntry::Packet { leg, at_ms, packet: octets.to_vec() },
            DROPPED => {
                let count = octets.try_into().map_err(|_| "a gap without its length")?;
                RecordedEntry::Dropped { at_ms, packets: u32::from_be_bytes(count) }
            }
            PAYLOAD_TYPES => {
                let types = postcard::from_bytes(octets).map_err(|_| "bad payload types")?;
                RecordedEntry::PayloadTypes { leg, types }
            }
            _ => return Err("an entry of unknown kind"),
        });
        plain = rest;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order_and_a_cut_chunk_is_refused() {
        let types = vec![PayloadType {
            number: 111,
            encoding: "OPUS".to_owned(),
            clock_rate: 48_000,
            channels: 2,
        }];
        let mut plain = Vec::new();
        push_types(&mut plain, LegId(1), &encode_types(&types));
        push_packet(&mut plain, LegId(1), 20, &[0x80; 172]);
        push_dropped(&mut plain, 40, 3);
        let wanted = [
            RecordedEntry::PayloadTypes { leg: LegId(1), types },
            RecordedEntry::Packet { leg: LegId(1), at_ms: 20, packet: vec![0x80; 172] },
            RecordedEntry::Dropped { at_ms: 40, packets: 3 },
        ];
        assert_eq!(entries(&plain).unwrap(), wanted);
        assert!(entries(&plain[..plain.len() - 1]).is_err());
        assert!(entries(&[9; HEADER]).is_err());
    }
}
