mod common;

use std::time::{Duration, Instant};

use common::{at, contains, eventually};
use landline_call::record::Step;
use landline_call::tenancy::Account;
use landline_control::{Consent, LegId, PayloadType};
use landline_region::{AccountSid, CallSid, RecordingSid, UnixMillis};
use landline_store::{
    Part, RecordedEntry, Recorder, RecorderConfig, RecordingFilter, RecordingSink, RecordingStart,
    Store, StoreError,
};

const A: LegId = LegId(0);
const B: LegId = LegId(1);

fn sid(number: u128) -> RecordingSid {
    RecordingSid::from_u128(number)
}

fn opus() -> Vec<PayloadType> {
    vec![PayloadType { number: 111, encoding: "OPUS".to_owned(), clock_rate: 48_000, channels: 2 }]
}

fn start(account: AccountSid, number: u128) -> RecordingStart {
    RecordingStart {
        part: Part::of(sid(number), 0),
        call: CallSid::from_u128(number),
        account,
        consent: Consent { by_policy: true, granted_at: at(-5) },
        started_at: at(0),
        payload_types: vec![(A, opus()), (B, Vec::new())],
    }
}

/// A packet that can be told from the others and found in a file.
fn packet(leg: LegId, number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 111];
    packet.extend_from_slice(format!("what-was-said by {} {number} ", leg.0).as_bytes());
    packet.resize(172, 0x55);
    packet
}

/// `seconds` of two legs at 50 packets a second.
fn speak(sink: &RecordingSink, recording: RecordingSid, seconds: u32) {
    for number in 0..seconds * 50 {
        for leg in [A, B] {
            sink.frame(recording, leg, number * 20, &packet(leg, number)).unwrap();
        }
    }
}

fn packets(entries: &[RecordedEntry]) -> Vec<(LegId, u32, Vec<u8>)> {
    let packet = |entry: &RecordedEntry| match entry {
        RecordedEntry::Packet { leg, at_ms, packet } => Some((*leg, *at_ms, packet.clone())),
        _ => None,
    };
    entries.iter().filter_map(packet).collect()
}

async fn recorded(region: &common::Region, account: &Account, number: u128, seconds: u32) {
    let config = RecorderConfig::new(region.path(&format!("spool-{number}")));
    let recorder = Recorder::start(region.store.clone(), config).unwrap();
    let sink = recorder.sink();
    sink.start(start(account.sid, number)).unwrap();
    speak(&sink, sid(number), seconds);
    sink.finish(sid(number)).await.unwrap();
    recorder.shutdown().await;
}

