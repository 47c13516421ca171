/// Packets behind the highest one that may still arrive. RFC 3711 §3.3.2 asks
/// for at least 64.
const WINDOW: u64 = 128;

/// Packet indices seen of one stream (RFC 3711 §3.3.1 and §3.3.2).
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    highest: u64,
    /// Bit n: the index `highest - n` was seen. Zero: nothing was seen yet.
    seen: u128,
}

impl ReplayWindow {
    /// True when the index is new and not older than the window.
    pub fn is_fresh(&self, index: u64) -> bool {
        if self.seen == 0 || index > self.highest {
            return true;
        }
        let age = self.highest - index;
        age < WINDOW && self.seen >> age & 1 == 0
    }

    /// Marks an index that [`Self::is_fresh`] and whose packet is authentic.
    pub fn record(&mut self, index: u64) {
        if self.seen == 0 {
            self.highest = index;
            self.seen = 1;
        } else if index > self.highest {
            let ahead = index - self.highest;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.highest = index;
        } else if self.highest - index < WINDOW {
            self.seen |= 1 << (self.highest - index);
        }
    }

    /// The 48-bit index a 16-bit sequence number most likely stands for, by the
    /// highest one seen (RFC 3711 §3.3.1, appendix A). `None` for one that lies
    /// before the stream's first rollover period.
    pub fn guess(&self, sequence: u16) -> Option<u64> {
        if self.seen == 0 {
            return Some(u64::from(sequence));
        }
        let rollover = self.highest >> 16;
        let last = (self.highest & 0xffff) as u16;
        let rollover = if last < 0x8000 {
            if i32::from(sequence) - i32::from(last) > 0x8000 {
                rollover.checked_sub(1)?
            } else {
                rollover
            }
        } else if last - 0x8000 > sequence {
            rollover + 1
        } else {
            rollover
        };
        // The counter itself is 32 bits wide: past its end the key is spent.
        (rollover <= u64::from(u32::MAX)).then_some(rollover << 16 | u64::from(sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_passes_once_within_the_window() {
        let mut window = ReplayWindow::default();
        for index in [1000, 1002, 1001, 1129] {
            assert!(window.is_fresh(index));
            window.record(index);
            assert!(!window.is_fresh(index));
        }
        assert!(!window.is_fresh(1001), "128 behind the highest");
        assert!(window.is_fresh(1003), "126 behind and never seen");
        assert!(!window.is_fresh(1002), "127 behind but seen");
    }

    #[test]
    fn the_rollover_counter_follows_the_sequence_number_both_ways() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.guess(65_530), Some(65_530));
        window.record(65_530);
        assert_eq!(window.guess(3), Some(0x1_0003));
        window.record(0x1_0003);
        assert_eq!(window.guess(65_535), Some(65_535), "a late one from before the wrap");
        assert_eq!(window.guess(4), Some(0x1_0004));
    }

    #[test]
    fn nothing_lies_before_the_first_rollover_or_behind_the_last() {
        let mut window = ReplayWindow::default();
        window.record(5);
        assert_eq!(window.guess(65_000), None);
        let mut window = ReplayWindow::default();
        window.record(0xffff_ffff_fff0);
        assert_eq!(window.guess(3), None);
    }
}
