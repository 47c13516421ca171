//! Client transactions by the clock: RFC 3261 §17.1, RFC 6026 §7.2, §9.1.

mod lab;

use lab::*;
use landline_sip::{
    ClientKey, Destination, FailureCause, HeaderName, Input, Output, SendTo, Target, Transport, Uri,
};

fn start(lab: &mut Lab, method: &str, transport: Transport) -> bytes::Bytes {
    let input =
        Input::Request { key: KEY, request: own(method), destination: address(transport, 5099) };
    let outputs = lab.input(input);
    assert_eq!(brief(&outputs), [format!(">{method}")]);
    sends(&outputs).remove(0).1
}

fn times(outputs: &[Timed], what: &str) -> Vec<u64> {
    brief_timed(outputs).into_iter().filter(|(_, b)| b == what).map(|(at, _)| at).collect()
}

#[test]
fn an_unanswered_invite_is_repeated_ever_more_rarely_and_fails_after_64_t1() {
    let mut lab = Lab::new();
    let first = start(&mut lab, "INVITE", Transport::Udp);
    let outputs = lab.run(40_000);
    assert_eq!(times(&outputs, ">INVITE"), [500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(times(&outputs, "failed Timeout"), [32_000]);
    for (_, output) in &outputs {
        if let Output::Send { bytes, .. } = output {
            assert_eq!(*bytes, first, "a retransmission is the same bytes");
        }
    }
    assert!(lab.endpoint.is_empty());
}

#[test]
fn an_unanswered_request_is_repeated_every_t2_at_most_and_fails_after_64_t1() {
    let mut lab = Lab::new();
    start(&mut lab, "BYE", Transport::Udp);
    let outputs = lab.run(40_000);
    let expected = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(times(&outputs, ">BYE"), expected);
    assert_eq!(times(&outputs, "failed Timeout"), [32_000]);
    assert!(lab.endpoint.is_empty());
    assert_eq!(lab.endpoint.counters().client_timeouts, 1);
}

#[test]
fn a_provisional_response_slows_a_request_down_to_t2() {
    let mut lab = Lab::new();
    let request = start(&mut lab, "OPTIONS", Transport::Udp);
    assert_eq!(brief(&lab.receive(&udp(), &answer(&request, 100, ""))), ["100"]);
    let outputs = lab.run(40_000);
    assert_eq!(times(&outputs, ">OPTIONS")[..3], [500, 4500, 8500]);
    assert_eq!(times(&outputs, "failed Timeout"), [32_000]);
}

#[test]
fn over_a_reliable_transport_nothing_is_repeated() {
    for method in ["INVITE", "BYE"] {
        let mut lab = Lab::new();
        start(&mut lab, method, Transport::Tcp);
        assert_eq!(brief_timed(&lab.run(40_000)), [(32_000, "failed Timeout".to_owned())]);
        assert!(lab.endpoint.is_empty());
    }
}

#[test]
fn timers_follow_the_configured_t1() {
    let mut config = config();
    config.t1 = std::time::Duration::from_millis(10);
    let mut lab = Lab::with(config);
    start(&mut lab, "BYE", Transport::Udp);
    assert_eq!(times(&lab.run(1000), "failed Timeout"), [640]);
}

#[test]
fn a_ringing_invite_is_neither_repeated_nor_given_up() {
    let mut lab = Lab::new();
    let invite = start(&mut lab, "INVITE", Transport::Udp);
    assert_eq!(brief(&lab.receive(&udp(), &answer(&invite, 180, "b"))), ["180"]);
    assert_eq!(brief(&lab.receive(&udp(), &answer(&invite, 180, "b"))), ["180"]);
    assert!(lab.run(3_600_000).is_empty());
    assert_eq!(lab.endpoint.len(), 1);
}

#[test]
fn a_refusal_is_acknowledged_within_the_transaction_as_often_as_it_comes() {
    let mut lab = Lab::new();
    let mut request = own("INVITE");
    request.headers.push(HeaderName::Route, "<sip:p1.test;lr>, <sip:p2.test;lr>");
    let outputs =
        lab.input(Input::Request { key: KEY, request, destination: address(Transport::Udp, 5099) });
    let (to, invite) = sends(&outputs).remove(0);
    let busy = answer(&invite, 486, "b");
    let outputs = lab.receive(&udp(), &busy);
    assert_eq!(brief(&outputs), [">ACK", "486"]);
    let (ack_to, ack) = sends(&outputs).remove(0);
    let (invite, ack) = (text(&invite), text(&ack));
    assert_eq!(ack_to, to);
    assert!(ack.starts_with("ACK sip:bob@acme.test SIP/2.0\n"));
    for name in ["Via", "From", "Call-ID", "Route"] {
        assert_eq!(header(&ack, name), header(&invite, name), "{name}");
    }
    assert_eq!(header(&ack, "To"), Some("<sip:bob@acme.test>;tag=b"));
    assert_eq!(header(&ack, "CSeq"), Some("7 ACK"));
    assert_eq!(brief(&lab.receive(&udp(), &busy)), [">ACK"]);
    assert!(lab.run(31_999).is_empty());
    assert_eq!(lab.endpoint.len(), 1, "timer D");
    lab.run(1);
    assert!(lab.endpoint.is_empty());
    assert!(lab.receive(&udp(), &busy).is_empty());
    assert_eq!(lab.endpoint.counters().stray_responses, 1);
}

#[test]
fn over_tcp_a_refused_invite_is_over_at_once() {
    let mut lab = Lab::new();
    let invite = start(&mut lab, "INVITE", Transport::Tcp);
    assert_eq!(brief(&lab.receive(&tcp(), &answer(&invite, 603, "b"))), [">ACK", "603"]);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn each_fork_s_2xx_is_passed_up_once_and_its_ack_repeated_for_it() {
    let mut lab = Lab::new();
    let invite = start(&mut lab, "INVITE", Transport::Udp);
    let ok = answer(&invite, 200, "b1");
    assert_eq!(brief(&lab.receive(&udp(), &ok)), ["200"]);
    assert!(lab.receive(&udp(), &ok).is_empty(), "nothing to repeat before there is an ACK");
    let mut ack = own("ACK");
    ack.headers.set(HeaderName::To, "<sip:bob@acme.test>;tag=b1");
    let outputs = lab.input(Input::Forward { request: ack, destination: Destination::Flow(udp()) });
    assert_eq!(brief(&outputs), [">ACK"]);
    let first_ack = sends(&outputs).remove(0);
    let repeated = lab.receive(&udp(), &ok);
    assert_eq!(sends(&repeated), [first_ack]);
    assert_eq!(repeated.len(), 1, "the retransmission is not passed up");
    // RFC 6026: another fork's 2xx still belongs to this INVITE.
    assert_eq!(brief(&lab.receive(&udp(), &answer(&invite, 200, "b2"))), ["200"]);
    // Anything else no longer does.
    assert!(lab.receive(&udp(), &answer(&invite, 180, "b3")).is_empty());
    assert!(lab.receive(&udp(), &answer(&invite, 486, "b3")).is_empty());
    assert!(lab.run(31_999).is_empty());
    assert_eq!(lab.endpoint.len(), 1, "timer M");
    lab.run(1);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn the_number_of_forks_is_bounded() {
    let mut lab = Lab::new();
    let invite = start(&mut lab, "INVITE", Transport::Tcp);
    for fork in 0..100 {
        lab.receive(&tcp(), &answer(&invite, 200, &format!("b{fork}")));
    }
    assert_eq!(lab.endpoint.counters().forks_dropped, 68);
    lab.run(32_000);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_repeated_final_response_is_absorbed_for_t4() {
    let mut lab = Lab::new();
    let bye = start(&mut lab, "BYE", Transport::Udp);
    let ok = answer(&bye, 200, "b");
    let outputs = lab.receive(&udp(), &ok);
    assert_eq!(brief(&outputs), ["200"]);
    assert!(lab.receive(&udp(), &ok).is_empty());
    assert_eq!(lab.endpoint.counters().response_retransmissions, 1);
    assert!(lab.run(5000).is_empty());
    assert!(lab.endpoint.is_empty());
}

#[test]
fn our_via_is_taken_off_responses_and_names_our_listener() {
    let mut lab = Lab::new();
    let bye = start(&mut lab, "BYE", Transport::Udp);
    let via = header(&text(&bye), "Via").unwrap().to_owned();
    assert!(via.starts_with("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK"), "{via}");
    assert!(via.ends_with(";rport"), "{via}");
    let outputs = lab.receive(&udp(), &answer(&bye, 200, "b"));
    let Some(landline_sip::Event::Response { key: KEY, response }) = events(&outputs).pop() else {
        panic!("{:?}", brief(&outputs));
    };
    assert!(!response.headers.contains(&HeaderName::Via));
}

#[test]
fn responses_to_nothing_we_asked_are_counted_and_dropped() {
    let mut lab = Lab::new();
    let bye = start(&mut lab, "BYE", Transport::Udp);
    let ok = answer(&bye, 200, "b");
    let branch = header(&ok, "Via").unwrap().split("branch=").nth(1).unwrap().to_owned();
    let strays = [
        ok.replace("7 BYE", "7 INFO"),
        ok.replace(&branch[..20], "z9hG4bK0.00000000000"),
        ok.replace("z9hG4bK", "z9hG4bKffffffffffffffffffffffff"),
        ok.replace("z9hG4bK", "other"),
    ];
    for stray in &strays {
        assert!(lab.receive(&udp(), stray).is_empty(), "{stray}");
    }
    assert_eq!(lab.endpoint.counters().stray_responses, strays.len() as u64);
    assert_eq!(brief(&lab.receive(&udp(), &ok)), ["200"]);
}

#[test]
fn a_cancel_waits_until_the_invite_is_known_to_have_arrived() {
    let mut lab = Lab::new();
    let invite = start(&mut lab, "INVITE", Transport::Udp);
    let reason = Some("SIP;cause=200;text=\"Call completed elsewhere\"".to_owned());
    assert!(lab.input(Input::Cancel { key: KEY, reason: reason.clone() }).is_empty());
    assert_eq!(times(&lab.run(600), ">INVITE"), [500], "it may still have been lost");
    let outputs = lab.receive(&udp(), &answer(&invite, 100, ""));
    assert_eq!(brief(&outputs), ["100", ">CANCEL"]);
    let cancel = sends(&outputs).remove(0).1;
    let (invite_text, cancel_text) = (text(&invite), text(&cancel));
    for name in ["Via", "From", "To", "Call-ID"] {
        assert_eq!(header(&cancel_text, name), header(&invite_text, name), "{name}");
    }
    assert_eq!(header(&cancel_text, "CSeq"), Some("7 CANCEL"));
    assert_eq!(header(&cancel_text, "Reason"), reason.as_deref());
    assert_eq!(times(&lab.run(500), ">CANCEL"), [1100], "timer E");
    assert!(lab.receive(&udp(), &answer(&cancel, 200, "b")).is_empty());
    assert_eq!(brief(&lab.receive(&udp(), &answer(&invite, 487, "b"))), [">ACK", "487"]);
    assert!(lab.run(40_000).is_empty());
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_cancelled_invite_nobody_answers_any_more_is_given_up_after_64_t1() {
    let mut lab = Lab::new();
    let invite = start(&mut lab, "INVITE", Transport::Udp);
    lab.receive(&udp(), &answer(&invite, 180, "b"));
    assert_eq!(brief(&lab.input(Input::Cancel { key: KEY, reason: None })), [">CANCEL"]);
    assert!(lab.input(Input::Cancel { key: KEY, reason: None }).is_empty(), "once is enough");
    assert_eq!(times(&lab.run(33_000), "failed Timeout"), [32_000]);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_passed_up() {
    let mut lab = Lab::new();
    let invite = start(&mut lab, "INVITE", Transport::Udp);
    lab.receive(&udp(), &answer(&invite, 180, "b"));
    lab.input(Input::Cancel { key: KEY, reason: None });
    assert_eq!(brief(&lab.receive(&udp(), &answer(&invite, 200, "b"))), ["200"]);
    lab.run(32_000);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn cancel_of_what_is_over_or_no_invite_changes_nothing() {
    let mut lab = Lab::new();
    assert!(lab.input(Input::Cancel { key: KEY, reason: None }).is_empty());
    let bye = start(&mut lab, "BYE", Transport::Udp);
    lab.receive(&udp(), &answer(&bye, 100, ""));
    assert!(lab.input(Input::Cancel { key: KEY, reason: None }).is_empty());
    assert_eq!(brief(&lab.receive(&udp(), &answer(&bye, 200, "b"))), ["200"]);
}

fn target(transport: Transport, port: u16) -> Target {
    Target { transport, addr: peer(port), server_name: None }
}

fn resolving(lab: &mut Lab, method: &str, targets: Vec<Target>) -> Vec<Output> {
    let uri = Uri::parse("sip:acme.test").unwrap();
    let input = Input::Request {
        key: KEY,
        request: own(method),
        destination: Destination::Uri(uri.clone()),
    };
    let outputs = lab.input(input);
    assert!(matches!(&outputs[..], [Output::Resolve { key: KEY, uri: u }] if *u == uri));
    lab.input(Input::Resolved { key: KEY, targets })
}

fn port_of(outputs: &[Output]) -> Vec<u16> {
    let port = |(to, _): (SendTo, _)| match to {
        SendTo::Address { addr, .. } => addr.port(),
        other => panic!("{other:?}"),
    };
    sends(outputs).into_iter().map(port).collect()
}

#[test]
fn targets_are_tried_in_turn_under_new_branches() {
    let mut lab = Lab::new();
    let targets = (1..=4).map(|port| target(Transport::Udp, port)).collect();
    let outputs = resolving(&mut lab, "INVITE", targets);
    assert_eq!(port_of(&outputs), [1]);
    let (to, first) = sends(&outputs).remove(0);
    // No transport.
    let outputs = lab.input(Input::SendFailed { key: Some(KEY), to: to.clone() });
    assert_eq!(port_of(&outputs), [2]);
    let (_, second) = sends(&outputs).remove(0);
    assert_ne!(header(&text(&first), "Via"), header(&text(&second), "Via"));
    assert_eq!(text(&second).matches("Via:").count(), 1);
    assert!(lab.input(Input::SendFailed { key: Some(KEY), to }).is_empty(), "reported too late");
    // 503.
    let outputs = lab.receive(&udp(), &answer(&second, 503, "b"));
    assert_eq!(brief(&outputs), [">ACK", ">INVITE"]);
    assert_eq!(port_of(&outputs), [2, 3]);
    assert_eq!(brief(&lab.receive(&udp(), &answer(&second, 503, "b"))), [">ACK"]);
    // No response.
    let outputs = lab.run(32_000);
    let to_fourth = outputs.last().unwrap();
    assert_eq!(to_fourth.0, 32_000);
    assert_eq!(port_of(std::slice::from_ref(&to_fourth.1)), [4]);
    let (_, fourth) = sends(std::slice::from_ref(&to_fourth.1)).remove(0);
    // The last one's 503 is the answer.
    let outputs = lab.receive(&udp(), &answer(&fourth, 503, "b"));
    assert_eq!(brief(&outputs), [">ACK", "503"]);
    lab.run(32_000);
    assert!(lab.endpoint.is_empty());
    assert_eq!(lab.endpoint.counters().failovers, 3);
}

#[test]
fn the_only_target_s_failure_is_the_request_s() {
    let mut lab = Lab::new();
    let outputs = resolving(&mut lab, "BYE", vec![target(Transport::Tcp, 1)]);
    let (to, _) = sends(&outputs).remove(0);
    let outputs = lab.input(Input::SendFailed { key: Some(KEY), to });
    assert!(failed(KEY, FailureCause::Transport, &outputs));
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_cancelled_invite_goes_to_no_other_target() {
    let mut lab = Lab::new();
    let outputs =
        resolving(&mut lab, "INVITE", vec![target(Transport::Udp, 1), target(Transport::Udp, 2)]);
    lab.input(Input::Cancel { key: KEY, reason: None });
    let (to, _) = sends(&outputs).remove(0);
    let outputs = lab.input(Input::SendFailed { key: Some(KEY), to });
    assert_eq!(brief(&outputs), ["failed Transport"]);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_look_up_that_finds_nothing_or_never_ends_fails_the_request() {
    let mut lab = Lab::new();
    assert_eq!(brief(&resolving(&mut lab, "BYE", Vec::new())), ["failed NotResolved"]);
    let mut lab = Lab::new();
    let uri = Uri::parse("sip:acme.test").unwrap();
    lab.input(Input::Request {
        key: KEY,
        request: own("INVITE"),
        destination: Destination::Uri(uri.clone()),
    });
    assert_eq!(brief_timed(&lab.run(32_000)), [(32_000, "failed NotResolved".to_owned())]);
    let outputs = lab.input(Input::Resolved { key: KEY, targets: vec![target(Transport::Udp, 1)] });
    assert!(outputs.is_empty());
    // Cancelled meanwhile.
    lab.input(Input::Request {
        key: KEY,
        request: own("INVITE"),
        destination: Destination::Uri(uri),
    });
    let outputs = lab.input(Input::Cancel { key: KEY, reason: None });
    assert_eq!(brief(&outputs), ["failed Cancelled"]);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn numeric_uris_need_no_look_up() {
    let cases = [
        ("sip:192.0.2.9", Transport::Udp, "192.0.2.9:5060"),
        ("sip:192.0.2.9:5070;transport=tcp", Transport::Tcp, "192.0.2.9:5070"),
        ("sips:192.0.2.9", Transport::Tls, "192.0.2.9:5061"),
        ("sip:[2001:db8::9];transport=tls", Transport::Tls, "[2001:db8::9]:5061"),
        ("sips:192.0.2.9;transport=ws", Transport::Wss, "192.0.2.9:443"),
    ];
    for (uri, transport, addr) in cases {
        let mut lab = Lab::new();
        let destination = Destination::Uri(Uri::parse(uri).unwrap());
        let outputs = lab.input(Input::Request { key: KEY, request: own("BYE"), destination });
        let (to, _) = sends(&outputs).remove(0);
        let SendTo::Address { transport: t, addr: a, .. } = to else { panic!("{to:?}") };
        assert_eq!((t, a.to_string()), (transport, addr.to_owned()), "{uri}");
    }
}

fn large() -> landline_sip::Request {
    let mut request = own("INVITE");
    request.headers.push(HeaderName::Subject, "x".repeat(1400));
    request
}

#[test]
fn a_large_request_goes_over_tcp_and_falls_back_to_udp() {
    let mut lab = Lab::new();
    let destination = address(Transport::Udp, 5099);
    let outputs = lab.input(Input::Request { key: KEY, request: large(), destination });
    let (to, bytes) = sends(&outputs).remove(0);
    assert_eq!(to.transport(), Transport::Tcp);
    assert!(header(&text(&bytes), "Via").unwrap().starts_with("SIP/2.0/TCP "));
    let outputs = lab.input(Input::SendFailed { key: Some(KEY), to });
    let (to, bytes) = sends(&outputs).remove(0);
    assert_eq!(to.transport(), Transport::Udp);
    assert!(header(&text(&bytes), "Via").unwrap().starts_with("SIP/2.0/UDP "));
    assert_eq!(times(&lab.run(600), ">INVITE"), [500]);
}

#[test]
fn a_large_request_keeps_to_its_flow() {
    let mut lab = Lab::new();
    let destination = Destination::Flow(udp());
    let outputs = lab.input(Input::Request { key: KEY, request: large(), destination });
    assert_eq!(sends(&outputs).remove(0).0, SendTo::Flow(udp()));
}

#[test]
fn a_closed_connection_fails_what_was_sent_over_it() {
    let mut lab = Lab::new();
    let over = |flow| Destination::Flow(flow);
    lab.input(Input::Request { key: KEY, request: own("INVITE"), destination: over(tcp()) });
    let other = ClientKey(2);
    lab.input(Input::Request { key: other, request: own("BYE"), destination: over(udp()) });
    let outputs = lab.input(Input::FlowClosed(tcp().id));
    assert_eq!(brief(&outputs), ["failed Transport", "flow closed"]);
    assert_eq!(lab.endpoint.len(), 1);
}

#[test]
fn what_cannot_be_begun_is_refused() {
    let mut config = config();
    config.max_transactions = 10;
    let mut lab = Lab::with(config);
    for method in ["ACK", "CANCEL"] {
        let outputs = lab.input(Input::Request {
            key: KEY,
            request: own(method),
            destination: address(Transport::Udp, 1),
        });
        assert_eq!(brief(&outputs), ["failed Refused"], "{method}");
    }
    start(&mut lab, "BYE", Transport::Udp);
    let mut begin = |key| {
        brief(&lab.input(Input::Request {
            key: ClientKey(key),
            request: own("BYE"),
            destination: address(Transport::Udp, 1),
        }))
    };
    assert_eq!(begin(1), ["failed Refused"], "the key is in use");
    for key in 2..10 {
        assert_eq!(begin(key), [">BYE"]);
    }
    assert_eq!(begin(10), ["failed Refused"], "the table is full");
}

#[test]
fn a_client_without_listeners_names_itself_by_an_invalid_host() {
    let mut lab = Lab::with(Default::default());
    let bye = start(&mut lab, "BYE", Transport::Tcp);
    let via = header(&text(&bye), "Via").unwrap().to_owned();
    assert!(via.contains(".invalid;branch="), "{via}");
}

#[test]
fn an_ack_waits_for_its_look_up() {
    let mut lab = Lab::new();
    let destination = Destination::Uri(Uri::parse("sip:acme.test").unwrap());
    let outputs = lab.input(Input::Forward { request: own("ACK"), destination });
    let [Output::Resolve { key, .. }] = &outputs[..] else { panic!("{:?}", brief(&outputs)) };
    assert!(key.0 >= ClientKey::RESERVED);
    let targets = vec![target(Transport::Udp, 9)];
    let outputs = lab.input(Input::Resolved { key: *key, targets });
    assert_eq!((brief(&outputs), port_of(&outputs)), (vec![">ACK".to_owned()], vec![9]));
    assert!(lab.endpoint.is_empty());
    let destination = Destination::Uri(Uri::parse("sip:acme.test").unwrap());
    lab.input(Input::Forward { request: own("ACK"), destination });
    lab.run(32_000);
    assert!(lab.endpoint.is_empty());
    assert_eq!(lab.endpoint.counters().forwards_dropped, 1);
}
