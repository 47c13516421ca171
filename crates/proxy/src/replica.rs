//! What the region's other proxies are told of our answered calls, and the
//! caller's 200 that waits until one of them knows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_call::record::{CallEvent, Step};
use landline_call::{JournalToken, PeerId, Replica, Snapshot};
use landline_control::encode;
use landline_region::{CallSid, RegionCode};
use landline_store::{KeptCall, ledger};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Of what proxies of one region say to each other. A peer of another version is
/// refused.
pub const VERSION: u16 = 1;
/// Messages on their way to one peer: more than the calls a proxy has.
const QUEUE: usize = 65_536;
/// Their octets.
const MOST_WAITING: usize = 256 << 20;
/// How long an answer waits for a peer: a phone that hears ringing for so much
/// longer notices nothing.
const PATIENCE: Duration = Duration::from_millis(200);

/// From the one that has the calls. Addresses, descriptions and media keys are
/// in it: nothing here prints it.
#[derive(Serialize, Deserialize)]
pub enum ToPeer {
    Hello(Greeting),
    /// Replaces what was told of the call before.
    Call {
        /// Counts up; what is acknowledged.
        number: u64,
        state: Vec<u8>,
        record: Vec<Vec<u8>>,
    },
    /// The call is over, or another's.
    Gone(CallSid),
    Ping,
}

/// From the one that holds them.
#[derive(Serialize, Deserialize)]
pub enum FromPeer {
    Hello(Greeting),
    /// All up to this number.
    Ack(u64),
    Pong,
    /// The calls that are or were its own, of those that others had before;
    /// several, the last of them empty.
    Carried(Vec<CallSid>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    pub version: u16,
    pub region: RegionCode,
    pub name: String,
    /// Starts, and comes only to ask what became of its calls.
    pub asks: bool,
}

/// One message to a peer, framed.
#[derive(Clone)]
pub struct Frame(pub Bytes);

/// The driver's end of the messages to one peer.
pub struct Queue {
    frames: mpsc::Sender<Frame>,
    waiting: Arc<AtomicUsize>,
}

/// The link's end of them.
pub struct Frames {
    frames: mpsc::Receiver<Frame>,
    waiting: Arc<AtomicUsize>,
}

pub fn queue() -> (Queue, Frames) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let waiting = Arc::new(AtomicUsize::new(0));
    (Queue { frames: sender, waiting: Arc::clone(&waiting) }, Frames { frames: receiver, waiting })
}

impl Queue {
    fn push(&self, frame: &Frame) -> bool {
        let octets = frame.0.len();
        let is_taken = self.waiting.load(Relaxed) + octets <= MOST_WAITING
            && self.frames.try_send(frame.clone()).is_ok();
        if is_taken {
            self.waiting.fetch_add(octets, Relaxed);
        }
        is_taken
    }
}

impl Frames {
    /// Appends what waits now; nothing is waited for.
    pub fn take_now(&mut self, out: &mut Vec<u8>) {
        while let Ok(frame) = self.frames.try_recv() {
            self.append(&frame, out);
        }
    }

    /// The driver has let go of the link, and all it had said is taken.
    pub fn is_over(&self) -> bool {
        self.frames.is_closed() && self.frames.is_empty()
    }

    /// Appends what waits; false once the driver has let go of the link.
    pub async fn take(&mut self, out: &mut Vec<u8>) -> bool {
        let mut frames = Vec::new();
        self.frames.recv_many(&mut frames, 64).await;
        frames.iter().for_each(|frame| self.append(frame, out));
        !frames.is_empty()
    }

    fn append(&self, Frame(octets): &Frame, out: &mut Vec<u8>) {
        self.waiting.fetch_sub(octets.len().min(self.waiting.load(Relaxed)), Relaxed);
        out.extend_from_slice(octets);
    }
}

