//! Dialogs: RFC 3261 §12, and §13.2.2.4 for what a 2xx decides.

mod lab;

use bytes::Bytes;
use lab::{incoming, request, text};
use landline_sip::{
    Dialog, DialogError, DialogId, DialogState, HeaderName, Message, Method, NameAddr, Request,
    Response, StatusCode,
};

fn invite(extra: &str) -> Request {
    request(
        &incoming("INVITE", "z9hG4bKa")
            .replace("Content-Length", &format!("{extra}Content-Length")),
    )
}

fn response(text: &str) -> Response {
    match landline_sip::parse(&Bytes::from(text.replace('\n', "\r\n")), &Default::default()) {
        Ok(Message::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

/// The peer's response to our INVITE of [`incoming`].
fn answered(status: u16, tag: &str, extra: &str) -> Response {
    response(&format!(
        "SIP/2.0 {status} X\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\nFrom: <sip:alice@acme.test>;tag=them\n\
         To: <sip:bob@acme.test>{tag}\nCall-ID: c1\nCSeq: 7 INVITE\n{extra}Content-Length: 0\n\n"
    ))
}

const TWO_ROUTES: &str = "Record-Route: <sip:p1.test;lr>, <sip:p2.test;lr>\n";
const CONTACT: &str = "Contact: <sip:bob@192.0.2.7:5062>\n";

fn contact() -> NameAddr {
    NameAddr::parse("<sip:us@192.0.2.1:5060>").unwrap()
}

fn uas(extra: &str) -> Dialog {
    Dialog::uas(&invite(extra), "us", contact()).unwrap()
}

fn uac(extra: &str) -> Dialog {
    Dialog::uac(&invite(""), &answered(200, ";tag=b", &format!("{CONTACT}{extra}"))).unwrap()
}

fn wire(request: &Request) -> String {
    text(&request.to_bytes())
}

fn lines<'a>(text: &'a str, name: &'a str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

/// The text as a request the peer sends within a dialog of [`uas`].
fn within(method: &str, cseq: u32) -> Request {
    request(
        &incoming(method, "z9hG4bKd")
            .replace("To: <sip:bob@acme.test>", "To: <sip:bob@acme.test>;tag=us")
            .replace("CSeq: 7", &format!("CSeq: {cseq}")),
    )
}

#[test]
fn a_callee_s_requests_go_back_the_way_the_invite_came() {
    let mut dialog = uas(TWO_ROUTES);
    assert_eq!(dialog.state(), DialogState::Early);
    let bye = wire(&dialog.request(Method::Bye));
    assert!(bye.starts_with("BYE sip:alice@192.0.2.9:5099 SIP/2.0\n"), "{bye}");
    assert_eq!(lines(&bye, "Route"), ["<sip:p1.test;lr>", "<sip:p2.test;lr>"]);
    assert_eq!(lines(&bye, "From"), ["<sip:bob@acme.test>;tag=us"]);
    assert_eq!(lines(&bye, "To"), ["<sip:alice@acme.test>;tag=them"]);
    assert_eq!(lines(&bye, "Call-ID"), ["c1"]);
    assert_eq!(lines(&bye, "Contact"), Vec::<&str>::new());
    assert_eq!(dialog.next_hop().to_string(), "sip:p1.test;lr");
}

#[test]
fn a_caller_s_requests_go_through_the_proxies_in_reverse() {
    let mut dialog = uac(TWO_ROUTES);
    assert_eq!(dialog.state(), DialogState::Confirmed);
    let info = wire(&dialog.request(Method::Info));
    assert!(info.starts_with("INFO sip:bob@192.0.2.7:5062 SIP/2.0\n"), "{info}");
    assert_eq!(lines(&info, "Route"), ["<sip:p2.test;lr>", "<sip:p1.test;lr>"]);
    assert_eq!(lines(&info, "From"), ["<sip:alice@acme.test>;tag=them"]);
    assert_eq!(lines(&info, "To"), ["<sip:bob@acme.test>;tag=b"]);
}

#[test]
fn without_routes_requests_go_to_the_contact() {
    let dialog = uac("");
    assert_eq!(dialog.next_hop().to_string(), "sip:bob@192.0.2.7:5062");
    assert!(!dialog.ack(7).headers.contains(&HeaderName::Route));
}

#[test]
fn a_strict_router_takes_the_request_uri_and_the_target_goes_last() {
    let strict = "Record-Route: <sip:p1.test;lr>\nRecord-Route: <sip:old.test;method=INVITE?x=y>\n";
    let mut dialog = uac(strict);
    let bye = wire(&dialog.request(Method::Bye));
    assert!(bye.starts_with("BYE sip:old.test SIP/2.0\n"), "{bye}");
    assert_eq!(lines(&bye, "Route"), ["<sip:p1.test;lr>", "<sip:bob@192.0.2.7:5062>"]);
    assert_eq!(dialog.next_hop().host, landline_sip::Host::parse("old.test").unwrap());
}

#[test]
fn cseq_counts_up_and_the_ack_has_its_invite_s() {
    let mut dialog = uac("");
    let cseq = |request: Request| request.cseq().unwrap().number;
    assert_eq!(cseq(dialog.ack(7)), 7);
    assert_eq!(cseq(dialog.request(Method::Invite)), 8);
    assert_eq!(cseq(dialog.request(Method::Bye)), 9);
    assert_eq!(cseq(dialog.ack(8)), 8);
    assert_eq!(cseq(uas("").request(Method::Bye)), 1);
    assert_eq!(wire(&dialog.ack(8)).lines().filter(|line| *line == "CSeq: 8 ACK").count(), 1);
}

#[test]
fn requests_out_of_order_are_refused_and_gaps_are_not() {
    let mut dialog = uas("");
    assert_eq!(dialog.remote_cseq(), Some(7));
    assert_eq!(dialog.accept(&within("INFO", 20)), Ok(()));
    let error = dialog.accept(&within("INFO", 19)).unwrap_err();
    assert_eq!(error, DialogError::LowerCSeq);
    assert_eq!(error.status(), StatusCode::SERVER_INTERNAL_ERROR);
    assert_eq!(dialog.accept(&within("ACK", 7)), Ok(()), "an ACK has its INVITE's number");
    assert_eq!(dialog.remote_cseq(), Some(20));
    assert_eq!(dialog.accept(&within("BYE", 21)), Ok(()));
}

#[test]
fn a_caller_takes_any_first_number_from_the_callee() {
    let mut dialog = uac("");
    let bye = request(
        &incoming("BYE", "z9hG4bKd")
            .replace("From: <sip:alice@acme.test>;tag=them", "From: <sip:bob@acme.test>;tag=b")
            .replace("To: <sip:bob@acme.test>", "To: <sip:alice@acme.test>;tag=them")
            .replace("CSeq: 7", "CSeq: 0"),
    );
    assert_eq!(dialog.accept(&bye), Ok(()));
}

#[test]
fn requests_of_other_dialogs_are_refused() {
    let mut dialog = uas("");
    for (from, to) in [("tag=them", "tag=x"), ("tag=us", "tag=x"), ("c1", "c9")] {
        let mut other = within("BYE", 8);
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            let value = other.headers.get(&name).unwrap().to_str_lossy().replace(from, to);
            other.headers.set(name, value);
        }
        let error = dialog.accept(&other).unwrap_err();
        assert_eq!(error, DialogError::OtherDialog);
        assert_eq!(error.status(), StatusCode::CALL_DOES_NOT_EXIST);
    }
}

#[test]
fn both_sides_know_the_dialog_by_mirrored_names() {
    let dialog = uas("");
    assert_eq!(DialogId::of_request(&within("BYE", 8)).unwrap(), dialog.id());
    let ok = answered(200, ";tag=b", CONTACT);
    assert_eq!(DialogId::of_response(&ok).unwrap(), uac("").id());
    assert_eq!(uac("").id().remote_tag, "b");
}

#[test]
fn each_to_tag_of_a_fork_is_a_dialog_of_its_own() {
    let early = |tag| Dialog::uac(&invite(""), &answered(180, tag, CONTACT)).unwrap();
    let (one, two) = (early(";tag=1"), early(";tag=2"));
    assert_ne!(one.id(), two.id());
    assert_eq!(one.state(), DialogState::Early);
    let none = Dialog::uac(&invite(""), &answered(180, "", CONTACT));
    assert_eq!(none.unwrap_err(), DialogError::NoTag);
}

#[test]
fn the_2xx_decides_over_route_and_target() {
    let early = answered(180, ";tag=b", &format!("{CONTACT}{TWO_ROUTES}"));
    let mut dialog = Dialog::uac(&invite(""), &early).unwrap();
    let ok =
        answered(200, ";tag=b", "Contact: <sip:bob@192.0.2.8>\nRecord-Route: <sip:p3.test;lr>\n");
    dialog.confirm_by(&ok).unwrap();
    assert_eq!(dialog.state(), DialogState::Confirmed);
    assert_eq!(dialog.next_hop().to_string(), "sip:p3.test;lr");
    assert_eq!(dialog.remote_target().to_string(), "sip:bob@192.0.2.8");
    // Once confirmed the route set stays: RFC 3261 §12.2.
    let later = answered(200, ";tag=b", "Contact: <sip:bob@192.0.2.6>\n");
    dialog.confirm_by(&later).unwrap();
    assert_eq!(dialog.next_hop().to_string(), "sip:p3.test;lr");
    assert_eq!(dialog.remote_target().to_string(), "sip:bob@192.0.2.6");
}

#[test]
fn a_target_refresh_moves_the_peer_and_nothing_else() {
    let mut dialog = uas(TWO_ROUTES);
    let update = request(&wire(&within("UPDATE", 8)).replace("192.0.2.9:5099>", "203.0.113.5>"));
    dialog.refresh_target(update.contacts().unwrap());
    assert_eq!(dialog.remote_target().to_string(), "sip:alice@203.0.113.5");
    assert_eq!(dialog.route_set().len(), 2);
    let mut without = update;
    without.headers.remove_all(&HeaderName::Contact);
    dialog.refresh_target(without.contacts().unwrap());
    assert_eq!(dialog.remote_target().to_string(), "sip:alice@203.0.113.5");
}

#[test]
fn responses_carry_our_tag_and_where_we_are() {
    let dialog = uas(TWO_ROUTES);
    let ringing = text(&dialog.respond(&invite(TWO_ROUTES), StatusCode::RINGING).to_bytes());
    assert_eq!(lines(&ringing, "To"), ["<sip:bob@acme.test>;tag=us"]);
    assert_eq!(lines(&ringing, "Contact"), ["<sip:us@192.0.2.1:5060>"]);
    assert_eq!(lines(&ringing, "Record-Route"), ["<sip:p1.test;lr>, <sip:p2.test;lr>"]);
    let bye = dialog.respond(&within("BYE", 8), StatusCode::OK);
    assert!(!bye.headers.contains(&HeaderName::Contact));
    let busy = dialog.respond(&invite(""), StatusCode::BUSY_HERE);
    assert!(!busy.headers.contains(&HeaderName::Contact));
}

#[test]
fn an_invite_without_a_contact_makes_no_dialog() {
    let mut invite = invite("");
    invite.headers.remove_all(&HeaderName::Contact);
    let error = Dialog::uas(&invite, "us", contact()).unwrap_err();
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    let ok = Dialog::uac(&self::invite(""), &answered(200, ";tag=b", ""));
    assert_eq!(ok.unwrap_err(), DialogError::NoContact);
}

#[test]
fn a_180_without_a_contact_keeps_the_uri_it_was_called_by() {
    let dialog = Dialog::uac(&invite(""), &answered(180, ";tag=b", "")).unwrap();
    assert_eq!(dialog.remote_target().to_string(), "sip:bob@acme.test");
}

#[test]
fn a_dialog_shows_no_party_in_its_debug_text() {
    let shown = format!("{:?}", uas(TWO_ROUTES));
    assert!(!shown.contains("alice") && !shown.contains("192.0.2"), "{shown}");
}
