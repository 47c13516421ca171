//! Many phones doing anything at any moment over a network that loses: whatever
//! happens, nothing is left over and every record closes once.

mod world;

use landline_call::tenancy::{EncryptionPolicy, MediaPolicy};
use landline_call::{Input, StartCall, Tenants};
use landline_control::{Event, FromRelay, LegId, MediaFault, RelayId};
use landline_region::{AccountSid, CallSid, Personal, UserSid};
use landline_sip::{
    ClientKey, Dialog, Method, Request, Response, ServerKey, StatusCode, Transport,
};
use world::phone::{Leg, sdp};
use world::{World, tenants};

/// What the phones have at hand, for chance to choose from.
#[derive(Default)]
struct Board {
    dialling: Vec<(usize, ClientKey, Request)>,
    ringing: Vec<(usize, ServerKey, Request)>,
    legs: Vec<Leg>,
}

struct Chaos {
    world: World,
    board: Board,
    names: Vec<&'static str>,
}

impl Chaos {
    /// With an edge, every second phone is behind another region's proxy.
    fn new(seed: u8, loss: u64, edge: bool) -> Self {
        let mut world = World::ie1(seed);
        if edge {
            world.add_proxy("us1", 2, world::tenants::globex(), |_| {});
            world.share_directory();
        }
        // Media of bob's and carol's phones is open: some offers are refused
        // and others made.
        let optional = EncryptionPolicy::Optional;
        let tenancy = tenants::with_account(tenants::acme(), |it| it.encryption = optional);
        let tenancy = tenants::with_user(tenancy, "bob", |it| it.media = MediaPolicy::Auto);
        let tenancy = tenants::with_user(tenancy, "carol", |it| it.media = MediaPolicy::Auto);
        world.input(0, Input::Tenancy(Tenants::new(&tenancy).into()));
        let names = vec!["alice", "bob", "carol", "alice", "bob", "carol"];
        for name in &names {
            let number = world.phones.len() as u8 + 1;
            let proxy = usize::from(edge && number.is_multiple_of(2));
            let phone = world.phone_at(name, "acme.test", number, proxy, Transport::Udp);
            let mut request = world.register_request(phone, "7200");
            request.headers.set(landline_sip::HeaderName::CallId, format!("r{number}"));
            assert_eq!(world.ask(phone, request).status.code(), 200);
        }
        world.loss = loss;
        Self { world, board: Board::default(), names }
    }

    fn chance(&mut self, of: usize) -> usize {
        (self.world.entropy.u64() % of.max(1) as u64) as usize
    }

    fn step(&mut self) {
        self.collect();
        match self.chance(13) {
            0 | 1 => self.dial(),
            2 | 3 => self.ring(),
            4 | 5 => self.answer(),
            6 => self.refuse(),
            7 => self.cancel(),
            8 => self.hang_up(),
            9 => self.change(),
            10 => self.mischief(),
            11 => self.start(),
            _ => {}
        }
        let pause = self.chance(2500) as u64;
        self.world.run(std::time::Duration::from_millis(pause));
    }

    /// Takes what came in off the phones' hands.
    fn collect(&mut self) {
        for phone in 0..self.world.phones.len() {
            while let Some((key, request)) = self.world.phones[phone].take(Method::Invite) {
                match request.is_in_dialog() {
                    false => self.board.ringing.push((phone, key, request)),
                    true => self.answer_change(phone, key, &request),
                }
            }
            for (key, response) in std::mem::take(&mut self.world.phones[phone].responses) {
                self.heard(phone, key, &response);
            }
            self.world.phones[phone].requests.clear();
        }
    }

