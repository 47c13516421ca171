//! Who watches whom (RFC 6665): dialog-info for lamps (RFC 4235), waiting
//! messages (RFC 3842) and presence (RFC 3863).

mod world;

use std::sync::Arc;

use landline_call::tenancy::{CallsFrom, Tenancy};
use landline_call::{Input, Tenants};
use landline_sip::{Dialog, HeaderName, Method, Request, Response, StatusCode, Transport};
use world::phone::text;
use world::{World, tenants};

const IE1: usize = 0;
const US1: usize = 1;

/// A subscription as its phone has it.
struct Watch {
    phone: usize,
    dialog: Dialog,
    package: &'static str,
}

fn asking(world: &mut World, phone: usize, of: &str, package: &str, expires: &str) -> Request {
    world.phones[phone]
        .request(Method::Subscribe, of)
        .with_header(HeaderName::Event, package)
        .with_header(HeaderName::Expires, expires)
}

/// What the registrar's side says to it, proven.
fn ask(world: &mut World, phone: usize, of: &str, package: &str, expires: &str) -> Response {
    let request = asking(world, phone, of, package, expires);
    world.ask(phone, request)
}

/// An accepted one, and the first notification's state and text.
fn watch(
    world: &mut World,
    phone: usize,
    of: &str,
    package: &'static str,
) -> (Watch, String, String) {
    world.phones[phone].responses.clear();
    let request = asking(world, phone, of, package, "600");
    world.send_request(phone, request.clone());
    world.settle();
    let challenge = world.phones[phone].take_final().unwrap();
    let proven = world.phones[phone].proven(&request, &challenge, 1);
    world.send_request(phone, proven.clone());
    world.settle();
    let response = world.phones[phone].take_final().unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.headers.get(&HeaderName::Expires).unwrap().to_str_lossy(), "600");
    let dialog = Dialog::uac(&proven, &response).unwrap();
    let watch = Watch { phone, dialog, package };
    let (state, body) = told(world, &watch);
    (watch, state, body)
}

/// The next notification, accepted.
fn told(world: &mut World, watch: &Watch) -> (String, String) {
    answer(world, watch, 200, &[])
}

fn answer(
    world: &mut World,
    watch: &Watch,
    status: u16,
    more: &[(HeaderName, &str)],
) -> (String, String) {
    let taken = world.phones[watch.phone].take(Method::Notify);
    let (key, notify) = taken.expect("a notification");
    assert_eq!(notify.headers.get(&HeaderName::Event).unwrap().to_str_lossy(), watch.package);
    let state = notify.headers.get(&HeaderName::SubscriptionState).unwrap();
    let state = state.to_str_lossy().into_owned();
    let mut response = Response::for_request(&notify, StatusCode::new(status).unwrap());
    for (name, value) in more {
        response.headers.push(name.clone(), *value);
    }
    world.respond(watch.phone, key, response);
    (state, text(&notify.body))
}

fn hears_nothing(world: &mut World, phone: usize) {
    assert!(world.phones[phone].take(Method::Notify).is_none(), "a notification");
}

fn refresh(world: &mut World, watch: &mut Watch, expires: &str) -> Response {
    let request = watch.dialog.request(Method::Subscribe);
    let request = request
        .with_header(HeaderName::Event, watch.package)
        .with_header(HeaderName::Expires, expires);
    world.phones[watch.phone].responses.clear();
    world.send_request(watch.phone, request);
    world.settle();
    world.phones[watch.phone].take_final().expect("an answer")
}

/// The states of the dialogs in a document.
fn states(body: &str) -> Vec<&str> {
    let parts = body.split("<state>").skip(1);
    parts.filter_map(|part| part.split("</state>").next()).collect()
}

fn attribute<'a>(body: &'a str, name: &str) -> &'a str {
    let body = body.split_once("?>").map_or(body, |(_, it)| it);
    let start = body.find(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name} in {body}"));
    body[start + name.len() + 3..].split('"').next().unwrap()
}

fn watches(world: &World) -> usize {
    world.proxies[IE1].core.subscriptions()
}

