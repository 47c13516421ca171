//! What a phone does when something comes.

use std::net::SocketAddr;

use landline_sip as sip;
use landline_sip::{
    ClientKey, Dialog, HeaderName, Method, Request, Response, ServerKey, StatusCode,
};

use super::acts::SDP;
use super::line::{End, Person, State};
use super::{Act, Pending, Phone, Purpose};
use crate::cx::Cx;
use crate::tenants::NAMES;

impl Phone {
    pub(super) fn response(&mut self, cx: &mut Cx, key: ClientKey, response: &Response) {
        if response.status.is_provisional() {
            if let Some(Pending { purpose: Purpose::Invite(id), .. }) = self.pending.get(&key) {
                self.progress(cx, *id, response);
            }
            return;
        }
        let Some(pending) = self.pending.remove(&key) else {
            return self.late_answer(cx, response);
        };
        let is_challenge = matches!(response.status.code(), 401 | 407) && !pending.is_proven;
        if is_challenge && let Some(again) = self.proven(cx, &pending.request, response) {
            return self.ask(cx, again, pending.purpose, true);
        }
        match pending.purpose {
            Purpose::Register => self.register_again(cx, response.status.is_success()),
            Purpose::Invite(id) => self.invited(cx, id, &pending.request, response),
            Purpose::Modify(id) => self.modified(cx, id, &pending.request, response),
            Purpose::Bye | Purpose::Refer => {}
        }
        self.tidy();
    }

