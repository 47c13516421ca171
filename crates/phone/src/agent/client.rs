//! What the agent sends by itself, and what comes back.

use std::time::{Duration, Instant};

use landline_control::Direction;
use landline_sip::{
    ClientKey, Dialog, Event, FailureCause, HeaderName, Input, Method, NameAddr, Request, Response,
    ServerKey, StatusCode, Uri, glare_wait,
};
use rand_core::RngCore;
use tokio::sync::watch;
use tokio::time::sleep;

use super::line::{Line, Side};
use super::{Agent, Command, Done, Pending, Purpose, domain_uri, token};
use crate::call::{Call, CallState};
use crate::session::Session;
use crate::{PhoneConfig, PhoneError};

const SDP: &str = "application/sdp";
/// How often a change that collides with the other side's is asked for again.
const COLLISIONS: u8 = 3;

impl Agent {
    pub(super) fn register(&mut self, keep: bool, done: Option<Done>) {
        let expires = if keep { self.config.expires.as_secs() } else { 0 };
        self.registration.1 += 1;
        let (call_id, cseq) = self.registration.clone();
        let registrar = domain_uri(None, &self.config.domain);
        let request = self
            .first_request(Method::Register, registrar, self.own_uri(), &call_id, cseq)
            .with_header(HeaderName::Expires, expires.to_string());
        self.request(request, Purpose::Register(done), false);
    }

    pub(super) async fn call(&mut self, target: &str) -> Result<Call, PhoneError> {
        let unfit = || PhoneError::Target(target.chars().take(64).collect());
        let uri = match target.contains(':') {
            true => Uri::parse(target).map_err(|_| unfit())?,
            false if target.is_empty() => return Err(unfit()),
            false => domain_uri(Some(target), &self.config.domain),
        };
        let session = self.session(true, false).await?;
        let invite = ClientKey(self.last_key + 1);
        let call_id = token(&mut self.random);
        let leg = Side::Caller { invite };
        let (mut line, call) = self.line(leg, session, target.to_owned(), call_id.clone())?;
        let offer = line.offer();
        let request = self
            .first_request(Method::Invite, uri.clone(), uri, &call_id, 1)
            .with_header(HeaderName::Supported, "replaces")
            .with_body(SDP, offer);
        self.lines.insert(call.line, line);
        self.request(request, Purpose::Invite(call.line), false);
        Ok(call)
    }

    /// A new line and the script's handle on it.
    pub(super) fn line(
        &mut self,
        leg: Side,
        session: Session,
        peer: String,
        call_id: String,
    ) -> Result<(Line, Call), PhoneError> {
        self.last_line += 1;
        let (state, watched) = watch::channel(CallState::Calling);
        let call = Call {
            line: self.last_line,
            commands: self.commands.upgrade().ok_or(PhoneError::Off)?,
            state: watched,
            ear: session.ear.clone(),
            media: session.commands.clone(),
            faults: session.faults.clone(),
            peer,
            call_id,
        };
        let PhoneConfig { media, codec, .. } = self.config;
        let line = Line {
            leg,
            session,
            dialog: None,
            state,
            answered: None,
            version: 0,
            holding: false,
            direction: Direction::SendReceive,
            mode: media,
            codec,
            ended_by_us: false,
        };
        Ok((line, call))
    }

    pub(super) fn hang_up(&mut self, number: u64, done: Done) {
        let Some(line) = self.lines.get_mut(&number) else {
            let _ = done.send(Ok(()));
            return;
        };
        line.ended_by_us = true;
        if line.is_answered() {
            let bye = line.dialog.as_mut().map(|dialog| dialog.request(Method::Bye));
            line.end(200, Vec::new());
            self.lines.remove(&number);
            match bye {
                Some(bye) => drop(self.request(bye, Purpose::Goodbye(Some(done)), false)),
                None => drop(done.send(Ok(()))),
            }
            return;
        }
        match &line.leg {
            Side::Caller { invite } => {
                let input = Input::Cancel { key: *invite, reason: None };
                self.endpoint.handle_input(Instant::now(), input);
                let _ = done.send(Ok(()));
            }
            Side::Callee { .. } => drop(done.send(self.decline(number, 603))),
        }
    }

