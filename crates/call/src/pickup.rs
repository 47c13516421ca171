//! Who takes a call that is another's: by naming its dialog (RFC 3891), or by a
//! code that is dialled.

use std::collections::VecDeque;
use std::sync::Arc;

use landline_sip::{Flow, HeaderName, Replaces, Request, ServerKey, StatusCode, Uri};

use crate::call::{Call, PickUp, Replacing, Standing, push_warning, tag_number};
use crate::calls::CallKey;
use crate::context::Context;
use crate::core::Core;
use crate::record::{CallDirection, Cause};
use crate::route::{Mailed, NOT_FOUND, Refusal, Route, Side};
use crate::tenancy::{Account, User};
use crate::transfer::{Refused, direction_kept};

/// Nobody rings there whose call could be taken.
const NOTHING_RINGS: Refusal =
    Refusal { status: 480, cause: Cause::Unreachable, warning: Some((399, "No call rings there")) };

/// Nothing is parked under this number.
const NOTHING_PARKED: Refusal = Refusal {
    status: 404,
    cause: Cause::NotFound,
    warning: Some((399, "No call is parked there")),
};

/// An INVITE of a user who wants a call that is there already.
pub(crate) struct Taker {
    pub key: ServerKey,
    pub flow: Flow,
    pub request: Request,
    pub account: Arc<Account>,
    pub user: Arc<User>,
}

/// A leg of a call, whose place is taken; `None`: of a call that waits for anybody.
type Instead = Option<usize>;

impl Core {
    /// The dialog whose place an INVITE is to take (RFC 3891 §3).
    pub(crate) fn replaces(&self, request: &Request) -> Result<Option<Replaces>, Refused> {
        let bad = |text: String| (StatusCode::BAD_REQUEST, text);
        let replaces = Replaces::of(&request.headers).map_err(|error| bad(error.to_string()))?;
        let joins = request.headers.contains(&HeaderName::parse("Join"));
        match replaces.is_some() && joins {
            true => Err(bad("Replaces and Join at once".to_owned())),
            false => Ok(replaces),
        }
    }

    /// Whoever calls from outside the account has no part in its calls but his own.
    /// Answers who wants one.
    pub(crate) fn takes_nothing(&mut self, key: ServerKey, request: &Request) -> bool {
        let text = match self.replaces(request) {
            Ok(None) => return true,
            Ok(Some(_)) => "only users of the account take its calls over".to_owned(),
            Err((_, text)) => text,
        };
        self.refuse_taking(key, request, (StatusCode::FORBIDDEN, text));
        false
    }

    pub(crate) fn refuse_taking(
        &mut self,
        key: ServerKey,
        request: &Request,
        (status, text): Refused,
    ) {
        self.cx.counters.pickups_refused += 1;
        let mut response = self.cx.response(request, status);
        if !text.is_empty() {
            push_warning(&self.cx, &mut response, 399, &text);
        }
        self.cx.respond(key, response);
    }

    /// Takes the place of the dialog that a Replaces names.
    pub(crate) fn take_place(&mut self, by: Taker, replaces: &Replaces) {
        let (call, leg, standing) = match self.named(&by.account, replaces) {
            Ok(found) => found,
            Err(refused) => return self.refuse_taking(by.key, &by.request, refused),
        };
        match standing {
            Standing::Rung => self.pick_up(by, call, Some(leg)),
            Standing::Talks if replaces.early_only => {
                let text = "the call is answered already".to_owned();
                self.refuse_taking(by.key, &by.request, (StatusCode::BUSY_HERE, text));
            }
            Standing::Talks => self.replace(by, call, leg),
            Standing::Over => {
                let text = "the call is over".to_owned();
                self.refuse_taking(by.key, &by.request, (StatusCode::DECLINE, text));
            }
            Standing::Rings => {
                let text = "whoever calls is not taken the place of".to_owned();
                self.refuse_taking(by.key, &by.request, (StatusCode::CALL_DOES_NOT_EXIST, text));
            }
        }
    }

    /// Tags are the other way round to the addressee; phones that learn of a
    /// dialog by watching its owner (RFC 4235) are of two minds about who that is.
    fn named(
        &mut self,
        account: &Account,
        replaces: &Replaces,
    ) -> Result<(CallKey, usize, Standing), Refused> {
        let Replaces { call_id, to_tag, from_tag, .. } = replaces;
        for (ours, theirs) in [(to_tag, from_tag), (from_tag, to_tag)] {
            let Some(tag) = tag_number(ours) else { continue };
            let Some((key, leg)) = self.cx.dialogs.get(&tag).copied() else { continue };
            let Some(call) = self.calls.get(key) else { continue };
            let Some(standing) = call.standing(leg, call_id, theirs) else { continue };
            if call.account.sid != account.sid {
                let text = "the call is another account's".to_owned();
                return Err((StatusCode::FORBIDDEN, text));
            }
            return Ok((key, leg, standing));
        }
        Err((StatusCode::CALL_DOES_NOT_EXIST, "no such call here".to_owned()))
    }

    /// A call that is up: its other party is going to talk to who takes the place.
    fn replace(&mut self, by: Taker, call: CallKey, leg: usize) {
        let found = self.calls.get(call).map(|it| {
            let other = it.may_refer(leg).map_err(|status| (status, String::new()))?;
            let gone = || (StatusCode::CALL_DOES_NOT_EXIST, String::new());
            let guest = it.referred(other).ok_or_else(gone)?;
            let direction = direction_kept(it, leg);
            let instead_of = it.user_of(leg).map(|user| user.sid);
            Ok((other, guest, direction, instead_of, it.name_of(other)))
        });
        match found.unwrap_or_else(|| Err((StatusCode::CALL_DOES_NOT_EXIST, String::new()))) {
            Ok((other, guest, direction, instead_of, named)) => {
                let to = self.calls.next_key();
                let replacing = Replacing { by, guest, direction, instead_of, named };
                let new = Call::replacing(to, &mut self.cx, replacing);
                self.calls.insert(new);
                self.with(call, |call, _| call.give_way(to, leg, other));
                self.with(to, |_, _| {});
            }
            Err(refused) => self.refuse_taking(by.key, &by.request, refused),
        }
    }

