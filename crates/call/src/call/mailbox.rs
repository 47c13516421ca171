//! Nobody takes the call: the callee's mailbox does. It is answered here, the
//! relay plays a greeting and records what the caller says, and there is no other
//! leg.
//!
//! What is recorded is a recording as any other; that it is a message, and whose,
//! is in the call's record. A call in a mailbox is neither kept for another process
//! nor moved: it lasts for minutes at the most, and what was said so far is there.

use std::sync::Arc;
use std::time::Duration;

use landline_control::{
    Consent, Key, LegId, Op, Play, Recording, Request as RelayRequest, SessionId, Sound,
};
use landline_region::{RecordingSid, UnixMillis, VoicemailSid};
use landline_sip::{HeaderName, Request, Response, ServerKey, StatusCode};

use super::message::{SDP, push_warning};
use super::{A, Call, Ending, Leg, Phase};
use crate::context::Context;
use crate::io::{Log, StoredMessage};
use crate::negotiate::{Codec, Terms, heard_here};
use crate::record::{Cause, DivertReason, Step};
use crate::relays::RelayStep;
use crate::tenancy::User;
use crate::timers::{CallTimer, Timer};

/// What is shorter is no message: somebody heard the tone and hung up.
const SHORTEST: Duration = Duration::from_secs(1);
/// A greeting that is not over by then is not going to be: the longest there is,
/// and as long as the relay waits for it and for the peer.
const GREETING: Duration = Duration::from_secs(300 + 330);
/// RFC 4733 §3.2: ends what is under way.
pub(super) const HASH: u8 = 11;

pub(super) struct Mailbox {
    /// Whose it is.
    pub user: Arc<User>,
    pub step: MailboxStep,
    /// To be listened to, and which of them is heard.
    pub messages: Vec<StoredMessage>,
    pub at: usize,
    message: VoicemailSid,
    /// When what is recorded began.
    began_at: UnixMillis,
    /// The relay records nothing: there is no message.
    is_deaf: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MailboxStep {
    /// The caller hears the greeting.
    Greeting,
    /// And speaks.
    Message,
    /// The owner listens: the messages are looked for,
    Looking,
    /// one after the other is heard,
    Listening,
    /// and that there are none, or no more.
    Farewell,
}

impl Call {
    pub(crate) fn is_in_mailbox(&self) -> bool {
        self.mailbox.is_some()
    }

    /// All places that were rung failed, and there is no other. True when the
    /// callee's mailbox has the call.
    pub(super) fn leave_to_mailbox(&mut self, cx: &mut Context) -> bool {
        let Some(user) = self.callee_with_mailbox(cx) else { return false };
        if self.has_guests() || self.parked.is_some() || self.started.is_some() {
            return false;
        }
        let listens = self.caller.sid() == user.sid.as_u128();
        if !listens && user.mailbox.is_full(cx.config.limits.voicemails_per_user) {
            cx.counters.mailboxes_full += 1;
            let of_mailbox = self.mailed_to.as_ref().map(|(_, failure)| failure.clone());
            self.best = self.best.take().or(of_mailbox);
            if let Some(best) = &mut self.best {
                best.warning = Some((399, "The mailbox is full"));
            }
            return false;
        }
        self.phase = Phase::Answering;
        if self.caller_was_told() {
            self.other_caller_dialog(cx);
        }
        if self.caller_hears() && self.mailbox_description().is_none() {
            self.phase = Phase::Ringing;
            return false;
        }
        self.mailbox = Some(Box::new(Mailbox {
            user,
            step: if listens { MailboxStep::Looking } else { MailboxStep::Greeting },
            messages: Vec::new(),
            at: 0,
            message: VoicemailSid::new(&mut cx.entropy),
            began_at: self.now(cx),
            is_deaf: false,
        }));
        self.best = None;
        let mut ops = match self.caller_hears() {
            true => self.mailbox_ops(),
            false => Vec::new(),
        };
        ops.extend(self.remove_losers(A));
        if let Some(session) = self.session.clone() {
            let change = RelayRequest::Change(session.id, ops);
            cx.ask_relay(&session.relay, self.key, RelayStep::Answer, change);
        }
        true
    }

