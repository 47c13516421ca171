//! Admission of new requests by how long messages wait before they are read.
//!
//! A queue that empties now and then does no harm, however long it was; one
//! that does not (a standing queue, RFC 8289 §3.1) means that more comes than
//! is done, and then every message is late, those of calls that are up too. So
//! the shortest wait of each interval decides what part of the new requests is
//! refused, in the manner of RFC 8033 §4.2: the part grows while that wait is
//! above its target and shrinks while it is below.

use std::time::{Duration, Instant};

use crate::{HeaderName, Method, Request, Scheme};

/// How often the part is decided anew.
const INTERVAL: Duration = Duration::from_millis(100);
/// What the part changes by in an interval, for each time that the wait is the
/// target, and what it changes by at most.
const GAIN: f64 = 0.05;
const MOST: f64 = 0.1;

/// Who goes first when not everybody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Begins something.
    New,
    /// Answers a challenge of ours: work was done for it already.
    Challenged,
    /// Within a dialog, or an emergency call: never refused for being many.
    Always,
}

#[derive(Debug)]
pub(crate) struct Overload {
    target: Duration,
    /// Of new requests, 0 to 1.
    refused: f64,
    /// The shortest wait since `since`.
    shortest: Option<Duration>,
    since: Instant,
}

impl Overload {
    pub fn new(target: Duration, now: Instant) -> Self {
        Self { target, refused: 0.0, shortest: None, since: now }
    }

    /// A message waited so long before it was read.
    pub fn waited(&mut self, now: Instant, wait: Duration) {
        self.decide(now);
        self.shortest = Some(self.shortest.map_or(wait, |shortest| shortest.min(wait)));
    }

    /// Whether a request is refused; `dice` are evenly spread.
    pub fn refuses(&self, urgency: Urgency, dice: u32) -> bool {
        let part = match urgency {
            Urgency::New => self.refused,
            Urgency::Challenged => 2.0 * self.refused - 1.0,
            Urgency::Always => return false,
        };
        f64::from(dice) < part * 2_f64.powi(32)
    }

    /// The part of new requests that is refused now.
    pub fn part(&mut self, now: Instant) -> f64 {
        self.decide(now);
        self.refused
    }

    fn decide(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < INTERVAL {
            return;
        }
        // In intervals without a message nothing waited.
        let empty = (elapsed.as_secs_f64() / INTERVAL.as_secs_f64()).floor() - 1.0;
        let wait = self.shortest.take().unwrap_or_default();
        let times = wait.as_secs_f64() / self.target.as_secs_f64().max(1e-6);
        let change = (GAIN * (times - 1.0)).min(MOST) - GAIN * empty;
        self.refused = (self.refused + change).clamp(0.0, 1.0);
        self.since = now;
    }
}

impl Urgency {
    pub fn of(request: &Request, in_dialog: bool, emergency_numbers: &[String]) -> Self {
        if in_dialog || request.method == Method::Invite && is_emergency(request, emergency_numbers)
        {
            return Self::Always;
        }
        let answers = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
        match answers.iter().any(|name| request.headers.get(name).is_some()) {
            true => Self::Challenged,
            false => Self::New,
        }
    }
}

/// By service URN (RFC 5031 §4.2) or by a number that is one where we serve.
fn is_emergency(request: &Request, numbers: &[String]) -> bool {
    let uri = &request.uri;
    if let Scheme::Other(scheme) = &uri.scheme {
        let text = uri.to_string().to_ascii_lowercase();
        let service = text.strip_prefix("urn:service:sos").filter(|_| scheme.len() == "urn".len());
        return service.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    }
    let user = uri.user.as_ref().and_then(|user| user.as_str());
    user.is_some_and(|user| numbers.iter().any(|number| number == user))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    /// Messages every 10 ms that each waited so long; gives the part at the end.
    fn run(overload: &mut Overload, now: &mut Instant, wait: Duration, over: Duration) -> f64 {
        let end = *now + over;
        while *now < end {
            *now += Duration::from_millis(10);
            overload.waited(*now, wait);
        }
        overload.part(*now)
    }

    #[test]
    fn a_standing_queue_refuses_more_and_more_and_an_empty_one_recovers() {
        let mut now = Instant::now();
        let mut overload = Overload::new(TARGET, now);
        assert_eq!(run(&mut overload, &mut now, TARGET / 2, Duration::from_secs(5)), 0.0);
        let after_a_second = run(&mut overload, &mut now, TARGET * 2, Duration::from_secs(1));
        assert!((0.2..0.6).contains(&after_a_second), "{after_a_second}");
        assert_eq!(run(&mut overload, &mut now, TARGET * 20, Duration::from_secs(2)), 1.0);
        let less = run(&mut overload, &mut now, Duration::ZERO, Duration::from_secs(1));
        assert!((0.4..0.6).contains(&less), "{less}");
        // Nothing came for long: what comes next is taken.
        now += Duration::from_secs(10);
        assert_eq!(run(&mut overload, &mut now, Duration::ZERO, INTERVAL), 0.0);
    }

    #[test]
    fn a_burst_that_is_worked_off_refuses_nobody() {
        let mut now = Instant::now();
        let mut overload = Overload::new(TARGET, now);
        for _ in 0..50 {
            run(&mut overload, &mut now, TARGET * 10, Duration::from_millis(80));
            run(&mut overload, &mut now, Duration::ZERO, Duration::from_millis(20));
        }
        assert_eq!(overload.part(now), 0.0);
    }

    #[test]
    fn who_was_challenged_goes_before_who_begins() {
        let now = Instant::now();
        let half = Overload { refused: 0.5, ..Overload::new(TARGET, now) };
        assert!(half.refuses(Urgency::New, u32::MAX / 4));
        assert!(!half.refuses(Urgency::New, u32::MAX / 4 * 3));
        assert!(!half.refuses(Urgency::Challenged, 0));
        let all = Overload { refused: 1.0, ..Overload::new(TARGET, now) };
        assert!(all.refuses(Urgency::Challenged, u32::MAX));
        assert!(!all.refuses(Urgency::Always, 0));
    }
}
