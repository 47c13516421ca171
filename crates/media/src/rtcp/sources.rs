//! Which fields of RTCP packets name streams, and their sequence numbers
//! (RFC 3550 §6, RFC 4585 §6, RFC 3611 §4).

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// RFC 4585 §6.2.1.
const GENERIC_NACK: u8 = 1;
/// RFC 5104 §4.3.1: names its streams in entries of their own.
const FULL_INTRA_REQUEST: u8 = 4;

/// A stream as its source numbers it, beside how the reporter heard it.
#[derive(Debug, Clone, Copy)]
pub struct Original {
    pub ssrc: u32,
    /// One packet's number at the source, and as it was heard.
    pub sequence: (u16, u16),
}

/// Calls `each` with every packet of a compound, as far as its lengths fit.
pub fn for_each(mut compound: &mut [u8], mut each: impl FnMut(&mut [u8])) {
    while let Some([_, _, high, low]) = compound.first_chunk::<4>() {
        let length = (usize::from(u16::from_be_bytes([*high, *low])) + 1) * 4;
        let Some((packet, rest)) = compound.split_at_mut_checked(length) else { return };
        each(packet);
        compound = rest;
    }
}

/// A sender says that it is over.
pub fn is_bye(packet: &[u8]) -> bool {
    packet.get(1) == Some(&BYE)
}

/// Replaces the SSRCs by which a packet's sender speaks of itself.
pub fn replace_own(packet: &mut [u8], mut replace: impl FnMut(u32) -> u32) {
    let count = usize::from(packet.first().map_or(0, |first| first & 0x1f));
    let mut at = 4;
    match packet.get(1) {
        Some(&BYE) => {
            for n in 0..count {
                change(packet, 4 + 4 * n, &mut replace);
            }
        }
        Some(&DESCRIPTION) => {
            for _ in 0..count {
                change(packet, at, &mut replace);
                let Some(next) = next_chunk(packet, at) else { return };
                at = next;
            }
        }
        _ => change(packet, at, &mut replace),
    }
}

/// Replaces what a sender report of this stream says of it: RTP time, packets
/// and octets (RFC 3550 §6.4.1).
pub fn change_sender(packet: &mut [u8], of: u32, with: impl FnOnce(u32) -> (u32, u32, u32)) {
    let word = |at: usize| {
        let field = packet.get(at..).and_then(<[u8]>::first_chunk::<4>);
        field.map(|field| u32::from_be_bytes(*field))
    };
    if packet.get(1) != Some(&SENDER_REPORT) || word(4) != Some(of) {
        return;
    }
    let Some(timestamp) = word(16).filter(|_| packet.len() >= 28) else { return };
    let (timestamp, packets, octets) = with(timestamp);
    for (at, value) in [(16, timestamp), (20, packets), (24, octets)] {
        change(packet, at, |_| value);
    }
}

/// Where the chunk after the one at `at` begins (RFC 3550 §6.5): items end with
/// a zero octet and are filled up to a word.
fn next_chunk(packet: &[u8], at: usize) -> Option<usize> {
    let mut item = at + 4;
    loop {
        match packet.get(item)? {
            0 => return Some((item / 4 + 1) * 4),
            _ => item += 2 + usize::from(*packet.get(item + 1)?),
        }
    }
}

/// Puts the original's SSRC and numbers wherever a packet reports on a stream
/// for which `original` is known.
pub fn restore_reported(packet: &mut [u8], original: impl Fn(u32) -> Option<Original>) {
    let (Some(&first), Some(&kind)) = (packet.first(), packet.get(1)) else { return };
    let count = usize::from(first & 0x1f);
    match kind {
        SENDER_REPORT => restore_blocks(packet, 28, count, &original),
        RECEIVER_REPORT => restore_blocks(packet, 8, count, &original),
        PAYLOAD_FEEDBACK if first & 0x1f == FULL_INTRA_REQUEST => {
            for at in (12..packet.len()).step_by(8) {
                restore_ssrc(packet, at, &original);
            }
        }
        TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => {
            let Some(it) = restore_ssrc(packet, 8, &original) else { return };
            if (kind, first & 0x1f) == (TRANSPORT_FEEDBACK, GENERIC_NACK) {
                for at in (12..packet.len()).step_by(4) {
                    shift(packet, at, it);
                }
            }
        }
        EXTENDED_REPORT => restore_extended(packet, &original),
        _ => {}
    }
}

/// Report blocks (RFC 3550 §6.4.1). The highest sequence number is counted on
/// from the original's, with no cycles before it.
fn restore_blocks(
    packet: &mut [u8],
    begin: usize,
    count: usize,
    original: &impl Fn(u32) -> Option<Original>,
) {
    for block in (0..count).map(|n| begin + 24 * n) {
        if let Some(it) = restore_ssrc(packet, block, original) {
            let (ours, theirs) = (u32::from(it.sequence.0), u32::from(it.sequence.1));
            change(packet, block + 8, |highest| highest.wrapping_sub(theirs).wrapping_add(ours));
        }
    }
}

