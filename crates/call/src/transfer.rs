//! Who may refer whom to where (RFC 3515 §2.4), and what calls have to say to
//! each other meanwhile.

use landline_sip::{ReferTo, Replaces, Request, Scheme, ServerKey, StatusCode};

use crate::call::{Call, Letter, Referral, ReferredTo, Word, push_warning, tag_number};
use crate::calls::CallKey;
use crate::core::Core;
use crate::io::Log;
use crate::record::{CallDirection, Cause};
use crate::route::{Refusal, Side, dialled};
use crate::tenancy::{Account, User};

/// Why a REFER is refused. Its text goes into a Warning.
pub(crate) type Refused = (StatusCode, String);

/// The dialog that is to be replaced is none of the user's.
const NO_SUCH_DIALOG: Refusal = Refusal::new(481, Cause::NotFound);
/// It is, and something else goes on in it.
const DIALOG_BUSY: Refusal = Refusal::new(491, Cause::Failed);

/// The user's own leg in another call of his, and the other party's.
struct Consultation {
    call: CallKey,
    by: usize,
    party: usize,
}

impl Core {
    /// A REFER within a dialog.
    pub(crate) fn refer(&mut self, key: ServerKey, call: CallKey, leg: usize, request: &Request) {
        let to = self.calls.next_key();
        match self.referral(call, leg, request) {
            Ok((referral, consultation)) => {
                let new = Call::refer(to, &mut self.cx, referral);
                let sid = new.sid;
                self.calls.insert(new);
                self.with(call, |call, cx| {
                    cx.log(Log::CallReferred { call: call.sid, to: sid });
                    call.accept_refer(cx, leg, key, request, to);
                });
                if let Some(Consultation { call, by, party }) = consultation {
                    self.with(call, |call, _| call.part_with(to, by, party, None));
                }
                self.with(to, |_, _| {});
            }
            Err((status, text)) => self.with(call, |call, cx| {
                call.refuse_refer(cx, leg, key, request, (status, &text));
            }),
        }
    }

    fn referral(
        &mut self,
        key: CallKey,
        leg: usize,
        request: &Request,
    ) -> Result<(Referral, Option<Consultation>), Refused> {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
        let gone = || (StatusCode::CALL_DOES_NOT_EXIST, String::new());
        let call = self.calls.get(key).filter(|call| !call.is_ending()).ok_or_else(gone)?;
        let account = call.account.clone();
        let user = call.user_of(leg).cloned().ok_or_else(|| {
            (StatusCode::FORBIDDEN, "only users of the account transfer its calls".to_owned())
        })?;
        if call.is_in_mailbox() {
            return Err((StatusCode::FORBIDDEN, "a mailbox goes to nobody else".to_owned()));
        }
        let ReferTo { uri, replaces } =
            ReferTo::of(&request.headers).map_err(|error| bad(&error.to_string()))?;
        let is_callable = matches!(uri.scheme, Scheme::Sip | Scheme::Sips | Scheme::Tel);
        let named = dialled(&uri).filter(|it| is_callable && !it.is_empty());
        let other = call.may_refer(leg).map_err(|status| (status, String::new()))?;
        let guest = call.referred(other).ok_or_else(gone)?;
        let direction = direction_kept(call, leg);
        let (to, dialled, consultation) = match &replaces {
            None => {
                let named = named.ok_or_else(|| bad("Refer-To names nobody who can be called"))?;
                if let Some(slot) = self.slot_for(&account, &uri, &named)? {
                    let code = self.cx.slot_code(slot);
                    let to = ReferredTo::Slot(slot, direction);
                    return Ok((Referral { account, user, dialled: code, guest, to }, None));
                }
                let (route, dialled) = self.route_to_uri(&account, &uri, named);
                let is_own = route.as_ref().is_ok_and(|route| is_user(&route.callee, &user));
                if is_own {
                    return Err(bad("Refer-To is who sent it"));
                }
                (ReferredTo::Target(route), dialled, None)
            }
            Some(replaces) => match self.consultation(&account, &user, replaces) {
                Ok(it) if it.call == key => {
                    return Err(bad("Replaces names the call it came in"));
                }
                Ok(it) => {
                    let (to, dialled) = self.other_party(&it).ok_or_else(gone)?;
                    (to, dialled, Some(it))
                }
                // As the INVITE would be answered that this stands for. Many phones
                // name our Contact, in which there is nobody's name.
                Err(refusal) => (ReferredTo::Target(Err(refusal)), named.unwrap_or_default(), None),
            },
        };
        Ok((Referral { account, user, dialled, guest, to }, consultation))
    }

