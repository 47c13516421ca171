//! What holds for every message that can be built, and every text that can
//! arrive.

use bytes::Bytes;
use landline_sip::digest::{Algorithm, Challenge, Credentials, answer, ha1, verify};
use landline_sip::{
    ByteStr, CSeq, HeaderName, Host, Limits, Message, Method, NameAddr, Request, Transport, Uri,
    Via, parse, sdp,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&Bytes::from(bytes.clone()), &Limits::default());
        let _ = sdp::parse(&bytes, &Limits::default());
    }

    #[test]
    fn a_built_request_arrives_as_it_was_built(
        user in any::<String>(),
        display in any::<String>(),
        subject in any::<String>(),
        host in host(),
        port in any::<Option<u16>>(),
        number in any::<u32>(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let user = if user.is_empty() { None } else { Some(user.as_str()) };
        let uri = Uri::sip(user, host.clone(), port);
        let from = NameAddr::new(uri.clone()).with_display(display.as_str()).with_param("tag", Some("f"));
        let request = Request::new(Method::Message, uri.clone())
            .with_header(HeaderName::Via, Via::new(Transport::Tls, host, port, "z9hG4bKx"))
            .with_header(HeaderName::From, from)
            .with_header(HeaderName::To, NameAddr::new(uri.clone()))
            .with_header(HeaderName::CallId, "call")
            .with_header(HeaderName::CSeq, CSeq { number, method: Method::Message })
            .with_header(HeaderName::Subject, subject.as_str())
            .with_body("application/octet-stream", body.clone());
        let arrived = match parse(&request.to_bytes(), &Limits::default()) {
            Ok(Message::Request(arrived)) => arrived,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert!(arrived.uri == uri);
        prop_assert!(arrived.uri.user_decoded().as_deref() == user);
        prop_assert_eq!(arrived.cseq().unwrap().number, number);
        prop_assert!(arrived.from().unwrap().tag() == Some("f"));
        let flat = |text: &str| text.replace(['\r', '\n'], " ");
        let shown = arrived.from().unwrap().display.unwrap();
        prop_assert_eq!(shown.to_str_lossy(), flat(&display));
        prop_assert_eq!(&arrived.body[..], &body[..]);
        // Nothing that was put into a value has become a header.
        prop_assert_eq!(arrived.headers.len(), request.headers.len() + 1);
    }

    #[test]
    fn parameters_hold_any_text(name in "[a-zA-Z0-9.-]{1,12}", value in "[^\r\n\0]{0,40}") {
        let addr = NameAddr::parse("<sip:a@b>;x=1").unwrap().with_param(&name, Some(&value));
        let again = NameAddr::parse(&addr.to_string());
        prop_assert!(again.is_ok(), "{:?}", again);
        let again = again.unwrap();
        prop_assert!(again.params.get_unquoted(&name).as_deref() == Some(value.as_str()));
    }

    #[test]
    fn parameters_hold_quotation_marks(value in "[\"\\\\ ;,a]{0,6}") {
        let addr = NameAddr::parse("<sip:a@b>").unwrap().with_param("x", Some(&value));
        let again = NameAddr::parse(&addr.to_string()).unwrap();
        prop_assert!(again.params.get_unquoted("x").as_deref() == Some(value.as_str()));
    }

    #[test]
    fn digests_verify_whatever_the_names_hold(
        username in "[^\0]{0,24}", realm in "[^\0\r\n]{0,24}", password in any::<String>(), sha in any::<bool>(),
    ) {
        prop_assume!(!username.contains(['\r', '\n']));
        let algorithm = if sha { Algorithm::Sha256 } else { Algorithm::Md5 };
        let challenge = Challenge {
            realm, nonce: "n".into(), algorithm, qop: true, stale: false, opaque: None,
        };
        let challenge = Challenge::parse(&ByteStr::from(&challenge)).unwrap();
        let sent = answer(&[challenge], &Method::Invite, "sip:b@a", &username, &password, 1, "c").unwrap();
        let got = Credentials::parse(&ByteStr::from(&sent)).unwrap();
        let secret = ha1(algorithm, &username, &got.realm, &password);
        prop_assert!(verify(&got, &secret, &Method::Invite));
        prop_assert!(!verify(&got, &secret, &Method::Bye));
    }

    #[test]
    fn a_value_list_loses_and_adds_nothing(
        values in proptest::collection::vec("(\"[a-z, <>;]{0,8}\" )?<sip:[a-z,;]{1,5}@[a-z]{1,5}>", 1..8),
        split in any::<u8>(),
    ) {
        let mut headers = landline_sip::Headers::new();
        let (front, back) = values.split_at(usize::from(split) % values.len());
        for part in [front, back] {
            if !part.is_empty() {
                headers.push(HeaderName::Route, part.join(" , "));
            }
        }
        let mut popped = Vec::new();
        let seen: Vec<_> = headers.values(&HeaderName::Route).collect();
        while let Some(value) = headers.remove_first_value(&HeaderName::Route) {
            popped.push(value);
        }
        prop_assert!(seen == popped);
        prop_assert!(popped.iter().map(|v| v.to_str_lossy()).eq(values.iter().map(String::as_str)));
    }
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}\\.[a-z]{2,4}".prop_map(|name| Host::parse(&name).unwrap()),
        any::<[u8; 4]>().prop_map(|ip| Host::V4(ip.into())),
        any::<[u8; 16]>().prop_map(|ip| Host::V6(ip.into())),
    ]
}
