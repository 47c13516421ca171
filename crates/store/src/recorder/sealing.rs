//! The thread that cuts packets into chunks, seals and chains them.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use landline_control::{LegId, Recorded};
use landline_region::{RecordingSid, RegionCode};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use super::lane::{Control, Item, Lane};
use super::outlet::{Delivery, Finish, Outgoing, Start};
use super::{RecordingStart, Shared};
use crate::chunk::{self, Chunk};
use crate::part::Part;
use crate::seal::{self, KeyBytes, Sealer};

const TICK: Duration = Duration::from_millis(25);
const CHUNK_TIME_MS: u32 = 1000;
/// A chunk is closed by the clock when no packet closes it.
const CHUNK_AGE: Duration = Duration::from_millis(1500);
/// At once.
const RECORDINGS: usize = 50_000;
const CHUNK_OCTETS: usize = 64 << 10;
/// What one recording may hold while the way to the database is full.
const HELD_OCTETS: usize = 4 * CHUNK_OCTETS;
/// How long a shutdown waits for the way to the database.
const LAST_WAIT: Duration = Duration::from_secs(10);

pub struct Sealing {
    region: RegionCode,
    shared: Arc<Shared>,
    recordings: HashMap<RecordingSid, Recording>,
    /// Octets that all recordings may hold.
    held_limit: usize,
    held: usize,
    outlet: mpsc::Sender<Outgoing>,
    spare: Lane,
}

/// One recording that runs.
struct Recording {
    /// Until the outlet took it.
    start: Option<Delivery>,
    sealer: Sealer,
    plain: Vec<u8>,
    since: Instant,
    sequence: i64,
    head: [u8; 32],
    first_ms: Option<u32>,
    last_ms: u32,
    packets: u32,
    dropped: u32,
    stored: u64,
    expected: u64,
    duration_ms: u32,
    finish: Option<oneshot::Sender<Recorded>>,
}

impl Sealing {
    pub fn new(
        region: RegionCode,
        shared: Arc<Shared>,
        buffer: usize,
        outlet: mpsc::Sender<Outgoing>,
    ) -> Self {
        let spare = Lane::new(buffer / super::LANES);
        let recordings = HashMap::new();
        Self { region, shared, recordings, held_limit: 4 * buffer, held: 0, outlet, spare }
    }

    /// Until the recorder is stopped.
    pub fn run(mut self) {
        loop {
            let stopping = self.shared.stop.load(Relaxed);
            self.drain();
            self.flush(stopping);
            if stopping {
                break;
            }
            std::thread::park_timeout(TICK);
        }
        let deadline = Instant::now() + LAST_WAIT;
        while self.held_back() && Instant::now() < deadline && !self.outlet.is_closed() {
            std::thread::sleep(TICK);
            self.flush(true);
        }
    }

    fn held_back(&self) -> bool {
        self.recordings.values().any(|recording| !recording.plain.is_empty())
    }

    fn drain(&mut self) {
        let shared = self.shared.clone();
        for lane in &shared.lanes {
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *lane, &mut self.spare);
            drop(lane);
            let mut taken = std::mem::replace(&mut self.spare, Lane::new(0));
            taken.drain(|item| self.take(item));
            self.spare = taken;
        }
    }

    fn take(&mut self, item: Item<'_>) {
        match item {
            Item::Packet { recording, leg, at_ms, packet } => {
                self.packet(recording, leg, at_ms, packet);
            }
            Item::Dropped { recording, at_ms, packets } => self.dropped(recording, at_ms, packets),
            Item::Control(_, Control::Start(start)) => self.start(*start),
            Item::Control(recording, Control::PayloadTypes { leg, types }) => {
                if let Some(recording) = self.recordings.get_mut(&recording) {
                    self.held += recording.push(|plain| chunk::push_types(plain, leg, &types));
                }
            }
            Item::Control(recording, Control::Finish(reply)) => {
                if let Some(recording) = self.recordings.get_mut(&recording) {
                    recording.finish = Some(reply);
                }
            }
        }
    }

    /// One beyond the limit is not known, and its packets count as dropped.
    fn start(&mut self, start: RecordingStart) {
        if self.recordings.len() >= RECORDINGS || self.recordings.contains_key(&start.part.sid()) {
            return;
        }
        let sid = start.part.sid();
        let key = seal::random_key();
        let sealer = Sealer::new(&key, self.region, start.account);
        let mut recording = Recording::new(sid, sealer, Start::delivery(&start, &key));
        for (leg, types) in &start.payload_types {
            let types = chunk::encode_types(types);
            self.held += recording.push(|plain| chunk::push_types(plain, *leg, &types));
        }
        self.recordings.insert(sid, recording);
    }

    fn packet(&mut self, sid: RecordingSid, leg: LegId, at_ms: u32, packet: &[u8]) {
        let full = self.held >= self.held_limit;
        match self.recordings.get_mut(&sid) {
            Some(recording) if !full && recording.plain.len() < HELD_OCTETS => {
                self.held += recording.push(|plain| chunk::push_packet(plain, leg, at_ms, packet));
                recording.count(at_ms, 1, 0);
                self.shared.counts.packets.fetch_add(1, Relaxed);
                if recording.is_due(at_ms) {
                    self.held -= recording.seal(sid, &self.outlet);
                }
            }
            _ => self.dropped(sid, at_ms, 1),
        }
    }

    fn dropped(&mut self, sid: RecordingSid, at_ms: u32, packets: u32) {
        self.shared.counts.packets_dropped.fetch_add(u64::from(packets), Relaxed);
        if let Some(recording) = self.recordings.get_mut(&sid) {
            recording.count(at_ms, 0, packets);
        }
    }

    /// Seals what is old enough, or all, and ends what is finished.
    fn flush(&mut self, all: bool) {
        let (outlet, held) = (&self.outlet, &mut self.held);
        self.recordings.retain(|sid, recording| {
            let old = recording.since.elapsed() >= CHUNK_AGE;
            if recording.has_chunk() && (all || old || recording.finish.is_some()) {
                *held -= recording.seal(*sid, outlet);
            }
            !recording.end(*sid, outlet)
        });
    }
}

