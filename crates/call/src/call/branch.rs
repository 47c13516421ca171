//! What a branch answers to its INVITE.

use landline_control::{LegId, Op, Request as RelayRequest};
use landline_sip::digest::Challenge;
use landline_sip::{ByteStr, Dialog, FailureCause, HeaderName, Method, Response, StatusCode};

use super::leg::{Challenged, LegState};
use super::message::{bare, reasons};
use super::{Call, Failure, Leg, Phase};
use crate::context::{ClientUse, Context};
use crate::record::Cause;
use crate::relays::RelayStep;
use crate::route::{Reach, Side, Target};

impl Call {
    pub(crate) fn branch_response(&mut self, cx: &mut Context, leg: usize, response: Response) {
        let status = response.status;
        if status.is_provisional() {
            return self.branch_provisional(cx, leg, &response);
        }
        let Some(it) = self.legs.get_mut(leg) else { return };
        let ended = it.state != LegState::Early || self.winner.is_some() || self.ending.is_some();
        if let Some(branch) = it.branch() {
            branch.is_pending = false;
        }
        match (status.is_success(), ended) {
            (true, false) => self.branch_answered(cx, leg, response),
            (true, true) => self.branch_late(cx, leg, &response),
            (false, false) => self.branch_refused(cx, leg, &response),
            (false, true) => {
                if it.status == 0 {
                    it.status = status.code();
                }
            }
        }
    }

    /// A 2xx nobody wants any more (a lost race, a second phone behind a
    /// forking proxy): it made a dialog, which is ended at once
    /// (RFC 3261 §13.2.2.4).
    pub(super) fn branch_late(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let key = self.key;
        let Some(it) = self.legs.get_mut(leg) else { return };
        let Some(mut dialog) = dialog(it, response) else { return };
        // Of the very dialog that was taken, and not known again, since it was
        // damaged on its way: a BYE would end the call.
        let is_taken = self.winner == Some(leg);
        if is_taken && it.dialog.as_ref().is_some_and(|known| known.id() == dialog.id()) {
            return;
        }
        cx.counters.late_answers += 1;
        let Some((cseq, destination)) =
            it.branch().map(|branch| (branch.cseq, branch.target.destination.clone()))
        else {
            return;
        };
        let mut ack = dialog.ack(cseq);
        it.prove_like_invite(&mut ack);
        cx.send_ack(ack, destination.clone());
        let mut bye = dialog.request(Method::Bye);
        it.prove(cx, &mut bye);
        bye.headers.push(HeaderName::Reason, super::reason(200, "Call completed elsewhere"));
        cx.send(ClientUse::Bye { call: key, leg }, bye, destination);
    }