    /// Takes a call that rings elsewhere, or waits to be taken.
    pub(crate) fn pick_up(&mut self, by: Taker, call: CallKey, instead: Instead) {
        let Taker { key, flow, request, account: _, user } = by;
        let it = PickUp { key, flow, request, user, instead };
        self.with(call, |call, cx| call.pick_up(cx, it));
    }

    /// What a code that was dialled leads to; `None`: it is none.
    pub(crate) fn coded(
        &self,
        account: &Account,
        user: &User,
        uri: &Uri,
        dialled: &str,
    ) -> Option<Result<(CallKey, Instead), Refusal>> {
        let is_name = self.cx.tenants.user(account.sid, dialled).is_some();
        if is_name || !self.cx.is_own_address(account, uri) {
            return None;
        }
        let codes = &self.cx.config.codes;
        if let Some(whose) = after(dialled, &codes.pickup) {
            return Some(self.ringing(account, user, whose));
        }
        let slot = after(dialled, &codes.park)?;
        let parked = slot.parse().ok().and_then(|slot| self.parked_at(account, slot));
        Some(parked.map(|call| (call, None)).ok_or(NOTHING_PARKED))
    }

    /// The code that plays the caller's own messages; needs no other proof.
    pub(crate) fn own_mailbox(
        &self,
        account: &Account,
        user: &Arc<User>,
        uri: &Uri,
        dialled: &str,
    ) -> Option<Route> {
        let is_code = *dialled == self.cx.config.codes.voicemail && !dialled.is_empty();
        let is_name = self.cx.tenants.user(account.sid, dialled).is_some();
        let is_meant = is_code && !is_name && self.cx.is_own_address(account, uri);
        is_meant.then(|| Route {
            direction: CallDirection::Internal,
            groups: VecDeque::new(),
            sleepers: Vec::new(),
            to_user: user.name.clone(),
            callee: Side::User(user.clone()),
            mailbox: Some(Mailed {
                user: user.clone(),
                refusal: Refusal::new(488, Cause::NotAcceptable),
            }),
        })
    }

    /// Of the calls that ring at this user's, or at any colleague's, the one that
    /// began first. Colleagues may watch each other, and so take each other's calls.
    fn ringing(
        &self,
        account: &Account,
        by: &User,
        whose: &str,
    ) -> Result<(CallKey, Instead), Refusal> {
        let wanted = match whose.is_empty() {
            true => None,
            false => {
                let user = self.cx.tenants.user_dialled(account.sid, whose);
                Some(user.ok_or(NOT_FOUND)?.sid)
            }
        };
        let calls = self.calls.iter().filter(|call| call.account.sid == account.sid);
        let found = calls.filter_map(|call| {
            // Nobody answers his own call.
            let is_own = call.caller.sid() == by.sid.as_u128();
            let leg = call.rings_at(wanted).filter(|_| !is_own)?;
            Some((call.opened_at, call.key, leg))
        });
        let (_, call, leg) = found.min().ok_or(NOTHING_RINGS)?;
        Ok((call, Some(leg)))
    }

    fn parked_at(&self, account: &Account, slot: u16) -> Option<CallKey> {
        let mut calls = self.calls.iter().filter(|call| call.account.sid == account.sid);
        calls.find(|call| call.waits_at() == Some(slot)).map(|call| call.key)
    }

    /// Where a call that is transferred there is to wait; `None`: it is no such place.
    pub(crate) fn slot_for(
        &self,
        account: &Account,
        uri: &Uri,
        dialled: &str,
    ) -> Result<Option<u16>, Refused> {
        let is_name = self.cx.tenants.user(account.sid, dialled).is_some();
        if is_name || !self.cx.is_own_address(account, uri) {
            return Ok(None);
        }
        let Some(slot) = after(dialled, &self.cx.config.codes.park) else { return Ok(None) };
        let calls = self.calls.iter().filter(|call| call.account.sid == account.sid);
        let taken: Vec<u16> = calls.filter_map(Call::slot).collect();
        let mut all = 1..=self.cx.config.limits.parked_per_account;
        let busy = |text: &str| (StatusCode::BUSY_HERE, text.to_owned());
        if slot.is_empty() {
            let free = all.find(|slot| !taken.contains(slot));
            return free.map(Some).ok_or_else(|| busy("every place to park a call is taken"));
        }
        match slot.parse().ok().filter(|slot| all.contains(slot)) {
            Some(slot) if taken.contains(&slot) => Err(busy("another call is parked there")),
            Some(slot) => Ok(Some(slot)),
            None => {
                let text = format!("calls are parked at 1 to {}", all.end());
                Err((StatusCode::BAD_REQUEST, text))
            }
        }
    }
}

impl Context {
    /// What is dialled to take the call that waits there.
    pub(crate) fn slot_code(&self, slot: u16) -> String {
        format!("{}{slot}", self.config.codes.park)
    }
}

/// What follows a code, where there is one.
fn after<'a>(dialled: &'a str, code: &str) -> Option<&'a str> {
    dialled.strip_prefix(code).filter(|_| !code.is_empty())
}
