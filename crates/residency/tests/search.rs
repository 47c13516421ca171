//! What the searcher finds, and what it does not find where there is nothing.

use std::time::Instant;

use landline_residency::{
    Canary, CanaryList, Scanner, Sighting, Word, WordKind, audio_leaks, text_leaks,
};

fn word(what: &str, text: &str, kind: WordKind) -> Word {
    Word { what: what.to_owned(), text: text.to_owned(), kind }
}

fn words() -> Vec<Word> {
    vec![
        word("user name", "siobhan.quill", WordKind::Text),
        word("display name", "Siobhán Quill-O'Dea", WordKind::Text),
        word("password", "9vM?>~w/kQ2p+=xZ", WordKind::Text),
        word("number", "+353155501234", WordKind::Number),
        word("short number", "+1212555014", WordKind::Number),
    ]
}

fn list() -> CanaryList {
    let canaries = vec![
        Canary { region: "ie1".to_owned(), words: words(), tones: vec![487, 911] },
        Canary {
            region: "us1".to_owned(),
            words: vec![word("user name", "dakota.birch", WordKind::Text)],
            tones: vec![673, 1129],
        },
    ];
    CanaryList { canaries, exceptions: Vec::new() }
}

/// Octets without order, the same in each run (xorshift).
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut octets = Vec::with_capacity(length + 8);
    while octets.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        octets.extend(seed.to_le_bytes());
    }
    octets.truncate(length);
    octets
}

fn in_chunks(scanner: &Scanner, octets: &[u8], first: usize) -> Vec<Sighting> {
    let mut scan = scanner.scan();
    let (head, tail) = octets.split_at(first.min(octets.len()));
    scan.push(head);
    scan.push(tail);
    scan.finish()
}

#[test]
fn every_form_of_every_word_is_found_wherever_it_starts_and_called_by_its_name() {
    let scanner = Scanner::new(&list()).unwrap();
    for word in words() {
        for leak in text_leaks(&word) {
            for lead in 0..9 {
                let hay = [&noise(lead, 7)[..], &leak.octets, &noise(5, 8)].concat();
                let seen = scanner.sightings(&hay);
                let found = seen
                    .iter()
                    .any(|it| it.what == word.what && it.encoding.starts_with(&leak.expected));
                assert!(found, "{} as {} after {lead}: {seen:?}", word.what, leak.form);
            }
        }
    }
}

#[test]
fn every_form_is_found_across_every_chunk_border() {
    let scanner = Scanner::new(&list()).unwrap();
    for word in words() {
        for leak in text_leaks(&word) {
            let hay = [&noise(40, 3)[..], &leak.octets, &noise(40, 4)].concat();
            for border in 40..40 + leak.octets.len() {
                let seen = in_chunks(&scanner, &hay, border);
                let found = seen.iter().any(|it| it.what == word.what);
                assert!(found, "{} as {} cut at {border}", word.what, leak.form);
            }
        }
    }
}

#[test]
fn a_word_fed_octet_by_octet_is_counted_once() {
    let scanner = Scanner::new(&list()).unwrap();
    let mut scan = scanner.scan();
    for octet in b"From: <sip:Siobhan.Quill@harbour.test>" {
        scan.push(&[*octet]);
    }
    let seen = scan.finish();
    let plain: Vec<_> = seen.iter().filter(|it| it.encoding == "plain").collect();
    assert_eq!(plain.len(), 1, "{seen:?}");
    assert_eq!((plain[0].count, plain[0].first_at), (1, 11));
}

#[test]
fn every_form_of_a_voice_is_found_at_every_alignment() {
    let scanner = Scanner::new(&list()).unwrap();
    for hz in [487, 911, 673, 1129] {
        for leak in audio_leaks(hz) {
            for lead in 0..5 {
                let hay = [&noise(1000 + lead, 7)[..], &leak.octets, &noise(1000, 8)].concat();
                let seen = scanner.sightings(&hay);
                let what = format!("tone of {hz} Hz");
                let found = seen
                    .iter()
                    .any(|it| it.what == what && it.encoding.starts_with(&leak.expected));
                assert!(found, "{hz} Hz as {} after {lead}: {seen:?}", leak.form);
                let other = seen.iter().find(|it| it.what != what);
                assert!(other.is_none(), "{hz} Hz as {}: {other:?}", leak.form);
            }
        }
    }
}

#[test]
fn a_tone_between_the_canaries_is_nobodys() {
    let scanner = Scanner::new(&list()).unwrap();
    for leak in audio_leaks(580) {
        assert_eq!(scanner.sightings(&leak.octets), [], "{}", leak.form);
    }
}

#[test]
fn nothing_is_found_in_ten_megabytes_of_noise_nor_in_orderly_octets() {
    let scanner = Scanner::new(&list()).unwrap();
    let noise = noise(10 << 20, 0x5eed);
    let begun = Instant::now();
    assert_eq!(scanner.sightings(&noise), []);
    let rate = noise.len() as f64 / 1e6 / begun.elapsed().as_secs_f64();
    eprintln!("{rate:.0} MB/s, {} needles", scanner.needles());
    let hex: Vec<u8> =
        noise[..1 << 20].iter().flat_map(|it| format!("{it:02x}").into_bytes()).collect();
    assert_eq!(scanner.sightings(&hex), []);
    let ramp: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(scanner.sightings(&ramp), []);
    let rows: Vec<u8> =
        (0..100_000).flat_map(|n| format!("{n:08} the row\n").into_bytes()).collect();
    assert_eq!(scanner.sightings(&rows), []);
}