    fn heard(&mut self, phone: usize, key: ClientKey, response: &Response) {
        let at = self.board.dialling.iter().position(|it| it.0 == phone && it.1 == key);
        let Some(at) = at.filter(|_| response.status.is_final()) else { return };
        let (_, _, invite) = self.board.dialling.swap_remove(at);
        match response.status.code() {
            407 => {
                let proven = self.world.phones[phone].proven(&invite, response, 1);
                let key = self.world.send_request(phone, proven.clone());
                self.board.dialling.push((phone, key, proven));
            }
            200 => {
                let leg = Leg { phone, dialog: Dialog::uac(&invite, response).unwrap(), invite };
                let cseq = leg.invite.cseq().unwrap().number;
                // Where the caller made no offer the answer belongs here.
                let asked = leg.invite.body.is_empty();
                let ip = self.world.phones[phone].address.ip().to_string();
                let answer = asked.then(|| sdp(&ip, 4000, ""));
                if self.chance(10) > 0 {
                    self.world.ack(&leg, cseq, answer.as_deref());
                }
                self.board.legs.push(leg);
            }
            _ => {}
        }
    }

    fn dial(&mut self) {
        let phone = self.chance(self.names.len());
        let callee = self.chance(5);
        let to = ["alice", "bob", "carol", "zoe", "+353100000001"][callee];
        let body = sdp(&self.world.phones[phone].address.ip().to_string(), 4000, "");
        let body = (self.chance(4) > 0).then_some(body.as_str());
        let request = self.world.invite_request(phone, &format!("sip:{to}@acme.test"), body);
        let key = self.world.send_request(phone, request.clone());
        self.board.dialling.push((phone, key, request));
    }

    /// A call that no phone begins.
    fn start(&mut self) {
        let to = ["alice", "bob", "carol", "zoe", "+353100000001"][self.chance(5)];
        let call = StartCall {
            sid: CallSid::from_u128(self.world.entropy.u64().into()),
            account: AccountSid::from_u128(1),
            from: UserSid::from_u128(1 + self.chance(3) as u128),
            to: Personal::new(to.to_owned()),
        };
        self.world.input(0, Input::StartCall(call));
    }

    fn ring(&mut self) {
        let at = self.chance(self.board.ringing.len());
        let Some((phone, key, invite)) = self.board.ringing.get(at).cloned() else { return };
        if self.chance(3) > 0 {
            return self.world.say(phone, &(key, invite), 180);
        }
        let contact = self.world.phones[phone].contact();
        let ip = self.world.phones[phone].address.ip().to_string();
        let early = Response::for_request(&invite, StatusCode::SESSION_PROGRESS)
            .with_to_tag(&format!("tag-{phone}"))
            .with_header(landline_sip::HeaderName::Contact, &contact)
            .with_body("application/sdp", sdp(&ip, 4000, ""));
        self.world.respond(phone, key, early);
    }

    fn answer(&mut self) {
        let at = self.chance(self.board.ringing.len());
        if at >= self.board.ringing.len() {
            return;
        }
        let (phone, key, invite) = self.board.ringing.swap_remove(at);
        let body = sdp(&self.world.phones[phone].address.ip().to_string(), 4000, "");
        let leg = self.world.answer(phone, &(key, invite), &body);
        self.board.legs.push(leg);
    }

    fn refuse(&mut self) {
        let at = self.chance(self.board.ringing.len());
        if at >= self.board.ringing.len() {
            return;
        }
        let (phone, key, invite) = self.board.ringing.swap_remove(at);
        let status = [486, 480, 603, 500, 488, 302][self.chance(6)];
        self.world.say(phone, &(key, invite), status);
    }

    fn cancel(&mut self) {
        let at = self.chance(self.board.dialling.len());
        if let Some((phone, key, _)) = self.board.dialling.get(at) {
            let (phone, key) = (*phone, *key);
            self.world.cancel(phone, key);
        }
    }

    fn hang_up(&mut self) {
        let at = self.chance(self.board.legs.len());
        if at >= self.board.legs.len() {
            return;
        }
        let mut leg = self.board.legs.swap_remove(at);
        let bye = leg.dialog.request(Method::Bye);
        self.world.send_request(leg.phone, bye);
    }