    pub(super) fn hold(&mut self, number: u64, hold: bool, collisions: u8, done: Done) {
        let Some(line) = self.lines.get_mut(&number).filter(|line| line.is_answered()) else {
            let _ = done.send(Err(PhoneError::Ended));
            return;
        };
        line.holding = hold;
        if !hold {
            line.direction = Direction::SendReceive;
        }
        let offer = line.offer();
        let Some(dialog) = &mut line.dialog else {
            let _ = done.send(Err(PhoneError::Ended));
            return;
        };
        let request = dialog.request(Method::Invite).with_body(SDP, offer);
        self.request(request, Purpose::Modify { line: number, collisions, done }, false);
    }

    /// Both sides would change the call at once: RFC 3261 §14.1.
    fn hold_later(&mut self, number: u64, collisions: u8, done: Done) {
        let Some(line) = self.lines.get(&number) else {
            let _ = done.send(Err(PhoneError::Ended));
            return;
        };
        let owns_call_id = matches!(line.leg, Side::Caller { .. });
        let hold = line.holding;
        let wait = glare_wait(owns_call_id, self.random.next_u64());
        self.later(wait, Command::Hold { line: number, hold, collisions, done });
    }

    pub(super) async fn event(&mut self, event: Event) {
        match event {
            Event::Response { key, response } => self.response(key, response).await,
            Event::ClientFailed { key, cause } => self.failed(key, cause),
            Event::Request { key: Some(key), request, .. } => self.incoming(key, request).await,
            Event::Request { key: None, request, .. } => self.acknowledged(request).await,
            Event::Cancelled { key } => self.cancelled(key),
            Event::AckTimeout { .. }
            | Event::Acked { .. }
            | Event::FlowClosed(_)
            | Event::StrayAnswer { .. } => {}
        }
    }

    async fn response(&mut self, key: ClientKey, response: Response) {
        if response.status.is_provisional() {
            if let Some(Pending { purpose: Purpose::Invite(line), request, .. }) =
                self.pending.get(&key.0)
            {
                let (line, request) = (*line, request.clone());
                self.progress(line, &request, &response).await;
            }
            return;
        }
        let Some(pending) = self.pending.remove(&key.0) else { return };
        let challenge = matches!(response.status.code(), 401 | 407) && !pending.challenged;
        if challenge && let Some(again) = self.with_credentials(&pending.request, &response) {
            self.send_again(again, pending.purpose);
            return;
        }
        self.concluded(pending, response).await;
    }

    fn send_again(&mut self, request: Request, purpose: Purpose) {
        let cseq = request.cseq().map_or(1, |cseq| cseq.number);
        match &purpose {
            Purpose::Register(_) => self.registration.1 = cseq,
            Purpose::Invite(line) => {
                if let Some(line) = self.lines.get_mut(line) {
                    line.leg = Side::Caller { invite: ClientKey(self.last_key + 1) };
                }
            }
            Purpose::Modify { .. } | Purpose::Goodbye(_) => {}
        }
        self.request(request, purpose, true);
    }

    async fn concluded(&mut self, pending: Pending, response: Response) {
        match pending.purpose {
            Purpose::Register(done) => self.registered(done, &response),
            Purpose::Invite(line) => self.invited(line, &pending.request, &response).await,
            Purpose::Modify { line, collisions, done }
                if response.status == StatusCode::REQUEST_PENDING && collisions < COLLISIONS =>
            {
                self.hold_later(line, collisions + 1, done);
            }
            Purpose::Modify { line, done, .. } => {
                let result = self.modified(line, &pending.request, &response).await;
                let _ = done.send(result);
            }
            Purpose::Goodbye(done) => {
                if let Some(done) = done {
                    let _ = done.send(Ok(()));
                }
            }
        }
    }

    fn registered(&mut self, done: Option<Done>, response: &Response) {
        if response.status.is_success() && !self.config.expires.is_zero() {
            self.refresh_later();
        }
        if let Some(done) = done {
            let _ = done.send(success(response));
        }
    }

    /// Registers again when two thirds of the time are over.
    fn refresh_later(&self) {
        let after = self.config.expires * 2 / 3;
        self.later(after.max(Duration::from_secs(1)), Command::Refresh);
    }