    fn branch_refused(&mut self, cx: &mut Context, leg: usize, response: &Response) {
        let status = response.status;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                if self.prove_branch(cx, leg, response) => {}
            StatusCode::SESSION_INTERVAL_TOO_SMALL if self.ask_longer(cx, leg, response) => {}
            StatusCode::NOT_ACCEPTABLE_HERE
            | StatusCode::NOT_ACCEPTABLE_ANYWHERE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
                if self.offer_otherwise(cx, leg) => {}
            StatusCode::FLOW_FAILED if self.flow_failed(cx, leg) => {}
            StatusCode::REQUEST_TIMEOUT if self.another_flow(cx, leg) => {}
            redirection if redirection.class() == 3 && self.redirected(cx, leg, response) => {}
            _ => {
                let mut reasons = reasons(&response.headers);
                let is_away = self.legs.get(leg).is_some_and(|it| it.side.is_region());
                let (upstream, cause) = match is_away {
                    true => upstream_of_region(status, &reasons),
                    false => upstream(status),
                };
                // Its other proxies would say the same.
                if is_away && status != StatusCode::SERVICE_UNAVAILABLE {
                    self.not_away();
                }
                self.branch_failed_with(cx, leg, status.code());
                if reasons.is_empty() && upstream != status.code() {
                    let text = status.reason();
                    reasons.push(ByteStr::from(super::reason(status.code(), text)));
                }
                self.consider(upstream, cause, reasons);
                let stead = self.legs.get(leg).and_then(Leg::stead);
                if status.class() == 6 && stead.is_none_or(|stead| stead.list.is_none()) {
                    self.nowhere_else(cx);
                }
                self.group_failed(cx);
            }
        }
    }

    /// The request never got a final response.
    pub(crate) fn branch_lost(&mut self, cx: &mut Context, leg: usize, cause: FailureCause) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        if let Some(branch) = it.branch() {
            branch.is_pending = false;
        }
        if it.state != LegState::Early || self.winner.is_some() || self.ending.is_some() {
            return;
        }
        if cause != FailureCause::Cancelled && self.another_flow(cx, leg) {
            return;
        }
        self.branch_failed_with(cx, leg, 0);
        let status = match cause {
            FailureCause::Timeout => 408,
            _ => 503,
        };
        let is_away = self.legs.get(leg).is_some_and(|it| it.side.is_region());
        let (upstream, why) = match is_away {
            true => (503, super::reason(status, "Region unreachable")),
            false => {
                let text = StatusCode::new(status).map_or("", StatusCode::reason);
                (480, super::reason(status, text))
            }
        };
        self.consider(upstream, Cause::Unreachable, vec![ByteStr::from(why)]);
        self.group_failed(cx);
    }

    pub(super) fn branch_failed_with(&mut self, cx: &mut Context, leg: usize, status: u16) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        it.state = LegState::Ended;
        it.status = status;
        it.dialog = None;
        if self.early == Some(leg) {
            self.early = None;
        }
        self.release_media(cx, leg);
    }

    pub(super) fn release_media(&mut self, cx: &mut Context, leg: usize) {
        let Some(it) = self.legs.get_mut(leg) else { return };
        if std::mem::take(&mut it.is_allocated) {
            let relay_leg = it.relay_leg;
            self.give_back(cx, relay_leg);
        }
    }

    /// A leg of the relay's that is of no more use; its statistics come at the
    /// close.
    pub(super) fn give_back(&mut self, cx: &mut Context, relay_leg: LegId) {
        let Some(session) = self.session.clone().filter(|it| !it.lost) else { return };
        let change = RelayRequest::Change(session.id, vec![Op::Remove(relay_leg)]);
        cx.ask_relay(&session.relay, self.key, RelayStep::Release, change);
    }

    /// To the other account's home region it goes no more.
    pub(super) fn not_away(&mut self) {
        self.groups.retain(|group| group.iter().all(|target| !target.side.is_region()));
    }

    /// One answer stands for all: a 2xx, or a 6xx, which speaks for the callee
    /// wherever it is (RFC 3261 §16.7 step 5).
    pub(super) fn nowhere_else(&mut self, cx: &mut Context) {
        self.ring_no_more(cx, Some(super::reason(200, "Call completed elsewhere")));
    }

    /// Answers a trunk's challenge, once, and once more when it calls the
    /// answer stale. True when the INVITE went out again.
    fn prove_branch(&mut self, cx: &mut Context, leg: usize, response: &Response) -> bool {
        let Some(it) = self.legs.get_mut(leg) else { return false };
        let Some(asked) = challenged(response) else { return false };
        let stale = asked.challenges.iter().any(|challenge| challenge.stale);
        let has_credentials = match &it.side {
            crate::route::Side::Trunk(trunk) => trunk.credentials.is_some(),
            crate::route::Side::User(_) | crate::route::Side::Region(_) => false,
        };
        let first = it.challenged.is_none();
        let Some(branch) = it.branch() else { return false };
        if !has_credentials || !(first || stale) || branch.retries > 3 {
            return false;
        }
        branch.retries += 1;
        it.challenged = Some(asked);
        self.ring(cx, leg);
        true
    }

    /// An edge says that the device's flow there is gone (RFC 5626 §5.3): nobody
    /// tries it again until the device registers.
    fn flow_failed(&mut self, cx: &mut Context, leg: usize) -> bool {
        let Some(it) = self.legs.get_mut(leg) else { return false };
        let user = match &it.side {
            Side::User(user) => user.sid,
            Side::Trunk(_) | Side::Region(_) => return false,
        };
        let Some(branch) = it.branch() else { return false };
        cx.registrar.flow_failed(user, &branch.target.routes);
        self.another_flow(cx, leg)
    }

    /// The same device by another of its flows (RFC 5626 §6). True when the
    /// INVITE went out again.
    fn another_flow(&mut self, cx: &mut Context, leg: usize) -> bool {
        let Some(it) = self.legs.get_mut(leg) else { return false };
        let Some(branch) = it.branch() else { return false };
        // What has rung by one flow is not rung by another.
        if branch.has_rung || branch.target.others.is_empty() {
            return false;
        }
        let next = branch.target.others.remove(0);
        let others = std::mem::take(&mut branch.target.others);
        let stead = branch.target.stead.take();
        branch.target = Target { others, stead, ..next };
        // As a proxy would send it on: a phone that has the first one after all
        // knows it again by its CSeq (RFC 3261 §8.2.2.2).
        branch.cseq = branch.cseq.saturating_sub(1);
        it.reach = it.branch_ref().map_or(Reach::Uri, |branch| branch.target.reach.clone());
        cx.counters.flows_replaced += 1;
        self.record_edge(cx, leg);
        self.ring(cx, leg);
        true
    }

    /// Asks for the session interval that the callee wants (RFC 4028 §7.3).
    /// True when the INVITE went out again.
    fn ask_longer(&mut self, cx: &mut Context, leg: usize, response: &Response) -> bool {
        let policy = cx.config.session_policy();
        let Some(it) = self.legs.get_mut(leg) else { return false };
        let is_longer = it.timer.lengthen(policy, &response.headers);
        let Some(branch) = it.branch().filter(|it| is_longer && it.retries <= 3) else {
            return false;
        };
        branch.retries += 1;
        self.ring(cx, leg);
        true
    }

    /// Offers the next kind of media that the callee's policy allows. True
    /// when there is one.
    fn offer_otherwise(&mut self, cx: &mut Context, leg: usize) -> bool {
        let Some(session) = self.session.clone() else { return false };
        let fresh = self.relay_leg();
        let Some(it) = self.legs.get_mut(leg) else { return false };
        let Some(branch) = it.branch().filter(|branch| !branch.profiles.is_empty()) else {
            return false;
        };
        let profile = branch.profiles.remove(0);
        let former = std::mem::replace(&mut it.relay_leg, fresh);
        let Some(media) = it.media.as_mut() else { return false };
        media.replace(profile);
        let ops = vec![Op::Remove(former), Op::Add(fresh, media.spec.clone())];
        let change = RelayRequest::Change(session.id, ops);
        cx.ask_relay(&session.relay, self.key, RelayStep::Retry { leg }, change);
        true
    }

    /// Keeps the better of two failures (RFC 3261 §16.7 step 6): a 6xx before
    /// all, else the lowest class, and within it what says more.
    pub(super) fn consider(&mut self, status: u16, cause: Cause, reasons: Vec<ByteStr>) {
        let rank = |status: u16| match status {
            600.. => 0,
            486 => 1,
            // Nobody there says less than anybody's own words.
            480 | 408 => 3,
            400..500 => 2,
            _ => 4,
        };
        if self.best.as_ref().is_none_or(|best| rank(status) < rank(best.status)) {
            self.best = Some(Failure { status, cause, reasons, warning: None });
        }
    }

    pub(super) fn is_ringing(&self) -> bool {
        self.phase == Phase::Ringing && self.ending.is_none()
    }
}