/// The driver's side of it.
#[derive(Default)]
pub struct Replication {
    is_on: bool,
    calls: FxHashMap<CallSid, Told>,
    peers: FxHashMap<PeerId, Holder>,
    last: u64,
    /// Answers that no peer has acknowledged yet.
    unacknowledged: BTreeMap<u64, JournalToken>,
    /// Of these, whether they are on our own disk.
    waiting: FxHashMap<JournalToken, bool>,
    deadlines: VecDeque<(Instant, JournalToken)>,
    /// Answers that went on without a peer's word.
    pub late: u64,
    /// States of calls that are too long for a message.
    pub oversize: u64,
    /// Links that were let go since too much waited for them.
    pub overrun: u64,
}

/// A peer that is there to hold our calls.
struct Holder {
    queue: Queue,
    acknowledged: u64,
}

/// A call of ours.
#[derive(Default)]
struct Told {
    record: Vec<Vec<u8>>,
    /// Its number, and what is told.
    last: Option<(u64, Frame)>,
}

impl Replication {
    pub fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    /// What is journaled goes to the peers as well.
    pub fn journaled(
        &mut self,
        now: Instant,
        token: Option<JournalToken>,
        events: &[CallEvent],
        state: Option<&Snapshot>,
    ) {
        if !self.is_on {
            return;
        }
        for event in events {
            match event.step {
                Step::Closed(_) => self.forget(event.call),
                _ => {
                    let told = self.calls.entry(event.call).or_default();
                    told.record.push(ledger::encode_event(event));
                }
            }
        }
        let Some(state) = state else { return };
        let number = self.last + 1;
        let told = self.calls.entry(state.call).or_default();
        let Some(frame) = told.frame(number, state) else {
            self.oversize += 1;
            return;
        };
        self.last = number;
        told.last = Some((number, frame.clone()));
        self.tell(&frame);
        if let Some(token) = token.filter(|_| !self.peers.is_empty()) {
            self.unacknowledged.insert(number, token);
            self.waiting.insert(token, false);
            self.deadlines.push_back((now + PATIENCE, token));
        }
    }

    /// The call has ended, or is another's by now.
    pub fn forget(&mut self, call: CallSid) {
        let was_told = self.calls.remove(&call).is_some_and(|told| told.last.is_some());
        if was_told && let Some(frame) = framed(&ToPeer::Gone(call)) {
            self.tell(&frame);
        }
    }

    fn tell(&mut self, frame: &Frame) {
        // A gap would leave a peer with what is no longer so: its link ends, and
        // the next one begins with everything.
        let before = self.peers.len();
        self.peers.retain(|_, peer| peer.queue.push(frame));
        self.overrun += (before - self.peers.len()) as u64;
    }

    /// A link is up: it hears of every call there is, in the order in which they
    /// were told before.
    pub fn peer_up(&mut self, peer: PeerId, queue: Queue) {
        let mut told: Vec<_> = self.calls.values().filter_map(|told| told.last.as_ref()).collect();
        told.sort_unstable_by_key(|(number, _)| *number);
        if !told.into_iter().all(|(_, frame)| queue.push(frame)) {
            self.overrun += 1;
            return;
        }
        self.peers.insert(peer, Holder { queue, acknowledged: 0 });
    }

    /// Gives the answers that nobody can acknowledge any more and that are on
    /// our own disk.
    pub fn peer_lost(&mut self, peer: &PeerId) -> Vec<JournalToken> {
        self.peers.remove(peer);
        match self.peers.is_empty() {
            true => self.known_up_to(u64::MAX),
            false => Vec::new(),
        }
    }

    /// Whether an answer that is on our disk may go on at once.
    pub fn on_disk(&mut self, token: JournalToken) -> bool {
        match self.waiting.get_mut(&token) {
            Some(is_on_disk) => {
                *is_on_disk = true;
                false
            }
            None => true,
        }
    }

    /// It is not going to be on our disk.
    pub fn failed(&mut self, token: JournalToken) {
        self.waiting.remove(&token);
    }

    /// The peer holds what was told up to this number. Gives those of the answers
    /// that are on our own disk as well.
    pub fn acknowledged(&mut self, peer: &PeerId, number: u64) -> Vec<JournalToken> {
        // Nobody holds what was not told.
        let number = number.min(self.last);
        if let Some(holder) = self.peers.get_mut(peer) {
            holder.acknowledged = holder.acknowledged.max(number);
        }
        self.known_up_to(number)
    }

