//! What the tap hands to the recorder, and when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::proxy::{close, describe};
use crate::support::{A, B, Phone, Proxy, TestRelay, local, relay_with, rtp, spec, until};
use landline_control::{
    Consent, Direction, DtlsRole, LegId, LegLocal, Op, Outcome, PayloadType, Protocol, Recorded,
    Recording, Remote, SessionId, ToRelay, VideoType,
};
use landline_media::Component;
use landline_region::{CallSid, RecordingSid, UnixMillis};
use landline_relay::{Full, Part, RecordingSink, RecordingStart};
use tokio::sync::oneshot;

/// Keeps what it is given, up to a limit, and stores it when it is told.
#[derive(Default)]
struct Keeper {
    state: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    starts: Vec<RecordingStart>,
    described: Vec<(LegId, String)>,
    frames: Vec<(LegId, u32, Vec<u8>)>,
    refused: u64,
    room: usize,
    finishing: Vec<oneshot::Sender<Recorded>>,
}

impl Keeper {
    fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(Kept { room, ..Kept::default() }) })
    }

    fn frames(&self) -> usize {
        self.state.lock().unwrap().frames.len()
    }

    fn store_all(&self) {
        let mut state = self.state.lock().unwrap();
        let stored = state.frames.len() as u64;
        let expected = stored + state.refused;
        let sid = state.starts[0].part.sid();
        for waiting in state.finishing.drain(..) {
            let recorded = Recorded { sid, expected_packets: expected, stored_packets: stored };
            waiting.send(recorded).unwrap();
        }
    }
}

impl RecordingSink for Keeper {
    fn start(&self, start: RecordingStart) -> Result<(), Full> {
        self.state.lock().unwrap().starts.push(start);
        Ok(())
    }

    fn payload_types(
        &self,
        _recording: RecordingSid,
        leg: LegId,
        types: &[PayloadType],
    ) -> Result<(), Full> {
        let names: Vec<_> = types.iter().map(|kind| kind.encoding.as_str()).collect();
        self.state.lock().unwrap().described.push((leg, names.join(",")));
        Ok(())
    }

    fn frame(
        &self,
        _recording: RecordingSid,
        leg: LegId,
        at_ms: u32,
        packet: &[u8],
    ) -> Result<(), Full> {
        let mut state = self.state.lock().unwrap();
        if state.frames.len() >= state.room {
            state.refused += 1;
            return Err(Full);
        }
        state.frames.push((leg, at_ms, packet.to_vec()));
        Ok(())
    }

    fn finish(&self, _recording: RecordingSid) -> oneshot::Receiver<Recorded> {
        let (sender, receiver) = oneshot::channel();
        self.state.lock().unwrap().finishing.push(sender);
        receiver
    }
}

struct Call {
    relay: TestRelay,
    proxy: Proxy,
    a: Phone,
    b: Phone,
    at: [LegLocal; 2],
}

async fn recorded_call(keeper: &Arc<Keeper>) -> Call {
    let sink = Arc::clone(keeper);
    let relay = relay_with(|config| config.recordings = Some(sink)).await;
    let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
    let legs = [(A, spec(Protocol::Sdes)), (B, spec(Protocol::Rtp))];
    let locals = proxy.recorded(1, 99, &legs).await;
    let (at_a, at_b) = (local(&locals, A), local(&locals, B));
    let (mut a, mut b) = (Phone::new(Protocol::Sdes).await, Phone::new(Protocol::Rtp).await);
    a.learn(&at_a, DtlsRole::Server).await;
    b.learn(&at_b, DtlsRole::Server).await;
    let ops = vec![
        describe(A, a.describe(&at_a, DtlsRole::Server)),
        describe(B, b.describe(&at_b, DtlsRole::Server)),
        Op::Join(A, B),
    ];
    proxy.changed(1, ops).await;
    Call { relay, proxy, a, b, at: [at_a, at_b] }
}

impl Call {
    async fn talk(&mut self, from: u16, packets: u16) {
        for n in from..from + packets {
            self.a.say(Component::Rtp, &rtp(0xa, n)).await;
            assert_eq!(self.b.hear().await.packet, rtp(0xa, n));
            self.b.say(Component::Rtp, &rtp(0xb, n)).await;
            assert_eq!(self.a.hear().await.packet, rtp(0xb, n));
        }
    }
}

/// Tells the relay of a picture under these numbers.
async fn shows(call: &mut Call, way: Direction, numbers: &[u8]) {
    let types = |numbers: &[u8]| -> Vec<_> {
        numbers.iter().map(|number| VideoType { number: *number, repeats: false }).collect()
    };
    let ops = [A, B].map(|leg| Op::Video(leg, way, types(numbers)));
    call.proxy.changed(1, ops.to_vec()).await;
}

fn picture(n: u16) -> Vec<u8> {
    let mut packet = [rtp(0xcafe, n), vec![7; 1000]].concat();
    packet[1] = 96;
    packet
}