#[test]
fn a_lamp_follows_the_calls_of_a_colleague() {
    let mut world = World::ie1(1);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let (lamp, state, body) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    assert_eq!(state, "active;expires=600");
    assert_eq!((attribute(&body, "state"), attribute(&body, "version")), ("full", "0"));
    assert_eq!(attribute(&body, "entity"), "sip:bob@acme.test");
    assert!(states(&body).is_empty());

    world.wait(2);
    let (_, invite) = world.dial(alice, "sip:bob@acme.test");
    let (_, body) = told(&mut world, &lamp);
    assert_eq!((attribute(&body, "state"), attribute(&body, "version")), ("partial", "1"));
    assert_eq!((states(&body), attribute(&body, "direction")), (vec!["trying"], "recipient"));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.say(bob, &rung, 180);
    world.wait(2);
    let (_, body) = told(&mut world, &lamp);
    assert_eq!(states(&body), ["early"]);
    // As bob's phone knows the dialog.
    assert_eq!(attribute(&body, "call-id"), rung.1.call_id().unwrap().to_str_lossy());
    assert_eq!(attribute(&body, "local-tag"), format!("tag-{bob}"));
    assert_eq!(attribute(&body, "remote-tag"), rung.1.from().unwrap().tag().unwrap());
    let id = attribute(&body, "id").to_owned();
    world.answer(bob, &rung, &world::phone::sdp("10.1.0.2", 4000, ""));
    let mut a = world.confirm(alice, &invite, None);
    world.wait(2);
    let (_, body) = told(&mut world, &lamp);
    assert_eq!((states(&body), attribute(&body, "id")), (vec!["confirmed"], id.as_str()));
    assert_eq!(attribute(&body, "version"), "3");
    // With whom bob talks is not said.
    assert!(!body.contains("alice"), "{body}");
    world.hang_up(&mut a);
    world.wait(2);
    let (_, body) = told(&mut world, &lamp);
    assert_eq!((states(&body), attribute(&body, "id")), (vec!["terminated"], id.as_str()));
    hears_nothing(&mut world, carol);
    world.assert_at_rest();
}

#[test]
fn a_caller_is_seen_too_and_what_ends_at_once_is_told_as_little_as_may_be() {
    let mut world = World::ie1(2);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let (lamp, ..) = watch(&mut world, carol, "sip:+353100000001@acme.test", "dialog");
    world.wait(2);
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    let (_, body) = told(&mut world, &lamp);
    assert_eq!((states(&body), attribute(&body, "direction")), (vec!["trying"], "initiator"));
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.say(bob, &rung, 180);
    let _ = (key, rung);
    // All within a second of the last word.
    hears_nothing(&mut world, carol);
    world.wait(2);
    assert_eq!(states(&told(&mut world, &lamp).1), ["early"]);
    world.cancel(alice, key);
    world.wait(2);
    assert_eq!(states(&told(&mut world, &lamp).1), ["terminated"]);
    // A call that came and went between two words is not told at all.
    let (key, _) = world.dial(alice, "sip:bob@acme.test");
    world.wait(2);
    let (_, body) = told(&mut world, &lamp);
    assert_eq!(states(&body), ["trying"]);
    world.cancel(alice, key);
    world.settle();
    let rung = world.phones[bob].take(Method::Invite);
    assert!(rung.is_none());
    world.assert_at_rest();
}

#[test]
fn who_subscribes_later_is_told_of_the_calls_that_are() {
    let (mut world, mut a, b) = world::up(3);
    let [carol] = world.registered(["carol"]);
    let (lamp, _, body) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    assert_eq!((attribute(&body, "state"), states(&body)), ("full", vec!["confirmed"]));
    world.wait(2);
    world.hang_up(&mut a);
    world.wait(2);
    assert_eq!(states(&told(&mut world, &lamp).1), ["terminated"]);
    let _ = b;
    world.assert_at_rest();
}

#[test]
fn a_subscription_is_refreshed_and_ended_and_runs_out() {
    let mut world = World::ie1(4);
    let [carol] = world.registered(["carol"]);
    let (mut lamp, ..) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    world.wait(300);
    let response = refresh(&mut world, &mut lamp, "600");
    assert_eq!(response.status.code(), 200);
    let (state, body) = told(&mut world, &lamp);
    assert_eq!((state.as_str(), attribute(&body, "state")), ("active;expires=600", "full"));
    assert_eq!(attribute(&body, "version"), "1");
    world.wait(500);
    assert_eq!(watches(&world), 1, "it was refreshed");
    assert_eq!(refresh(&mut world, &mut lamp, "0").status.code(), 200);
    assert_eq!(told(&mut world, &lamp).0, "terminated;reason=timeout");
    assert_eq!(watches(&world), 0);
    assert_eq!(refresh(&mut world, &mut lamp, "600").status.code(), 481);

    let (lamp, ..) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    world.wait(601);
    assert_eq!(told(&mut world, &lamp).0, "terminated;reason=timeout");
    assert_eq!(watches(&world), 0);
    assert_eq!(world.proxies[IE1].core.counters().subscriptions_expired, 1);
}

