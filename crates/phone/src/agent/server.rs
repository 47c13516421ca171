//! What others ask of the phone.

use landline_sip::{Dialog, HeaderName, Method, Request, Response, ServerKey, StatusCode};
use tokio::time::sleep;

use super::line::Side;
use super::{Agent, Command, token};
use crate::call::CallState;
use crate::{OnCall, PhoneError};

const SDP: &str = "application/sdp";

impl Agent {
    pub(super) async fn incoming(&mut self, key: ServerKey, request: Request) {
        match (&request.method, request.is_in_dialog()) {
            (Method::Invite, false) => self.called(key, request).await,
            (Method::Invite | Method::Update, true) => self.changed(key, &request).await,
            (Method::Bye, true) => self.ended(key, &request),
            (Method::Options | Method::Info, _) => {
                self.respond(key, Response::for_request(&request, StatusCode::OK));
            }
            _ => {
                let refused = Response::for_request(&request, StatusCode::METHOD_NOT_ALLOWED)
                    .with_header(
                        HeaderName::Allow,
                        "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE",
                    );
                self.respond(key, refused);
            }
        }
    }

    async fn called(&mut self, key: ServerKey, request: Request) {
        if let OnCall::Reject(status) = self.config.on_call {
            let status = StatusCode::new(status).unwrap_or(StatusCode::BUSY_HERE);
            let tag = token(&mut self.random);
            self.respond(key, Response::for_request(&request, status).with_to_tag(&tag));
            return;
        }
        if let Err(error) = self.take_call(key, &request).await {
            let tag = token(&mut self.random);
            let refused = Response::for_request(&request, StatusCode::NOT_ACCEPTABLE_HERE)
                .with_to_tag(&tag)
                .with_header(HeaderName::Warning, format!("399 phone \"{error}\""));
            self.respond(key, refused);
        }
    }

    async fn take_call(&mut self, key: ServerKey, request: &Request) -> Result<(), PhoneError> {
        let offered = !request.body.is_empty();
        let peer_is_lite = memmem(&request.body, b"a=ice-lite");
        let session = self.session(!offered, peer_is_lite).await?;
        let call_id =
            request.call_id().map(|id| id.to_str_lossy().into_owned()).unwrap_or_default();
        let leg = Side::Callee { invite: Some((key, Box::new(request.clone()))), offered };
        let (mut line, call) = self.line(leg, session, Self::caller(request), call_id)?;
        if offered {
            line.take(&request.body, false).await?;
        }
        let tag = token(&mut self.random);
        let dialog = Dialog::uas(request, &tag, self.contact())
            .map_err(|error| PhoneError::Media(error.to_string()))?;
        let ringing = dialog.respond(request, StatusCode::RINGING);
        line.dialog = Some(dialog);
        line.state.send_replace(CallState::Ringing { early_media: false });
        let number = call.line;
        self.lines.insert(number, line);
        self.respond(key, ringing);
        if let OnCall::Answer { after } = self.config.on_call {
            let commands = self.commands.clone();
            tokio::spawn(async move {
                sleep(after).await;
                if let Some(commands) = commands.upgrade() {
                    let _ = commands.send(Command::Answer { line: number, done: None }).await;
                }
            });
        }
        // A script that never picks its calls up loses sight of the oldest.
        let _ = self.incoming.try_send(call);
        Ok(())
    }

    pub(super) fn answer(&mut self, number: u64) -> Result<(), PhoneError> {
        let line = self.lines.get_mut(&number).ok_or(PhoneError::Ended)?;
        let Side::Callee { invite, offered } = &mut line.leg else {
            return Err(PhoneError::Ended);
        };
        let (key, request) = invite.take().ok_or(PhoneError::Ended)?;
        let body = if *offered { line.answer() } else { line.offer() };
        let dialog = line.dialog.as_mut().ok_or(PhoneError::Ended)?;
        dialog.confirm();
        let ok = dialog.respond(&request, StatusCode::OK).with_body(SDP, body);
        line.state.send_replace(CallState::Answered);
        self.respond(key, ok);
        Ok(())
    }