    /// The call of the user's own that a Replaces names, as he knows it
    /// (RFC 3891 §3): tags are the other way round there. Whether somebody else
    /// has such a dialog is not told.
    fn consultation(
        &mut self,
        account: &Account,
        user: &User,
        replaces: &Replaces,
    ) -> Result<Consultation, Refusal> {
        let tag = tag_number(&replaces.to_tag).ok_or(NO_SUCH_DIALOG)?;
        let (key, by) = *self.cx.dialogs.get(&tag).ok_or(NO_SUCH_DIALOG)?;
        let call = self.calls.get(key).ok_or(NO_SUCH_DIALOG)?;
        let is_own = call.account.sid == account.sid
            && call.user_of(by).is_some_and(|it| it.sid == user.sid)
            && call.legs.get(by).and_then(|it| it.dialog.as_ref()).is_some_and(|dialog| {
                *dialog.call_id() == replaces.call_id
                    && dialog.remote().tag() == Some(replaces.from_tag.as_str())
            });
        if !is_own || call.is_ending() {
            return Err(NO_SUCH_DIALOG);
        }
        let party = call.may_refer(by).map_err(|status| match status {
            StatusCode::REQUEST_PENDING => DIALOG_BUSY,
            _ => NO_SUCH_DIALOG,
        })?;
        Ok(Consultation { call: key, by, party })
    }

    fn other_party(&mut self, of: &Consultation) -> Option<(ReferredTo, String)> {
        let call = self.calls.get(of.call)?;
        let direction = direction_kept(call, of.by);
        let named = call.name_of(of.party);
        Some((ReferredTo::Party(Box::new(call.referred(of.party)?), direction), named))
    }

    /// A REFER outside any dialog refers nobody: there is no call to transfer, and
    /// calls are begun by the API.
    pub(crate) fn refuse_stray_refer(&mut self, key: ServerKey, request: &Request) {
        self.cx.counters.transfers_refused += 1;
        let mut response = self.cx.response(request, StatusCode::FORBIDDEN);
        push_warning(&self.cx, &mut response, 399, "REFER is for calls that are up");
        self.cx.respond(key, response);
    }

    /// Until nobody has anything to say any more. Each is about one step of one
    /// transfer, so that this ends.
    pub(crate) fn exchange_letters(&mut self) {
        while let Some(Letter { from, to, word }) = self.cx.letters.pop_front() {
            if self.calls.get(to).is_some() {
                self.with(to, |call, cx| call.told(cx, from, word));
                continue;
            }
            // Nobody lends to a call that is gone; a leg would go back all the same.
            if let Word::Lent(leg) = word {
                let leg = Some(crate::call::Returned { leg, asked: None, agreed: false });
                let word = Word::Failed { status: 500, leg };
                self.cx.letters.push_back(Letter { from: to, to: from, word });
            }
        }
    }
}

/// Of the call in which this leg's party leaves the other one to somebody.
pub(crate) fn direction_kept(call: &Call, by: usize) -> CallDirection {
    match by == crate::call::A {
        true => call.direction,
        // Who is called has nobody's line to pay for.
        false => CallDirection::Internal,
    }
}

fn is_user(side: &Side, user: &User) -> bool {
    matches!(side, Side::User(it) if it.sid == user.sid)
}