#[test]
fn who_only_asks_is_told_once() {
    let mut world = World::ie1(5);
    let [carol] = world.registered(["carol"]);
    assert_eq!(ask(&mut world, carol, "sip:bob@acme.test", "presence", "0").status.code(), 200);
    let (key, notify) = world.phones[carol].take(Method::Notify).unwrap();
    let state = notify.headers.get(&HeaderName::SubscriptionState).unwrap().to_str_lossy();
    assert_eq!(state, "terminated;reason=timeout");
    world.respond(carol, key, Response::for_request(&notify, StatusCode::OK));
    assert_eq!(watches(&world), 0);
}

#[test]
fn presence_is_open_while_a_phone_is_registered_and_on_the_phone_in_a_call() {
    let mut world = World::ie1(6);
    let [carol, alice] = world.registered(["carol", "alice"]);
    let (watch, _, body) = watch(&mut world, carol, "sip:bob@acme.test", "presence");
    assert!(body.contains("<basic>closed</basic>"), "{body}");
    world.wait(2);
    let [bob] = world.registered(["bob"]);
    let (_, body) = told(&mut world, &watch);
    assert!(body.contains("<basic>open</basic>") && !body.contains("on-the-phone"), "{body}");
    world.wait(2);
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    let (_, body) = told(&mut world, &watch);
    assert!(body.contains("<basic>open</basic>") && body.contains("<rpid:on-the-phone/>"));
    world.hang_up(&mut a);
    world.wait(2);
    assert!(!told(&mut world, &watch).1.contains("on-the-phone"));
    world.wait(2);
    let gone = world.register_request(bob, "0");
    assert_eq!(world.ask(bob, gone).status.code(), 200);
    assert!(told(&mut world, &watch).1.contains("<basic>closed</basic>"));
    hears_nothing(&mut world, carol);
}

#[test]
fn a_mailbox_is_empty_and_its_owners_alone() {
    let mut world = World::ie1(7);
    let [carol] = world.registered(["carol"]);
    let (_, state, body) = watch(&mut world, carol, "sip:carol@acme.test", "message-summary");
    assert_eq!(state, "active;expires=600");
    assert_eq!(
        body,
        "Messages-Waiting: no\r\nMessage-Account: sip:carol@acme.test\r\n\
         Voice-Message: 0/0 (0/0)\r\n"
    );
    let refused = ask(&mut world, carol, "sip:bob@acme.test", "message-summary", "600");
    assert_eq!(refused.status.code(), 403);
}

#[test]
fn what_cannot_be_subscribed_to_is_refused_by_its_own_status() {
    let mut world = World::ie1(8);
    let [carol] = world.registered(["carol"]);
    let status = |world: &mut World, of: &str, package: &str, expires: &str| {
        let response = ask(world, carol, of, package, expires);
        assert!(world.phones[carol].take(Method::Notify).is_none());
        response
    };
    let bad = status(&mut world, "sip:bob@acme.test", "weather", "600");
    assert_eq!(bad.status.code(), 489);
    let allowed = bad.headers.get(&HeaderName::AllowEvents).unwrap().to_str_lossy().into_owned();
    assert_eq!(allowed, "dialog, message-summary, presence");
    let brief = status(&mut world, "sip:bob@acme.test", "dialog", "59");
    assert_eq!(brief.status.code(), 423);
    assert_eq!(brief.headers.get(&HeaderName::MinExpires).unwrap().to_str_lossy(), "60");
    assert_eq!(status(&mut world, "sip:nobody@acme.test", "dialog", "60").status.code(), 404);
    assert_eq!(status(&mut world, "sip:erin@globex.test", "dialog", "60").status.code(), 403);
    let mut other = asking(&mut world, carol, "sip:bob@acme.test", "dialog", "600");
    other.headers.push(HeaderName::Accept, "application/rlmi+xml, text/plain");
    assert_eq!(world.ask(carol, other).status.code(), 406);
    let mut none = asking(&mut world, carol, "sip:bob@acme.test", "dialog", "600");
    none.headers.remove_all(&HeaderName::Event);
    assert_eq!(world.ask(carol, none).status.code(), 489);
    assert_eq!(watches(&world), 0);
    assert_eq!(world.proxies[IE1].core.counters().subscriptions_refused, 6);
}

