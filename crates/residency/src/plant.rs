//! Leaks to plant: each word as somebody's software would have written it, in
//! the middle of something else. What the search does not find of these, it
//! would not have found of others.

use std::f64::consts::TAU;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use md5::{Digest, Md5};

use crate::{Word, WordKind};

/// One leak, and how the search must call it.
#[derive(Debug, Clone)]
pub struct Planted {
    /// How it was written.
    pub form: String,
    /// What the report must say of it: the beginning of the encoding's name.
    pub expected: String,
    pub octets: Vec<u8>,
}

impl Planted {
    fn new(form: &str, expected: &str, octets: impl Into<Vec<u8>>) -> Self {
        Self { form: form.to_owned(), expected: expected.to_owned(), octets: octets.into() }
    }
}

/// A word in every form.
pub fn text_leaks(word: &Word) -> Vec<Planted> {
    let text = match word.kind {
        WordKind::Text => word.text.clone(),
        WordKind::Number => word.text.trim_start_matches('+').to_owned(),
    };
    let octets = text.as_bytes();
    let each = |write: fn(u8) -> String| octets.iter().map(|it| write(*it)).collect::<String>();
    let hex = hex::encode(octets);
    let mut all = vec![
        Planted::new("plain", "plain", text.clone()),
        Planted::new("in capitals", "plain", text.to_uppercase()),
        Planted::new("percent", "percent", each(|it| format!("%{it:02x}"))),
        Planted::new("hex", "hex", hex.clone()),
        Planted::new("hex in capitals", "hex", hex.to_uppercase()),
        Planted::new("hex with spaces", "hex with spaces", spaced(&hex, " ")),
        Planted::new("hex with colons", "hex with colons", spaced(&hex, ":")),
        Planted::new("hex in lines", "hex, folded", spaced(&hex, "\n")),
        Planted::new("hex escapes", "hex escapes", each(|it| format!("\\x{it:02X}"))),
        Planted::new("quoted-printable", "quoted-printable", each(|it| format!("={it:02X}"))),
        Planted::new(
            "quoted-printable in lines",
            "quoted-printable",
            soft_lines(&each(|it| format!("={it:02X}"))),
        ),
        Planted::new(
            "unicode escapes",
            "unicode escapes",
            text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>(),
        ),
        Planted::new(
            "HTML character references",
            "HTML",
            text.chars().map(|it| format!("&#{};", u32::from(it))).collect::<String>(),
        ),
        Planted::new("UTF-16LE", "UTF-16LE", utf16(&text, u16::to_le_bytes)),
        Planted::new("UTF-16BE", "UTF-16BE", utf16(&text, u16::to_be_bytes)),
        Planted::new(
            "UTF-32LE",
            "UTF-32LE",
            text.chars().flat_map(|it| u32::from(it).to_le_bytes()).collect::<Vec<u8>>(),
        ),
        Planted::new("reversed", "reversed", text.chars().rev().collect::<String>()),
    ];
    all.extend(in_base64(&text));
    all.extend(hashed(&text));
    if word.kind == WordKind::Number {
        all.extend(as_digits(&text));
    }
    all
}

fn spaced(hex: &str, between: &str) -> String {
    let pairs: Vec<&str> =
        hex.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok()).collect();
    pairs.join(between)
}

fn soft_lines(quoted: &str) -> Vec<u8> {
    let lines: Vec<&[u8]> = quoted.as_bytes().chunks(9).collect();
    lines.join(&b"=\r\n"[..])
}

fn utf16(text: &str, write: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(write).collect()
}

fn in_base64(text: &str) -> Vec<Planted> {
    let mut all = Vec::new();
    for before in ["sip", "sip:", "<sip:"] {
        let whole = format!("{before}{text}@example.test>");
        let expected = format!("base64 at {} mod 3", before.len() % 3);
        let standard = STANDARD.encode(&whole);
        let lines: Vec<&[u8]> = standard.as_bytes().chunks(5).collect();
        all.push(Planted::new(
            &format!("{expected}, in lines"),
            &expected,
            lines.join(&b"\r\n"[..]),
        ));
        all.push(Planted::new(&expected, &expected, standard));
        let url = URL_SAFE_NO_PAD.encode(&whole);
        all.push(Planted::new(&format!("{expected}, for URLs"), &expected, url));
    }
    all
}

fn hashed(text: &str) -> Vec<Planted> {
    let sha256 = digest::digest(&digest::SHA256, text.as_bytes());
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let md5 = Md5::digest(text.as_bytes());
    vec![
        Planted::new("SHA-256 without key", "unkeyed SHA-256", sha256.as_ref()),
        Planted::new("SHA-256 without key, hex", "unkeyed SHA-256", hex::encode(sha256.as_ref())),
        Planted::new(
            "SHA-256 without key, base64",
            "unkeyed SHA-256",
            STANDARD.encode(sha256.as_ref()),
        ),
        Planted::new("SHA-1 without key, hex", "unkeyed SHA-1", hex::encode(sha1.as_ref())),
        Planted::new("MD5 without key, hex", "unkeyed MD5", hex::encode(md5)),
    ]
}