/// A browser's picture passes, and is not counted as sound.
#[tokio::test]
async fn video_passes_beside_the_sound_its_own_way_and_only_the_sound_is_counted() {
    let keeper = Keeper::with_room(100);
    let mut call = recorded_call(&keeper).await;
    shows(&mut call, Direction::SendReceive, &[96]).await;
    for n in 1..=10 {
        for said in [picture(2 * n), rtp(0xa, n), picture(2 * n + 1)] {
            call.a.say(Component::Rtp, &said).await;
            assert_eq!(call.b.hear().await.packet, said);
        }
        call.b.say(Component::Rtp, &picture(n)).await;
        assert_eq!(call.a.hear().await.packet, picture(n));
    }
    call.relay.metric_reaches("video_packets_total", None, 30.0).await;

    // Agreed to go nowhere, it does not; without a way for the sound, it does.
    shows(&mut call, Direction::Inactive, &[96]).await;
    call.a.say(Component::Rtp, &picture(30)).await;
    call.relay.metric_reaches("drops_total", Some("direction"), 1.0).await;
    let [at_a, at_b] = &call.at;
    let silent = |remote| Remote { direction: Direction::Inactive, ..remote };
    let ops = vec![
        describe(A, silent(call.a.describe(at_a, DtlsRole::Server))),
        describe(B, silent(call.b.describe(at_b, DtlsRole::Server))),
    ];
    call.proxy.changed(1, ops).await;
    shows(&mut call, Direction::SendReceive, &[96]).await;
    call.a.say(Component::Rtp, &rtp(0xa, 40)).await;
    call.a.say(Component::Rtp, &picture(31)).await;
    assert_eq!(call.b.hear().await.packet, picture(31));
    let asked = call.proxy.ask(close(1)).await;
    let Outcome::Closed { legs, .. } = call.proxy.outcome(asked).await else { panic!() };
    let counted: Vec<_> =
        legs.iter().map(|(_, it)| (it.received.packets, it.sent.packets)).collect();
    assert_eq!(counted, [(10, 0), (0, 10)]);
}

/// A recording holds everything that passed: what is no sound does not pass, and
/// no sound passes as something else.
#[tokio::test]
async fn video_is_no_way_around_a_recording() {
    let keeper = Keeper::with_room(100);
    let mut call = recorded_call(&keeper).await;
    shows(&mut call, Direction::SendReceive, &[96, 0]).await;
    call.proxy.changed(1, vec![Op::Record]).await;
    for n in 1..=5 {
        call.a.say(Component::Rtp, &picture(n)).await;
    }
    call.relay.metric_reaches("drops_total", Some("unrecorded_video"), 5.0).await;
    call.talk(10, 5).await;
    until(|| keeper.frames() == 10).await;
    let asked = call.proxy.ask(close(1)).await;
    until(|| !keeper.state.lock().unwrap().finishing.is_empty()).await;
    keeper.store_all();
    let Outcome::Closed { legs, .. } = call.proxy.outcome(asked).await else { panic!() };
    let counted: Vec<_> = legs.iter().map(|(_, it)| it.received.packets).collect();
    assert_eq!(counted, [5, 5]);
}

#[tokio::test]
async fn both_legs_plain_packets_are_recorded_from_the_answer_on() {
    let keeper = Keeper::with_room(1000);
    let mut call = recorded_call(&keeper).await;
    call.talk(1, 3).await;
    assert_eq!(keeper.frames(), 0, "early media is not recorded");
    call.proxy.changed(1, vec![Op::Record]).await;
    call.talk(10, 5).await;
    until(|| keeper.frames() == 10).await;
    let asked = call.proxy.ask(close(1)).await;
    until(|| !keeper.state.lock().unwrap().finishing.is_empty()).await;
    assert_eq!(call.relay.handle.sessions(), 0, "the shard does not wait for the store");
    keeper.store_all();
    let Outcome::Closed { recording, legs } = call.proxy.outcome(asked).await else { panic!() };
    let sid = RecordingSid::from_u128(99);
    let expected = Recorded { sid, expected_packets: 10, stored_packets: 10 };
    assert_eq!((recording, legs.len()), (Some(expected), 2));

    let state = keeper.state.lock().unwrap();
    assert_eq!(state.starts.len(), 1);
    assert_eq!((state.starts[0].part.sid(), state.starts[0].call), (sid, CallSid::from_u128(1)));
    assert_eq!(state.described, [(A, "PCMU".to_owned()), (B, "PCMU".to_owned())]);
    for (n, pair) in (10..).zip(state.frames.chunks(2)) {
        assert_eq!((pair[0].0, &pair[0].2), (A, &rtp(0xa, n)), "in the clear");
        assert_eq!((pair[1].0, &pair[1].2), (B, &rtp(0xb, n)));
        assert!(pair[0].1 <= pair[1].1 && pair[1].1 < 10_000);
    }
}