    /// The caller has a description of ours, of what nobody says any more.
    fn caller_was_told(&self) -> bool {
        let media = self.legs.first().and_then(|it| it.media.as_ref());
        let is_agreed = media.is_some_and(|media| media.agreed.is_some());
        is_agreed || self.has_answered_reliably()
    }

    /// Its answer to our offer came by a PRACK, after the callees were done: in another
    /// dialog it gets another one.
    pub(super) fn mailbox_pracked(&mut self, cx: &mut Context) {
        self.other_caller_dialog(cx);
        self.mailbox_joined(cx);
    }

    /// The message is for whom was called first; else for who was rung last.
    fn callee_with_mailbox(&self, cx: &Context) -> Option<Arc<User>> {
        let is_fit = |cause| {
            matches!(
                cause,
                Cause::Busy
                    | Cause::Declined
                    | Cause::NoAnswer
                    | Cause::Unreachable
                    | Cause::Failed
            )
        };
        if !self.best.as_ref().map_or(self.mailed_to.is_some(), |best| is_fit(best.cause)) {
            return None;
        }
        let stead = self.last_rung().and_then(Leg::stead).and_then(|it| it.past.first());
        let first = stead.map(|it| it.by.sid);
        let rung = self.rung_last();
        let sent_on = rung.as_ref().and_then(|(_, past)| Some(past.first()?.by.sid));
        let last = rung.as_ref().map(|(user, _)| user.sid);
        let routed = self.mailed_to.as_ref().map(|(user, _)| user.sid);
        let all = [first, sent_on, routed, last].into_iter().flatten();
        // What a mailbox holds is its owner's also when it takes no more.
        let is_own =
            |user: &User| self.mailed_to.is_some() && self.caller.sid() == user.sid.as_u128();
        let mut users = all.filter_map(|sid| cx.tenants.user_by_sid(sid));
        users.find(|user| user.has_mailbox(&self.account) || is_own(user)).cloned()
    }

    /// What the caller is told of what plays and listens here: the answer to its
    /// offer, or ours. `None` where there is no codec in common.
    fn mailbox_description(&mut self) -> Option<bytes::Bytes> {
        let caller = self.legs.get_mut(A)?;
        let offer = caller.incoming()?.offer.clone();
        let media = caller.media.as_mut()?;
        match offer {
            Some(offer) => {
                let terms = mailbox_terms(heard_here(&offer.codecs)?);
                media.answer(&offer, terms)
            }
            None => media.offer(mailbox_terms(Codec::ours())),
        }
    }

    /// What a description of the caller's is answered by.
    pub(super) fn terms_of_mailbox(&self, offered: &[Codec]) -> Option<Terms> {
        self.mailbox.as_ref()?;
        Some(mailbox_terms(heard_here(offered)?))
    }

    /// Tells the relay of the caller, alone; after every description of its.
    pub(super) fn mailbox_ops(&self) -> Vec<Op> {
        let keys = self.legs.first().map(|it| Op::TellKeys(it.relay_leg));
        self.remote_ops(A).into_iter().chain(keys).collect()
    }

    /// The relay has what it needs: the record says so before the caller knows.
    pub(super) fn mailbox_joined(&mut self, cx: &mut Context) {
        let Some(mailbox) = &self.mailbox else { return };
        let (by, reason) = (mailbox.user.sid, DivertReason::Voicemail);
        let Some(leg) = self.legs.first().map(|it| it.sid) else { return };
        let is_waiting = self.phase == Phase::Answering && self.ending.is_none();
        if !is_waiting || self.answered_at.is_some() || self.must_hold_answer() {
            return;
        }
        self.answered_at = Some(self.now(cx));
        self.journal(cx, Step::LegDiverted { leg, by, reason });
        self.journal(cx, Step::Answered { leg });
        self.await_journal(cx);
    }

