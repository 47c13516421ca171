//! Server transactions by the clock: RFC 3261 §17.2, §8.2, §9.2, §18.2 and
//! RFC 6026 §7.1.

mod lab;

use std::time::Duration;

use lab::*;
use landline_sip::{Event, Flow, FlowId, Input, Request, SendTo, ServerKey, Transport};

fn open(lab: &mut Lab, flow: &Flow, method: &str) -> (ServerKey, Request) {
    let outputs = lab.receive(flow, &incoming(method, "z9hG4bKa"));
    assert_eq!(brief(&outputs), [method]);
    arrived(&outputs)
}

fn times(outputs: &[Timed], what: &str) -> Vec<u64> {
    brief_timed(outputs).into_iter().filter(|(_, b)| b == what).map(|(at, _)| at).collect()
}

/// The ACK to our response with the To tag `us`: under the INVITE's branch for
/// a refusal, under its own for a 2xx.
fn ack(branch: &str) -> String {
    incoming("ACK", branch).replace("To: <sip:bob@acme.test>", "To: <sip:bob@acme.test>;tag=us")
}

#[test]
fn an_invite_nobody_answers_gets_its_100_after_200_ms() {
    let mut lab = Lab::new();
    open(&mut lab, &udp(), "INVITE");
    assert_eq!(brief_timed(&lab.run(10_000)), [(200, ">100".to_owned())]);
}

#[test]
fn an_invite_answered_at_once_gets_no_100() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    assert_eq!(brief(&lab.respond(key, &request, 180)), [">180"]);
    assert!(lab.run(10_000).is_empty());
}

#[test]
fn a_repeated_request_gets_the_last_response_and_is_not_passed_up() {
    let mut lab = Lab::new();
    let again = |lab: &mut Lab| brief(&lab.receive(&udp(), &incoming("INVITE", "z9hG4bKa")));
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    assert!(again(&mut lab).is_empty());
    lab.run(200);
    assert_eq!(again(&mut lab), [">100"]);
    lab.respond(key, &request, 180);
    assert_eq!(again(&mut lab), [">180"]);
    lab.respond(key, &request, 486);
    assert_eq!(again(&mut lab), [">486"]);
    assert_eq!(lab.endpoint.counters().request_retransmissions, 4);
}

#[test]
fn a_refusal_is_repeated_until_64_t1_when_no_ack_comes() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    lab.respond(key, &request, 486);
    let outputs = lab.run(40_000);
    let expected = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(times(&outputs, ">486"), expected);
    assert_eq!(outputs.len(), expected.len());
    assert!(lab.endpoint.is_empty());
    assert_eq!(lab.endpoint.counters().missing_acks, 1);
}

#[test]
fn the_ack_to_a_refusal_is_absorbed_for_t4() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    lab.respond(key, &request, 486);
    assert!(lab.receive(&udp(), &ack("z9hG4bKa")).is_empty());
    assert!(lab.receive(&udp(), &ack("z9hG4bKa")).is_empty());
    assert!(lab.receive(&udp(), &incoming("INVITE", "z9hG4bKa")).is_empty());
    assert!(lab.run(4999).is_empty());
    assert_eq!(lab.endpoint.len(), 1, "timer I");
    lab.run(1);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn over_tcp_a_refusal_is_sent_once_and_its_ack_ends_it() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &tcp(), "INVITE");
    lab.respond(key, &request, 486);
    assert!(lab.run(1000).is_empty());
    assert!(lab.receive(&tcp(), &ack("z9hG4bKa")).is_empty());
    assert!(lab.endpoint.is_empty());
}

#[test]
fn an_ack_before_any_final_response_is_dropped() {
    let mut lab = Lab::new();
    open(&mut lab, &udp(), "INVITE");
    assert!(lab.receive(&udp(), &ack("z9hG4bKa")).is_empty());
    assert_eq!(lab.endpoint.counters().stray_acks, 1);
}

