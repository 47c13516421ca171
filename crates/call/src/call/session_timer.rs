//! One side's session timer (RFC 4028): what is agreed on with this peer, and
//! what has to happen when.
//!
//! Each side of a call has its own. Who refreshes does so at half the interval;
//! a session that was not refreshed by a third of it, or 32 seconds, before its
//! end is given up (§10). A peer that knows of no timers is asked as often
//! whether it is still there: it may have gone while it was on hold, when
//! nobody misses its media.

use std::time::Duration;

use landline_region::UnixMillis;
use landline_sip::{HeaderName, Headers, Refresher, SessionExpires};
use serde::{Deserialize, Serialize};

pub(crate) const TIMER: &str = "timer";
/// No interval is shorter (RFC 4028 §4).
const SHORTEST: u32 = 90;
/// A session is given up so long before it expires, at the most (§10).
const MARGIN: u32 = 32;

/// What this proxy wants, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionPolicy {
    pub interval: u32,
    /// Shorter ones are refused.
    pub least: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SessionTimer {
    /// The longest Min-SE that this dialog has heard: no request of ours asks
    /// for less (§7.1, §7.4).
    pub least: u32,
    /// `None`: the session does not expire.
    pub agreed: Option<Agreed>,
    /// Refreshes of ours since it was last refreshed.
    pub attempts: u32,
    /// When the peer last agreed to something.
    pub heard: UnixMillis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agreed {
    pub seconds: u32,
    pub by: By,
    /// When it was refreshed last.
    pub since: UnixMillis,
}

/// Who refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum By {
    Us,
    Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Not yet; then.
    At(UnixMillis),
    Refresh,
    /// Without a session that expires: whether the peer is there.
    Ask,
    Expired,
}

impl SessionPolicy {
    /// Whether a request asks for an interval that is too short. One that does
    /// not know of it cannot be told (§9).
    pub(crate) fn refuses(&self, request: &Headers) -> bool {
        let asked = request.session_expires().ok().flatten();
        knows_timers(request) && asked.is_some_and(|asked| asked.seconds < self.least())
    }

    pub(crate) fn least(&self) -> u32 {
        self.least.max(SHORTEST)
    }
}

impl SessionTimer {
    /// What our first request asks for: who refreshes is left to the peer.
    pub(crate) fn ask(&self, policy: SessionPolicy, request: &mut Headers) {
        let least = self.least.max(policy.least());
        let interval = SessionExpires { seconds: policy.interval.max(least), refresher: None };
        request.push(HeaderName::SessionExpires, interval.to_string());
        push_least(request, least);
    }

    /// What a later request of ours within the dialog says: without it the
    /// session would not expire any more (§7.4).
    pub(crate) fn ask_again(&self, policy: SessionPolicy, request: &mut Headers) {
        let Some(agreed) = self.agreed else { return };
        let least = self.least.max(policy.least());
        let refresher = match agreed.by {
            By::Us => Refresher::Uac,
            By::Peer => Refresher::Uas,
        };
        let seconds = agreed.seconds.max(self.least);
        let interval = SessionExpires { seconds, refresher: Some(refresher) };
        request.push(HeaderName::Supported, TIMER);
        request.push(HeaderName::SessionExpires, interval.to_string());
        push_least(request, least);
    }

    /// The peer accepted a request of ours (§7.2).
    pub(crate) fn accepted(&mut self, response: &Headers, now: UnixMillis) {
        let said = response.session_expires().ok().flatten();
        self.agreed = said.map(|said| Agreed {
            seconds: said.seconds.max(SHORTEST),
            by: match said.refresher {
                Some(Refresher::Uas) => By::Peer,
                Some(Refresher::Uac) | None => By::Us,
            },
            since: now,
        });
        self.answered(now);
    }

    /// The peer is there, whatever it says.
    pub(crate) fn answered(&mut self, now: UnixMillis) {
        self.attempts = 0;
        self.heard = now;
    }

    /// The peer wants a longer interval (§7.3). False: not longer than what it
    /// was asked for.
    pub(crate) fn lengthen(&mut self, policy: SessionPolicy, refusal: &Headers) -> bool {
        let wanted = refusal.min_se().ok().flatten().unwrap_or(0);
        let asked = match self.agreed {
            Some(agreed) => agreed.seconds.max(self.least),
            None => policy.interval.max(policy.least()).max(self.least),
        };
        self.least = self.least.max(wanted);
        wanted > asked
    }

