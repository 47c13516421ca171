//! A call that nobody took goes on to where the callee has it sent.

use std::sync::Arc;

use landline_region::Personal;
use landline_sip::{HeaderName, NameAddr, Response, StatusCode, Uri};

use super::{Call, Failure, Leg};
use crate::context::Context;
use crate::diversion::{Diversion, Stead};
use crate::record::{Cause, DivertReason};
use crate::route::{Mailed, Refusal, Route, Side, dialled};
use crate::tenancy::{User, is_e164};

/// Of a redirection that are looked at.
const CONTACTS: usize = 8;

impl Call {
    /// All places that were rung failed. True when there is another one, for
    /// the one who was rung last has such calls sent there.
    pub(super) fn divert_failed(&mut self, cx: &mut Context) -> bool {
        let Some(cause) = self.best.as_ref().map(|best| best.cause) else { return false };
        let Some((user, past)) = self.rung_last() else { return false };
        let forwarding = &user.forwarding;
        let is_group = self.last_of_several().is_some();
        let (why, to) = match cause {
            // That one of several is busy says nothing of who sent the call to them.
            Cause::Busy | Cause::Declined if is_group => {
                (DivertReason::NoAnswer, &forwarding.no_answer)
            }
            Cause::Busy | Cause::Declined => (DivertReason::Busy, &forwarding.busy),
            Cause::NoAnswer => (DivertReason::NoAnswer, &forwarding.no_answer),
            Cause::Unreachable | Cause::Failed => {
                (DivertReason::Unreachable, &forwarding.unreachable)
            }
            _ => return false,
        };
        let Some(to) = to else { return false };
        let Ok(route) = self.divert(cx, &user, &past, why, to) else { return false };
        let rings = route.rings();
        let best = self.best.take().filter(|_| !rings);
        self.follow(route);
        // Where only a mailbox is left, what became of the call stands.
        if let (Some((_, failure)), Some(best)) = (&mut self.mailed_to, best) {
            *failure = best;
        }
        self.tell_caller(cx, StatusCode::CALL_IS_BEING_FORWARDED, None);
        true
    }

    /// A phone says where the call is to go instead (RFC 3261 §8.1.3.4). Others
    /// go on ringing beside that place. False when it names none that leads
    /// anywhere.
    pub(super) fn redirected(&mut self, cx: &mut Context, leg: usize, said: &Response) -> bool {
        let Some((user, past)) = self.rung_at(leg) else { return false };
        let contacts = said.headers.values(&HeaderName::Contact).take(CONTACTS);
        let contacts = contacts.filter_map(|it| NameAddr::parse(&it.to_str_lossy()).ok());
        let wanted: Vec<_> = contacts.filter_map(|it| self.place_of(&it.uri)).collect();
        let (mut ringing, mut mailed) = (None, None);
        for to in &wanted {
            match self.divert(cx, &user, &past, DivertReason::Redirected, to) {
                Ok(route) if route.rings() => {
                    ringing = Some(route);
                    break;
                }
                // A message is left where none of the others rings.
                Ok(route) => mailed = mailed.or(Some(route)),
                Err(_) => {}
            }
        }
        let Some(route) = ringing.or(mailed) else { return false };
        if let Some(Mailed { user, refusal }) = route.mailbox {
            self.mailed_to = Some((user, Failure::of(refusal)));
        }
        self.sleepers.extend(route.sleepers);
        for group in route.groups.into_iter().rev() {
            self.groups.push_front(group);
        }
        self.branch_failed_with(cx, leg, said.status.code());
        self.tell_caller(cx, StatusCode::CALL_IS_BEING_FORWARDED, None);
        self.ring_next(cx);
        true
    }

    /// A user of the account by its address, or anybody by number. A phone
    /// leads nobody to hosts of its own choice, or to several at once.
    fn place_of(&self, uri: &Uri) -> Option<Personal<String>> {
        let place = dialled(uri).filter(|place| !place.contains(['&', ',']))?;
        let is_here = uri.host.to_string().eq_ignore_ascii_case(&self.account.domain);
        (is_here || is_e164(&place)).then(|| Personal::new(place))
    }

    fn divert(
        &mut self,
        cx: &mut Context,
        by: &Arc<User>,
        past: &[Diversion],
        why: DivertReason,
        to: &Personal<String>,
    ) -> Result<Route, Refusal> {
        let account = self.account.clone();
        let route = cx.divert(&account, by, why, to, self.direction, past);
        match &route {
            Ok(route) => {
                cx.counters.calls_diverted += 1;
                if self.join.is_none() {
                    self.join_other_account(cx, route.away());
                    self.record_joined(cx);
                }
            }
            Err(_) => cx.counters.diversions_refused += 1,
        }
        route
    }

    /// Whose phones were rung last, and who had sent the call there.
    pub(super) fn rung_last(&self) -> Option<(Arc<User>, Vec<Diversion>)> {
        if let Some(stead) = self.last_of_several() {
            // Where several stand in for somebody, it is for that one to say what
            // is next; not the same again.
            let (past, whose) = stead.past.split_at_checked(stead.list?)?;
            let whose = whose.first().filter(|it| it.why == DivertReason::Always)?;
            return Some((whose.by.clone(), past.to_vec()));
        }
        let last = self.legs.iter().rposition(|leg| leg.branch_ref().is_some());
        last.and_then(|leg| self.rung_at(leg)).or_else(|| self.slept.clone())
    }

    /// In whose stead who was rung last was rung, as one of several.
    fn last_of_several(&self) -> Option<&Stead> {
        self.last_rung()?.stead().filter(|stead| stead.list.is_some() && !self.rings_first())
    }

    /// Who takes the call by a code or a dialog's name is not rung.
    pub(super) fn last_rung(&self) -> Option<&Leg> {
        self.legs.iter().rfind(|leg| leg.branch_ref().is_some())
    }

    fn rung_at(&self, leg: usize) -> Option<(Arc<User>, Vec<Diversion>)> {
        // The first party of a call of ours has nobody to stand in for it.
        if self.rings_first() || !self.rung().contains(&leg) {
            return None;
        }
        let leg = self.legs.get(leg)?;
        let Side::User(user) = &leg.side else { return None };
        Some((user.clone(), leg.stead().map_or_else(Vec::new, |stead| stead.past.clone())))
    }

    /// How long the last group may ring.
    pub(super) fn ring_time(&self, cx: &Context) -> std::time::Duration {
        let own = self.last_rung().and_then(|leg| match (&leg.side, self.last_of_several()) {
            (_, Some(stead)) => stead.past.get(stead.list?)?.by.forwarding.ring,
            (Side::User(user), None) if !self.rings_first() => user.forwarding.ring,
            _ => None,
        });
        own.unwrap_or(cx.config.timers.no_answer)
    }
}

impl Leg {
    /// Rung for somebody else.
    pub(super) fn stead(&self) -> Option<&Stead> {
        self.branch_ref()?.target.stead.as_deref()
    }
}