impl Recording {
    fn new(sid: RecordingSid, sealer: Sealer, start: Delivery) -> Self {
        Self {
            start: Some(start),
            sealer,
            plain: Vec::new(),
            since: Instant::now(),
            sequence: 0,
            head: chunk::origin(sid),
            first_ms: None,
            last_ms: 0,
            packets: 0,
            dropped: 0,
            stored: 0,
            expected: 0,
            duration_ms: 0,
            finish: None,
        }
    }

    /// How many octets were added.
    fn push(&mut self, add: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.plain.len();
        if before == 0 {
            self.since = Instant::now();
        }
        add(&mut self.plain);
        self.plain.len() - before
    }

    fn count(&mut self, at_ms: u32, packets: u32, dropped: u32) {
        self.first_ms.get_or_insert(at_ms);
        self.last_ms = self.last_ms.max(at_ms);
        self.duration_ms = self.duration_ms.max(at_ms);
        self.packets += packets;
        self.dropped = self.dropped.saturating_add(dropped);
        self.expected += u64::from(packets) + u64::from(dropped);
    }

    fn has_chunk(&self) -> bool {
        !self.plain.is_empty() || self.dropped > 0
    }

    fn is_due(&self, at_ms: u32) -> bool {
        self.plain.len() >= CHUNK_OCTETS
            || self.first_ms.is_some_and(|first| at_ms.saturating_sub(first) >= CHUNK_TIME_MS)
    }

    /// Seals the chunk, if the way is free: a chunk that was sealed is in the
    /// chain and cannot be given up. Gives how many octets are held no more.
    fn seal(&mut self, sid: RecordingSid, outlet: &mpsc::Sender<Outgoing>) -> usize {
        if !self.announce(outlet) {
            return 0;
        }
        let Ok(permit) = outlet.try_reserve() else { return 0 };
        let held = self.plain.len();
        let first_ms = self.first_ms.unwrap_or(self.last_ms);
        if self.dropped > 0 {
            chunk::push_dropped(&mut self.plain, first_ms, self.dropped);
        }
        let chunk = Chunk {
            recording: sid,
            sequence: self.sequence,
            first_ms,
            last_ms: self.last_ms.max(first_ms),
            packets: self.packets,
            dropped: self.dropped,
            sealed: Vec::new(),
            hash: [0; 32],
        };
        let chunk = chunk.seal(&self.sealer, &self.plain, &self.head);
        self.head = chunk.hash;
        self.sequence += 1;
        self.stored += u64::from(self.packets);
        self.plain.clear();
        (self.first_ms, self.packets, self.dropped) = (None, 0, 0);
        permit.send(Outgoing { delivery: Delivery::Chunk(chunk), reply: None });
        held
    }

    /// Whether the outlet has the recording's start.
    fn announce(&mut self, outlet: &mpsc::Sender<Outgoing>) -> bool {
        let Some(start) = self.start.take() else { return true };
        match outlet.try_send(Outgoing { delivery: start, reply: None }) {
            Ok(()) => true,
            Err(TrySendError::Full(back) | TrySendError::Closed(back)) => {
                self.start = Some(back.delivery);
                false
            }
        }
    }

    /// Whether the recording was finished and its end handed on.
    fn end(&mut self, sid: RecordingSid, outlet: &mpsc::Sender<Outgoing>) -> bool {
        if self.finish.is_none() || self.has_chunk() || !self.announce(outlet) {
            return false;
        }
        let Ok(permit) = outlet.try_reserve() else { return false };
        let recorded =
            Recorded { sid, expected_packets: self.expected, stored_packets: self.stored };
        let finish = Finish {
            recorded,
            chunks: self.sequence,
            duration_ms: self.duration_ms,
            head: self.head,
            finished_at: crate::store::now(),
        };
        let reply = self.finish.take().map(|reply| (reply, recorded));
        permit.send(Outgoing { delivery: Delivery::Finish(finish), reply });
        true
    }
}

impl Start {
    fn delivery(start: &RecordingStart, key: &KeyBytes) -> Delivery {
        let begun = Box::new(Self {
            sid: start.part.sid(),
            call: start.call,
            account: start.account,
            consent: start.consent,
            started_at: start.started_at,
            key_id: format!("KY{}", hex::encode(seal::random::<16>())),
            key: **key,
        });
        match start.part {
            Part { whole, segment: 1.. } => Delivery::Continue(begun, whole, start.part.segment),
            Part { segment: 0, .. } => Delivery::Start(begun),
        }
    }
}