    /// The record is on disk: the caller may know.
    pub(super) fn mailbox_answers(&mut self, cx: &mut Context) {
        if self.phase != Phase::Answering || self.answered_at.is_none() {
            return;
        }
        let Some(response) = self.mailbox_answer() else {
            return self.end(cx, Ending::new(Cause::NotAcceptable, 488));
        };
        cx.counters.calls_answered += 1;
        cx.counters.mailboxes_reached += 1;
        self.rise(cx, Some(response));
        cx.log(Log::CallAnswered { call: self.sid });
        let timer = CallTimer::Mailbox(MailboxStep::Greeting);
        cx.timers.set(cx.now.instant + GREETING, Timer::Call(self.key, timer));
        self.is_joined = self.caller_hears();
        if self.is_joined {
            self.begin_mailbox(cx);
        }
    }

    /// The caller can hear something.
    fn begin_mailbox(&mut self, cx: &mut Context) {
        match self.mailbox.as_ref().map(|it| it.step) {
            Some(MailboxStep::Looking) => self.look_for_messages(cx),
            _ => self.greet(cx, false),
        }
    }

    fn mailbox_answer(&mut self) -> Option<Response> {
        let mut response = self.caller_response(StatusCode::OK)?;
        if !self.has_answered_reliably() {
            response.set_body(SDP, self.mailbox_description()?);
        }
        response.headers.push(HeaderName::Allow, super::allow_header());
        let caller = self.legs.first()?;
        caller.timer.tell(&caller.incoming()?.request.headers, &mut response.headers);
        Some(response)
    }

    /// The caller has answered our offer.
    pub(super) fn mailbox_heard(&mut self, cx: &mut Context) {
        let ops = self.mailbox_ops();
        self.have_relay(cx, ops);
        if !std::mem::replace(&mut self.is_joined, true) {
            self.begin_mailbox(cx);
        }
    }

    /// A greeting and the tone, or the tone alone.
    fn greet(&mut self, cx: &mut Context, is_brief: bool) {
        let Some(mailbox) = &self.mailbox else { return };
        let Some(caller) = self.legs.first().map(|it| it.relay_leg) else { return };
        let own = mailbox.user.mailbox.greeting.or(self.account.mailbox.greeting);
        let sounds = match is_brief {
            true => vec![Sound::Beep],
            false => vec![Sound::Greeting(own), Sound::Beep],
        };
        let mut ops = vec![Op::Play(caller, Box::new(Play { sounds, repeats: false }))];
        // Whose calls are all recorded is recorded from the answer on.
        let by_policy = self.recording.filter(|_| !is_brief);
        if let Some((sid, consent)) = by_policy {
            ops.push(Op::Note(caller, Box::new(Recording { sid, consent })));
            return self.have_relay_for(cx, RelayStep::Note, ops);
        }
        self.have_relay(cx, ops);
    }

    /// The caller is not left to speak to nobody.
    pub(super) fn not_recorded(&mut self, cx: &mut Context, text: &str) {
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.is_deaf = true;
        }
        if self.ending.is_none() {
            self.end(cx, Ending::because(Cause::Failed, 503, 500, text));
        }
    }

    /// The relay has played what it was to play.
    pub(super) fn played(&mut self, cx: &mut Context, session: SessionId, leg: LegId) {
        let is_ours = self.session.as_ref().is_some_and(|it| it.id == session)
            && self.legs.first().is_some_and(|it| it.relay_leg == leg);
        if !is_ours || self.phase != Phase::Up || self.ending.is_some() {
            return;
        }
        match self.mailbox.as_ref().map(|it| it.step) {
            Some(MailboxStep::Greeting) => self.begin_message(cx),
            Some(MailboxStep::Listening) => self.message_heard(cx),
            Some(MailboxStep::Farewell) => self.end(cx, Ending::new(Cause::Voicemail, 200)),
            Some(MailboxStep::Message | MailboxStep::Looking) | None => {}
        }
    }

