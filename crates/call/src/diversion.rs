//! Calls that go on to somebody else in a user's stead, and how who is rung
//! then is told of it (RFC 5806, RFC 7044).

use std::collections::VecDeque;
use std::sync::Arc;

use landline_region::Personal;
use landline_sip::{HeaderName, Headers, NameAddr, Uri};

use crate::call::own_uri;
use crate::context::Context;
use crate::record::{CallDirection, Cause, DivertReason};
use crate::route::{Mailed, NOT_FOUND, Refusal, Route, Side};
use crate::tenancy::{Account, MAILBOX, MOST_PLACES, User, places};

/// How often one call may be sent on.
const MOST: usize = 5;

const IN_A_CIRCLE: Refusal = Refusal {
    status: 480,
    cause: Cause::Unreachable,
    warning: Some((399, "The call is forwarded in a circle")),
};

const DO_NOT_DISTURB: Refusal =
    Refusal { status: 486, cause: Cause::Busy, warning: Some((399, "The user takes no calls")) };

const NO_MAILBOX: Refusal =
    Refusal { status: 480, cause: Cause::Unreachable, warning: Some((399, "No mailbox")) };

/// As the `cause` of a URI names it (RFC 4458 §2).
const fn cause_of(why: DivertReason) -> u16 {
    match why {
        DivertReason::Always => 302,
        DivertReason::DoNotDisturb | DivertReason::Busy => 486,
        DivertReason::NoAnswer => 408,
        DivertReason::Unreachable => 404,
        DivertReason::Redirected
        | DivertReason::PickedUp
        | DivertReason::Replaced
        | DivertReason::Voicemail => 480,
    }
}

/// Who sent a call on.
#[derive(Debug, Clone)]
pub(crate) struct Diversion {
    pub by: Arc<User>,
    pub why: DivertReason,
}

/// Of a place that is rung in somebody's stead.
#[derive(Debug)]
pub(crate) struct Stead {
    /// Who is rung, by the name or number that the call was sent on to.
    pub callee: Personal<String>,
    /// The first one first; never empty.
    pub past: Vec<Diversion>,
    /// The call was sent on to several by the list of that one of those: what one
    /// of them says is not said for all.
    pub list: Option<usize>,
}

impl Stead {
    /// The number that the last one who sent the call on answers for.
    pub(crate) fn number(&self) -> Option<&Personal<String>> {
        self.past.last()?.by.number.as_ref()
    }

    /// Who sent the call on and why: the last one first in Diversion, the first
    /// one first in History-Info. A carrier is told of numbers, and another
    /// region nothing.
    pub(crate) fn tell(&self, to: &Side, domain: &str, headers: &mut Headers) {
        let shown: Vec<(Uri, DivertReason)> = self
            .past
            .iter()
            .filter_map(|it| Some((own_uri(Some(shown_to(to, &it.by)?), domain), it.why)))
            .collect();
        for (uri, why) in shown.iter().rev() {
            let value = format!("{};reason={}", NameAddr::new(uri.clone()), why.name());
            headers.push(HeaderName::Diversion, value);
        }
        let mut index = "1".to_owned();
        let mut cause = None;
        for (uri, why) in &shown {
            push_history(headers, uri, &index, cause);
            (cause, index) = (Some(cause_of(*why)), format!("{index}.1"));
        }
        if !shown.is_empty() {
            push_history(headers, &own_uri(Some(self.callee.expose()), domain), &index, cause);
        }
    }
}

/// A user's name is no business of a carrier.
fn shown_to<'a>(to: &Side, user: &'a User) -> Option<&'a str> {
    match to {
        Side::User(_) => Some(user.name.expose()),
        Side::Trunk(_) => user.number.as_ref().map(|number| number.expose().as_str()),
        Side::Region(_) => None,
    }
}

/// RFC 7044 §5.1: `mp` names the entry that this one was made from.
fn push_history(headers: &mut Headers, uri: &Uri, index: &str, cause: Option<u16>) {
    let uri = match cause {
        Some(cause) => uri.clone().with_param("cause", Some(&cause.to_string())),
        None => uri.clone(),
    };
    let mut entry = format!("{};index={index}", NameAddr::new(uri));
    if let Some((former, _)) = index.rsplit_once('.') {
        entry += &format!(";mp={former}");
    }
    headers.push(HeaderName::HistoryInfo, entry);
}

impl Context {
    /// Where calls to a user go: to the phones, or where the user has them sent.
    /// `past` are those who sent this call on before.
    pub(crate) fn reach(
        &self,
        account: &Account,
        user: &Arc<User>,
        direction: CallDirection,
        past: &[Diversion],
    ) -> Result<Route, Refusal> {
        if past.iter().any(|it| it.by.sid == user.sid) {
            return Err(IN_A_CIRCLE);
        }
        let forwarding = &user.forwarding;
        let sent_on = |why, to| self.divert(account, user, why, to, direction, past);
        let route = match (&forwarding.always, &forwarding.busy, &forwarding.unreachable) {
            (Some(to), ..) => sent_on(DivertReason::Always, to),
            (_, Some(to), _) if forwarding.do_not_disturb => {
                sent_on(DivertReason::DoNotDisturb, to)
            }
            (_, None, _) if forwarding.do_not_disturb => Err(DO_NOT_DISTURB),
            (.., to) => match (self.to_user(account, user, direction), to) {
                (Err(_), Some(to)) => sent_on(DivertReason::Unreachable, to),
                (route, _) => route,
            },
        };
        // What else became of the call is for who is rung; where nobody is, the
        // caller may leave a message.
        route.or_else(|refusal| mailbox_of(account, user, direction, refusal).ok_or(refusal))
    }