#[test]
fn a_2xx_is_repeated_over_every_transport_until_its_ack() {
    for flow in [udp(), tcp()] {
        let mut lab = Lab::new();
        let (key, request) = open(&mut lab, &flow, "INVITE");
        lab.respond(key, &request, 200);
        assert_eq!(times(&lab.run(8000), ">200"), [500, 1500, 3500, 7500]);
        // RFC 6026 §7.1: a repeated INVITE is absorbed, not a new call.
        assert!(lab.receive(&flow, &incoming("INVITE", "z9hG4bKa")).is_empty());
        let outputs = lab.receive(&flow, &ack("z9hG4bKother"));
        assert_eq!(brief(&outputs), ["acked", "ACK (no key)"]);
        assert!(matches!(events(&outputs)[0], Event::Acked { key: k } if k == key));
        // A proxy passes on the ACK again, for it may have been lost behind it.
        assert_eq!(brief(&lab.receive(&flow, &ack("z9hG4bKother"))), ["ACK (no key)"]);
        assert!(lab.receive(&flow, &incoming("INVITE", "z9hG4bKa")).is_empty());
        assert!(lab.run(23_999).is_empty());
        assert_eq!(lab.endpoint.len(), 1, "timer L");
        lab.run(1);
        assert!(lab.endpoint.is_empty());
    }
}

#[test]
fn a_2xx_never_acknowledged_is_reported_after_64_t1() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    lab.respond(key, &request, 200);
    let outputs = lab.run(40_000);
    assert_eq!(times(&outputs, ">200").len(), 10);
    assert_eq!(times(&outputs, "ack timeout"), [32_000]);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn an_ack_of_another_dialog_does_not_count() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    lab.respond(key, &request, 200);
    for other in [
        ack("z9hG4bKo").replace("tag=us", "tag=other"),
        ack("z9hG4bKo").replace("tag=them", "tag=other"),
        ack("z9hG4bKo").replace("Call-ID: c1", "Call-ID: c2"),
        ack("z9hG4bKo").replace("CSeq: 7", "CSeq: 8"),
    ] {
        assert_eq!(brief(&lab.receive(&udp(), &other)), ["ACK (no key)"]);
    }
    assert_eq!(times(&lab.run(600), ">200"), [500]);
}

#[test]
fn a_proxy_may_pass_several_2xx_each_until_its_own_ack() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    lab.respond(key, &request, 200);
    let second = landline_sip::Response::for_request(&request, landline_sip::StatusCode::OK)
        .with_to_tag("fork");
    let outputs = lab.input(Input::Respond { key, response: second });
    assert_eq!(brief(&outputs), [">200"]);
    assert_eq!(times(&lab.run(500), ">200").len(), 2);
    lab.receive(&udp(), &ack("z9hG4bKo"));
    assert_eq!(times(&lab.run(1000), ">200").len(), 1);
    lab.receive(&udp(), &ack("z9hG4bKp").replace("tag=us", "tag=fork"));
    assert!(lab.run(10_000).is_empty());
    // Nothing but a 2xx follows a 2xx.
    assert!(lab.respond(key, &request, 486).is_empty());
}

#[test]
fn a_request_s_response_is_kept_for_64_t1() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "BYE");
    assert!(lab.receive(&udp(), &incoming("BYE", "z9hG4bKa")).is_empty());
    assert_eq!(brief(&lab.respond(key, &request, 200)), [">200"]);
    assert!(lab.respond(key, &request, 486).is_empty(), "answered already");
    assert!(lab.run(31_999).is_empty());
    assert_eq!(brief(&lab.receive(&udp(), &incoming("BYE", "z9hG4bKa"))), [">200"]);
    lab.run(1);
    assert!(lab.endpoint.is_empty(), "timer J");
    assert_eq!(brief(&lab.receive(&udp(), &incoming("BYE", "z9hG4bKa"))), ["BYE"]);
}

#[test]
fn over_tcp_an_answered_request_is_over_at_once() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &tcp(), "BYE");
    lab.respond(key, &request, 200);
    assert!(lab.endpoint.is_empty());
    assert!(lab.respond(key, &request, 200).is_empty());
    assert_eq!(lab.endpoint.counters().late_inputs, 1);
}

