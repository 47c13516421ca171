use landline_call::record::{CallEvent, Step};
use landline_call::tenancy::Account;
use landline_control::{Consent, LegId, PayloadType, RelayId};
use landline_media::audio::{ToneGenerator, strongest_tone, ulaw_encode};
use landline_region::{CallSid, RecordingSid, UnixMillis};
use landline_store::{ApiRole, Part, Recorder, RecorderConfig, RecordingStart};
use serde_json::json;

use crate::on_both_engines;
use crate::support::{World, events, uri};

const START: i64 = 1_700_000_000_000;

/// Two seconds of G.711: the caller sends 440 Hz, the callee 620 Hz.
pub async fn recorded(world: &World, account: &Account, number: u128) -> RecordingSid {
    recorded_part(world, account, number, 0).await
}

async fn recorded_part(
    world: &World,
    account: &Account,
    number: u128,
    segment: u16,
) -> RecordingSid {
    let whole = RecordingSid::from_u128(number);
    let part = Part::of(whole, segment);
    let sid = part.sid();
    let spool = RecorderConfig::new(world.dir.path().join(format!("spool-{number}")));
    let recorder = Recorder::start(world.ie1.store.clone(), spool).unwrap();
    let sink = recorder.sink();
    let types =
        vec![PayloadType { number: 0, encoding: "PCMU".to_owned(), clock_rate: 8000, channels: 1 }];
    let start = RecordingStart {
        part,
        call: CallSid::from_u128(number),
        account: account.sid,
        consent: Consent { by_policy: true, granted_at: UnixMillis(START) },
        started_at: UnixMillis(START + number as i64 * 1000),
        payload_types: vec![(LegId(0), types.clone()), (LegId(1), types)],
    };
    sink.start(start).unwrap();
    for (leg, hz) in [(0u8, 440.0), (1, 620.0)] {
        let mut tone = ToneGenerator::new(hz, 8000);
        for packet in 0..100u32 {
            let mut samples = [0i16; 160];
            tone.fill(&mut samples);
            let mut bytes = vec![0x80, 0];
            bytes.extend((packet as u16).to_be_bytes());
            bytes.extend((packet * 160).to_be_bytes());
            bytes.extend([0, 0, 0, leg + 1]);
            bytes.extend(samples.iter().map(|&sample| ulaw_encode(sample)));
            sink.frame(sid, LegId(leg.into()), packet * 20, &bytes).unwrap();
        }
    }
    sink.finish(sid).await.unwrap();
    recorder.shutdown().await;
    whole
}

on_both_engines! {
    async fn an_operator_hears_both_sides_and_nobody_else_hears_anything(world: World) {
        let sid = recorded(&world, &world.acme, 1).await;
        let path = uri(world.acme.sid, &format!("/Recordings/{sid}.wav"));
        for role in [ApiRole::Admin, ApiRole::Auditor, ApiRole::Read] {
            let key = world.key(role).await;
            world.ie1.get(&path, Some(&key)).await.problem(403, "forbidden");
        }
        let key = world.key(ApiRole::Operator).await;
        let answer = world.ie1.get(&path, Some(&key)).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["content-type"]), (200, &"audio/wav".parse().unwrap()));
        assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
        let mut wav = hound::WavReader::new(answer.body.as_slice()).unwrap();
        let spec = wav.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8000, 16));
        let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        for (channel, wanted) in [(0, 440.0), (1, 620.0)] {
            let one: Vec<i16> = samples.iter().skip(channel).step_by(2).copied().collect();
            let (hz, _) = strongest_tone(&one[4000..12_000], 8000).unwrap();
            assert!((hz - wanted).abs() < 5.0, "channel {channel}: {hz}");
        }
    }

    async fn a_call_shows_where_it_went_and_a_recording_what_is_missing(world: World) {
        // What the first relay recorded was lost with it.
        let opened = START + 700;
        let mut steps = events(&world.acme, 1, opened, true);
        let end = steps.pop().unwrap();
        let relay = |name: &str| RelayId(name.to_owned());
        let step = Step::Moved { from: relay("relay-1"), to: relay("relay-2") };
        let (sequence, at) = (end.sequence, UnixMillis(opened + 300));
        steps.push(CallEvent { sequence, at, step, ..end.clone() });
        steps.push(CallEvent { sequence: sequence + 1, ..end });
        world.ie1.store.apply_events(&steps).await.unwrap();
        let sid = recorded_part(&world, &world.acme, 1, 1).await;
        let key = world.key(ApiRole::Operator).await;
        let path = uri(world.acme.sid, &format!("/Calls/{}.json", CallSid::from_u128(1)));
        let call = world.ie1.get(&path, Some(&key)).await.expect(200);
        let at = UnixMillis(opened + 300).to_string();
        assert_eq!(call["moves"], json!([{ "at": at, "from": "relay-1", "to": "relay-2" }]));
        let path = uri(world.acme.sid, &format!("/Recordings/{sid}.json"));
        let recording = world.ie1.get(&path, Some(&key)).await.expect(200);
        // Answered at 900 ms, and its part begins at 1,000.
        assert_eq!(recording["gaps"], json!([{ "at_ms": 0, "duration_ms": 100 }]));
        assert_eq!(recording["duration_ms"], 100 + 1980);
        let path = uri(world.acme.sid, "/Recordings.json");
        let page = world.ie1.get(&path, Some(&key)).await.expect(200);
        assert_eq!(page["recordings"], json!([recording]));
    }

    async fn a_deleted_recording_is_gone_and_still_known(world: World) {
        let sid = recorded(&world, &world.acme, 1).await;
        let other = recorded(&world, &world.acme, 2).await;
        let key = world.key(ApiRole::Operator).await;
        let list = uri(world.acme.sid, "/Recordings.json?PageSize=1");
        let page = world.ie1.get(&list, Some(&key)).await.expect(200);
        assert_eq!(page["recordings"][0]["sid"], other.to_string());
        let next = page["next_page_uri"].as_str().unwrap();
        let page = world.ie1.get(next, Some(&key)).await.expect(200);
        assert_eq!((&page["recordings"][0]["sid"], &page["next_page_uri"]), (&sid.to_string().into(), &serde_json::Value::Null));
        let of_call = uri(world.acme.sid, &format!("/Calls/{}/Recordings.json", CallSid::from_u128(2)));
        let page = world.ie1.get(&of_call, Some(&key)).await.expect(200);
        assert_eq!(page["recordings"].as_array().unwrap().len(), 1);

        let path = uri(world.acme.sid, &format!("/Recordings/{sid}.json"));
        world.ie1.ask("DELETE", &path, Some(&key), &[], "").await.expect(204);
        let shown = world.ie1.get(&path, Some(&key)).await.expect(200);
        assert_eq!(shown["status"], "deleted");
        let media = uri(world.acme.sid, &format!("/Recordings/{sid}.wav"));
        world.ie1.get(&media, Some(&key)).await.problem(410, "deleted");
        let all = uri(world.acme.sid, "/Recordings.json");
        let page = world.ie1.get(&all, Some(&key)).await.expect(200);
        assert_eq!(page["recordings"].as_array().unwrap().len(), 1, "{page}");
        let kept = uri(world.acme.sid, &format!("/Recordings/{other}.wav"));
        assert_eq!(world.ie1.get(&kept, Some(&key)).await.status, 200);
    }
}
