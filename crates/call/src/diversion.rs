//! Calls that go on to somebody else in a user's stead, and how who is rung
//! then is told of it (RFC 5806, RFC 7044).

use std::sync::Arc;

use landline_region::Personal;
use landline_sip::{HeaderName, Headers, NameAddr, Uri};

use crate::call::own_uri;
use crate::context::Context;
use crate::record::{CallDirection, Cause, DivertReason};
use crate::route::{Refusal, Route, Side};
use crate::tenancy::{Account, User};

/// How often one call may be sent on.
const MOST: usize = 5;

const IN_A_CIRCLE: Refusal = Refusal {
    status: 480,
    cause: Cause::Unreachable,
    warning: Some((399, "The call is forwarded in a circle")),
};

const DO_NOT_DISTURB: Refusal =
    Refusal { status: 486, cause: Cause::Busy, warning: Some((399, "The user takes no calls")) };

/// As the `cause` of a URI names it (RFC 4458 §2).
const fn cause_of(why: DivertReason) -> u16 {
    match why {
        DivertReason::Always => 302,
        DivertReason::DoNotDisturb | DivertReason::Busy => 486,
        DivertReason::NoAnswer => 408,
        DivertReason::Unreachable => 404,
        DivertReason::Redirected => 480,
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
        if let Some(to) = &forwarding.always {
            return self.divert(account, user, DivertReason::Always, to, direction, past);
        }
        if forwarding.do_not_disturb {
            let to = forwarding.busy.as_ref().ok_or(DO_NOT_DISTURB)?;
            return self.divert(account, user, DivertReason::DoNotDisturb, to, direction, past);
        }
        match (self.to_user(account, user, direction), &forwarding.unreachable) {
            (Err(_), Some(to)) => {
                self.divert(account, user, DivertReason::Unreachable, to, direction, past)
            }
            (route, _) => route,
        }
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
        let past = [past, &[Diversion { by: by.clone(), why }]].concat();
        let mut route = self.lead(account, to.expose(), &past)?;
        if direction == CallDirection::Inbound {
            route.direction = direction;
        }
        let stead = Arc::new(Stead { callee: route.to_user.clone(), past });
        for target in route.groups.iter_mut().flatten() {
            // Unless it was sent on from there.
            target.stead.get_or_insert_with(|| stead.clone());
        }
        for sleeper in &mut route.sleepers {
            sleeper.stead.get_or_insert_with(|| stead.clone());
        }
        Ok(route)
    }
}