#[test]
fn who_knows_nothing_of_it_is_not_told_again() {
    let mut world = World::ie1(9);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let (lamp, ..) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    world.wait(2);
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    answer(&mut world, &lamp, 481, &[]);
    assert_eq!(watches(&world), 0);
    world.hang_up(&mut a);
    world.wait(2);
    hears_nothing(&mut world, carol);
    assert_eq!(world.proxies[IE1].core.counters().subscriptions_lost, 1);
}

#[test]
fn a_silent_watcher_is_forgotten() {
    let mut world = World::ie1(10);
    let [carol] = world.registered(["carol"]);
    assert_eq!(ask(&mut world, carol, "sip:bob@acme.test", "dialog", "3600").status.code(), 200);
    assert_eq!(watches(&world), 1);
    world.wait(33);
    assert_eq!(watches(&world), 0);
}

#[test]
fn who_wants_to_be_told_later_is_and_of_everything() {
    let mut world = World::ie1(11);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let (lamp, ..) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    world.wait(2);
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    answer(&mut world, &lamp, 503, &[(HeaderName::RetryAfter, "20 (busy)")]);
    // Whatever happens meanwhile.
    world.wait(9);
    world.hang_up(&mut a);
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    world.wait(9);
    hears_nothing(&mut world, carol);
    world.wait(3);
    let (_, body) = told(&mut world, &lamp);
    assert_eq!((attribute(&body, "state"), states(&body)), ("full", vec!["confirmed"]));
    world.hang_up(&mut a);
    // And without such a wish not at all.
    world.wait(2);
    answer(&mut world, &lamp, 500, &[]);
    assert_eq!(watches(&world), 0);
}

#[test]
fn subscriptions_are_bounded() {
    let mut world = World::new(12);
    world.add_proxy("ie1", 1, tenants::acme(), |config| {
        config.limits.subscriptions_per_user = 2;
        config.limits.watchers_per_user = 2;
        config.limits.subscriptions = 3;
    });
    world.share_directory();
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    let (mut second, ..) = watch(&mut world, carol, "sip:alice@acme.test", "dialog");
    let over = ask(&mut world, carol, "sip:carol@acme.test", "message-summary", "600");
    assert_eq!(over.status.code(), 503);
    assert!(over.headers.contains(&HeaderName::RetryAfter));
    refresh(&mut world, &mut second, "0");
    told(&mut world, &second);
    watch(&mut world, alice, "sip:bob@acme.test", "dialog");
    let watched = ask(&mut world, bob, "sip:bob@acme.test", "dialog", "600");
    assert_eq!(watched.status.code(), 503, "two watch bob");
    watch(&mut world, bob, "sip:alice@acme.test", "dialog");
    let all = ask(&mut world, alice, "sip:carol@acme.test", "dialog", "600");
    assert_eq!(all.status.code(), 503, "three in all");
}

#[test]
fn nobody_takes_over_or_ends_what_another_subscribed() {
    let mut world = World::ie1(13);
    let [carol, mallory] = world.registered(["carol", "dave"]);
    let (mut lamp, ..) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    lamp.phone = mallory;
    assert_eq!(refresh(&mut world, &mut lamp, "0").status.code(), 407);
    let request = lamp.dialog.request(Method::Subscribe);
    let request = request.with_header(HeaderName::Event, "dialog");
    let stolen = world.ask(mallory, request.with_header(HeaderName::Expires, "0"));
    assert_eq!(stolen.status.code(), 403);
    assert_eq!(watches(&world), 1);
    // The phone itself may have come by another way.
    let moved = world.phone("carol", 77);
    lamp.phone = moved;
    let request = lamp.dialog.request(Method::Subscribe);
    let request = request.with_header(HeaderName::Event, "dialog");
    let response = world.ask(moved, request.with_header(HeaderName::Expires, "600"));
    assert_eq!(response.status.code(), 200);
    assert_eq!(told(&mut world, &lamp).0, "active;expires=600");
}

