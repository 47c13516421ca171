use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::nonce;

/// Remembers which counts of which nonces have been used (RFC 7616 §3.3,
/// `nc`). Ask only after [`super::verify`] said yes, so that a stranger cannot
/// fill it.
///
/// Bounded by how many nonces are used in the time that they hold, and by its
/// capacity: the oldest entry makes room, and from then on nonces issued no later
/// than the forgotten one are refused unless still known. A legitimate client is
/// challenged anew; nobody replays.
#[derive(Debug)]
pub struct ReplayWindow {
    capacity: usize,
    seen: FxHashMap<[u8; 16], Counts>,
    order: VecDeque<[u8; 16]>,
    /// Issue time of the newest nonce ever forgotten.
    forgotten: Option<i64>,
}

/// The highest count, and a bit for each of the 64 counts up to it: requests
/// over UDP overtake each other.
#[derive(Debug)]
struct Counts {
    highest: u32,
    below: u64,
}

impl ReplayWindow {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            seen: FxHashMap::default(),
            order: VecDeque::new(),
            forgotten: None,
        }
    }

    /// `true` the first time; `false`: answer with a new challenge, `stale`. What
    /// was issued before `expired`, in Unix milliseconds, is refused for its age
    /// and need not be remembered.
    pub fn check_and_record(&mut self, nonce: &str, nc: u32, expired: i64) -> bool {
        let Some((body, _)) = nonce::decode(nonce) else { return false };
        if nc == 0 {
            return false;
        }
        if let Some(counts) = self.seen.get_mut(&body) {
            return counts.record(nc);
        }
        if self.forgotten.is_some_and(|newest| nonce::issued_at(&body) <= newest) {
            return false;
        }
        self.make_room(expired);
        self.seen.insert(body, Counts { highest: nc, below: 1 });
        self.order.push_back(body);
        true
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn make_room(&mut self, expired: i64) {
        while let Some(oldest) = self.order.front() {
            let issued = nonce::issued_at(oldest);
            if issued >= expired && self.seen.len() < self.capacity {
                return;
            }
            self.seen.remove(oldest);
            self.order.pop_front();
            self.forgotten = self.forgotten.max(Some(issued));
        }
    }
}

impl Counts {
    fn record(&mut self, nc: u32) -> bool {
        if nc > self.highest {
            let ahead = nc - self.highest;
            self.below = self.below.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = nc;
            return true;
        }
        let bit = 1u64.checked_shl(self.highest - nc).unwrap_or(0);
        let is_new = bit != 0 && self.below & bit == 0;
        self.below |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::super::NonceIssuer;
    use super::*;

    fn issuer() -> NonceIssuer {
        NonceIssuer::new(&[1; 32], [2; 32], 1000)
    }

    #[test]
    fn a_count_is_taken_once_in_any_order() {
        let nonce = issuer().issue(0, "r");
        let mut window = ReplayWindow::new(8);
        for (nc, first) in [
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (3, false),
            (100, true),
            (36, false),
            (37, true),
            (37, false),
            (u32::MAX, true),
            (100, false),
            (0, false),
        ] {
            assert_eq!(window.check_and_record(&nonce, nc, 0), first, "nc {nc}");
        }
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_still_refuses_its_replay() {
        let mut issuer = issuer();
        let nonces: Vec<_> = (0..5).map(|at| issuer.issue(at, "r")).collect();
        let mut window = ReplayWindow::new(3);
        for nonce in &nonces {
            assert!(window.check_and_record(nonce, 1, 0));
        }
        assert_eq!(window.len(), 3);
        for nonce in &nonces {
            assert!(!window.check_and_record(nonce, 1, 0));
        }
        assert!(!window.check_and_record(&nonces[0], 2, 0));
        assert!(window.check_and_record(&nonces[4], 2, 0));
        assert!(!window.check_and_record("not ours", 1, 0));
    }

    #[test]
    fn what_is_too_old_to_be_taken_is_forgotten() {
        let mut issuer = issuer();
        let mut window = ReplayWindow::new(1_000_000);
        for at in 0..100_000 {
            let nonce = issuer.issue(at, "r");
            assert!(window.check_and_record(&nonce, 1, issuer.oldest(at)));
            assert!(!window.check_and_record(&nonce, 1, issuer.oldest(at)));
            assert!(window.len() <= 1001, "as many as a lifetime has");
        }
    }
}
