//! What a phone does of its own accord.

use std::time::Duration;

use landline_control::Direction;
use landline_sip as sip;
use landline_sip::{Dialog, HeaderName, Method, Request, Response, StatusCode};

use super::line::{End, Line, Media, Person, State, Word};
use super::{Act, Phone, Purpose};
use crate::cx::{Cx, Node, phone_address, proxy_address};
use crate::tenants::{DOMAINS, NAMES};

pub const SDP: &str = "application/sdp";
/// Between two packets of a line. Phones send fifty a second; five show who
/// hears whom as well.
const SPEECH: Duration = Duration::from_millis(200);
const EXPIRES: u64 = 120;

impl Phone {
    pub fn act(&mut self, cx: &mut Cx, act: Act) {
        if self.endpoint.is_none() {
            return;
        }
        match act {
            Act::Register => self.register(cx),
            Act::KeepAlive => {
                let (own, proxy) = (phone_address(self.number), proxy_address(self.proxy));
                cx.datagram(Node::Phone(self.number), own, proxy, b"\r\n\r\n");
                self.later(cx, Duration::from_secs(25), Act::KeepAlive);
            }
            Act::Dial => self.dial(cx),
            Act::Ring(line) => self.ring(cx, line),
            Act::Answer(line) => self.answer(cx, line),
            Act::Refuse(line, status) => self.refuse(cx, line, status),
            Act::Cancel(line) => self.cancel(cx, line),
            Act::HangUp(line) => self.hang_up(cx, line),
            Act::Hold(line, hold) => self.hold(cx, line, hold),
            Act::Park(line) => self.park(cx, line),
            Act::Speak(line) => self.speak(cx, line),
        }
        self.tidy();
    }

    fn register(&mut self, cx: &mut Cx) {
        let domain = DOMAINS[self.person.0];
        let (uri, to) = (format!("sip:{domain}"), format!("<sip:{}@{domain}>", self.user()));
        let call_id = format!("r-{}-{}", self.number, self.lives);
        let request = self
            .outside(Method::Register, &uri, &to, &call_id)
            .with_header(HeaderName::Expires, EXPIRES.to_string());
        self.ask(cx, request, Purpose::Register, false);
    }

    pub(super) fn register_again(&mut self, cx: &mut Cx, ok: bool) {
        self.is_registered = ok;
        let pause = match ok {
            true => cx.chance.millis(50_000, 80_000),
            false => cx.chance.millis(1_000, 10_000),
        };
        self.later(cx, pause, Act::Register);
    }

    /// Calls anybody, also who does not exist.
    fn dial(&mut self, cx: &mut Cx) {
        if cx.is_over {
            return;
        }
        let pause = cx.chance.millis(3_000, 45_000);
        self.later(cx, pause, Act::Dial);
        if self.lines.len() >= 2 {
            return;
        }
        let home = match cx.chance.one_in(3) {
            true => 1 - self.person.0,
            false => self.person.0,
        };
        let callee: Person = (home, cx.chance.below(cx.plan.phones));
        if callee == self.person {
            return;
        }
        let stranger = cx.chance.one_in(14);
        let name = if stranger { "zoe" } else { NAMES[callee.0][callee.1] };
        if cx.plan.parks && home == self.person.0 && cx.chance.one_in(2) {
            return self.take_parked(cx);
        }
        let away = cx.model.roams.contains(&(callee.0 * cx.plan.phones + callee.1));
        if home != self.person.0 || away || cx.model.roams.contains(&self.number) {
            cx.model.let_cross(self.person);
            cx.model.let_cross(callee);
        }
        let uri = format!("sip:{name}@{}", DOMAINS[home]);
        let id = cx.model.next_line();
        let call_id = format!("c-{}-{id}", self.number);
        let mut request = self.outside(Method::Invite, &uri, &format!("<{uri}>"), &call_id);
        let mut media = self.new_media(cx);
        if !cx.chance.one_in(8) {
            request.set_body(SDP, media.offer(Direction::SendReceive));
        }
        cx.remark(format_args!("phone {} dials {}/{}: {call_id}", self.number, callee.0, callee.1));
        let peer = (!stranger).then_some(callee);
        let line = self.new_line(cx, id, call_id, peer, &request, media, true);
        self.lines.insert(id, line);
        self.ask(cx, request, Purpose::Invite(id), false);
        if cx.chance.one_in(6) {
            let pause = cx.chance.millis(20, 15_000);
            self.later(cx, pause, Act::Cancel(id));
        }
    }