    fn known_up_to(&mut self, number: u64) -> Vec<JournalToken> {
        let later = number.checked_add(1).map(|next| self.unacknowledged.split_off(&next));
        let known = std::mem::replace(&mut self.unacknowledged, later.unwrap_or_default());
        let known = known.into_values();
        known.filter(|token| self.waiting.remove(token) == Some(true)).collect()
    }

    /// Gives those that waited long enough, and are on our own disk.
    pub fn overdue(&mut self, now: Instant) -> Vec<JournalToken> {
        let mut overdue = Vec::new();
        while let Some((at, token)) = self.deadlines.front().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop_front();
            if let Some(is_on_disk) = self.waiting.remove(&token) {
                self.late += 1;
                overdue.extend(is_on_disk.then_some(token));
            }
        }
        overdue
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    /// Links that stand.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Answered calls that no peer holds as they are now.
    pub fn alone(&self) -> usize {
        let held = self.peers.values().map(|peer| peer.acknowledged).max().unwrap_or(0);
        let told = self.calls.values().filter_map(|told| told.last.as_ref());
        told.filter(|(number, _)| *number > held).count()
    }
}

impl Told {
    fn frame(&self, number: u64, state: &Snapshot) -> Option<Frame> {
        let state = KeptCall::State(state.clone()).encode();
        framed(&ToPeer::Call { number, state, record: self.record.clone() })
    }
}

/// `None` where it is longer than a frame may be.
fn framed(message: &ToPeer) -> Option<Frame> {
    let mut octets = Vec::new();
    encode(message, &mut octets).ok()?;
    Some(Frame(octets.into()))
}

/// `None` where it cannot be read.
pub fn replica(state: &[u8], record: &[Vec<u8>]) -> Option<Replica> {
    let KeptCall::State(snapshot) = KeptCall::decode(state).ok()? else { return None };
    let record: Option<Vec<_>> =
        record.iter().map(|event| ledger::decode_event(event).ok()).collect();
    let record = record?;
    record.iter().all(|event| event.call == snapshot.call).then_some(Replica { snapshot, record })
}

#[cfg(test)]
mod tests {
    use super::*;
    use landline_control::Framer;
    use landline_region::{AccountSid, Personal, UnixMillis};

    fn state(call: u128) -> Snapshot {
        sized(call, 1)
    }

    fn sized(call: u128, octets: usize) -> Snapshot {
        Snapshot {
            call: CallSid::from_u128(call),
            account: AccountSid::from_u128(1),
            sequence: 2,
            at: UnixMillis(3),
            state: Personal::new(vec![4; octets]),
        }
    }

    fn ringing(call: u128) -> CallEvent {
        CallEvent {
            call: CallSid::from_u128(call),
            account: AccountSid::from_u128(1),
            sequence: 1,
            at: UnixMillis(2),
            step: Step::Ringing,
        }
    }

    fn peer() -> PeerId {
        PeerId("proxy-2".into())
    }

    fn with_peer() -> (Replication, Frames) {
        let mut replication = Replication::new(true);
        let (sender, receiver) = queue();
        replication.peer_up(peer(), sender);
        (replication, receiver)
    }

    /// What was told, taken from the queue.
    fn told(frames: &mut Frames) -> Vec<ToPeer> {
        let mut framer = Framer::default();
        while let Ok(Frame(octets)) = frames.frames.try_recv() {
            framer.push(&octets);
        }
        std::iter::from_fn(|| framer.next().unwrap()).collect()
    }

    #[test]
    fn an_answer_waits_for_its_own_disk_and_for_one_peer() {
        let now = Instant::now();
        let (mut replication, mut frames) = with_peer();
        for token in [1, 2] {
            replication.journaled(now, Some(JournalToken(token)), &[], Some(&state(token.into())));
        }
        assert!(!replication.on_disk(JournalToken(1)));
        assert_eq!(replication.alone(), 2);
        assert_eq!(replication.acknowledged(&peer(), 2), [JournalToken(1)]);
        assert_eq!(replication.alone(), 0);
        // The other way round.
        assert!(replication.on_disk(JournalToken(2)));
        let heard = told(&mut frames);
        let [ToPeer::Call { state, record, .. }, _] = &heard[..] else { panic!() };
        assert_eq!(replica(state, record).unwrap().snapshot.call, CallSid::from_u128(1));
        assert_eq!(replication.overdue(now + PATIENCE), []);
        assert_eq!(replication.late, 0);
    }

