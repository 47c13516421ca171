//! From an authenticated INVITE to a record on disk.

use std::sync::Arc;

use landline_control::{Consent, LegId};
use landline_region::{CallSid, JoinToken, LegSid, Personal, RecordingSid};
use landline_sip::{Dialog, Flow, HeaderName, Limits, Request, Response, ServerKey, StatusCode};

use super::keys::Keyring;
use super::leg::{Incoming, Invite, tag_text};
use super::message::{ContactFor, accept_header, contact, display_of, push_warning, reason_for};
use super::music::hears_music;
use super::reliable::Reliable;
use super::{A, Call, Ending, Identity, Leg, Phase};
use crate::calls::CallKey;
use crate::context::{Context, ServerUse};
use crate::io::Log;
use crate::negotiate::{Description, LegMedia, Mismatch};
use crate::record::{CallDirection, Cause, Opened, Step};
use crate::route::{Reach, Refusal, Route, Side};
use crate::tenancy::{Account, NumberTarget, RecordingPolicy, is_e164};

/// An INVITE of somebody we know, and where it leads.
pub(crate) struct Attempt {
    pub key: ServerKey,
    pub flow: Flow,
    pub request: Request,
    pub account: Arc<Account>,
    pub caller: Side,
    pub dialled: String,
    pub route: Result<Route, Refusal>,
    /// Of a call that another account's home region sends.
    pub join: Option<JoinToken>,
}

impl Call {
    /// Opens the record, and with it the call. Refused attempts are closed at
    /// once; others go on when the journal has confirmed.
    pub(crate) fn open(key: CallKey, cx: &mut Context, attempt: Attempt) -> Self {
        let media = CallerMedia::read(cx, &attempt.request, &attempt.caller, &attempt.account);
        let Attempt { key: server, flow, request, account, caller, dialled, route, join } = attempt;
        let sip_call_id = request.call_id().map(|it| it.to_str_lossy().into_owned());
        let (direction, callee) = match &route {
            Ok(route) => (route.direction, Some(route.callee.clone())),
            Err(_) if !matches!(caller, Side::User(_)) => (CallDirection::Inbound, None),
            Err(_) => (CallDirection::Internal, None),
        };
        // Any of those who may answer may want it; who does decides.
        let rung = route.iter().flat_map(|it| it.groups.iter().flatten().map(|it| &it.side));
        let mut call = Self {
            identity: Identity::of(&caller, &request, &route, &dialled),
            recording: recording(cx, &account, &caller, callee.as_ref().into_iter().chain(rung)),
            ..Self::new(key, cx, account, caller, direction)
        };
        call.join = join;
        call.join_other_account(cx, callee.as_ref());
        let admitted = call.admit(cx);
        call.prefer_number(cx, &request);
        let refusal = call.caller_leg(cx, server, flow, request, media);
        call.record_opened(cx, &dialled);
        call.record_leg(cx, A, sip_call_id.unwrap_or_default());
        let refusal = admitted.and(refusal);
        if route.is_ok() && refusal.is_ok() {
            call.await_journal(cx);
        }
        cx.log(Log::CallOpened { call: call.sid, account: call.account.sid });
        match (route, refusal) {
            (Ok(route), Ok(())) => {
                call.follow(route);
            }
            (Err(refusal), Ok(())) | (_, Err(refusal)) => call.refuse(cx, refusal),
        }
        call
    }

    /// A call to another account is two records with one token.
    pub(super) fn join_other_account(&mut self, cx: &mut Context, callee: Option<&Side>) {
        if self.join.is_none() && callee.is_some_and(Side::is_region) {
            self.join = Some(JoinToken::new(&mut cx.entropy));
        }
    }

    pub(super) fn new(
        key: CallKey,
        cx: &mut Context,
        account: Arc<Account>,
        caller: Side,
        direction: CallDirection,
    ) -> Self {
        Self {
            key,
            sid: CallSid::new(&mut cx.entropy),
            account,
            caller,
            direction,
            phase: Phase::Journaling,
            clock: cx.now,
            opened_at: cx.now.unix,
            answered_at: None,
            farewell: None,
            legs: Vec::with_capacity(2),
            session: None,
            sequence: 0,
            join: None,
            identity: Identity::default(),
            started: None,
            groups: Default::default(),
            sleepers: Vec::new(),
            slept: None,
            group: 0,
            next_relay_leg: 0,
            tried_relays: Vec::new(),
            winner: None,
            early: None,
            best: None,
            rang: false,
            is_joined: false,
            modification: None,
            music: None,
            keys_under_way: 0,
            moving: None,
            keys: Keyring::default(),
            departing: None,
            handover: None,
            departed: Vec::new(),
            segments: 0,
            closing: false,
            passes: Vec::new(),
            ending: None,
            recording: None,
            recorded: None,
            restored: None,
            lost_at: None,
            parked: None,
            mailed_to: None,
            mailbox: None,
        }
    }