#[tokio::test]
async fn a_relay_that_goes_on_with_a_recording_makes_a_part_of_its_own() {
    let keeper = Keeper::with_room(1000);
    let mut call = recorded_call(&keeper).await;
    call.proxy.changed(1, vec![Op::Continue(2)]).await;
    call.talk(1, 1).await;
    until(|| keeper.frames() == 2).await;
    let state = keeper.state.lock().unwrap();
    assert_eq!(state.starts[0].part, Part::of(RecordingSid::from_u128(99), 2));
}

/// Told now and then, so that a record has them when the relay dies.
#[tokio::test]
async fn a_sessions_figures_are_told_while_it_lasts() {
    let mut call = recorded_call(&Keeper::with_room(1)).await;
    call.talk(1, 7).await;
    let told = loop {
        call.proxy.send(&ToRelay::Ping(1)).await;
        call.proxy.receive().await.unwrap();
        if let Some(told) = call.proxy.counted.pop() {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(told.0, SessionId(1));
    let received: Vec<_> = told.1.iter().map(|(leg, it)| (*leg, it.received.packets)).collect();
    assert_eq!(received, [(A, 7), (B, 7)]);
}

#[tokio::test]
async fn a_full_recorder_loses_frames_that_are_counted_and_the_call_goes_on() {
    let keeper = Keeper::with_room(4);
    let mut call = recorded_call(&keeper).await;
    call.proxy.changed(1, vec![Op::Record]).await;
    call.talk(1, 5).await;
    call.relay.metric_reaches("recording_drops_total", None, 6.0).await;
    assert_eq!(call.relay.metric("recording_frames_total", None), 10.0);
    let asked = call.proxy.ask(close(1)).await;
    until(|| !keeper.state.lock().unwrap().finishing.is_empty()).await;
    keeper.store_all();
    let Outcome::Closed { recording, .. } = call.proxy.outcome(asked).await else { panic!() };
    let recorded = recording.unwrap();
    assert_eq!((recorded.expected_packets, recorded.stored_packets), (10, 4));
}

#[tokio::test]
async fn a_recorder_that_dies_leaves_a_count_of_what_is_missing() {
    let keeper = Keeper::with_room(1000);
    let mut call = recorded_call(&keeper).await;
    call.proxy.changed(1, vec![Op::Record]).await;
    call.talk(1, 2).await;
    let asked = call.proxy.ask(close(1)).await;
    until(|| !keeper.state.lock().unwrap().finishing.is_empty()).await;
    keeper.state.lock().unwrap().finishing.clear();
    let Outcome::Closed { recording, .. } = call.proxy.outcome(asked).await else { panic!() };
    let recorded = recording.unwrap();
    assert_eq!((recorded.expected_packets, recorded.stored_packets), (4, 0));
}

#[tokio::test]
async fn a_session_whose_proxy_is_gone_has_its_recording_finished() {
    let keeper = Keeper::with_room(1000);
    let mut call = recorded_call(&keeper).await;
    call.proxy.changed(1, vec![Op::Record]).await;
    call.talk(1, 2).await;
    drop(call.proxy);
    until(|| !keeper.state.lock().unwrap().finishing.is_empty()).await;
    keeper.store_all();
    call.relay.handle.shutdown().await;
}

/// A caller alone, as of a mailbox.
#[tokio::test]
async fn one_leg_is_recorded_with_nobody_at_its_other_end() {
    for protocol in [Protocol::Rtp, Protocol::Sdes] {
        let keeper = Keeper::with_room(100);
        let sink = Arc::clone(&keeper);
        let relay = relay_with(|config| config.recordings = Some(sink)).await;
        let mut proxy = Proxy::connect(&relay, "proxy", 1).await;
        let locals = proxy.opened(1, &[(A, spec(protocol))]).await;
        let at = local(&locals, A);
        let mut caller = Phone::new(protocol).await;
        caller.learn(&at, DtlsRole::Server).await;
        let described = describe(A, caller.describe(&at, DtlsRole::Server));
        proxy.changed(1, vec![described]).await;
        caller.say(Component::Rtp, &rtp(0xa, 1)).await;
        relay.metric_reaches("drops_total", Some("unjoined"), 1.0).await;
        let sid = RecordingSid::from_u128(77);
        let consent = Consent { by_policy: false, granted_at: UnixMillis(5) };
        let note = Op::Note(A, Box::new(Recording { sid, consent }));
        proxy.changed(1, vec![note]).await;
        for n in 2..=20 {
            caller.say(Component::Rtp, &rtp(0xa, n)).await;
        }
        until(|| keeper.frames() == 19).await;
        assert_eq!(relay.metric("drops_total", Some("unjoined")), 1.0, "it is not lost");
        {
            let kept = keeper.state.lock().unwrap();
            let start = &kept.starts[0];
            assert_eq!((start.part.sid(), start.consent), (sid, consent));
            assert_eq!(kept.described.len(), 1);
            assert!(
                kept.frames
                    .iter()
                    .zip(2..)
                    .all(|((leg, _, packet), n)| { *leg == A && *packet == rtp(0xa, n) })
            );
        }
        let unknown = Op::Note(B, Box::new(Recording { sid, consent }));
        let outcome = proxy.change(1, vec![unknown]).await;
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
}
