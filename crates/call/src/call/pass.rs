//! Requests inside a call that only pass through (INFO, RFC 6086; MESSAGE,
//! RFC 3428), and those that are answered here.

use landline_sip::{
    FailureCause, HeaderName, Method, Request, Response, ServerKey, StatusCode, Transport,
};

use super::{Call, Leg, Phase};
use crate::context::{ClientUse, Context};
use crate::pager::{copy_content, fits_not};

/// One request under way to the other side.
pub(super) struct Pass {
    key: ServerKey,
    request: Request,
    from: usize,
    client: landline_sip::ClientKey,
}

/// As many as a hasty dialler presses keys.
const MAX_PASSES: usize = 16;

/// What of an INFO is for the other side.
const PASSED: [&str; 2] = ["Info-Package", "Content-Disposition"];

impl Call {
    pub(crate) fn pass(&mut self, cx: &mut Context, leg: usize, key: ServerKey, request: Request) {
        if self.is_in_mailbox() && self.phase == Phase::Up {
            return self.mailbox_info(cx, key, &request);
        }
        if self.press(cx, leg, key, &request) {
            return;
        }
        let passed = match self.phase {
            Phase::Up if self.passes.len() < MAX_PASSES => self.pass_on(cx, leg, &request),
            Phase::Up => Err(StatusCode::SERVICE_UNAVAILABLE),
            _ => Err(StatusCode::TEMPORARILY_UNAVAILABLE),
        };
        match passed {
            Ok(client) => self.passes.push(Pass { key, request, from: leg, client }),
            Err(status) => self.answer_here(cx, leg, key, &request, status),
        }
    }

    fn pass_on(
        &mut self,
        cx: &mut Context,
        leg: usize,
        request: &Request,
    ) -> Result<landline_sip::ClientKey, StatusCode> {
        let broken = StatusCode::SERVER_INTERNAL_ERROR;
        let toward = self.other(leg).ok_or(broken)?;
        let key = self.key;
        let it = self.legs.get_mut(toward).ok_or(broken)?;
        let dialog = it.dialog.as_mut().ok_or(broken)?;
        let mut passed = dialog.request(request.method.clone());
        match request.method {
            Method::Message => copy_content(request, &mut passed),
            _ => copy_info(request, &mut passed),
        }
        it.prove(cx, &mut passed);
        let destination = it.destination(cx).ok_or(broken)?;
        if request.method == Method::Message {
            let named = it.dialog.as_ref().and_then(|it| it.remote_target().transport());
            let peer = match it.side.is_region() {
                true => Transport::Tls,
                false => named.unwrap_or(Transport::Udp),
            };
            if fits_not(&passed, &destination, peer) {
                return Err(StatusCode::REQUEST_ENTITY_TOO_LARGE);
            }
            cx.counters.messages += 1;
        }
        Ok(cx.send(ClientUse::Pass { call: key, leg: toward }, passed, destination))
    }

    pub(crate) fn pass_response(
        &mut self,
        cx: &mut Context,
        client: landline_sip::ClientKey,
        said: &Response,
    ) {
        if said.status.is_provisional() {
            return;
        }
        let status = match said.status.code() {
            // Between the other side and us.
            401 | 407 | 481 => StatusCode::SERVER_INTERNAL_ERROR,
            _ => said.status,
        };
        let Some(at) = self.passes.iter().position(|it| it.client == client) else {
            return self.key_answered();
        };
        let pass = self.passes.swap_remove(at);
        self.answer_here(cx, pass.from, pass.key, &pass.request, status);
    }

    pub(crate) fn pass_lost(
        &mut self,
        cx: &mut Context,
        client: landline_sip::ClientKey,
        cause: FailureCause,
    ) {
        let status = match cause {
            FailureCause::Timeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::SERVER_INTERNAL_ERROR,
        };
        self.pass_response(cx, client, &Response::new(status));
    }

    /// Answers a request of a dialog by ourselves.
    pub(crate) fn answer_here(
        &self,
        cx: &mut Context,
        leg: usize,
        key: ServerKey,
        request: &Request,
        status: StatusCode,
    ) {
        let Some(dialog) = self.legs.get(leg).and_then(|it: &Leg| it.dialog.as_ref()) else {
            return cx.reply(key, request, status);
        };
        let mut response = dialog.respond(request, status);
        if request.method == Method::Options {
            response.headers.push(HeaderName::Allow, super::allow_header());
            response.headers.push(HeaderName::Accept, super::accept_header());
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers.push(HeaderName::Allow, super::allow_header());
        }
        cx.respond(key, response);
    }

    /// The call ends: nobody is going to answer these.
    pub(super) fn drop_passes(&mut self, cx: &mut Context) {
        for pass in std::mem::take(&mut self.passes) {
            let status = StatusCode::CALL_DOES_NOT_EXIST;
            self.answer_here(cx, pass.from, pass.key, &pass.request, status);
        }
    }
}

fn copy_info(request: &Request, passed: &mut Request) {
    let kind = std::iter::once(HeaderName::ContentType);
    for name in PASSED.map(HeaderName::parse).into_iter().chain(kind) {
        if let Some(value) = request.headers.get(&name) {
            passed.headers.push(name, value.clone());
        }
    }
    passed.body = request.body.clone();
}