    fn progress(&mut self, cx: &mut Cx, id: u64, response: &Response) {
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state < State::Answered) else {
            return;
        };
        if response.status != StatusCode::TRYING {
            line.state = State::Ringing;
            line.rang = true;
        }
        if !response.body.is_empty() && !line.invite.body.is_empty() {
            line.media.take(cx.instant(), &response.body, true);
        }
    }

    fn invited(&mut self, cx: &mut Cx, id: u64, request: &Request, response: &Response) {
        let (at, now) = (cx.at(), cx.instant());
        let status = response.status;
        cx.remark(format_args!("phone {} line {id} gets {}", self.number, status.code()));
        if !status.is_success() {
            if let Some(line) = self.lines.get_mut(&id) {
                let end = match line.cancelled && status.code() == 487 {
                    true => End::WeCancelled,
                    false => End::Refused(status.code()),
                };
                line.over(at, end);
            }
            return;
        }
        let Ok(dialog) = Dialog::uac(request, response) else {
            return cx.fault(format!("line {id}: a 200 without a dialog"));
        };
        let Some(line) = self.lines.get_mut(&id) else { return };
        let has_offered = !request.body.is_empty();
        let fits = line.media.take(now, &response.body, has_offered);
        let mut ack = dialog.ack(request.cseq().map_or(1, |cseq| cseq.number));
        if !has_offered && fits {
            ack.set_body(SDP, line.media.answer());
        }
        if let Some(proof) = request.headers.get(&HeaderName::ProxyAuthorization) {
            ack.headers.push(HeaderName::ProxyAuthorization, proof.clone());
        }
        line.dialog = Some(dialog);
        line.up(at);
        let cancelled = line.cancelled;
        cx.model.taken += u64::from(line.takes);
        let destination = self.way();
        self.sip(cx, sip::Input::Forward { request: ack, destination });
        match cancelled || !fits {
            true => self.hang_up(cx, id),
            false => self.converse(cx, id),
        }
    }

    /// A second answer, of another fork or to what we gave up: hung up.
    fn late_answer(&mut self, cx: &mut Cx, response: &Response) {
        cx.note(format_args!("phone {} gets a late {}", self.number, response.status.code()));
    }

    fn modified(&mut self, cx: &mut Cx, id: u64, request: &Request, response: &Response) {
        let now = cx.instant();
        let Some(line) = self.lines.get_mut(&id) else { return };
        if !response.status.is_success() {
            return;
        }
        line.media.take(now, &response.body, true);
        let Some(dialog) = &line.dialog else { return };
        let ack = dialog.ack(request.cseq().map_or(1, |cseq| cseq.number));
        let destination = self.way();
        self.sip(cx, sip::Input::Forward { request: ack, destination });
    }

    pub(super) fn unanswered(&mut self, cx: &mut Cx, key: ClientKey) {
        let Some(pending) = self.pending.remove(&key) else { return };
        match pending.purpose {
            Purpose::Register => self.register_again(cx, false),
            Purpose::Invite(id) => {
                let at = cx.at();
                cx.remark(format_args!("phone {} line {id} gets no answer", self.number));
                if let Some(line) = self.lines.get_mut(&id) {
                    line.over(at, End::Unanswered);
                }
            }
            Purpose::Modify(_) | Purpose::Bye | Purpose::Refer => {}
        }
        self.tidy();
    }

    pub(super) fn request(&mut self, cx: &mut Cx, key: Option<ServerKey>, request: &Request) {
        match (key, &request.method, request.is_in_dialog()) {
            (None, ..) => self.acknowledged(cx, request),
            (Some(key), Method::Invite, false) => self.called(cx, key, request),
            (Some(key), Method::Bye, _) => self.hung_up(cx, key, request),
            (Some(key), Method::Invite | Method::Update, true) => self.changed(cx, key, request),
            (Some(key), _, is_within) => {
                // Where it is that who was parked waits.
                cx.model.parked += u64::from(request.method == Method::Message);
                let status = match is_within && self.line_of(request).is_none() {
                    true => StatusCode::CALL_DOES_NOT_EXIST,
                    false => StatusCode::OK,
                };
                let response = Response::for_request(request, status);
                self.sip(cx, sip::Input::Respond { key, response });
            }
        }
        self.tidy();
    }

    /// Somebody calls.
    fn called(&mut self, cx: &mut Cx, key: ServerKey, request: &Request) {
        let (Ok(call_id), Ok(from)) = (request.call_id(), request.from()) else { return };
        let call_id = call_id.to_str_lossy().into_owned();
        let name = from.uri.user_decoded().map(|user| user.into_owned()).unwrap_or_default();
        let id = cx.model.next_line();
        let mut media = self.new_media(cx);
        let fits = request.body.is_empty() || media.take(cx.instant(), &request.body, false);
        let peer = person_of(&name);
        let mut line = self.new_line(cx, id, call_id, peer, request, media, false);
        line.owed = Some(key);
        line.rang = true;
        cx.remark(format_args!("phone {} is called: line {id} {}", self.number, line.call_id));
        self.lines.insert(id, line);
        if !fits {
            return self.act(cx, Act::Refuse(id, 488));
        }
        if cx.is_over || self.lines.len() > 3 {
            return self.act(cx, Act::Refuse(id, 486));
        }
        let pause = cx.chance.millis(0, 1_500);
        self.later(cx, pause, Act::Ring(id));
        let then = pause + cx.chance.millis(0, 9_000);
        match cx.chance.below(10) {
            0 => self.later(cx, then, Act::Refuse(id, 486)),
            1 => {
                let status = cx.chance.pick(&[480, 603, 500, 488]);
                self.later(cx, then, Act::Refuse(id, status));
            }
            // Nobody is at home.
            2 => {}
            _ => self.later(cx, then, Act::Answer(id)),
        }
    }

    fn acknowledged(&mut self, cx: &mut Cx, request: &Request) {
        let (at, now) = (cx.at(), cx.instant());
        let Some(id) = self.line_of(request) else { return };
        let Some(line) = self.lines.get_mut(&id) else { return };
        if !request.body.is_empty() {
            line.media.take(now, &request.body, true);
        }
        line.up(at);
    }

    fn hung_up(&mut self, cx: &mut Cx, key: ServerKey, request: &Request) {
        let at = cx.at();
        let line = self.line_of(request).and_then(|id| self.lines.get_mut(&id));
        let status = match line {
            Some(line) => {
                line.over(at, End::TheyHungUp);
                cx.remark(format_args!("phone {} line {} is hung up", self.number, line.id));
                StatusCode::OK
            }
            None => StatusCode::CALL_DOES_NOT_EXIST,
        };
        let response = Response::for_request(request, status);
        self.sip(cx, sip::Input::Respond { key, response });
    }

    /// A re-INVITE or UPDATE.
    fn changed(&mut self, cx: &mut Cx, key: ServerKey, request: &Request) {
        let now = cx.instant();
        let found = self.line_of(request).and_then(|id| self.lines.get_mut(&id));
        let Some((line, mut dialog)) =
            found.and_then(|line| line.dialog.clone().map(|dialog| (line, dialog)))
        else {
            let gone = Response::for_request(request, StatusCode::CALL_DOES_NOT_EXIST);
            return self.sip(cx, sip::Input::Respond { key, response: gone });
        };
        line.modified = true;
        let accepted = dialog.accept(request).is_ok();
        let fits = request.body.is_empty() || line.media.take(now, &request.body, false);
        let response = match (accepted, fits) {
            (false, _) => dialog.respond(request, StatusCode::SERVER_INTERNAL_ERROR),
            (_, false) => dialog.respond(request, StatusCode::NOT_ACCEPTABLE_HERE),
            (true, true) => {
                let body = match request.body.is_empty() {
                    true => line.media.offer(landline_control::Direction::SendReceive),
                    false => line.media.answer(),
                };
                dialog.respond(request, StatusCode::OK).with_body(SDP, body)
            }
        };
        line.dialog = Some(dialog);
        self.sip(cx, sip::Input::Respond { key, response });
    }

    pub(super) fn cancelled(&mut self, cx: &mut Cx, key: ServerKey) {
        let at = cx.at();
        let found = self.lines.values_mut().find(|line| line.owed == Some(key) && !line.is_caller);
        let Some(line) = found.filter(|line| line.state < State::Answered) else { return };
        let response = Response::for_request(&line.invite, StatusCode::REQUEST_TERMINATED)
            .with_to_tag(&format!("b{}", line.id));
        line.over(at, End::TheyCancelled);
        self.sip(cx, sip::Input::Respond { key, response });
        self.tidy();
    }

    /// Our answer reached nobody.
    pub(super) fn not_acknowledged(&mut self, cx: &mut Cx, key: ServerKey) {
        let found = self.lines.values().find(|line| line.owed == Some(key));
        if let Some(id) = found.map(|line| line.id) {
            self.hang_up(cx, id);
        }
        self.tidy();
    }

    /// A packet at one of the phone's media ports.
    pub(super) fn hear(&mut self, cx: &mut Cx, from: SocketAddr, port: u16, octets: &[u8]) {
        let now = cx.instant();
        let person = self.person;
        let Some(line) = self.lines.values_mut().find(|line| line.media.port() == port) else {
            return;
        };
        let Some(word) = line.media.hear(now, from, octets) else { return };
        cx.trace.octets(&word.line.to_be_bytes());
        cx.model.words_heard += 1;
        line.heard.entry(word.line).or_default().push(word.number);
        // Who calls whom, both know; whom somebody else called is no part of it.
        let is_known = !cx.model.parking.contains(&person);
        let is_other = line.peer.is_some_and(|peer| peer != word.person) || word.person == person;
        if is_known && is_other {
            cx.fault(format!(
                "line {} of {}/{} hears {}/{} speak",
                line.id, person.0, person.1, word.person.0, word.person.1
            ));
        }
    }
}

fn person_of(name: &str) -> Option<Person> {
    let at = |home: usize| NAMES[home].iter().position(|it| *it == name).map(|user| (home, user));
    at(0).or_else(|| at(1))
}