/// Extended reports: loss, duplicates, arrival times and statistics name a
/// range of packets, delays (DLRR) several sources, the VoIP metrics one.
fn restore_extended(packet: &mut [u8], original: &impl Fn(u32) -> Option<Original>) {
    let mut block = 8;
    while let Some(&[kind, _, high, low]) = packet.get(block..).and_then(<[u8]>::first_chunk) {
        let end = block + (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        match kind {
            1..=3 | 6 => {
                if let Some(it) = restore_ssrc(packet, block + 4, original) {
                    shift(packet, block + 8, it);
                    shift(packet, block + 10, it);
                }
            }
            5 => {
                for at in (block + 4..end.min(packet.len())).step_by(12) {
                    restore_ssrc(packet, at, original);
                }
            }
            7 => drop(restore_ssrc(packet, block + 4, original)),
            _ => {}
        }
        block = end;
    }
}

fn restore_ssrc(
    packet: &mut [u8],
    at: usize,
    original: &impl Fn(u32) -> Option<Original>,
) -> Option<Original> {
    let field = packet.get_mut(at..)?.first_chunk_mut::<4>()?;
    let found = original(u32::from_be_bytes(*field))?;
    *field = found.ssrc.to_be_bytes();
    Some(found)
}

fn shift(packet: &mut [u8], at: usize, by: Original) {
    if let Some(field) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        let (ours, theirs) = by.sequence;
        let sequence = u16::from_be_bytes(*field).wrapping_sub(theirs).wrapping_add(ours);
        *field = sequence.to_be_bytes();
    }
}

fn change(packet: &mut [u8], at: usize, with: impl FnOnce(u32) -> u32) {
    if let Some(field) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *field = with(u32::from_be_bytes(*field)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(packet: &[u8]) -> Vec<u32> {
        packet.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
    }

    fn octets(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// The source's 7 is heard as 1007; its packet 65,000 as 5,000.
    fn original(ssrc: u32) -> Option<Original> {
        (ssrc == 1007).then_some(Original { ssrc: 7, sequence: (65_000, 5_000) })
    }

    #[test]
    fn a_sender_names_itself_in_each_packet_of_a_compound() {
        let report = [0x80c8_0006, 7, 0, 0, 0, 0, 0];
        // Two chunks: the second begins after the first's padding.
        let described = [0x82ca_0006, 7, 0x0103_6162, 0x6300_0000, 8, 0x0101_6100, 0];
        let bye = [0x82cb_0002, 7, 8];
        let app = [0x80cc_0002, 7, 0x6e61_6d65];
        let mut compound = octets(&[&report[..], &described, &bye, &app].concat());
        for_each(&mut compound, |packet| replace_own(packet, |ssrc| ssrc + 1000));
        let mut expected = [&report[..], &described, &bye, &app].concat();
        for at in [1, 8, 11, 15, 16, 18] {
            expected[at] += 1000;
        }
        assert_eq!(words(&compound), expected);
    }

    #[test]
    fn a_report_comes_back_in_the_sources_own_numbers() {
        let block = |ssrc, highest| [ssrc, 0x0100_0002, highest, 3, 4, 5];
        // 1,000 packets on: across the source's wrap, before the hearer's.
        let heard = [&[0x82c9_000d, 9][..], &block(1007, 6_000), &block(9, 6_000)].concat();
        let mut packet = octets(&heard);
        restore_reported(&mut packet, original);
        let restored = [&[0x82c9_000d, 9][..], &block(7, 66_000), &block(9, 6_000)].concat();
        assert_eq!(words(&packet), restored);

        let nack = [0x81cd_0003, 9, 1007, 5_540 << 16 | 0x00ff];
        let mut packet = octets(&nack);
        restore_reported(&mut packet, original);
        assert_eq!(words(&packet), [0x81cd_0003, 9, 7, 4 << 16 | 0x00ff]);
    }

    #[test]
    fn extended_reports_come_back_too() {
        let statistics = [0x0600_0009, 1007, 5_000 << 16 | 5_536, 0, 0, 0, 0, 0, 0, 0];
        let delays = [0x0500_0006, 1007, 1, 2, 8, 3, 4];
        let voice = [0x0700_0008, 1007, 0, 0, 0, 0, 0, 0, 0];
        let mut packet = octets(&[&[0x80cf_001b, 9][..], &statistics, &delays, &voice].concat());
        restore_reported(&mut packet, original);
        let restored = words(&packet);
        assert_eq!(restored[3..5], [7, 65_000 << 16]);
        assert_eq!((restored[13], restored[16], restored[20]), (7, 8, 7));
    }

    #[test]
    fn what_is_cut_short_is_left_alone() {
        let report = octets(&[0x9fc9_0007, 9, 1007, 0, 6_000, 0, 0, 0]);
        for length in 0..report.len() {
            let mut packet = report[..length].to_vec();
            restore_reported(&mut packet, original);
            replace_own(&mut packet, |ssrc| ssrc);
            for kind in 202..=207 {
                let mut packet = report[..length].to_vec();
                packet.get_mut(1).into_iter().for_each(|it| *it = kind);
                restore_reported(&mut packet, original);
                replace_own(&mut packet, |ssrc| ssrc + 1);
            }
        }
    }
}