    pub(super) fn decline(&mut self, number: u64, status: u16) -> Result<(), PhoneError> {
        let code = StatusCode::new(status).filter(|code| code.class() > 2);
        let code = code.unwrap_or(StatusCode::BUSY_HERE);
        let mut line = self.lines.remove(&number).ok_or(PhoneError::Ended)?;
        line.ended_by_us = true;
        line.end(code.code(), Vec::new());
        if let (Side::Callee { invite: Some((key, request)), .. }, Some(dialog)) =
            (&line.leg, &line.dialog)
        {
            let refused = dialog.respond(request, code);
            self.respond(*key, refused);
        }
        Ok(())
    }

    /// A re-INVITE or UPDATE.
    async fn changed(&mut self, key: ServerKey, request: &Request) {
        let Some(number) = self.line_of(request) else {
            self.respond(key, no_such_call(request));
            return;
        };
        let Some(line) = self.lines.get_mut(&number) else { return };
        let Some(dialog) = &mut line.dialog else { return };
        if let Err(error) = dialog.accept(request) {
            let refused = dialog.respond(request, error.status());
            self.respond(key, refused);
            return;
        }
        if let Ok(contacts) = request.contacts() {
            dialog.refresh_target(contacts);
        }
        let dialog = dialog.clone();
        let mut response = dialog.respond(request, StatusCode::OK);
        if request.body.is_empty() {
            if request.method == Method::Invite {
                response.set_body(SDP, line.offer());
            }
        } else if line.take(&request.body, false).await.is_ok() {
            let answer = line.answer();
            response.set_body(SDP, answer);
        } else {
            response = dialog.respond(request, StatusCode::NOT_ACCEPTABLE_HERE);
        }
        self.respond(key, response);
    }

    fn ended(&mut self, key: ServerKey, request: &Request) {
        match self.line_of(request).and_then(|number| self.lines.remove(&number)) {
            Some(line) => {
                let words = request
                    .headers
                    .all(&HeaderName::Reason)
                    .map(|value| value.to_str_lossy().into_owned())
                    .collect();
                line.end(200, words);
                self.respond(key, Response::for_request(request, StatusCode::OK));
            }
            None => self.respond(key, no_such_call(request)),
        }
    }

    /// The ACK of a 2xx: it may hold the answer to our offer.
    pub(super) async fn acknowledged(&mut self, request: Request) {
        if request.body.is_empty() {
            return;
        }
        if let Some(line) = self.line_of(&request).and_then(|number| self.lines.get_mut(&number)) {
            // An answer that does not fit leaves the line silent; the far end
            // hangs up then.
            let _ = line.take(&request.body, true).await;
        }
    }

    pub(super) fn cancelled(&mut self, key: ServerKey) {
        let found = self.lines.iter().find_map(|(number, line)| match &line.leg {
            Side::Callee { invite: Some((invite, _)), .. } if *invite == key => Some(*number),
            _ => None,
        });
        let Some(line) = found.and_then(|number| self.lines.remove(&number)) else { return };
        line.end(487, Vec::new());
        if let (Side::Callee { invite: Some((key, request)), .. }, Some(dialog)) =
            (&line.leg, &line.dialog)
        {
            let terminated = dialog.respond(request, StatusCode::REQUEST_TERMINATED);
            self.respond(*key, terminated);
        }
    }

    fn line_of(&self, request: &Request) -> Option<u64> {
        let id = landline_sip::DialogId::of_request(request).ok()?;
        self.lines.iter().find_map(|(number, line)| {
            line.dialog.as_ref().is_some_and(|dialog| dialog.id() == id).then_some(*number)
        })
    }
}

fn no_such_call(request: &Request) -> Response {
    Response::for_request(request, StatusCode::CALL_DOES_NOT_EXIST)
}

fn memmem(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