fn as_digits(digits: &str) -> Vec<Planted> {
    let dotted: Vec<String> = digits.chars().rev().map(String::from).collect();
    let grouped: Vec<&[u8]> = digits.as_bytes().chunks(3).collect();
    let mut all = vec![
        Planted::new("ENUM", "ENUM", format!("{}.e164.arpa", dotted.join("."))),
        Planted::new("in groups", "plain, folded", grouped.join(&b" "[..])),
    ];
    // As short as the search can bear.
    let national = (1..=3).rev().filter_map(|cut| digits.get(cut..)).find(|it| it.len() >= 9);
    all.extend(national.map(|it| Planted::new("national", "national", format!("0{it}"))));
    for lead in 0..2 {
        let padded = format!("{}{digits}f", &"9"[..lead]);
        let nibble = |octet: u8| if octet == b'f' { 15 } else { octet & 15 };
        let pack = |first: usize| -> Vec<u8> {
            let pair = |pair: &[u8]| nibble(pair[first]) << 4 | nibble(pair[1 - first]);
            padded.as_bytes().chunks_exact(2).map(pair).collect()
        };
        all.push(Planted::new(&format!("BCD after {lead}"), "BCD", pack(0)));
        all.push(Planted::new(&format!("swapped BCD after {lead}"), "swapped BCD", pack(1)));
    }
    if let Ok(number) = digits.parse::<u64>() {
        all.push(Planted::new(
            "integer, little-endian",
            "64-bit integer, little",
            number.to_le_bytes(),
        ));
        all.push(Planted::new("integer, big-endian", "64-bit integer, big", number.to_be_bytes()));
    }
    all
}

/// A second of a voice in every form that files and packets hold.
pub fn audio_leaks(hz: u32) -> Vec<Planted> {
    let samples = |rate: u32, channels: usize| -> Vec<i16> {
        (0..rate as usize)
            .flat_map(|n| {
                let sine = (TAU * f64::from(hz) * n as f64 / f64::from(rate)).sin();
                let mut frame = vec![0; channels];
                frame[channels - 1] = (8000.0 * sine) as i16;
                frame
            })
            .collect()
    };
    let narrow = samples(8000, 1);
    let little =
        |samples: &[i16]| samples.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>();
    let ulaw: Vec<u8> = narrow.iter().map(|&it| ulaw(it)).collect();
    let mut all = vec![
        Planted::new("µ-law", "audio, G.711 µ-law", ulaw.clone()),
        Planted::new(
            "A-law",
            "audio, G.711 A-law",
            narrow.iter().map(|&it| alaw(it)).collect::<Vec<_>>(),
        ),
        Planted::new("µ-law in RTP packets", "audio, G.711 µ-law", in_rtp(&ulaw).concat()),
        Planted::new(
            "16 bits big-endian",
            "audio, 16 bits big",
            narrow.iter().flat_map(|it| it.to_be_bytes()).collect::<Vec<_>>(),
        ),
    ];
    for (rate, channels) in [(8000, 1), (8000, 2), (16_000, 2), (48_000, 1)] {
        let form = format!("WAV, {channels} channel(s) at {rate} Hz");
        let expected = format!("audio, 16 bits little-endian, {channels} channel(s), {rate} Hz");
        let data = little(&samples(rate, channels));
        all.push(Planted::new(
            &form,
            &expected,
            [wav_header(rate, channels, data.len()), data].concat(),
        ));
    }
    all
}

/// 20 ms a packet, RFC 3551 payload type 0.
pub(crate) fn in_rtp(ulaw: &[u8]) -> Vec<Vec<u8>> {
    let packet = |(n, frame): (usize, &[u8])| {
        let mut packet = vec![0x80, 0];
        packet.extend((n as u16).to_be_bytes());
        packet.extend((n as u32 * 160).to_be_bytes());
        packet.extend(0x5eed_cafe_u32.to_be_bytes());
        packet.extend(frame);
        packet
    };
    ulaw.chunks(160).enumerate().map(packet).collect()
}

fn wav_header(rate: u32, channels: usize, length: usize) -> Vec<u8> {
    let (channels, length) = (channels as u16, length as u32);
    let mut header = b"RIFF".to_vec();
    header.extend((length + 36).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16u32.to_le_bytes());
    header.extend(1u16.to_le_bytes());
    header.extend(channels.to_le_bytes());
    header.extend(rate.to_le_bytes());
    header.extend((rate * u32::from(channels) * 2).to_le_bytes());
    header.extend((channels * 2).to_le_bytes());
    header.extend(16u16.to_le_bytes());
    header.extend(b"data");
    header.extend(length.to_le_bytes());
    header
}

/// ITU-T G.711.
fn ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + 0x84;
    let segment = (magnitude >> 7).ilog2();
    !(sign | (segment as u8) << 4 | (magnitude >> (segment + 3) & 0x0f) as u8)
}

fn alaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 { (0x80, sample) } else { (0, !sample) };
    let magnitude = i32::from(magnitude);
    let code = if magnitude < 256 {
        magnitude >> 4
    } else {
        let segment = (magnitude >> 8).ilog2() + 1;
        (segment << 4) as i32 | magnitude >> (segment + 3) & 0x0f
    };
    (sign | code as u8) ^ 0x55
}
