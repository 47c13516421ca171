//! Requests inside a call that only pass through (INFO, RFC 6086), and those
//! that are answered here.

use landline_sip::{FailureCause, HeaderName, Method, Request, Response, ServerKey, StatusCode};

use super::{Call, Leg, Phase};
use crate::context::{ClientUse, Context};

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
    pub(crate) fn info(&mut self, cx: &mut Context, leg: usize, key: ServerKey, request: Request) {
        let refused = match self.phase {
            Phase::Up if self.passes.len() < MAX_PASSES => None,
            Phase::Up => Some(StatusCode::SERVICE_UNAVAILABLE),
            _ => Some(StatusCode::TEMPORARILY_UNAVAILABLE),
        };
        let client = match refused {
            None => self.pass_on(cx, leg, &request),
            Some(_) => None,
        };
        match client {
            Some(client) => self.passes.push(Pass { key, request, from: leg, client }),
            None => {
                let status = refused.unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
                self.answer_here(cx, leg, key, &request, status);
            }
        }
    }

    fn pass_on(
        &mut self,
        cx: &mut Context,
        leg: usize,
        request: &Request,
    ) -> Option<landline_sip::ClientKey> {
        let toward = self.other(leg)?;
        let key = self.key;
        let it = self.legs.get_mut(toward)?;
        let mut passed = it.dialog.as_mut()?.request(Method::Info);
        for name in PASSED.map(HeaderName::parse) {
            if let Some(value) = request.headers.get(&name) {
                passed.headers.push(name, value.clone());
            }
        }
        if let Some(kind) = request.headers.get(&HeaderName::ContentType) {
            passed.headers.push(HeaderName::ContentType, kind.clone());
        }
        passed.body = request.body.clone();
        it.prove(cx, &mut passed);
        let destination = it.destination(cx)?;
        Some(cx.send(ClientUse::Pass { call: key, leg: toward }, passed, destination))
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
        let Some(at) = self.passes.iter().position(|it| it.client == client) else { return };
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