    /// What follows from a request of the peer's that is accepted (§9): its
    /// interval if we can, its choice of who refreshes if it has one. Else we
    /// do, and so learn soonest that it is gone.
    pub(crate) fn take(&mut self, policy: SessionPolicy, request: &Headers, now: UnixMillis) {
        let asked = request.session_expires().ok().flatten();
        let knows = knows_timers(request);
        let former = self.agreed;
        self.answered(now);
        if !knows && asked.is_none() && former.is_none() {
            return;
        }
        self.least = self.least.max(request.min_se().ok().flatten().unwrap_or(0));
        let wanted = asked.map_or(policy.interval, |asked| asked.seconds.min(policy.interval));
        let by = match asked.and_then(|asked| asked.refresher) {
            _ if !knows => By::Us,
            Some(Refresher::Uac) => By::Peer,
            Some(Refresher::Uas) => By::Us,
            None => former.map_or(By::Us, |former| former.by),
        };
        let seconds = wanted.max(policy.least()).max(self.least);
        self.agreed = Some(Agreed { seconds, by, since: now });
    }

    /// What our 2xx to that request says.
    pub(crate) fn tell(&self, request: &Headers, response: &mut Headers) {
        let Some(agreed) = self.agreed else { return };
        let refresher = match agreed.by {
            By::Us => Refresher::Uas,
            By::Peer => Refresher::Uac,
        };
        let interval = SessionExpires { seconds: agreed.seconds, refresher: Some(refresher) };
        response.push(HeaderName::Supported, TIMER);
        response.push(HeaderName::SessionExpires, interval.to_string());
        if knows_timers(request) {
            response.push(HeaderName::Require, TIMER);
        }
    }

    /// What there is to do. A session that is late because we were away is
    /// refreshed once before it is given up.
    pub(crate) fn due(&self, policy: SessionPolicy, now: UnixMillis) -> Due {
        let Some(Agreed { seconds, by, since }) = self.agreed else {
            let half = u64::from(policy.interval.max(policy.least()) / 2);
            let then = self.heard.plus(Duration::from_secs(half));
            return if now < then { Due::At(then) } else { Due::Ask };
        };
        let after = |seconds: u32| since.plus(Duration::from_secs(u64::from(seconds)));
        let (refresh, end) = (after(seconds / 2), after(seconds - MARGIN.min(seconds / 3)));
        match by {
            By::Us if now < refresh => Due::At(refresh),
            By::Us if now < end || self.attempts == 0 => Due::Refresh,
            By::Peer if now < end => Due::At(end),
            By::Us | By::Peer => Due::Expired,
        }
    }

    /// How long after a refresh that failed the next is tried.
    pub(crate) fn patience(&self) -> Duration {
        let seconds = self.agreed.map_or(u32::MAX, |agreed| agreed.seconds);
        Duration::from_secs(u64::from((seconds / 18).clamp(5, 60)))
    }

    /// Another process had it, and may have heard a refresh that was not kept:
    /// the peer has its whole time again.
    pub(crate) fn resume(&mut self, now: UnixMillis) {
        self.heard = now;
        if let Some(agreed) = self.agreed.as_mut().filter(|agreed| agreed.by == By::Peer) {
            agreed.since = now;
        }
    }
}

/// A refresher is named by who supports timers alone, whether it says so or not
/// (§4).
fn knows_timers(request: &Headers) -> bool {
    let names_refresher = || {
        let asked = request.session_expires().ok().flatten();
        asked.is_some_and(|asked| asked.refresher.is_some())
    };
    request.supports(TIMER) || request.requires(TIMER) || names_refresher()
}

