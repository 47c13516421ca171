//! A call that takes the place of one party of another (RFC 3891): who calls
//! talks to the other party from now on, who comes over as in a transfer
//! (ADR 020).

use landline_region::UserSid;

use super::guests::Handover;
use super::open::{CallerMedia, display_and_privacy, recording};
use super::transfer::Referred;
use super::{A, Call, Identity};
use crate::calls::CallKey;
use crate::context::Context;
use crate::io::Log;
use crate::pickup::Taker;
use crate::record::{CallDirection, DivertReason, LegRole, Step};
use crate::route::Side;

pub(crate) struct Replacing {
    pub by: Taker,
    /// Who stays.
    pub guest: Referred,
    pub direction: CallDirection,
    /// Whose place is taken.
    pub instead_of: Option<UserSid>,
    /// Who stays, as the record names it.
    pub named: String,
}

impl Call {
    /// The new call. Its caller is answered once the guest has come over; whatever
    /// fails before leaves the other call as it is.
    pub(crate) fn replacing(key: CallKey, cx: &mut Context, it: Replacing) -> Self {
        let Replacing { by, guest, direction, instead_of, named } = it;
        let Taker { key: server, flow, request, account, user } = by;
        let caller = Side::User(user.clone());
        let media = CallerMedia::read(cx, &request, &caller, &account);
        let (display, is_private) = display_and_privacy(&request);
        let sip_call_id = request.call_id().map(|it| it.to_str_lossy().into_owned());
        let mut call = Self {
            identity: Identity {
                display,
                user: user.name.clone(),
                number: user.number.clone(),
                callee: named.clone().into(),
                is_private,
                ..Identity::default()
            },
            recording: recording(cx, &account, &caller, std::iter::once(&guest.side)),
            handover: Some(Box::new(Handover::new(None))),
            winner: Some(A + 1),
            ..Self::new(key, cx, account, caller, direction)
        };
        call.prefer_number(cx, &request);
        call.go_on_recording(cx, guest.is_recorded);
        // A party of another account has its own record, under the same token.
        call.join = guest.join;
        let admitted = call.admit(cx);
        let refusal = call.caller_leg(cx, server, flow, request, media);
        call.seat(cx, guest, LegRole::B);
        call.record_opened(cx, &named);
        call.record_leg(cx, A, sip_call_id.unwrap_or_default());
        if let (Some(by), Some(leg)) = (instead_of, call.legs.first().map(|leg| leg.sid)) {
            call.journal(cx, Step::LegDiverted { leg, by, reason: DivertReason::Replaced });
        }
        cx.counters.calls_replaced += 1;
        let refusal = admitted.and(refusal);
        if refusal.is_ok() {
            call.await_journal(cx);
        }
        cx.log(Log::CallOpened { call: call.sid, account: call.account.sid });
        if let Err(refusal) = refusal {
            call.refuse(cx, refusal);
        }
        call
    }
}