    /// The caller has heard the tone.
    fn begin_message(&mut self, cx: &mut Context) {
        let now = self.now(cx);
        let Some(caller) = self.legs.first().map(|it| it.relay_leg) else { return };
        let Some(mailbox) = &mut self.mailbox else { return };
        (mailbox.step, mailbox.began_at) = (MailboxStep::Message, now);
        let (message, user) = (mailbox.message, mailbox.user.sid);
        // Who speaks after the tone has agreed to it.
        let consent = Consent { by_policy: false, granted_at: now };
        let is_recorded = self.recording.is_some();
        let (recording, consent) =
            *self.recording.get_or_insert_with(|| (RecordingSid::new(&mut cx.entropy), consent));
        cx.counters.voicemails_begun += 1;
        if !is_recorded {
            let recording = Recording { sid: recording, consent };
            let ops = vec![Op::Note(caller, Box::new(recording))];
            self.have_relay_for(cx, RelayStep::Note, ops);
        }
        self.journal(cx, Step::MessageBegun { message, user, recording });
        let timer = CallTimer::Mailbox(MailboxStep::Message);
        cx.timers.set(cx.now.instant + cx.config.timers.message, Timer::Call(self.key, timer));
    }

    /// The greeting never ended, or the caller has spoken for long enough.
    pub(crate) fn mailbox_overdue(&mut self, cx: &mut Context, step: MailboxStep) {
        if self.mailbox.as_ref().is_some_and(|it| it.step == step) && self.phase == Phase::Up {
            let ending = match step {
                MailboxStep::Greeting => Ending::because(Cause::Failed, 200, 500, "No greeting"),
                MailboxStep::Message => {
                    Ending::because(Cause::Voicemail, 200, 200, "Longest message")
                }
                MailboxStep::Looking => Ending::because(Cause::Failed, 200, 500, "No mailbox"),
                MailboxStep::Listening | MailboxStep::Farewell => {
                    Ending::because(Cause::Voicemail, 200, 200, "Listened for long enough")
                }
            };
            self.end(cx, ending);
        }
    }

    /// A key of the caller's: the greeting is skipped, or the message is over.
    pub(super) fn mailbox_key(&mut self, cx: &mut Context, key: Key) {
        let Some(mailbox) = &self.mailbox else { return };
        if self.phase != Phase::Up || self.ending.is_some() {
            return;
        }
        match (mailbox.step, key.event) {
            (MailboxStep::Greeting, HASH) => self.greet(cx, true),
            (MailboxStep::Message, HASH) => {
                self.end(cx, Ending::because(Cause::Voicemail, 200, 200, "Message taken"));
            }
            (MailboxStep::Listening, event) => self.listening_key(cx, event),
            _ => {}
        }
    }

    /// An INFO that says a key, or anything else.
    pub(super) fn mailbox_info(&mut self, cx: &mut Context, key: ServerKey, request: &Request) {
        match Self::key_said(request) {
            Some(Some(said)) => {
                self.answer_here(cx, A, key, request, StatusCode::OK);
                self.mailbox_key(cx, said);
            }
            Some(None) => {
                cx.counters.keys_refused += 1;
                let dialog = self.legs.first().and_then(|it| it.dialog.as_ref());
                let Some(dialog) = dialog else { return };
                let mut response = dialog.respond(request, StatusCode::BAD_REQUEST);
                push_warning(cx, &mut response, 399, "no key can be read from the body");
                cx.respond(key, response);
            }
            None => self.answer_here(cx, A, key, request, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        }
    }

    /// The call is over. What is too short to be a message is none.
    pub(super) fn close_mailbox(&mut self, cx: &mut Context) {
        let Some(mailbox) = self.mailbox.take() else { return };
        if mailbox.step != MailboxStep::Message {
            return;
        }
        let lasted = self.now(cx).0.saturating_sub(mailbox.began_at.0);
        let is_empty = self.recorded.is_some_and(|it| it.stored_packets == 0);
        match is_empty || mailbox.is_deaf || lasted < SHORTEST.as_millis() as i64 {
            true => {
                cx.counters.voicemails_dropped += 1;
                self.journal(cx, Step::MessageDropped { message: mailbox.message });
            }
            false => cx.counters.voicemails_left += 1,
        }
    }
}

/// Whoever offers what is heard both ways.
fn mailbox_terms(codecs: Vec<Codec>) -> Terms {
    Terms {
        codecs,
        direction: landline_control::Direction::SendReceive,
        ptime: None,
        maxptime: None,
        video: None,
    }
}
