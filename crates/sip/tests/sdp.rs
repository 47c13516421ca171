//! Session descriptions as phones and browsers write them.

use std::path::Path;

use landline_sip::Limits;
use landline_sip::sdp::{Direction, SdpError, SessionDescription, Setup, parse};

#[test]
fn a_browsers_offer_is_read_whole() {
    let offer = description("webrtc");
    let audio = offer.audio().unwrap();
    assert_eq!((audio.port, audio.protocol.as_str()), (58779, "UDP/TLS/RTP/SAVPF"));
    assert_eq!(offer.media_ip(audio), Some("203.0.113.141".parse().unwrap()));
    assert_eq!(offer.ice_ufrag(audio), Some("TWUR"));
    assert_eq!(offer.setup(audio), Some(Setup::ActPass));
    let fingerprints = offer.fingerprints(audio);
    assert_eq!((fingerprints[0].hash.as_str(), fingerprints[0].digest.len()), ("sha-256", 32));
    let candidates = audio.candidates();
    assert_eq!(candidates.len(), 4);
    assert_eq!((candidates[2].kind.as_str(), candidates[2].ip().is_some()), ("srflx", true));
    assert_eq!(candidates[3].ip(), None);
    assert!(audio.rtcp_mux());
    assert_eq!(audio.mid(), Some("0"));
    let opus = audio.rtpmap(111).unwrap();
    assert_eq!((opus.encoding.as_str(), opus.clock_rate, opus.channels), ("opus", 48000, Some(2)));
    assert_eq!(audio.rtpmap(8).unwrap().encoding, "PCMA");
    assert_eq!(audio.fmtp(111).as_deref(), Some("minptime=10;useinbandfec=1"));
}

