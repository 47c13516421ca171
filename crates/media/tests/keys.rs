//! Keys in the media (RFC 4733): pressed between a stream's packets, and read.

use std::time::{Duration, Instant};

use landline_control::PayloadType;
use landline_media::keys::{Key, KeyReader};
use landline_media::play::Voice;
use landline_media::rtp::write_header;
use landline_media::translate::{Press, Routes, Translator};
use landline_media::{PacketBuf, RtpInfo};

const STEP: Duration = Duration::from_millis(20);
const VOICE: Voice = Voice { ssrc: 7, sequence: 100, timestamp: 5000 };

fn translator() -> Translator {
    let kind = |number, encoding: &str| PayloadType {
        number,
        encoding: encoding.into(),
        clock_rate: 8000,
        channels: 1,
    };
    Translator::new(Routes::passing(&[kind(0, "PCMU"), kind(101, "TELEPHONE-EVENT")]))
}

fn press(event: u8) -> Press {
    Press { event, duration: Duration::from_millis(100), number: 101, clock: 8000 }
}

/// What comes out in so many steps, while the source speaks or not.
fn during(
    translator: &mut Translator,
    from: Instant,
    steps: u16,
    speaks: bool,
) -> Vec<(RtpInfo, Vec<u8>)> {
    let mut out = Vec::new();
    for n in 0..steps {
        let now = from + STEP * n.into();
        if speaks {
            let header = write_header(n == 0, 0, 9000 + n, 160 * u32::from(n), 0xabc);
            let packet = [&header[..], &[n as u8; 160]].concat();
            translator.receive(now, &RtpInfo::parse(&packet).unwrap(), &packet);
        }
        let mut packet = PacketBuf::new();
        while translator.poll_output(now, &mut packet) {
            let info = RtpInfo::parse(packet.as_slice()).unwrap();
            out.push((info, info.payload(packet.as_slice()).unwrap().to_vec()));
        }
    }
    out
}

#[test]
fn keys_are_pressed_in_the_stream_that_is_there() {
    let (mut translator, now) = (translator(), Instant::now());
    let before = during(&mut translator, now, 1, true);
    assert_eq!(before.len(), 1);
    for event in [5, 5] {
        assert!(translator.press(now, press(event), VOICE));
    }
    let out = during(&mut translator, now, 40, true);
    let numbers: Vec<u16> = out.iter().map(|(info, _)| info.sequence).collect();
    assert!(numbers.windows(2).all(|it| it[1] == it[0].wrapping_add(1)), "one stream: {numbers:?}");
    assert!(out.iter().all(|(info, _)| info.ssrc == 0xabc));
    let sound: Vec<u32> =
        out.iter().filter(|it| it.0.payload_type == 0).map(|it| it.0.timestamp).collect();
    assert!(sound.windows(2).all(|it| it[1] == it[0] + 160), "untouched: {sound:?}");

    let events: Vec<_> = out.iter().filter(|(info, _)| info.payload_type == 101).collect();
    let (first, second) = events.split_at(events.len() / 2);
    for event in [first, second] {
        let durations: Vec<u16> =
            event.iter().map(|(_, it)| u16::from_be_bytes([it[2], it[3]])).collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
        let ends: Vec<bool> = event.iter().map(|(_, it)| it[1] & 0x80 != 0).collect();
        assert_eq!(ends, [false, false, false, false, true, true, true]);
        assert!(
            event.iter().all(|(info, it)| it[0] == 5 && info.timestamp == event[0].0.timestamp)
        );
        let markers: Vec<bool> = event.iter().map(|(info, _)| info.marker).collect();
        assert_eq!(markers, [true, false, false, false, false, false, false]);
    }
    assert!(second[0].0.timestamp > first[0].0.timestamp + 800, "one after the other");
}

#[test]
fn keys_are_pressed_where_nobody_speaks_and_no_more_wait_than_can() {
    let (mut translator, now) = (translator(), Instant::now());
    assert!(translator.press(now, press(1), VOICE));
    assert!(translator.poll_timeout().is_some_and(|at| at <= now));
    let out = during(&mut translator, now, 20, false);
    assert_eq!(out.len(), 7);
    assert!(out.iter().all(|(info, _)| info.ssrc == 7));
    assert_eq!((out[0].0.sequence, translator.poll_timeout()), (100, None));
    // Who speaks after that is heard as ever.
    assert_eq!(during(&mut translator, now + STEP * 20, 5, true).len(), 5);
    let taken = (0..100).filter(|_| translator.press(now, press(1), VOICE)).count();
    assert_eq!(taken, 32);
}

#[test]
fn a_key_is_read_once_whatever_is_lost() {
    let (mut reader, now) = (KeyReader::default(), Instant::now());
    let packet = |timestamp, event: u8, end: bool, units: u16| {
        let [high, low] = units.to_be_bytes();
        let header = write_header(false, 101, 0, timestamp, 1);
        let info = RtpInfo::parse(&header).unwrap();
        (info, [event, if end { 0x8a } else { 10 }, high, low])
    };
    let mut read = |at_ms: u64, (info, payload): (RtpInfo, [u8; 4])| {
        reader.read(now + Duration::from_millis(at_ms), &info, &payload, 8000)
    };
    let key = |event, ms| Some(Key { event, duration: Duration::from_millis(ms) });
    assert_eq!(read(0, packet(1000, 5, false, 160)), None);
    assert_eq!(read(60, packet(1000, 5, true, 640)), key(5, 80));
    assert_eq!(read(60, packet(1000, 5, true, 640)), None, "its end comes three times");
    // All its ends are lost.
    assert_eq!(read(200, packet(3000, 6, false, 160)), None);
    assert_eq!(read(220, packet(3000, 6, false, 320)), None);
    assert_eq!(read(400, packet(5000, 7, false, 160)), key(6, 40));
    assert_eq!(read(420, packet(3000, 6, true, 640)), None, "late");
    assert_eq!(read(500, packet(5000, 7, true, 320)), key(7, 40));
    // Faster than anybody, or no key.
    assert_eq!(read(510, packet(6000, 1, true, 320)), None);
    assert_eq!(read(900, packet(9000, 200, true, 320)), None);
    assert_eq!(reader.refused, 2);
    let (info, _) = packet(9999, 1, true, 1);
    assert_eq!(reader.read(now, &info, &[1, 2], 8000), None, "cut short");
}
