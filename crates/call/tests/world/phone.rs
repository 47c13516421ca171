//! A phone: an endpoint of its own, an inbox of what it heard, and the few
//! things every phone does.

use std::net::SocketAddr;
use std::time::Duration;

use landline_sip as sip;
use landline_sip::digest::{self, Challenge};
use landline_sip::{
    ClientKey, Destination, Dialog, Endpoint, EndpointConfig, Event, Flow, FlowId, HeaderName,
    Listener, Method, NameAddr, Request, Response, ServerKey, StatusCode, Transport, Uri,
};

use super::World;
use super::tenants::PASSWORD;

pub struct Phone {
    pub user: String,
    pub domain: String,
    pub password: String,
    pub address: SocketAddr,
    pub transport: Transport,
    pub proxy: SocketAddr,
    pub endpoint: Endpoint,
    pub requests: Vec<(Option<ServerKey>, Flow, Request)>,
    pub responses: Vec<(ClientKey, Response)>,
    pub others: Vec<String>,
    next_key: u64,
    cseq: u32,
}

/// One call as a phone has it.
#[derive(Clone)]
pub struct Leg {
    pub phone: usize,
    pub dialog: Dialog,
    pub invite: Request,
}

/// Where the leg's phone is, of the first two.
pub fn ip(leg: &Leg) -> &'static str {
    if leg.phone == 0 { "10.1.0.1" } else { "10.1.0.2" }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Of our own session description.
pub fn version(body: &str) -> u64 {
    let origin = body.lines().find(|it| it.starts_with("o=- ")).expect("our o= line");
    origin.split(' ').nth(2).unwrap().parse().unwrap()
}

pub fn sdp(ip: &str, port: u16, more: &str) -> String {
    format!(
        "v=0\r\no=phone 1 1 IN IP4 {ip}\r\ns=secret subject\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n{more}"
    )
}

impl Phone {
    pub fn key(&mut self) -> ClientKey {
        self.next_key += 1;
        ClientKey(self.next_key)
    }

    /// BYEs and OPTIONS inside a call are answered as every phone does, the
    /// rest is for the test.
    pub fn hear(&mut self, event: Event) -> Vec<sip::Input> {
        match event {
            Event::Request { key, flow, request } => {
                let mut answer = Vec::new();
                if let (Some(key), Method::Bye) = (key, &request.method) {
                    let response = Response::for_request(&request, StatusCode::OK);
                    answer.push(sip::Input::Respond { key, response });
                }
                self.requests.push((key, flow, request));
                answer
            }
            Event::Response { key, response } => {
                self.responses.push((key, response));
                Vec::new()
            }
            Event::Cancelled { key } => {
                let at = self.requests.iter().position(|it| it.0 == Some(key));
                self.others.push("cancelled".into());
                let Some(at) = at else { return Vec::new() };
                let (_, _, invite) = self.requests.remove(at);
                let response = Response::for_request(&invite, StatusCode::REQUEST_TERMINATED)
                    .with_to_tag("cancelled");
                vec![sip::Input::Respond { key, response }]
            }
            other => {
                self.others.push(format!("{other:?}"));
                Vec::new()
            }
        }
    }

    /// The oldest request of this method, taken out of the inbox.
    pub fn take(&mut self, method: Method) -> Option<(ServerKey, Request)> {
        let at = self.requests.iter().position(|it| it.2.method == method && it.0.is_some())?;
        let (key, _, request) = self.requests.remove(at);
        Some((key?, request))
    }

    pub fn has_invite(&self) -> bool {
        self.requests.iter().any(|it| it.2.method == Method::Invite)
    }

    pub fn take_ack(&mut self) -> Option<Request> {
        let at = self.requests.iter().position(|it| it.2.method == Method::Ack)?;
        Some(self.requests.remove(at).2)
    }

    pub fn statuses(&self) -> Vec<u16> {
        self.responses.iter().map(|it| it.1.status.code()).collect()
    }

    pub fn take_final(&mut self) -> Option<Response> {
        let at = self.responses.iter().position(|it| it.1.status.is_final())?;
        Some(self.responses.remove(at).1)
    }