/// What is not said is the shortest there is (§5).
fn push_least(request: &mut Headers, least: u32) {
    if least > SHORTEST {
        request.push(HeaderName::MinSe, least.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: SessionPolicy = SessionPolicy { interval: 1800, least: 120 };
    const START: UnixMillis = UnixMillis(1_000_000);

    fn headers(list: &[(HeaderName, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in list {
            headers.push(name.clone(), *value);
        }
        headers
    }

    fn asked(supported: bool, interval: &str, least: &str) -> Headers {
        let mut headers = Headers::new();
        if supported {
            headers.push(HeaderName::Supported, "path, timer");
        }
        for (name, value) in [(HeaderName::SessionExpires, interval), (HeaderName::MinSe, least)] {
            if !value.is_empty() {
                headers.push(name, value);
            }
        }
        headers
    }

    /// RFC 4028 §9, table 2.
    #[test]
    fn who_refreshes_follows_from_what_was_asked() {
        for (request, told) in [
            (asked(true, "600", ""), Some("600;refresher=uas")),
            (asked(true, "600;refresher=uac", ""), Some("600;refresher=uac")),
            (asked(true, "600;refresher=uas", ""), Some("600;refresher=uas")),
            (asked(true, "", ""), Some("1800;refresher=uas")),
            (asked(true, "86400", ""), Some("1800;refresher=uas")),
            (asked(true, "86400", "7200"), Some("7200;refresher=uas")),
            (asked(false, "100", ""), Some("120;refresher=uas")),
            (asked(false, "", ""), None),
        ] {
            let mut timer = SessionTimer::default();
            timer.take(POLICY, &request, START);
            let mut response = Headers::new();
            timer.tell(&request, &mut response);
            let said = response.session_expires().unwrap().map(|it| it.to_string());
            assert_eq!(said.as_deref(), told);
            let is_known = request.supports("timer");
            assert_eq!(response.requires("timer"), told.is_some() && is_known);
        }
    }

    #[test]
    fn an_interval_too_short_is_refused_to_who_can_lengthen_it() {
        assert!(POLICY.refuses(&asked(true, "119", "")));
        assert!(POLICY.refuses(&asked(false, "119;refresher=uac", "")));
        assert!(!POLICY.refuses(&asked(true, "120", "")));
        assert!(!POLICY.refuses(&asked(false, "119", "")));
        assert!(!POLICY.refuses(&asked(true, "", "")));
    }

    #[test]
    fn we_refresh_at_half_time_and_give_up_before_the_end() {
        let at = |seconds: i64| UnixMillis(START.0 + seconds * 1000);
        let mut timer = SessionTimer::default();
        timer.accepted(&headers(&[(HeaderName::SessionExpires, "300;refresher=uac")]), START);
        assert_eq!(timer.due(POLICY, START), Due::At(at(150)));
        assert_eq!(timer.due(POLICY, at(150)), Due::Refresh);
        timer.attempts = 1;
        assert_eq!(timer.due(POLICY, at(267)), Due::Refresh);
        assert_eq!(timer.due(POLICY, at(268)), Due::Expired);
        // Late through no fault of its own, it is tried once.
        timer.attempts = 0;
        assert_eq!(timer.due(POLICY, at(4000)), Due::Refresh);
    }

    #[test]
    fn a_peer_that_refreshes_is_waited_for() {
        let at = |seconds: i64| UnixMillis(START.0 + seconds * 1000);
        let mut timer = SessionTimer::default();
        timer.accepted(&headers(&[(HeaderName::SessionExpires, "90;refresher=uas")]), START);
        assert_eq!(timer.due(POLICY, at(59)), Due::At(at(60)));
        assert_eq!(timer.due(POLICY, at(60)), Due::Expired);
        timer.resume(at(60));
        assert_eq!(timer.due(POLICY, at(60)), Due::At(at(120)));
        // It takes its word back.
        timer.accepted(&Headers::new(), at(61));
        assert_eq!(timer.due(POLICY, at(960)), Due::At(at(961)));
        assert_eq!(timer.due(POLICY, at(961)), Due::Ask);
        timer.answered(at(970));
        assert_eq!(timer.due(POLICY, at(970)), Due::At(at(1870)));
    }

    #[test]
    fn a_longer_interval_is_asked_for_once_it_is_wanted() {
        let mut timer = SessionTimer::default();
        let wanted = |least| headers(&[(HeaderName::MinSe, least)]);
        assert!(!timer.lengthen(POLICY, &wanted("1800")));
        assert!(timer.lengthen(POLICY, &wanted("3600")));
        assert!(!timer.lengthen(POLICY, &wanted("3600")));
        assert!(!timer.lengthen(POLICY, &Headers::new()));
        let mut request = Headers::new();
        timer.ask(POLICY, &mut request);
        assert_eq!(request.session_expires().unwrap().unwrap().to_string(), "3600");
        assert_eq!(request.min_se(), Ok(Some(3600)));
    }

    #[test]
    fn later_requests_keep_the_roles() {
        let mut timer = SessionTimer::default();
        let mut silent = Headers::new();
        timer.ask_again(POLICY, &mut silent);
        assert!(silent.is_empty());
        for (answer, again) in [("uas", "600;refresher=uas"), ("uac", "600;refresher=uac")] {
            let answer = format!("600;refresher={answer}");
            timer.accepted(&headers(&[(HeaderName::SessionExpires, &answer)]), START);
            let mut request = Headers::new();
            timer.ask_again(POLICY, &mut request);
            assert_eq!(request.session_expires().unwrap().unwrap().to_string(), again);
            assert!(request.supports("timer"));
        }
        // One that says nothing of timers any more is refreshed by us.
        timer.take(POLICY, &Headers::new(), START);
        assert_eq!(timer.agreed.map(|it| it.by), Some(By::Us));
    }
}
