use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// No mutated input is longer: the parsers' own limits lie above, and are
/// reached by tests of their own.
const MAX_INPUT: usize = 16 * 1024;

/// A changed copy of `input`: the same seed and input give the same bytes
/// always. Knows nothing of formats but the words and numbers that tend to
/// matter in ours.
pub fn mutate(seed: u64, input: &[u8]) -> Vec<u8> {
    let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(6) {
        change(&mut random, &mut bytes);
        bytes.truncate(MAX_INPUT);
    }
    bytes
}

struct Random(ChaCha8Rng);

impl Random {
    /// Below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0.next_u64().checked_rem(bound as u64).unwrap_or(0) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn range(&mut self, len: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        start..(start + 1 + self.below(longest)).min(len)
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    let len = bytes.len();
    if len == 0 {
        bytes.extend_from_slice(random.pick(WORDS));
        return;
    }
    let at = random.below(len);
    match random.below(12) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.0.next_u32() as u8,
        2 => bytes[at] = random.pick(BYTES),
        3 => drop(bytes.drain(random.range(len, 64))),
        4 => bytes.truncate(at),
        5 => {
            let piece = bytes[random.range(len, 64)].to_vec();
            insert(bytes, at, &piece);
        }
        6 => {
            let piece = bytes[random.range(len, 16)].to_vec();
            let many = piece.repeat(1 + random.below(64));
            insert(bytes, at, &many);
        }
        7 | 8 => insert(bytes, at, random.pick(WORDS)),
        9 => replace_number(random, bytes, at),
        10 => swap_lines(random, bytes),
        _ => {
            let range = random.range(len, 8);
            let fill = random.pick(BYTES);
            bytes[range].fill(fill);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// The run of digits at or behind `at` becomes a number at the edge of
/// something.
fn replace_number(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found)
    else {
        return;
    };
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(start..start + digits, random.pick(NUMBERS).iter().copied());
}

fn swap_lines(random: &mut Random, bytes: &mut Vec<u8>) {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let (a, b) = (random.below(lines.len()), random.below(lines.len()));
    if random.below(2) == 0 {
        lines.swap(a, b);
    } else {
        lines.insert(a, lines[b]);
    }
    *bytes = lines.concat();
}

const BYTES: &[u8] = &[
    0, 1, 0x7f, 0x80, 0xff, b' ', b'\t', b'\r', b'\n', b'"', b'\\', b'<', b'>', b';', b',', b':',
    b'=', b'@', b'?', b'%', b'[', b']', b'*', b'/', b'|',
];

const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"-1",
    b"+1",
    b"127",
    b"128",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"18446744073709551615",
    b"18446744073709551616",
    b"000000000000000000000001",
    b"99999999999999999999999999",
    b"1e9",
    b"",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\r\n ",
    b"\r\n\t",
    b"\0",
    b"\"",
    b"\\\"",
    b"<",
    b">",
    b";;",
    b",,",
    b"::",
    b"%00",
    b"%0d%0a",
    b"\xc3\x28",
    b"\xf0\x9f\x93\x9e",
    b"sip:",
    b"sips:",
    b"tel:+1",
    b"SIP/2.0",
    b"INVITE ",
    b"ACK ",
    b"Via: ",
    b"v: SIP/2.0/UDP a;branch=z9hG4bK1\r\n",
    b"To: ",
    b"Content-Length: 0\r\n",
    b"l: 4\r\n",
    b"CSeq: 1 INVITE\r\n",
    b"Contact: *\r\n",
    b";tag=x",
    b";rport",
    b";received=[::1]",
    b"[::1]:5060",
    b"[2001:db8::1",
    b"inline:",
    b"a=crypto:1 ",
    b"a=candidate:1 1 UDP 1 ",
    b"a=fingerprint:sha-256 AA:",
    b"m=audio 1 RTP/AVP 0\r\n",
    b"a=rtpmap:",
    b"c=IN IP4 0.0.0.0\r\n",
    b"Digest nonce=\"",
    b"qop=auth,nc=00000001",
    b"\x21\x12\xa4\x42",
    b"\x80\x00",
    b"\x16\xfe\xfd",
    b"\xff\xff\xff\xff",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_change() {
        let input = b"OPTIONS sip:a@b SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n";
        assert_eq!(mutate(7, input), mutate(7, input));
        let different = (0..200).filter(|seed| mutate(*seed, input) != input).count();
        assert!(different > 190, "{different}");
    }

    #[test]
    fn any_input_can_be_mutated_and_none_grows_without_end() {
        for seed in 0..2000 {
            let mut bytes = Vec::new();
            for round in 0..5 {
                bytes = mutate(seed * 5 + round, &bytes);
                assert!(bytes.len() <= MAX_INPUT);
            }
        }
    }
}