    /// Where a call leads that a user sends on: no further than if that user
    /// had called there.
    pub(crate) fn divert(
        &self,
        account: &Account,
        by: &Arc<User>,
        why: DivertReason,
        to: &Personal<String>,
        direction: CallDirection,
        past: &[Diversion],
    ) -> Result<Route, Refusal> {
        if past.len() >= MOST {
            return Err(IN_A_CIRCLE);
        }
        if to.expose() == MAILBOX && self.tenants.user(account.sid, MAILBOX).is_none() {
            let refusal = match why {
                DivertReason::DoNotDisturb => DO_NOT_DISTURB,
                _ => Refusal::new(480, Cause::Unreachable),
            };
            return mailbox_of(account, by, direction, refusal).ok_or(NO_MAILBOX);
        }
        let most = MOST_PLACES / (past.len() + 1);
        let past = [past, &[Diversion { by: by.clone(), why }]].concat();
        let is_name = self.tenants.user(account.sid, to.expose()).is_some();
        let mut stages =
            if is_name { vec![vec![to.expose().as_str()]] } else { places(to.expose()) };
        let mut left = most;
        let mut named = Vec::new();
        for stage in &mut stages {
            stage.retain(|place| {
                let is_new = !named.contains(place);
                named.push(*place);
                is_new
            });
            stage.truncate(left);
            left -= stage.len();
        }
        let list = (most - left > 1).then(|| past.len() - 1);
        let mut whole: Result<Route, Refusal> = Err(NOT_FOUND);
        for stage in stages.into_iter().filter(|stage| !stage.is_empty()) {
            let place = |place: &str| self.send_on(account, place, &past, list);
            let mut rung = Err(NOT_FOUND);
            for route in stage.into_iter().map(place) {
                rung = beside(rung, route, self.config.limits.branches);
            }
            whole = after(whole, rung);
        }
        let mut route = whole?;
        if direction == CallDirection::Inbound {
            route.direction = direction;
        }
        Ok(route)
    }

    /// To one place of those that a call is sent on to.
    fn send_on(
        &self,
        account: &Account,
        to: &str,
        past: &[Diversion],
        list: Option<usize>,
    ) -> Result<Route, Refusal> {
        let mut route = self.lead(account, to, past)?;
        // One of several who takes no calls leaves them to the others.
        if list.is_some() && !route.rings() {
            return Err(DO_NOT_DISTURB);
        }
        // A message is for whom was called, if it can be.
        let first = past.first().map(|it| &it.by).filter(|it| it.has_mailbox(account));
        if let (Some(mailed), Some(first)) = (&mut route.mailbox, first) {
            mailed.user.clone_from(first);
        }
        let stead = Stead { callee: route.to_user.clone(), past: past.to_vec(), list };
        let stead = Arc::new(stead);
        // Unless it was sent on from there: then that place is one of the list's.
        let placed = |of: &mut Option<Arc<Stead>>| match of {
            None => *of = Some(stead.clone()),
            Some(inner) if inner.list.is_none() && list.is_some() => {
                let (callee, past) = (inner.callee.clone(), inner.past.clone());
                *inner = Arc::new(Stead { callee, past, list });
            }
            Some(_) => {}
        };
        route.groups.iter_mut().flatten().for_each(|target| placed(&mut target.stead));
        route.sleepers.iter_mut().for_each(|sleeper| placed(&mut sleeper.stead));
        Ok(route)
    }
}

/// To nobody but a user's mailbox, if there is one. The refusal is for callers that
/// it does not take.
fn mailbox_of(
    account: &Account,
    user: &Arc<User>,
    direction: CallDirection,
    refusal: Refusal,
) -> Option<Route> {
    user.has_mailbox(account).then(|| Route {
        direction,
        groups: VecDeque::new(),
        sleepers: Vec::new(),
        to_user: user.name.clone(),
        callee: Side::User(user.clone()),
        mailbox: Some(Mailed { user: user.clone(), refusal }),
    })
}

/// Both at once, with what there is of them. Another account's home region is
/// asked for one call, and not for two.
fn beside(
    one: Result<Route, Refusal>,
    other: Result<Route, Refusal>,
    branches: usize,
) -> Result<Route, Refusal> {
    match (one, other) {
        (Ok(one), Ok(other)) if one.is_away() && other.is_away() => Ok(one),
        (Ok(mut one), Ok(other)) => {
            for (n, group) in other.groups.into_iter().enumerate() {
                match one.groups.get_mut(n).filter(|it| it.len() + group.len() <= branches) {
                    Some(beside) => beside.extend(group),
                    None => one.groups.push_back(group),
                }
            }
            one.sleepers.extend(other.sleepers);
            Ok(one)
        }
        (Ok(one), Err(_)) => Ok(one),
        (Err(_), other) => other,
    }
}

/// One after the other. Devices that sleep are woken for the first of them.
fn after(one: Result<Route, Refusal>, other: Result<Route, Refusal>) -> Result<Route, Refusal> {
    match (one, other) {
        (Ok(one), Ok(other)) if one.is_away() && other.is_away() => Ok(one),
        (Ok(mut one), Ok(other)) => {
            one.groups.extend(other.groups);
            one.sleepers.extend(other.sleepers);
            Ok(one)
        }
        (Ok(one), Err(_)) => Ok(one),
        (Err(_), other) => other,
    }
}