    #[test]
    fn without_a_peers_word_it_goes_on_all_the_same() {
        let now = Instant::now();
        let (mut replication, _frames) = with_peer();
        for token in [1, 2] {
            replication.journaled(now, Some(JournalToken(token)), &[], Some(&state(token.into())));
        }
        assert!(!replication.on_disk(JournalToken(1)));
        assert_eq!(replication.overdue(now), []);
        assert_eq!(replication.overdue(now + PATIENCE), [JournalToken(1)]);
        assert!(replication.on_disk(JournalToken(2)), "it waits for the disk alone");
        assert_eq!(replication.late, 2);
        replication.journaled(now, Some(JournalToken(3)), &[], Some(&state(3)));
        assert!(!replication.on_disk(JournalToken(3)));
        assert_eq!(replication.peer_lost(&peer()), [JournalToken(3)]);
        replication.journaled(now, Some(JournalToken(4)), &[], Some(&state(4)));
        assert!(replication.on_disk(JournalToken(4)), "nobody is there to wait for");
        assert_eq!(replication.alone(), 4);
    }

    #[test]
    fn a_peer_that_comes_late_hears_of_every_call_that_goes_on() {
        let now = Instant::now();
        let mut replication = Replication::new(true);
        for call in [1, 2, 3] {
            replication.journaled(now, None, &[ringing(call)], None);
        }
        replication.journaled(now, None, &[], Some(&state(1)));
        replication.journaled(now, None, &[], Some(&state(2)));
        replication.forget(CallSid::from_u128(2));
        let (sender, mut frames) = queue();
        replication.peer_up(peer(), sender);
        let heard = told(&mut frames);
        let [ToPeer::Call { state, record, number: 1 }] = &heard[..] else { panic!() };
        let replica = replica(state, record).unwrap();
        assert_eq!((replica.snapshot.call, replica.record.len()), (CallSid::from_u128(1), 1));
        replication.forget(CallSid::from_u128(1));
        assert!(matches!(told(&mut frames)[..], [ToPeer::Gone(_)]));
    }

    #[test]
    fn a_peer_that_does_not_read_is_let_go() {
        let now = Instant::now();
        let (mut replication, _frames) = with_peer();
        for call in 0..=QUEUE {
            replication.journaled(now, None, &[], Some(&state(call as u128 % 7)));
        }
        assert_eq!((replication.peers(), replication.overrun), (0, 1));
        let (mut replication, _frames) = with_peer();
        let long = sized(1, 60_000);
        for _ in 0..=MOST_WAITING / 60_000 {
            replication.journaled(now, None, &[], Some(&long));
        }
        assert_eq!((replication.peers(), replication.overrun), (0, 1));
    }

    #[test]
    fn a_call_that_is_too_long_for_a_message_holds_up_no_other() {
        let (mut replication, mut frames) = with_peer();
        let token = Some(JournalToken(1));
        replication.journaled(Instant::now(), token, &[], Some(&sized(1, 70_000)));
        assert!(replication.on_disk(JournalToken(1)), "nobody is asked to hold it");
        assert_eq!((replication.oversize, replication.peers()), (1, 1));
        assert!(told(&mut frames).is_empty());
    }

    #[test]
    fn a_record_of_another_call_is_no_replica() {
        let kept = KeptCall::State(state(1)).encode();
        let own = ledger::encode_event(&ringing(1));
        assert!(replica(&kept, std::slice::from_ref(&own)).is_some());
        assert!(replica(&kept, &[own.clone(), ledger::encode_event(&ringing(2))]).is_none());
        assert!(replica(&kept[..kept.len() - 1], &[own]).is_none());
        assert!(replica(&KeptCall::Gone(CallSid::from_u128(1)).encode(), &[]).is_none());
    }
}