    fn change(&mut self) {
        let at = self.chance(self.board.legs.len());
        let direction = ["sendrecv", "sendonly", "inactive"][self.chance(3)];
        let method = [Method::Invite, Method::Update, Method::Info][self.chance(3)].clone();
        let Some(leg) = self.board.legs.get_mut(at) else { return };
        let mut request = leg.dialog.request(method);
        let ip = self.world.phones[leg.phone].address.ip().to_string();
        request.set_body("application/sdp", sdp(&ip, 4000, &format!("a={direction}\r\n")));
        let phone = leg.phone;
        self.world.send_request(phone, request);
    }

    fn answer_change(&mut self, phone: usize, key: ServerKey, request: &Request) {
        let statuses = [200, 200, 200, 488, 491, 481];
        let status = StatusCode::new(statuses[self.chance(statuses.len())]).unwrap();
        let contact = self.world.phones[phone].contact();
        let mut response = Response::for_request(request, status);
        if status.is_success() {
            let ip = self.world.phones[phone].address.ip().to_string();
            response.headers.push(landline_sip::HeaderName::Contact, &contact);
            response.set_body("application/sdp", sdp(&ip, 4000, ""));
        }
        self.world.respond(phone, key, response);
    }

    fn mischief(&mut self) {
        let relay = RelayId("relay-1".into());
        match self.chance(9) {
            0 if self.world.proxies[0].relay.sessions() > 0 => {
                let session = self.world.proxies[0].relay.session_id();
                let event = Event::Fault(LegId(0), MediaFault::MediaTimeout);
                let message = FromRelay::Event(session, event);
                self.world.input(0, Input::Relay { relay, message });
            }
            1 => {
                let live = self.world.proxies[0].core.live().next();
                if let Some(live) = live {
                    self.world.input(0, Input::HangUp(live.sid));
                }
            }
            2 if self.chance(4) == 0 => {
                self.world.proxies[0].relay = world::relay::FakeRelay::new(1);
                self.world.input(0, Input::RelayLost { relay });
                self.world.connect_relay(0);
            }
            3 => self.world.proxies[0].relay.full ^= true,
            4 => self.world.proxies[0].relay.silent = self.chance(3) == 0,
            5 => self.world.proxies[0].journal_stuck = self.chance(3) == 0,
            _ => {}
        }
    }
}

fn run(seed: u8, loss: u64, edge: bool) {
    let mut chaos = Chaos::new(seed, loss, edge);
    for _ in 0..400 {
        chaos.step();
    }
    chaos.world.loss = 0;
    let proxy = &mut chaos.world.proxies[0];
    (proxy.relay.silent, proxy.journal_stuck) = (false, false);
    // Phones put down what is left, as people do.
    chaos.collect();
    for (phone, key, _) in std::mem::take(&mut chaos.board.dialling) {
        chaos.world.cancel(phone, key);
    }
    chaos.world.wait(3);
    chaos.collect();
    for mut leg in std::mem::take(&mut chaos.board.legs) {
        let bye = leg.dialog.request(Method::Bye);
        chaos.world.send_request(leg.phone, bye);
    }
    chaos.world.wait(200);
    let counters = chaos.world.proxies[0].core.counters().clone();
    assert!(counters.calls_opened > 20, "seed {seed}: hardly anything happened");
    chaos.world.assert_at_rest();
}

#[test]
fn nothing_is_left_over_on_a_clean_network() {
    for seed in 0..12 {
        run(seed, 0, false);
    }
}

#[test]
fn nothing_is_left_over_when_messages_get_lost() {
    for seed in 100..112 {
        run(seed, 150, false);
    }
}

#[test]
fn nothing_is_left_over_when_calls_cross_regions() {
    for seed in 200..206 {
        run(seed, 0, true);
        run(seed, 100, true);
    }
}