    /// A user of several numbers may say by which of them to be shown (RFC 3325
    /// §9.2). A number that is another's is passed over, and so is a name.
    pub(super) fn prefer_number(&mut self, cx: &mut Context, request: &Request) {
        let Side::User(user) = &self.caller else { return };
        let preferred = request.headers.values(&HeaderName::PPreferredIdentity).next();
        let Some(preferred) = preferred else { return };
        let named = landline_sip::NameAddr::parse(&preferred.to_str_lossy()).ok();
        let number = named.and_then(|it| crate::route::dialled(&it.uri));
        let number = number.filter(|it| is_e164(it));
        let known = number.as_ref().and_then(|it| cx.tenants.number(self.account.sid, it));
        match known {
            Some(known) if known.target == NumberTarget::User(user.sid) => {
                self.identity.number = Some(known.e164.clone());
            }
            _ => cx.counters.identities_refused += 1,
        }
    }

    /// Limits on open calls. The call counts from here on, refused or not,
    /// until its record is closed.
    pub(super) fn admit(&mut self, cx: &mut Context) -> Result<(), Refusal> {
        let limits = &cx.config.limits;
        let caller = self.caller.sid();
        let own = cx.usage.callers.get(&caller).copied().unwrap_or(0);
        let own_limit = match self.caller {
            Side::User(_) => limits.calls_per_user,
            Side::Trunk(_) => limits.calls_per_trunk,
            Side::Region(_) => limits.calls_per_region,
        };
        let account = cx.usage.accounts.get(&self.account.sid).copied().unwrap_or(0);
        let refusal = match () {
            () if cx.closing => Err(Refusal::new(503, Cause::Failed)),
            () if cx.usage.total >= limits.calls => Err(Refusal::new(503, Cause::Failed)),
            () if account >= limits.calls_per_account => Err(Refusal::new(503, Cause::Failed)),
            () if own >= own_limit => Err(Refusal::new(486, Cause::Failed)),
            () => Ok(()),
        };
        cx.usage.add(self.account.sid, caller);
        cx.counters.calls_opened += 1;
        cx.counters.calls_over_limit += u64::from(refusal.is_err());
        refusal
    }

    pub(super) fn caller_leg(
        &mut self,
        cx: &mut Context,
        key: ServerKey,
        flow: Flow,
        request: Request,
        media: CallerMedia,
    ) -> Result<(), Refusal> {
        let tag = cx.entropy.u64();
        let local = contact(cx, &ContactFor::Flow(&flow));
        let dialog = Dialog::uas(&request, &tag_text(tag), local);
        let bad = Refusal::new(400, Cause::Failed);
        let problem = dialog.as_ref().err().map(|_| bad);
        let (offer, leg_media, mismatch) = match media.offer {
            Ok(None) => (None, None, None),
            Ok(Some(offer)) => match LegMedia::answering(&offer, cx.entropy.u64()) {
                Ok(leg_media) => {
                    let hears = hears_music(&self.account, &self.caller);
                    let leg_media = leg_media.transcoding(cx.config.transcoding);
                    let leg_media = leg_media.on_hold_hearing(hears);
                    let leg_media = match self.caller.is_trunk() {
                        true => leg_media.by_ports(),
                        false => leg_media,
                    };
                    (Some(offer), Some(leg_media), None)
                }
                Err(mismatch) => (None, None, Some(refusal(mismatch))),
            },
            Err(refusal) => (None, None, Some(refusal)),
        };
        let relay_leg = self.relay_leg();
        debug_assert_eq!(relay_leg, LegId(0));
        let reach = Reach::back(&flow, self.caller.is_trunk());
        let reliable = Reliable::of(&request.headers, offer.is_some());
        let incoming = Incoming { key, request, offer, provisional: 0, reliable, picks_up: false };
        let invite = Invite::Received(Box::new(incoming));
        let sid = LegSid::new(&mut cx.entropy);
        let mut leg = Leg::new(sid, self.caller.clone(), reach, tag, relay_leg, invite);
        leg.dialog = dialog.ok();
        leg.media = leg_media;
        if let Some(incoming) = leg.incoming() {
            let headers = incoming.request.headers.clone();
            leg.learn_methods(&headers);
            leg.timer.take(cx.config.session_policy(), &headers, self.now(cx));
        }
        cx.servers.insert(key, ServerUse::Invite(self.key));
        cx.dialogs.insert(tag, (self.key, A));
        self.legs.push(leg);
        problem.or(mismatch).map_or(Ok(()), Err)
    }