#[test]
fn with_a_user_goes_what_it_watches_and_who_watches_it() {
    let mut world = World::ie1(14);
    let [carol, dave] = world.registered(["carol", "dave"]);
    let (of_bob, ..) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    let (by_dave, ..) = watch(&mut world, dave, "sip:alice@acme.test", "presence");
    let mut fewer: Tenancy = tenants::acme();
    fewer.users.retain(|user| !["bob", "dave"].contains(&user.name.expose().as_str()));
    world.input(IE1, Input::Tenancy(Arc::new(Tenants::new(&fewer))));
    world.settle();
    assert_eq!(told(&mut world, &of_bob).0, "terminated;reason=noresource");
    let (state, body) = told(&mut world, &by_dave);
    assert_eq!(state, "terminated;reason=rejected");
    assert!(body.contains("closed"), "{body}");
    assert_eq!(watches(&world), 0);
}

#[test]
fn a_traveller_watches_through_an_edge_which_keeps_nothing() {
    let mut world = World::new(15);
    world.add_proxy("ie1", 1, tenants::acme(), |_| {});
    let open = tenants::with_account(tenants::globex(), |it| it.calls_from = CallsFrom::Any);
    world.add_proxy("us1", 2, open, |_| {});
    world.share_directory();
    let [alice, bob] = world.registered(["alice", "bob"]);
    let carol = world.phone_at("carol", "acme.test", 33, US1, Transport::Udp);
    world.register(carol);
    let mut all = Vec::new();
    for package in ["dialog", "presence"] {
        all.push(watch(&mut world, carol, "sip:bob@acme.test", package).0);
    }
    all.push(watch(&mut world, carol, "sip:carol@acme.test", "message-summary").0);
    world.wait(2);
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    let (_, body) = told(&mut world, &all[0]);
    assert_eq!(states(&body), ["trying"]);
    assert!(told(&mut world, &all[1]).1.contains("on-the-phone"));
    assert_eq!(refresh(&mut world, &mut all[2], "600").status.code(), 200);
    assert!(told(&mut world, &all[2]).1.contains("0/0"));
    assert_eq!(world.proxies[US1].core.subscriptions(), 0);
    world.hang_up(&mut a);
    let logs = world.proxies.iter().flat_map(|it| &it.logs);
    let logged: String = logs.map(|it| format!("{it}\n{it:?}\n")).collect();
    assert!(!logged.contains("bob") && !logged.contains("carol"), "{logged}");
}

#[test]
fn a_new_process_knows_no_subscription_and_says_so() {
    let mut world = World::ie1(16);
    let [carol] = world.registered(["carol"]);
    let (mut lamp, ..) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    world.proxy_dies(IE1);
    assert_eq!(refresh(&mut world, &mut lamp, "600").status.code(), 481);
    let (_, _, body) = watch(&mut world, carol, "sip:bob@acme.test", "dialog");
    assert_eq!(attribute(&body, "state"), "full");
}

/// Automatic redial (RFC 5359 §2.17): who found a colleague busy watches it, and
/// calls again when its call is over.
#[test]
fn who_was_busy_is_called_again_when_its_call_is_over() {
    let mut world = World::ie1(40);
    let [alice, bob, carol] = world.registered(["alice", "bob", "carol"]);
    let (_, b) = world.call(carol, bob, "sip:bob@acme.test");
    world.dial(alice, "sip:bob@acme.test");
    let rung = world.phones[bob].take(Method::Invite).unwrap();
    world.say(bob, &rung, 486);
    assert_eq!(world.phones[alice].take_final().unwrap().status, StatusCode::BUSY_HERE);
    let (lamp, _, body) = watch(&mut world, alice, "sip:bob@acme.test", "dialog");
    assert_eq!(states(&body), ["confirmed"]);
    let mut b = b;
    world.wait(2);
    world.hang_up(&mut b);
    world.wait(2);
    let (_, body) = told(&mut world, &lamp);
    assert_eq!(states(&body), ["terminated"]);
    let (mut a, _) = world.call(alice, bob, "sip:bob@acme.test");
    world.hang_up(&mut a);
    world.wait(700);
    world.assert_at_rest();
}