#[test]
fn a_request_left_unanswered_dies_with_its_sender_s_patience() {
    let mut lab = Lab::new();
    open(&mut lab, &udp(), "OPTIONS");
    assert!(lab.run(40_000).is_empty());
    assert!(lab.endpoint.is_empty());
    assert_eq!(lab.endpoint.counters().unanswered_requests, 1);
}

#[test]
fn requests_are_told_apart_by_branch_sent_by_and_method() {
    let mut lab = Lab::new();
    open(&mut lab, &udp(), "INVITE");
    let branch = incoming("INVITE", "z9hG4bKb");
    let sent_by = with_via("INVITE", "SIP/2.0/UDP 192.0.2.8:5099;branch=z9hG4bKa");
    let port = with_via("INVITE", "SIP/2.0/UDP 192.0.2.9:5098;branch=z9hG4bKa");
    for (n, text) in [branch, sent_by, port].into_iter().enumerate() {
        let text = text.replace("c1", &format!("call{n}"));
        assert_eq!(brief(&lab.receive(&udp(), &text)), ["INVITE"]);
    }
    assert_eq!(brief(&lab.receive(&udp(), &incoming("BYE", "z9hG4bKa"))), ["BYE"]);
    // Another connection makes no difference.
    assert!(lab.receive(&tcp(), &incoming("INVITE", "z9hG4bKa")).is_empty());
}

#[test]
fn senders_of_rfc_2543_are_matched_by_their_dialog() {
    let invite = with_via("INVITE", "SIP/2.0/UDP 192.0.2.9:5099;branch=1");
    let ack_with = |tag: &str| {
        with_via("ACK", "SIP/2.0/UDP 192.0.2.9:5099;branch=1")
            .replace("To: <sip:bob@acme.test>", &format!("To: <sip:bob@acme.test>;tag={tag}"))
    };
    let mut lab = Lab::new();
    let (key, request) = arrived(&lab.receive(&udp(), &invite));
    assert!(lab.receive(&udp(), &invite).is_empty());
    let next_call = invite.replace("c1", "c2");
    assert_eq!(brief(&lab.receive(&udp(), &next_call)), ["INVITE"]);
    lab.respond(key, &request, 486);
    assert_eq!(brief(&lab.receive(&udp(), &ack_with("other"))), ["ACK (no key)"]);
    assert!(lab.receive(&udp(), &ack_with("us")).is_empty());
    assert!(times(&lab.run(20_000), ">486").is_empty());
    // No cookie and no branch at all.
    let bye = with_via("BYE", "SIP/2.0/UDP 192.0.2.9:5099");
    assert_eq!(brief(&lab.receive(&udp(), &bye)), ["BYE"]);
    assert!(lab.receive(&udp(), &bye).is_empty());
}

#[test]
fn a_cancel_is_answered_here_and_reported_once() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    lab.respond(key, &request, 180);
    let outputs = lab.receive(&udp(), &incoming("CANCEL", "z9hG4bKa"));
    assert_eq!(brief(&outputs), [">200", "cancelled"]);
    assert!(matches!(events(&outputs)[0], Event::Cancelled { key: k } if k == key));
    let ok = sent(&outputs).remove(0);
    assert_eq!(header(&ok, "CSeq"), Some("7 CANCEL"));
    assert_eq!(header(&ok, "To"), Some("<sip:bob@acme.test>;tag=us"), "the tag of the 180");
    let again = lab.receive(&udp(), &incoming("CANCEL", "z9hG4bKa"));
    assert_eq!(sent(&again), [ok]);
    assert_eq!(again.len(), 1);
    assert_eq!(brief(&lab.respond(key, &request, 487)), [">487"]);
    assert!(lab.receive(&udp(), &ack("z9hG4bKa")).is_empty());
    lab.run(40_000);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let mut lab = Lab::new();
    let (key, request) = open(&mut lab, &udp(), "INVITE");
    lab.respond(key, &request, 200);
    assert_eq!(brief(&lab.receive(&udp(), &incoming("CANCEL", "z9hG4bKa"))), [">200"]);
}