pub(super) fn challenged(response: &Response) -> Option<Challenged> {
    let (from, header) = match response.status {
        StatusCode::UNAUTHORIZED => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization)
        }
        _ => return None,
    };
    let values = response.headers.all(&from).take(8);
    let challenges: Vec<_> = values.filter_map(|value| Challenge::parse(value).ok()).collect();
    (!challenges.is_empty()).then_some(Challenged { challenges, header, count: 0 })
}

/// The dialog of a 2xx to a branch's INVITE.
pub(super) fn dialog(leg: &mut Leg, response: &Response) -> Option<Dialog> {
    let branch = leg.branch()?;
    let request = branch.request.clone()?;
    if let Ok(mut dialog) = Dialog::uac(&request, response) {
        if let Some(early) = branch.early.of(&dialog.id()) {
            dialog.go_on_from(early);
        }
        return Some(dialog);
    }
    // Without a Contact of its own it can only be where we sent to.
    let mut patched = response.clone();
    patched.headers.set(HeaderName::Contact, format!("<{}>", request.uri));
    Dialog::uac(&request, &patched).ok()
}

/// What a branch's final status comes to for the caller, and for the record.
/// Challenges, redirections and quarrels over transactions are between the
/// branch and us.
fn upstream(status: StatusCode) -> (u16, Cause) {
    match status.code() {
        486 => (486, Cause::Busy),
        600 => (600, Cause::Busy),
        603 => (603, Cause::Declined),
        403 => (403, Cause::Declined),
        607 | 608 => (603, Cause::Declined),
        404 | 410 | 484 | 485 | 604 => (status.code(), Cause::NotFound),
        488 | 606 => (488, Cause::NotAcceptable),
        415 => (488, Cause::NotAcceptable),
        408 => (480, Cause::NoAnswer),
        480 | 487 => (480, Cause::Unreachable),
        430 => (480, Cause::Unreachable),
        300..=399 => (480, Cause::Unreachable),
        401 | 407 => (403, Cause::Forbidden),
        400..=499 => (480, Cause::Failed),
        503 => (503, Cause::Failed),
        500..600 => (500, Cause::Failed),
        _ => (603, Cause::Declined),
    }
}

/// What the home region of the called account says for it.
fn upstream_of_region(status: StatusCode, reasons: &[ByteStr]) -> (u16, Cause) {
    let rang = |reason: &ByteStr| bare(&reason.to_str_lossy()).ends_with(";cause=408");
    match status {
        StatusCode::FORBIDDEN => (403, Cause::Forbidden),
        // The directory that led us there is older than a move.
        StatusCode::GONE => (480, Cause::Unreachable),
        StatusCode::TEMPORARILY_UNAVAILABLE if reasons.iter().any(rang) => (480, Cause::NoAnswer),
        other => upstream(other),
    }
}