    pub fn contact(&self) -> NameAddr {
        let uri = format!("sip:{}@{}", self.user, self.address);
        let uri = Uri::parse(&uri).unwrap();
        NameAddr::new(match self.transport {
            Transport::Udp => uri,
            other => uri.with_param("transport", Some(other.uri_param())),
        })
    }

    /// A request of this user outside any dialog, without credentials.
    pub fn request(&mut self, method: Method, uri: &str) -> Request {
        self.cseq += 1;
        let aor = format!("<sip:{}@{}>", self.user, self.domain);
        let call_id = match method {
            Method::Register => format!("reg-{}", self.address),
            _ => format!("{}-{}", self.cseq, self.address),
        };
        let to = match method {
            Method::Register => aor.clone(),
            _ => format!("<{uri}>"),
        };
        Request::new(method.clone(), Uri::parse(uri).unwrap())
            .with_header(HeaderName::MaxForwards, "70")
            .with_header(
                HeaderName::From,
                format!("\"{0} S\" {aor};tag=t{1}", self.user, self.cseq),
            )
            .with_header(HeaderName::To, to)
            .with_header(HeaderName::CallId, call_id)
            .with_header(HeaderName::CSeq, format!("{} {method}", self.cseq))
            .with_header(HeaderName::Contact, self.contact())
            .with_header(HeaderName::UserAgent, "Phone/secret-version")
            .with_header(HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, UPDATE, INFO")
    }

    /// The request again, with the answer to a challenge.
    pub fn proven(&mut self, request: &Request, challenge: &Response, nc: u32) -> Request {
        let (from, to) = match challenge.status {
            StatusCode::UNAUTHORIZED => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            _ => (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        };
        let challenges: Vec<_> =
            challenge.headers.all(&from).map(|it| Challenge::parse(it).unwrap()).collect();
        let mut request = request.clone();
        let credentials = digest::answer(
            &challenges,
            &request.method,
            &request.uri.to_string(),
            &self.user,
            &self.password,
            nc,
            "0a4f113b",
        );
        self.cseq = self.cseq.max(request.cseq().unwrap().number) + 1;
        request.headers.set(HeaderName::CSeq, format!("{} {}", self.cseq, request.method));
        request.headers.set(to, credentials.unwrap().to_string());
        request
    }
}

impl World {
    /// A phone at 10.1.0.N behind the first proxy, over UDP.
    pub fn phone(&mut self, user: &str, number: u8) -> usize {
        self.phone_at(user, "acme.test", number, 0, Transport::Udp)
    }

    pub fn phone_at(
        &mut self,
        user: &str,
        domain: &str,
        number: u8,
        proxy: usize,
        transport: Transport,
    ) -> usize {
        let address = SocketAddr::from(([10, 1, 0, number], 5060));
        self.station(user, domain, address, proxy, transport)
    }

    pub fn station(
        &mut self,
        user: &str,
        domain: &str,
        address: SocketAddr,
        proxy: usize,
        transport: Transport,
    ) -> usize {
        let config = EndpointConfig {
            listeners: vec![Listener {
                transport,
                local: address,
                advertised: (address.ip().to_string(), address.port()),
            }],
            ..EndpointConfig::default()
        };
        let endpoint = Endpoint::new(config, self.entropy.seed(), self.now().instant);
        let listeners = &self.proxies[proxy].listeners;
        let proxy = listeners.iter().find(|it| it.0 == transport).unwrap().1;
        self.phones.push(Phone {
            user: user.to_owned(),
            domain: domain.to_owned(),
            password: PASSWORD.to_owned(),
            address,
            transport,
            proxy,
            endpoint,
            requests: Vec::new(),
            responses: Vec::new(),
            others: Vec::new(),
            next_key: 0,
            cseq: 0,
        });
        self.phones.len() - 1
    }

    /// The way from a phone to its proxy.
    pub fn way(&mut self, phone: usize) -> Destination {
        let Phone { address, proxy, transport, .. } = self.phones[phone];
        if transport == Transport::Udp {
            return Destination::Address { transport, addr: proxy, server_name: None };
        }
        let id = FlowId(self.flow_id(address, proxy));
        Destination::Flow(Flow { id, transport, local: address, remote: proxy, peer: None })
    }

    pub fn send_request(&mut self, phone: usize, request: Request) -> ClientKey {
        let destination = self.way(phone);
        let key = self.phones[phone].key();
        self.phone_input(phone, sip::Input::Request { key, request, destination });
        key
    }

    /// Sends, answers the challenge, and waits for the final response.
    pub fn ask(&mut self, phone: usize, request: Request) -> Response {
        self.phones[phone].responses.clear();
        self.send_request(phone, request.clone());
        self.settle();
        let response = self.final_response(phone);
        if !matches!(response.status.code(), 401 | 407) {
            return response;
        }
        let proven = self.phones[phone].proven(&request, &response, 1);
        self.send_request(phone, proven);
        self.settle();
        self.final_response(phone)
    }

    fn final_response(&mut self, phone: usize) -> Response {
        let taken = self.phones[phone].take_final();
        taken.unwrap_or_else(|| panic!("{} got no answer", self.phones[phone].user))
    }

    pub fn register_request(&mut self, phone: usize, expires: &str) -> Request {
        let uri = format!("sip:{}", self.phones[phone].domain);
        self.phones[phone].request(Method::Register, &uri).with_header(HeaderName::Expires, expires)
    }

    pub fn register(&mut self, phone: usize) {
        let request = self.register_request(phone, "3600");
        let response = self.ask(phone, request);
        assert_eq!(response.status, StatusCode::OK, "registration");
    }

    /// Several registered phones, one for each name.
    pub fn registered<const N: usize>(&mut self, names: [&str; N]) -> [usize; N] {
        names.map(|name| {
            let number = self.phones.len() as u8 + 1;
            let phone = self.phone(name, number);
            self.register(phone);
            phone
        })
    }

    pub fn invite_request(&mut self, phone: usize, to: &str, body: Option<&str>) -> Request {
        let request = self.phones[phone].request(Method::Invite, to);
        match body {
            Some(body) => request.with_body("application/sdp", body.to_owned()),
            None => request,
        }
    }

    /// Sends an INVITE with its credentials; what comes of it is in the inbox.
    pub fn invite(&mut self, phone: usize, to: &str, body: Option<&str>) -> (ClientKey, Request) {
        let request = self.invite_request(phone, to, body);
        self.invite_by(phone, request)
    }

    /// The same with an INVITE that says more.
    pub fn invite_by(&mut self, phone: usize, request: Request) -> (ClientKey, Request) {
        self.phones[phone].responses.clear();
        self.send_request(phone, request.clone());
        self.settle();
        let challenge = self.final_response(phone);
        assert_eq!(challenge.status.code(), 407);
        let proven = self.phones[phone].proven(&request, &challenge, 1);
        let key = self.send_request(phone, proven.clone());
        self.settle();
        (key, proven)
    }

    pub fn dial(&mut self, phone: usize, to: &str) -> (ClientKey, Request) {
        let ip = self.phones[phone].address.ip().to_string();
        self.invite(phone, to, Some(&sdp(&ip, 4000, "")))
    }

    pub fn respond(&mut self, phone: usize, key: ServerKey, response: Response) {
        self.phone_input(phone, sip::Input::Respond { key, response });
        self.settle();
    }

    /// An INVITE a phone got is answered with a provisional or refusing status.
    pub fn say(&mut self, phone: usize, invite: &(ServerKey, Request), status: u16) {
        let tag = format!("tag-{phone}");
        let status = StatusCode::new(status).unwrap();
        let mut response = Response::for_request(&invite.1, status).with_to_tag(&tag);
        if status.is_provisional() {
            response.headers.push(HeaderName::Contact, self.phones[phone].contact());
        }
        self.respond(phone, invite.0, response);
    }

    /// 200 with a description; the phone's dialog of it.
    pub fn answer(&mut self, phone: usize, invite: &(ServerKey, Request), body: &str) -> Leg {
        self.answer_saying(phone, invite, body, &[])
    }

    /// With further header fields.
    pub fn answer_saying(
        &mut self,
        phone: usize,
        invite: &(ServerKey, Request),
        body: &str,
        more: &[(HeaderName, &str)],
    ) -> Leg {
        let contact = self.phones[phone].contact();
        let mut dialog = Dialog::uas(&invite.1, &format!("tag-{phone}"), contact).unwrap();
        dialog.confirm();
        let mut response = dialog
            .respond(&invite.1, StatusCode::OK)
            .with_header(HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, UPDATE, INFO");
        for (name, value) in more {
            response.headers.set(name.clone(), *value);
        }
        if !body.is_empty() {
            response.set_body("application/sdp", body.to_owned());
        }
        self.respond(phone, invite.0, response);
        Leg { phone, dialog, invite: invite.1.clone() }
    }

    pub fn pick_up(&mut self, phone: usize) -> Leg {
        let invite = self.phones[phone].take(Method::Invite).expect("an INVITE");
        let ip = self.phones[phone].address.ip().to_string();
        self.answer(phone, &invite, &sdp(&ip, 4000, ""))
    }

    /// The caller takes its 200 and acknowledges it.
    pub fn confirm(&mut self, phone: usize, invite: &Request, body: Option<&str>) -> Leg {
        let response = self.final_response(phone);
        assert_eq!(response.status, StatusCode::OK);
        let dialog = Dialog::uac(invite, &response).unwrap();
        let leg = Leg { phone, dialog, invite: invite.clone() };
        self.ack(&leg, invite.cseq().unwrap().number, body);
        leg
    }

    pub fn ack(&mut self, leg: &Leg, cseq: u32, body: Option<&str>) {
        let mut ack = leg.dialog.ack(cseq);
        if let Some(body) = body {
            ack.set_body("application/sdp", body.to_owned());
        }
        let destination = self.way(leg.phone);
        let input = sip::Input::Forward { request: ack, destination };
        self.phone_input(leg.phone, input);
        self.settle();
    }

    /// A call that is up: the caller's and the callee's leg.
    pub fn call(&mut self, caller: usize, callee: usize, to: &str) -> (Leg, Leg) {
        let (_, invite) = self.dial(caller, to);
        let b = self.pick_up(callee);
        let a = self.confirm(caller, &invite, None);
        assert!(self.phones[callee].take_ack().is_some(), "the callee's ACK");
        (a, b)
    }

    /// A request within a call.
    pub fn within(&mut self, leg: &mut Leg, method: Method, body: Option<&str>) -> ClientKey {
        let mut request = leg.dialog.request(method);
        request.headers.push(HeaderName::UserAgent, "Phone/secret-version");
        if let Some(body) = body {
            request.set_body("application/sdp", body.to_owned());
        }
        self.phones[leg.phone].responses.clear();
        let key = self.send_request(leg.phone, request);
        self.settle();
        key
    }

    pub fn hang_up(&mut self, leg: &mut Leg) {
        self.within(leg, Method::Bye, None);
        let response = self.final_response(leg.phone);
        assert_eq!(response.status, StatusCode::OK);
    }

    /// What the phone at this leg answers to a request within the call.
    pub fn answer_within(
        &mut self,
        leg: &Leg,
        method: Method,
        status: u16,
        body: Option<&str>,
    ) -> Request {
        let taken = self.phones[leg.phone].take(method.clone());
        let (key, request) = taken.unwrap_or_else(|| panic!("no {method} arrived"));
        let status = StatusCode::new(status).unwrap();
        let mut response = leg.dialog.respond(&request, status);
        if let Some(body) = body {
            response.set_body("application/sdp", body.to_owned());
        }
        self.respond(leg.phone, key, response);
        request
    }

    /// What it answers without a description, saying more; the request.
    pub fn reply_within(
        &mut self,
        leg: &Leg,
        method: Method,
        status: u16,
        more: &[(HeaderName, &str)],
    ) -> Request {
        let taken = self.phones[leg.phone].take(method.clone());
        let (key, request) = taken.unwrap_or_else(|| panic!("no {method} arrived"));
        let mut response = leg.dialog.respond(&request, StatusCode::new(status).unwrap());
        for (name, value) in more {
            response.headers.push(name.clone(), *value);
        }
        self.respond(leg.phone, key, response);
        request
    }

    pub fn cancel(&mut self, phone: usize, key: ClientKey) {
        self.phone_input(phone, sip::Input::Cancel { key, reason: None });
        self.settle();
    }

    pub fn wait(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }
}