    /// Whoever waits there, if anybody does.
    fn take_parked(&mut self, cx: &mut Cx) {
        let slot = cx.chance.pick(&["*71", "*72"]);
        let uri = format!("sip:{slot}@{}", DOMAINS[self.person.0]);
        let id = cx.model.next_line();
        let call_id = format!("p-{}-{id}", self.number);
        let mut request = self.outside(Method::Invite, &uri, &format!("<{uri}>"), &call_id);
        let mut media = self.new_media(cx);
        request.set_body(SDP, media.offer(Direction::SendReceive));
        cx.remark(format_args!("phone {} takes who waits at {slot}: {call_id}", self.number));
        // Those who may hear each other from here on nobody knows.
        cx.model.parking.insert(self.person);
        let mut line = self.new_line(cx, id, call_id, None, &request, media, true);
        line.takes = true;
        self.lines.insert(id, line);
        self.ask(cx, request, Purpose::Invite(id), false);
    }

    fn park(&mut self, cx: &mut Cx, id: u64) {
        let to = format!("<sip:*7@{}>", DOMAINS[self.person.0]);
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state == State::Up) else {
            return;
        };
        let (Some(dialog), Some(peer)) = (&mut line.dialog, line.peer) else { return };
        line.modified = true;
        cx.model.parking.extend([line.person, peer]);
        let refer = dialog.request(Method::Refer).with_header(HeaderName::ReferTo, to);
        cx.remark(format_args!("phone {} parks who is at line {id}", self.number));
        self.ask(cx, refer, Purpose::Refer, false);
    }

    pub(super) fn new_media(&mut self, cx: &mut Cx) -> Media {
        self.next_port = if self.next_port > 60_000 { 4000 } else { self.next_port + 2 };
        let mut rtp = phone_address(self.number);
        rtp.set_port(self.next_port);
        Media::new(self.media, rtp, cx.chance.seed(), cx.instant())
    }

    #[expect(clippy::too_many_arguments, reason = "what a line is made of")]
    pub(super) fn new_line(
        &self,
        cx: &Cx,
        id: u64,
        call_id: String,
        peer: Option<Person>,
        invite: &Request,
        media: Media,
        is_caller: bool,
    ) -> Line {
        Line {
            id,
            person: self.person,
            is_caller,
            call_id,
            peer,
            began: cx.at(),
            state: State::Calling,
            invite: invite.clone(),
            asked: None,
            owed: None,
            dialog: None,
            media,
            rang: false,
            up_at: None,
            over_at: None,
            end: None,
            modified: false,
            said: Vec::new(),
            heard: Default::default(),
            takes: false,
            cancelled: false,
        }
    }

    fn ring(&mut self, cx: &mut Cx, id: u64) {
        let contact = self.contact();
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state < State::Answered) else {
            return;
        };
        let Some(key) = line.owed else { return };
        line.state = State::Ringing;
        let response = Response::for_request(&line.invite, StatusCode::RINGING)
            .with_to_tag(&format!("b{id}"))
            .with_header(HeaderName::Contact, contact);
        self.sip(cx, sip::Input::Respond { key, response });
    }

    fn answer(&mut self, cx: &mut Cx, id: u64) {
        let contact = self.contact();
        let at = cx.at();
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state < State::Answered) else {
            return;
        };
        let Some(key) = line.owed.take() else { return };
        let tag = format!("b{id}");
        let Ok(mut dialog) = Dialog::uas(&line.invite, &tag, contact) else { return };
        dialog.confirm();
        let body = match line.invite.body.is_empty() {
            true => line.media.offer(Direction::SendReceive),
            false => line.media.answer(),
        };
        let response = dialog
            .respond(&line.invite, StatusCode::OK)
            .with_header(HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, UPDATE, INFO")
            .with_body(SDP, body);
        line.state = State::Answered;
        line.owed = Some(key);
        line.dialog = Some(dialog);
        cx.remark(format_args!("phone {} answers line {id} at {at:?}", self.number));
        self.sip(cx, sip::Input::Respond { key, response });
        self.converse(cx, id);
    }

    /// What is done during a call, and when it is over.
    pub(super) fn converse(&mut self, cx: &mut Cx, id: u64) {
        self.later(cx, SPEECH, Act::Speak(id));
        let length = cx.chance.millis(2_000, 70_000);
        self.later(cx, length, Act::HangUp(id));
        if cx.plan.parks && cx.chance.one_in(3) {
            let pause = cx.chance.millis(500, 9_000);
            self.later(cx, pause, Act::Park(id));
        }
        if cx.chance.one_in(5) {
            let pause = cx.chance.millis(500, 20_000);
            self.later(cx, pause, Act::Hold(id, true));
            let pause = pause + cx.chance.millis(100, 9_000);
            self.later(cx, pause, Act::Hold(id, false));
        }
    }

    fn refuse(&mut self, cx: &mut Cx, id: u64, status: u16) {
        let at = cx.at();
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state < State::Answered) else {
            return;
        };
        let Some(key) = line.owed else { return };
        let code = StatusCode::new(status).expect("a status");
        let response = Response::for_request(&line.invite, code).with_to_tag(&format!("b{id}"));
        line.over(at, End::WeRefused(status));
        self.sip(cx, sip::Input::Respond { key, response });
    }

    fn cancel(&mut self, cx: &mut Cx, id: u64) {
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state < State::Answered) else {
            return;
        };
        let Some(key) = line.asked.filter(|_| line.is_caller && !line.cancelled) else { return };
        line.cancelled = true;
        cx.remark(format_args!("phone {} cancels line {id}", self.number));
        self.sip(cx, sip::Input::Cancel { key, reason: None });
    }

    pub fn hang_up(&mut self, cx: &mut Cx, id: u64) {
        let at = cx.at();
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.is_live()) else { return };
        if line.state < State::Answered {
            return match line.is_caller {
                true => self.cancel(cx, id),
                false => self.refuse(cx, id, 480),
            };
        }
        let Some(dialog) = &mut line.dialog else { return };
        let bye = dialog.request(Method::Bye);
        line.over(at, End::WeHungUp);
        cx.remark(format_args!("phone {} hangs up line {id}", self.number));
        self.ask(cx, bye, Purpose::Bye, false);
    }

    fn hold(&mut self, cx: &mut Cx, id: u64, hold: bool) {
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state == State::Up) else {
            return;
        };
        let Some(dialog) = &mut line.dialog else { return };
        let direction = if hold { Direction::SendOnly } else { Direction::SendReceive };
        line.modified = true;
        let offer = line.media.offer(direction);
        let request = dialog.request(Method::Invite).with_body(SDP, offer);
        self.ask(cx, request, Purpose::Modify(id), false);
    }

    fn speak(&mut self, cx: &mut Cx, id: u64) {
        let (at, now) = (cx.at(), cx.instant());
        let person = self.person;
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.is_live()) else { return };
        let number = line.said.len() as u32;
        if let Some((to, packet)) = line.media.speak(now, Word { line: id, person, number }) {
            line.said.push((number, at));
            let from = line.media.local();
            cx.datagram(Node::Phone(self.number), from, to, packet.as_slice());
        }
        self.later(cx, SPEECH, Act::Speak(id));
    }
}