    fn later(&self, wait: Duration, command: Command) {
        let commands = self.commands.clone();
        tokio::spawn(async move {
            sleep(wait).await;
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(command).await;
            }
        });
    }

    async fn progress(&mut self, number: u64, request: &Request, response: &Response) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        if response.status == StatusCode::TRYING || line.is_answered() {
            return;
        }
        if line.dialog.is_none() {
            line.dialog = Dialog::uac(request, response).ok();
        }
        let early_media =
            !response.body.is_empty() && line.take(&response.body, true).await.is_ok();
        let before = matches!(*line.state.borrow(), CallState::Ringing { early_media: true });
        line.state.send_replace(CallState::Ringing { early_media: early_media || before });
    }

    async fn invited(&mut self, number: u64, request: &Request, response: &Response) {
        if !response.status.is_success() {
            if let Some(line) = self.lines.remove(&number) {
                line.end(response.status.code(), words(response));
            }
            return;
        }
        let Ok(dialog) = Dialog::uac(request, response) else { return };
        let cseq = request.cseq().map_or(1, |cseq| cseq.number);
        self.acknowledge(&dialog, cseq);
        let Some(line) = self.lines.get_mut(&number) else {
            self.say_goodbye(dialog);
            return;
        };
        let fits = response.body.is_empty() && line.answered.is_some()
            || line.take(&response.body, true).await.is_ok();
        if !fits || line.ended_by_us {
            let status = if fits { 200 } else { 488 };
            line.end(status, vec!["the answer does not fit our offer".to_owned()]);
            self.lines.remove(&number);
            self.say_goodbye(dialog);
            return;
        }
        line.dialog = Some(dialog);
        line.state.send_replace(CallState::Answered);
    }

    async fn modified(
        &mut self,
        number: u64,
        request: &Request,
        response: &Response,
    ) -> Result<(), PhoneError> {
        success(response)?;
        let cseq = request.cseq().map_or(1, |cseq| cseq.number);
        let line = self.lines.get_mut(&number).ok_or(PhoneError::Ended)?;
        let dialog = line.dialog.clone().ok_or(PhoneError::Ended)?;
        let taken = line.take(&response.body, true).await;
        self.acknowledge(&dialog, cseq);
        taken
    }

    fn acknowledge(&mut self, dialog: &Dialog, cseq: u32) {
        let request = dialog.ack(cseq);
        let destination = landline_sip::Destination::Flow(self.server());
        self.endpoint.handle_input(Instant::now(), Input::Forward { request, destination });
    }

    fn say_goodbye(&mut self, mut dialog: Dialog) {
        let bye = dialog.request(Method::Bye);
        self.request(bye, Purpose::Goodbye(None), false);
    }

    fn failed(&mut self, key: ClientKey, cause: FailureCause) {
        let Some(pending) = self.pending.remove(&key.0) else { return };
        match pending.purpose {
            Purpose::Register(Some(done)) | Purpose::Modify { done, .. } => {
                let _ = done.send(Err(PhoneError::NoAnswer));
            }
            Purpose::Invite(line) => {
                if let Some(line) = self.lines.remove(&line) {
                    let status = if cause == FailureCause::Cancelled { 487 } else { 408 };
                    line.end(status, Vec::new());
                }
            }
            Purpose::Goodbye(Some(done)) => drop(done.send(Ok(()))),
            Purpose::Register(None) | Purpose::Goodbye(None) => {}
        }
    }

    /// Who a request says it is from.
    pub(super) fn caller(request: &Request) -> String {
        let user = |from: NameAddr| from.uri.user_decoded().map(|user| user.into_owned());
        request.from().ok().and_then(user).unwrap_or_default()
    }

    pub(super) fn respond(&mut self, key: ServerKey, response: Response) {
        self.endpoint.handle_input(Instant::now(), Input::Respond { key, response });
    }
}

fn success(response: &Response) -> Result<(), PhoneError> {
    if response.status.is_success() {
        return Ok(());
    }
    let reason = match words(response) {
        words if words.is_empty() => response.reason.to_str_lossy().into_owned(),
        words => words.join("; "),
    };
    Err(PhoneError::Refused { status: response.status.code(), reason })
}

/// What Warning and Reason headers say.
fn words(response: &Response) -> Vec<String> {
    [HeaderName::Warning, HeaderName::Reason]
        .iter()
        .flat_map(|name| response.headers.all(name))
        .map(|value| value.to_str_lossy().into_owned())
        .collect()
}