    pub(super) fn record_opened(&mut self, cx: &mut Context, dialled: &str) {
        let opened = Opened {
            direction: self.direction,
            from: self.identity.recorded(),
            to: Personal::new(dialled.to_owned()),
            home_region: self.account.home_region,
            signalling_region: cx.config.region,
            contracting_entity: self.account.contracting_entity.clone(),
            proxy: cx.config.proxy.clone(),
            recording: self.recording,
        };
        self.journal(cx, Step::Opened(opened));
        self.record_joined(cx);
    }

    pub(super) fn record_joined(&mut self, cx: &mut Context) {
        if let Some(join) = self.join {
            self.journal(cx, Step::Joined(join));
        }
    }

    pub(super) fn refuse(&mut self, cx: &mut Context, refusal: Refusal) {
        let mut ending = Ending::new(refusal.cause, refusal.status);
        ending.warning = refusal.warning;
        self.end(cx, ending);
    }

    /// A response of ours to the caller's INVITE.
    pub(super) fn caller_response(&self, status: StatusCode) -> Option<Response> {
        let leg = self.legs.first()?;
        let request = &leg.incoming()?.request;
        Some(match &leg.dialog {
            Some(dialog) => dialog.respond(request, status),
            None => Response::for_request(request, status).with_to_tag(&tag_text(leg.tag)),
        })
    }

    /// The final refusal of the caller's INVITE.
    pub(super) fn refuse_caller(&mut self, cx: &mut Context, ending: &Ending) {
        let status = StatusCode::new(ending.caller_status);
        let status = status.unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
        let Some(mut response) = self.caller_response(status) else { return };
        response.headers.remove_all(&HeaderName::Contact);
        for reason in &ending.reasons {
            response.headers.push(HeaderName::Reason, reason_for(&self.caller, reason));
        }
        if let Some((code, text)) = ending.warning {
            push_warning(cx, &mut response, code, text);
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            response.headers.push(HeaderName::Accept, accept_header());
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = 2 + cx.entropy.u64() % 9;
            response.headers.push(HeaderName::RetryAfter, seconds.to_string());
        }
        if let Some(incoming) = self.legs.get_mut(A).and_then(Leg::incoming_mut) {
            incoming.reliable.is_over();
            cx.respond(incoming.key, response);
        }
    }
}

/// The caller's description, read before the request is taken apart.
pub(super) struct CallerMedia {
    pub offer: Result<Option<Description>, Refusal>,
}

impl CallerMedia {
    pub(super) fn read(
        cx: &mut Context,
        request: &Request,
        caller: &Side,
        account: &Account,
    ) -> Self {
        let offer = read_description(cx, request).and_then(|offer| {
            let plain = caller.accepts_plain(account);
            match &offer {
                Some(it) if it.protocol == landline_control::Protocol::Rtp && !plain => {
                    cx.counters.encryption_missing += 1;
                    Err(Mismatch::Unencrypted)
                }
                _ => Ok(offer),
            }
        });
        Self { offer: offer.map_err(refusal) }
    }
}

/// The session description of a request whose content was found to be one.
pub(super) fn read_description(
    cx: &mut Context,
    request: &Request,
) -> Result<Option<Description>, Mismatch> {
    match request.body.is_empty() {
        true => Ok(None),
        false => read_body(cx, &request.body).map(Some),
    }
}

/// The answer in a 2xx to an offer of ours.
pub(super) fn read_answer(cx: &mut Context, response: &Response) -> Result<Description, Mismatch> {
    match response.body.is_empty() {
        true => Err(Mismatch::NoAudio),
        false => read_body(cx, &response.body),
    }
}

pub(super) fn read_body(cx: &mut Context, body: &[u8]) -> Result<Description, Mismatch> {
    let read = match body.len() > cx.config.limits.description {
        true => Err(Mismatch::Unreadable),
        false => Description::read(body, &Limits::default()),
    };
    cx.counters.descriptions_refused += u64::from(read.is_err());
    read
}

pub(super) fn refusal(mismatch: Mismatch) -> Refusal {
    Refusal {
        status: mismatch.status(),
        cause: Cause::NotAcceptable,
        warning: Some(mismatch.warning()),
    }
}