#[test]
fn a_cancel_of_nothing_gets_481() {
    let mut lab = Lab::new();
    let first = lab.receive(&udp(), &incoming("CANCEL", "z9hG4bKa"));
    assert_eq!(brief(&first), [">481"]);
    // Without state, yet the same To tag: RFC 3261 §8.2.7.
    assert_eq!(sent(&lab.receive(&udp(), &incoming("CANCEL", "z9hG4bKa"))), sent(&first));
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_request_that_comes_a_second_way_gets_482() {
    let mut lab = Lab::new();
    open(&mut lab, &udp(), "INVITE");
    let outputs = lab.receive(&udp(), &incoming("INVITE", "z9hG4bKb"));
    assert_eq!(brief(&outputs), [">482"]);
    let next = incoming("INVITE", "z9hG4bKc").replace("CSeq: 7", "CSeq: 8");
    assert_eq!(brief(&lab.receive(&udp(), &next)), ["INVITE"]);
    let other_user = incoming("INVITE", "z9hG4bKe").replacen("bob@", "carol@", 1);
    assert_eq!(brief(&lab.receive(&udp(), &other_user)), ["INVITE"], "forked, not merged");
    let in_dialog = incoming("INVITE", "z9hG4bKd").replace("test>\nCall", "test>;tag=us\nCall");
    assert_eq!(brief(&lab.receive(&udp(), &in_dialog)), ["INVITE"]);
}

#[test]
fn a_challenged_request_may_come_back_with_the_same_cseq() {
    for method in ["INVITE", "REGISTER"] {
        let mut lab = Lab::new();
        let (key, request) = open(&mut lab, &udp(), method);
        lab.respond(key, &request, 401);
        let outputs = lab.receive(&udp(), &incoming(method, "z9hG4bKb"));
        assert_eq!(brief(&outputs), [method]);
        lab.run(40_000);
    }
}

/// Where the response to a request with this Via goes.
fn route(flow: &Flow, via: &str) -> (SendTo, String) {
    let mut lab = Lab::new();
    let (key, request) = arrived(&lab.receive(flow, &with_via("OPTIONS", via)));
    let outputs = lab.respond(key, &request, 200);
    let (to, bytes) = sends(&outputs).remove(0);
    (to, header(&text(&bytes), "Via").unwrap().to_owned())
}

#[test]
fn responses_go_where_rport_or_the_via_says() {
    let to_port = |port| {
        let mut flow = udp();
        flow.remote.set_port(port);
        SendTo::Flow(flow)
    };
    let (to, via) = route(&udp(), "SIP/2.0/UDP 10.0.0.1:5070;rport;branch=z9hG4bKa");
    assert_eq!(to, to_port(5099));
    assert!(via.contains("rport=5099") && via.contains("received=192.0.2.9"), "{via}");
    let (to, via) = route(&udp(), "SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa");
    assert_eq!(to, to_port(5070));
    assert!(via.contains("received=192.0.2.9") && !via.contains("rport"), "{via}");
    let (to, via) = route(&udp(), "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa");
    assert_eq!(to, to_port(5060));
    assert!(!via.contains("received"), "{via}");
    // Nobody is to be aimed at by what a sender writes.
    let forged =
        "SIP/2.0/UDP h.test:5099;received=203.0.113.7;rport=9;maddr=203.0.113.7;branch=z9hG4bKa";
    let (to, via) = route(&udp(), forged);
    assert_eq!(to, to_port(5099));
    assert!(via.contains("received=192.0.2.9") && via.contains("rport=5099"), "{via}");
    let (to, _) = route(&tcp(), "SIP/2.0/TCP 192.0.2.9:5070;branch=z9hG4bKa");
    assert_eq!(to, SendTo::Flow(tcp()));
}

#[test]
fn a_response_whose_connection_is_gone_goes_to_where_the_sender_listens() {
    let mut lab = Lab::new();
    let invite = with_via("INVITE", "SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bKa");
    let (key, request) = arrived(&lab.receive(&tcp(), &invite));
    assert_eq!(brief(&lab.input(Input::FlowClosed(tcp().id))), ["flow closed"]);
    let outputs = lab.respond(key, &request, 200);
    let expected =
        SendTo::Address { transport: Transport::Tcp, addr: peer(5070), server_name: None };
    assert_eq!(sends(&outputs)[0].0, expected);
    // Another region is known by name.
    let region =
        Flow { id: FlowId(8), transport: Transport::Tls, peer: Some("us1".into()), ..udp() };
    let invite =
        with_via("INVITE", "SIP/2.0/TLS us1.test:5071;branch=z9hG4bKr").replace("c1", "c3");
    let (key, request) = arrived(&lab.receive(&region, &invite));
    lab.input(Input::FlowClosed(region.id));
    let outputs = lab.respond(key, &request, 486);
    let expected = SendTo::Region { region: "us1".into(), host: "us1.test".into(), port: 5071 };
    assert_eq!(sends(&outputs)[0].0, expected);
    // A browser listens nowhere.
    let ws = Flow { id: FlowId(9), transport: Transport::Wss, ..udp() };
    let invite = with_via("INVITE", "SIP/2.0/WSS x.invalid;branch=z9hG4bKw").replace("c1", "c2");
    let (key, request) = arrived(&lab.receive(&ws, &invite));
    lab.input(Input::FlowClosed(ws.id));
    assert!(lab.respond(key, &request, 486).is_empty());
    assert_eq!(lab.endpoint.counters().unroutable_responses, 1);
    lab.run(40_000);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn a_full_table_answers_503_and_still_lets_calls_end() {
    let mut config = config();
    config.max_transactions = 20;
    let mut lab = Lab::with(config);
    let call = |n: usize, method: &str| {
        incoming(method, &format!("z9hG4bK{n}")).replace("c1", &format!("call{n}"))
    };
    let bye = |n| call(n, "BYE").replace("test>\nCall", "test>;tag=us\nCall");
    for n in 0..18 {
        assert_eq!(brief(&lab.receive(&udp(), &call(n, "INVITE"))), ["INVITE"]);
    }
    let outputs = lab.receive(&udp(), &call(18, "INVITE"));
    assert_eq!(brief(&outputs), [">503"]);
    let retry_after: u64 = header(&sent(&outputs)[0], "Retry-After").unwrap().parse().unwrap();
    assert!((5..15).contains(&retry_after), "{retry_after}");
    assert_eq!(brief(&lab.receive(&udp(), &bye(19))), ["BYE"]);
    assert_eq!(brief(&lab.receive(&udp(), &bye(20))), ["BYE"]);
    assert_eq!(brief(&lab.receive(&udp(), &bye(21))), [">503"]);
    // A CANCEL is answered even then.
    let cancel = call(3, "CANCEL");
    assert_eq!(brief(&lab.receive(&udp(), &cancel)), [">200", "cancelled"]);
    assert_eq!(lab.endpoint.counters().overload_answered, 2);
    assert_eq!(lab.endpoint.len(), 20);
}

#[test]
fn new_requests_are_refused_while_messages_wait_too_long_and_calls_go_on() {
    let mut lab = Lab::new();
    let call = |n: usize, method: &str| {
        incoming(method, &format!("z9hG4bK{n}")).replace("c1", &format!("call{n}"))
    };
    assert_eq!(brief(&lab.receive(&udp(), &call(1, "INVITE"))), ["INVITE"]);
    lab.messages_wait(Duration::from_secs(1));
    lab.messages_wait(Duration::from_secs(1));
    assert_eq!(lab.refused_part(), 1.0);

    let outputs = lab.receive(&udp(), &call(2, "INVITE"));
    assert_eq!(brief(&outputs), [">503"]);
    assert!(header(&sent(&outputs)[0], "Retry-After").is_some());
    let again = lab.receive(&udp(), &call(2, "INVITE"));
    assert_eq!(sent(&again), sent(&outputs), "each copy gets the same answer");
    assert_eq!(brief(&lab.receive(&udp(), &call(3, "REGISTER"))), [">503"]);

    // What is under way, in a dialog, or an emergency goes first.
    assert_eq!(lab.endpoint.counters().request_retransmissions, 0);
    lab.receive(&udp(), &call(1, "INVITE"));
    assert_eq!(lab.endpoint.counters().request_retransmissions, 1);
    let bye = call(4, "BYE").replace("test>\nCall", "test>;tag=us\nCall");
    assert_eq!(brief(&lab.receive(&udp(), &bye)), ["BYE"]);
    for (n, target) in [(5, "urn:service:sos.fire"), (6, "sip:112@acme.test")] {
        let invite = call(n, "INVITE");
        let (_, rest) = invite.split_once(" SIP/2.0").unwrap();
        let invite = format!("INVITE {target} SIP/2.0{rest}");
        assert_eq!(brief(&lab.receive(&udp(), &invite)), ["INVITE"], "{target}");
    }
    let like = call(7, "INVITE");
    let (_, rest) = like.split_once(" SIP/2.0").unwrap();
    let like = format!("INVITE urn:service:sosumi SIP/2.0{rest}");
    assert_eq!(brief(&lab.receive(&udp(), &like)), [">503"]);
    assert_eq!(lab.endpoint.counters().shed, 4);

    (0..6).for_each(|_| lab.messages_wait(Duration::ZERO));
    assert_eq!(brief(&lab.receive(&udp(), &call(8, "INVITE"))), ["INVITE"]);
}

#[test]
fn a_malformed_request_is_answered_and_counted() {
    let mut lab = Lab::new();
    let bad = incoming("INVITE", "z9hG4bKa").replace("CSeq: 7 INVITE", "CSeq: seven INVITE");
    let outputs = lab.receive(&udp(), &bad);
    assert_eq!(brief(&outputs), [">400"]);
    let (to, bytes) = sends(&outputs).remove(0);
    assert_eq!(to, SendTo::Flow(udp()));
    let via = header(&text(&bytes), "Via").unwrap().to_owned();
    assert!(via.contains("rport=5099"), "{via}");
    let version = incoming("OPTIONS", "z9hG4bKb").replace(" SIP/2.0\nVia", " SIP/7.0\nVia");
    assert_eq!(brief(&lab.receive(&udp(), &version)), [">505"]);
    assert!(lab.receive(&udp(), &bad.replace("INVITE", "ACK")).is_empty(), "never an ACK");
    assert!(lab.receive(&udp(), "nonsense\n\n").is_empty());
    assert_eq!(lab.endpoint.counters().malformed_answered, 2);
    let refused: u64 = lab.endpoint.counters().parse_errors.values().sum();
    assert_eq!(refused, 4);
    assert!(lab.endpoint.is_empty());
}

#[test]
fn the_endpoint_s_own_responses_name_the_server_if_it_has_a_name() {
    let mut config = config();
    config.server = Some("Landline".into());
    let mut lab = Lab::with(config);
    open(&mut lab, &udp(), "INVITE");
    let outputs: Vec<_> = lab.run(200).into_iter().map(|(_, output)| output).collect();
    assert_eq!(header(&sent(&outputs)[0], "Server"), Some("Landline"));
}

#[test]
fn very_many_transactions_come_and_go_without_a_trace() {
    let mut lab = Lab::new();
    for n in 0..20_000 {
        let register = incoming("REGISTER", &format!("z9hG4bK{n}")).replace("c1", &format!("c{n}"));
        let (key, request) = arrived(&lab.receive(&udp(), &register));
        lab.respond(key, &request, 401);
    }
    assert_eq!(lab.endpoint.len(), 20_000);
    lab.run(32_000);
    assert!(lab.endpoint.is_empty());
    assert_eq!(lab.endpoint.poll_timeout(), None);
}