on_both_engines! {
    async fn what_was_heard_is_read_back_packet_by_packet(region: Region) {
        let account = region.account().await;
        let config = RecorderConfig::new(region.path("spool"));
        let recorder = Recorder::start(region.store.clone(), config).unwrap();
        let sink = recorder.sink();
        sink.start(start(account.sid, 1)).unwrap();
        speak(&sink, sid(1), 3);
        sink.payload_types(sid(1), B, &opus()).unwrap();
        sink.frame(sid(1), B, 3000, &packet(B, 999)).unwrap();
        let told = sink.finish(sid(1)).await.unwrap();
        assert_eq!((told.expected_packets, told.stored_packets), (301, 301));

        let record = region.store.recording_of(CallSid::from_u128(1)).await.unwrap().unwrap();
        assert_eq!(record.sid, sid(1));
        assert_eq!((record.expected_packets, record.stored_packets), (301, 301));
        assert_eq!(record.duration_ms, 3000);
        assert!((3..=6).contains(&record.chunks), "about one a second: {}", record.chunks);
        assert_eq!(record.consent, Consent { by_policy: true, granted_at: at(-5) });
        assert!(record.finished_at.is_some());

        let entries = region.store.recording_frames(sid(1)).await.unwrap();
        assert_eq!(entries[0], RecordedEntry::PayloadTypes { leg: A, types: opus() });
        let changed = RecordedEntry::PayloadTypes { leg: B, types: opus() };
        let place = entries.iter().position(|entry| *entry == changed).unwrap();
        let heard = packets(&entries);
        assert_eq!(heard.len(), 301);
        assert_eq!(heard[0], (A, 0, packet(A, 0)));
        assert_eq!(heard[299], (B, 2980, packet(B, 149)));
        assert_eq!(heard[300], (B, 3000, packet(B, 999)));
        assert_eq!(place, entries.len() - 2, "the new meaning comes before the packet it is for");
        recorder.shutdown().await;
    }

    /// The first relay dies with what it has not sealed; another goes on four
    /// seconds after the start. What the first has in its spool may come later.
    async fn what_two_relays_recorded_of_a_call_is_one_recording_with_its_gap_marked(region: Region) {
        let account = region.account().await;
        let config = RecorderConfig::new(region.path("spool-dead"));
        let dead = Recorder::start(region.store.clone(), config).unwrap();
        dead.sink().start(start(account.sid, 1)).unwrap();
        speak(&dead.sink(), sid(1), 2);
        eventually("its chunks are stored", || async {
            let record = region.store.recording_show(sid(1)).await;
            record.is_ok_and(|record| record.stored_packets >= 100)
        }).await;
        let config = RecorderConfig::new(region.path("spool-next"));
        let next = Recorder::start(region.store.clone(), config).unwrap();
        let part = Part::of(sid(1), 1);
        let begun = RecordingStart { part, started_at: at(4000), ..start(account.sid, 1) };
        next.sink().start(begun).unwrap();
        speak(&next.sink(), part.sid(), 1);
        let told = next.sink().finish(part.sid()).await.unwrap();
        assert_eq!(told.stored_packets, 100);
        // It was only out of reach: the rest comes from its spool.
        dead.shutdown().await;

        for asked in [sid(1), part.sid()] {
            let record = region.store.recording_show(asked).await.unwrap();
            assert_eq!((record.sid, record.parts.len()), (sid(1), 2));
            assert_eq!((record.expected_packets, record.stored_packets), (300, 300));
            assert_eq!(record.duration_ms, 4980);
            let gaps = record.gaps();
            assert_eq!((gaps.len(), gaps[0].at_ms, gaps[0].duration_ms), (1, 1980, 2020));
            assert!(record.finished_at.is_some());
        }
        let entries = region.store.recording_frames(sid(1)).await.unwrap();
        let heard = packets(&entries);
        assert_eq!(heard.len(), 300);
        assert_eq!((heard[199].1, heard[200].1, heard[299].1), (1980, 4000, 4980));
        let gap = RecordedEntry::Gap { at_ms: 1980, until_ms: 4000 };
        let place = entries.iter().position(|entry| *entry == gap).unwrap();
        assert_eq!(packets(&entries[..place]).len(), 200);
        assert_eq!(region.store.recording_list(&RecordingFilter::default()).await.unwrap().len(), 1);

        // A part that is said to be another's is not played.
        let wrong = format!("UPDATE recording SET segment = 2 WHERE sid = '{}'", part.sid());
        region.tamper(&wrong).await;
        let error = region.store.recording_frames(sid(1)).await.unwrap_err().to_string();
        assert!(error.contains("no part of the recording"), "{error}");
        next.shutdown().await;
    }

    /// The first relay died before it had stored anything: it left no row.
    async fn a_beginning_that_is_lost_is_a_gap(region: Region) {
        let account = region.account().await;
        let steps = common::receipts::events(&account, 1, true);
        let answered = steps.iter().find(|it| matches!(it.step, Step::Answered { .. })).unwrap().at;
        region.store.apply_events(&steps[..5]).await.unwrap();
        let recorder = Recorder::start(region.store.clone(), RecorderConfig::new(region.path("spool"))).unwrap();
        let part = Part::of(sid(1), 1);
        let started_at = UnixMillis(answered.0 + 900);
        let call = CallSid::from_u128(1);
        recorder.sink().start(RecordingStart { part, call, started_at, ..start(account.sid, 1) }).unwrap();
        speak(&recorder.sink(), part.sid(), 1);
        recorder.sink().finish(part.sid()).await.unwrap();
        let record = region.store.recording_show(sid(1)).await.unwrap();
        assert_eq!((record.started_at, record.duration_ms), (answered, 900 + 980));
        let gaps: Vec<_> = record.gaps().iter().map(|gap| (gap.at_ms, gap.duration_ms)).collect();
        assert_eq!(gaps, [(0, 900)]);
        assert_eq!(region.store.recording_list(&RecordingFilter::default()).await.unwrap(), [record]);
        let entries = region.store.recording_frames(sid(1)).await.unwrap();
        assert_eq!(entries[0], RecordedEntry::Gap { at_ms: 0, until_ms: 900 });
        assert_eq!(packets(&entries)[0].1, 900);
        recorder.shutdown().await;
    }

    async fn recordings_are_listed_by_account_and_unknown_ones_named(region: Region) {
        let account = region.account().await;
        recorded(&region, &account, 1, 1).await;
        recorded(&region, &account, 2, 1).await;
        let all = region.store.recording_list(&RecordingFilter::default()).await.unwrap();
        assert_eq!(all.len(), 2);
        let nobody = RecordingFilter { account: Some(AccountSid::from_u128(1)), ..Default::default() };
        assert!(region.store.recording_list(&nobody).await.unwrap().is_empty());
        assert_eq!(region.store.recording_show(sid(2)).await.unwrap().call, CallSid::from_u128(2));
        let error = region.store.recording_frames(sid(3)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
        assert!(region.store.recording_of(CallSid::from_u128(3)).await.unwrap().is_none());
    }

    async fn a_changed_moved_or_missing_chunk_is_named(region: Region) {
        let account = region.account().await;
        recorded(&region, &account, 1, 3).await;
        recorded(&region, &account, 2, 3).await;
        let one = sid(1).to_string();
        let chunk = |number: i64| format!("recording = '{one}' AND sequence = {number}");
        let broken = async || match region.store.recording_frames(sid(1)).await.unwrap_err() {
            StoreError::Chunk { recording, chunk, problem } => {
                assert_eq!(recording, sid(1));
                (chunk, problem)
            }
            other => panic!("{other}"),
        };
        let tamper = async |sql: String| assert!(region.tamper(&sql).await > 0, "{sql}");

        // A header, then the sealed octets of another recording.
        tamper(format!("UPDATE recording_chunk SET last_ms = last_ms + 1 WHERE {}", chunk(1))).await;
        assert_eq!(broken().await.0, 1);
        tamper(format!("UPDATE recording_chunk SET last_ms = last_ms - 1 WHERE {}", chunk(1))).await;
        region.store.recording_frames(sid(1)).await.unwrap();
        let other = format!("SELECT sealed FROM recording_chunk WHERE recording = '{}' AND sequence = 2", sid(2));
        tamper(format!("UPDATE recording_chunk SET sealed = ({other}) WHERE {}", chunk(2))).await;
        assert_eq!(broken().await.0, 2);

        // The end missing, then the beginning, then two in the wrong order.
        let two = sid(2).to_string();
        let of_two = |number: i64| format!("recording = '{two}' AND sequence = {number}");
        let broken = async || match region.store.recording_frames(sid(2)).await.unwrap_err() {
            StoreError::Chunk { chunk, .. } => chunk,
            other => panic!("{other}"),
        };
        tamper(format!("UPDATE recording_chunk SET sequence = 9 WHERE {}", of_two(2))).await;
        assert_eq!(broken().await, 2);
        tamper(format!("UPDATE recording_chunk SET sequence = 2 WHERE {}", of_two(1))).await;
        tamper(format!("UPDATE recording_chunk SET sequence = 1 WHERE {}", of_two(9))).await;
        assert_eq!(broken().await, 1);
        tamper(format!("DELETE FROM recording_chunk WHERE {}", of_two(0))).await;
        assert_eq!(broken().await, 0);
    }

    async fn a_recording_that_was_not_finished_shows_what_is_there(region: Region) {
        let account = region.account().await;
        let config = RecorderConfig::new(region.path("spool"));
        let recorder = Recorder::start(region.store.clone(), config).unwrap();
        let sink = recorder.sink();
        sink.start(start(account.sid, 1)).unwrap();
        speak(&sink, sid(1), 2);
        recorder.shutdown().await;
        let record = region.store.recording_show(sid(1)).await.unwrap();
        assert_eq!((record.finished_at, record.stored_packets), (None, 200));
        assert_eq!(packets(&region.store.recording_frames(sid(1)).await.unwrap()).len(), 200);
    }

    async fn an_account_of_another_region_is_not_recorded(region: Region) {
        let account = region.account().await;
        let config = RecorderConfig::new(region.path("spool"));
        let recorder = Recorder::start(region.store.clone(), config).unwrap();
        let sink = recorder.sink();
        sink.start(start(AccountSid::from_u128(404), 1)).unwrap();
        sink.start(start(account.sid, 2)).unwrap();
        speak(&sink, sid(1), 1);
        speak(&sink, sid(2), 1);
        sink.finish(sid(2)).await.unwrap();
        sink.finish(sid(1)).await.unwrap();
        assert!(region.store.recording_show(sid(1)).await.is_err());
        assert_eq!(region.store.recording_show(sid(2)).await.unwrap().stored_packets, 100);
        assert!(recorder.counters().chunks_refused > 0);
        recorder.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_refuses_at_once_and_the_loss_is_marked() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let config = RecorderConfig { buffer: 64 << 10, ..RecorderConfig::new(region.path("spool")) };
    let recorder = Recorder::start(region.store.clone(), config).unwrap();
    let sink = recorder.sink();
    sink.start(start(account.sid, 1)).unwrap();
    let (mut kept, mut refused) = (0, 0);
    let begin = Instant::now();
    for number in 0..10_000_u32 {
        match sink.frame(sid(1), A, number / 10, &packet(A, number)) {
            Ok(()) => kept += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(refused > 0);
    let told = sink.finish(sid(1)).await.unwrap();
    assert_eq!(told.expected_packets, 10_000);
    assert!(told.stored_packets <= kept);
    let entries = region.store.recording_frames(sid(1)).await.unwrap();
    let marked: u64 = entries
        .iter()
        .map(|entry| match entry {
            RecordedEntry::Dropped { packets, .. } => u64::from(*packets),
            _ => 0,
        })
        .sum();
    assert_eq!(packets(&entries).len() as u64, told.stored_packets);
    assert_eq!(told.stored_packets + marked, 10_000);
    assert_eq!(recorder.counters().packets_dropped, marked);
    recorder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_chunks_wait_in_the_spool() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    // A store whose connections are closed stands for a database that is away.
    let away = Store::open(&region.config).await.unwrap();
    away.close().await;
    let recorder = Recorder::start(away, RecorderConfig::new(region.path("spool"))).unwrap();
    let sink = recorder.sink();
    sink.start(start(account.sid, 1)).unwrap();
    speak(&sink, sid(1), 3);
    let told = sink.finish(sid(1)).await.unwrap();
    assert_eq!((told.expected_packets, told.stored_packets), (300, 300));
    assert!(region.store.recording_show(sid(1)).await.is_err());
    let counters = recorder.counters();
    assert!(counters.chunks_spooled >= 3 && counters.spool_octets > 0, "{counters:?}");
    recorder.shutdown().await;
    for (path, bytes) in common::files(&region.path("spool")) {
        assert!(!contains(&bytes, "what-was-said"), "{}", path.display());
    }

    let recorder =
        Recorder::start(region.store.clone(), RecorderConfig::new(region.path("spool"))).unwrap();
    eventually("the spool is drained", || async {
        let shown = region.store.recording_show(sid(1)).await;
        shown.is_ok_and(|record| record.finished_at.is_some())
    })
    .await;
    assert_eq!(packets(&region.store.recording_frames(sid(1)).await.unwrap()).len(), 300);
    eventually("the spool is empty", || async { recorder.counters().spool_octets == 0 }).await;
    recorder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_of_the_spool_is_counted_and_the_rest_stored() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    let away = Store::open(&region.config).await.unwrap();
    away.close().await;
    let recorder = Recorder::start(away, RecorderConfig::new(region.path("spool"))).unwrap();
    let sink = recorder.sink();
    sink.start(start(account.sid, 1)).unwrap();
    speak(&sink, sid(1), 3);
    sink.finish(sid(1)).await.unwrap();
    recorder.shutdown().await;
    let mut spool = common::files(&region.path("spool"));
    spool.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "seg"));
    // Most of it is chunks.
    let (path, mut octets) = spool.into_iter().max_by_key(|(_, octets)| octets.len()).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(path, octets).unwrap();

    let recorder =
        Recorder::start(region.store.clone(), RecorderConfig::new(region.path("spool"))).unwrap();
    eventually("the spool is empty", || async {
        let counters = recorder.counters();
        counters.spool_octets == 0 && counters.chunks_stored > 0
    })
    .await;
    assert_eq!(recorder.counters().spool_damaged, 1);
    assert!(region.store.recording_show(sid(1)).await.unwrap().finished_at.is_some());
    let error = region.store.recording_frames(sid(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Chunk { .. }), "the gap shows: {error}");
    recorder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_recorders_do_not_share_a_spool() {
    let region = common::Region::sqlite("ie1").await;
    let config = RecorderConfig::new(region.path("spool"));
    let first = Recorder::start(region.store.clone(), config.clone()).unwrap();
    let error = Recorder::start(region.store.clone(), config.clone()).err().unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    first.shutdown().await;
    Recorder::start(region.store.clone(), config).unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_does_not_lie_readable_in_the_files() {
    let region = common::Region::sqlite("ie1").await;
    let account = region.account().await;
    recorded(&region, &account, 1, 2).await;
    for (path, bytes) in common::files(region.dir.path()) {
        assert!(!contains(&bytes, "what-was-said"), "{}", path.display());
    }
}