/// What a user says of itself beside its name.
pub(super) fn display_and_privacy(
    request: &Request,
) -> (Option<Personal<landline_sip::ByteStr>>, bool) {
    let from = request.from().ok();
    (from.as_ref().and_then(display_of), wants_privacy(request))
}

/// RFC 3323 §4.2: any value but `none` asks that the caller is not shown.
fn wants_privacy(request: &Request) -> bool {
    let mut values = request.headers.values(&HeaderName::Privacy).take(8);
    values.any(|value| !value.eq_ignore_case("none"))
}

/// Where who calls by a carrier is at home whose number is none of the world's:
/// nobody calls back there.
const ELSEWHERE: &str = "unknown.invalid";

/// Who calls by a carrier: a number, or what may be one within its network. A
/// name, or an extension under our domain, would be taken for a colleague's.
fn of_carrier(said: Option<String>) -> (String, Option<String>) {
    let said = said.unwrap_or_default();
    let digits = said.strip_prefix('+').unwrap_or(&said);
    let number = format!("+{}", digits.strip_prefix("00").unwrap_or(digits));
    if is_e164(&number) && digits.len() > LONGEST_EXTENSION {
        return (number, None);
    }
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    match is_number && digits.len() <= 64 {
        true => (said, Some(ELSEWHERE.to_owned())),
        false => ("anonymous".to_owned(), None),
    }
}

/// Numbers of the world have more digits, country code included.
const LONGEST_EXTENSION: usize = 6;

impl Identity {
    /// How a request's sender is shown to whom it leads.
    pub(crate) fn of(
        caller: &Side,
        request: &Request,
        route: &Result<Route, Refusal>,
        dialled: &str,
    ) -> Self {
        let from = request.from().ok();
        let display = from.as_ref().and_then(display_of);
        let callee = match route {
            Ok(route) => route.to_user.clone(),
            Err(_) => Personal::new(dialled.to_owned()),
        };
        match caller {
            Side::User(user) => {
                let (user, number) = (user.name.clone(), user.number.clone());
                let is_private = wants_privacy(request);
                Self { display, user, number, callee, is_private, ..Self::default() }
            }
            // The region that sent it answers for who calls.
            Side::Region(_) => {
                let user = from.as_ref().and_then(|it| crate::route::dialled(&it.uri));
                let user = Personal::new(user.unwrap_or_else(|| "anonymous".to_owned()));
                let domain = from.map(|it| it.uri.host.to_string().to_ascii_lowercase());
                Self { user, domain, callee, ..Self::default() }
            }
            // What the carrier says is for nobody to know is written down nowhere
            // (RFC 3323 §4.2).
            Side::Trunk(_) if wants_privacy(request) => Self {
                user: Personal::new("anonymous".to_owned()),
                callee,
                is_private: true,
                ..Self::default()
            },
            Side::Trunk(trunk) => {
                let asserted = request.headers.values(&HeaderName::PAssertedIdentity);
                let asserted = asserted.take(1).find(|_| trunk.asserted.is_believed());
                let asserted =
                    asserted.and_then(|it| landline_sip::NameAddr::parse(&it.to_str_lossy()).ok());
                let shown = asserted.or(from);
                let display = shown.as_ref().and_then(display_of);
                let (user, domain) =
                    of_carrier(shown.and_then(|it| crate::route::dialled(&it.uri)));
                Self { display, user: Personal::new(user), domain, callee, ..Self::default() }
            }
        }
    }

    /// The caller as the record names it.
    pub(super) fn recorded(&self) -> Personal<String> {
        match &self.domain {
            Some(domain) if !is_e164(self.user.expose()) => {
                Personal::new(format!("{}@{domain}", self.user.expose()))
            }
            _ => self.user.clone(),
        }
    }
}

/// A call is recorded when either party's own setting, or else the account's,
/// says so.
pub(super) fn recording<'a>(
    cx: &mut Context,
    account: &Account,
    caller: &Side,
    mut callees: impl Iterator<Item = &'a Side>,
) -> Option<(RecordingSid, Consent)> {
    let wants = |side: &Side| wants_recording(account, side);
    let wanted = wants(caller) || callees.any(wants);
    wanted.then(|| {
        let consent = Consent { by_policy: true, granted_at: cx.now.unix };
        (RecordingSid::new(&mut cx.entropy), consent)
    })
}

pub(super) fn wants_recording(account: &Account, side: &Side) -> bool {
    let policy = match side {
        Side::User(user) => user.recording.unwrap_or(account.recording),
        Side::Trunk(_) | Side::Region(_) => account.recording,
    };
    policy == RecordingPolicy::All
}