#[test]
fn sdes_keys_are_read_with_their_lifetime_and_mki() {
    let offer = description("sdes");
    let audio = offer.audio().unwrap();
    let cryptos = audio.cryptos();
    assert_eq!(cryptos.len(), 3);
    assert_eq!((cryptos[0].tag, cryptos[0].suite.as_str()), (1, "AEAD_AES_128_GCM"));
    assert_eq!(cryptos[0].key, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3OA==");
    assert_eq!(cryptos[1].lifetime.as_deref(), Some("2^20"));
    assert_eq!(cryptos[1].mki.as_deref(), Some("1:4"));
    assert_eq!(cryptos[1].session_params, ["UNENCRYPTED_SRTCP", "KDR=1"]);
    assert_eq!(offer.direction(audio), Direction::SendOnly);
    assert_eq!(offer.media_ip(audio), Some("2001:db8::10".parse().unwrap()));
    assert_eq!(offer.bandwidth.len(), 2);
}

#[test]
fn what_the_session_says_holds_for_media_that_do_not() {
    let answer = description("ice-lite-answer");
    let audio = &answer.media[0];
    assert!(answer.ice_lite());
    assert_eq!(answer.ice_ufrag(audio), Some("lite"));
    assert_eq!(answer.setup(audio), Some(Setup::Passive));
    assert_eq!(answer.fingerprints(audio)[0].hash, "sha-384");
    assert_eq!(
        (audio.direction(), answer.direction(audio)),
        (Some(Direction::RecvOnly), Direction::RecvOnly)
    );
    assert!(answer.media[1].is_disabled());
    assert!(
        description("hold-by-address").is_held_by_address(&description("hold-by-address").media[0])
    );
}

#[test]
fn lines_nobody_knows_survive_in_their_section() {
    let text = description("every-line").to_string();
    let (session, media) = text.split_once("m=audio").unwrap();
    for line in [
        "i=a session",
        "u=http",
        "e=j.doe",
        "p=+1",
        "z=3730928400",
        "k=prompt",
        "q=a letter",
        "r=7d 1h",
    ] {
        assert!(session.contains(&format!("\r\n{line}")), "{line}");
    }
    for line in [
        "i=the first",
        "k=clear:x",
        "a=unknown\r\n",
        "a=unknown:value: with colons",
        "m=image 54111 udptl t38",
    ] {
        assert!(media.contains(&format!("\r\n{line}")), "{line}");
    }
    assert!(media.starts_with(" 49180/2 RTP/AVP 0\r\n"));
}

#[test]
fn what_is_in_order_already_prints_as_it_was() {
    for name in ["baresip-rtp", "sdes", "webrtc", "ice-lite-answer", "hold-by-address"] {
        let bytes = std::fs::read(corpus().join(format!("{name}.sdp"))).unwrap();
        let printed = parse(&bytes, &Limits::default()).unwrap().to_bytes();
        assert_eq!(std::str::from_utf8(&printed), std::str::from_utf8(&bytes), "{name}");
    }
    let same = |name: &str| description(name).to_bytes();
    assert_eq!(same("line-feeds-only"), same("sdes"));
}

#[test]
fn errors_name_the_line_and_never_its_text() {
    let base = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";
    for (line, problem) in [
        ("m=audio 65536 RTP/AVP 0", "the media port is not within 0 to 65535"),
        ("m=audio -1 RTP/AVP 0", "the media port is not within 0 to 65535"),
        ("m=audio 1 RTP/AVP", "the media line has no format"),
        ("c=IN IP4", "the connection does not have three parts"),
        ("nonsense", "the line is not type=value"),
        ("o=- 1 1 IN IP4 192.0.2.1", "a line that may stand once stands twice"),
        ("b=AS:lots", "the bandwidth is no number"),
        ("a=", "the attribute has no name"),
        ("a=x\0y", "a CR or NUL stands inside the line"),
        ("a=x\ry", "a CR or NUL stands inside the line"),
    ] {
        let error = parse(format!("{base}{line}\r\n").as_bytes(), &Limits::default()).unwrap_err();
        assert_eq!(error, SdpError { line: 5, problem }, "{line:?}");
    }
    for bad in ["", "v=1\r\n", "o=- 1 1 IN IP4 a\r\nv=0\r\n", "v=0\r\ns=-\r\n", "v=0\r\nv=0\r\n"] {
        assert!(parse(bad.as_bytes(), &Limits::default()).is_err(), "{bad:?}");
    }
}

#[test]
fn lines_media_and_formats_have_their_limits() {
    let base = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";
    let limits =
        Limits { max_sdp_lines: 50, max_sdp_media: 3, max_body: 4000, ..Limits::default() };
    for too_much in ["a=x\r\n".repeat(60), "m=audio 1 RTP/AVP 0\r\n".repeat(4), "x".repeat(4000)] {
        assert!(parse(format!("{base}{too_much}").as_bytes(), &limits).is_err());
    }
    let formats = " 0".repeat(200);
    assert!(parse(format!("{base}m=audio 1 RTP/AVP{formats}\r\n").as_bytes(), &limits).is_err());
    assert!(
        parse(format!("{base}{}", "m=audio 1 RTP/AVP 0\r\n".repeat(3)).as_bytes(), &limits).is_ok()
    );
}

#[test]
fn no_value_can_begin_a_line_of_its_own() {
    let mut description = description("sdes");
    description.name = "x\r\na=evil".into();
    description.origin.username = "u\r\na=evil".into();
    description.media[0].attributes[0].value = Some("x\r\nm=evil 1 x 0".into());
    description.media[0].formats[0] = "8\r\nm=evil".into();
    let again = parse(&description.to_bytes(), &Limits::default());
    let text = description.to_string();
    assert!(!text.contains("\na=evil") && !text.contains("\nm=evil"));
    assert!(again.is_err() || again.unwrap().media.len() == 1);
}

#[test]
fn debug_shows_neither_keys_nor_addresses() {
    let text = format!("{:?} {:?}", description("sdes"), description("sdes").media[0].cryptos());
    for secret in ["MTIz", "d0Rm", "2001", "alice"] {
        assert!(!text.contains(secret), "{text}");
    }
}

fn description(name: &str) -> SessionDescription {
    let path = corpus().join(format!("{name}.sdp"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/sdp")
}
