//! Keys between SIPp, which says them by INFO and has none in its media, and
//! baresip, which has them there (RFC 4733) and takes them by nothing else.

mod support;

use std::time::Duration;

use support::baresip::{self, Baresip, Options};
use support::server::Demo;
use support::sipp::{self, Sipp};
use support::{free_ports, have};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn keys_cross_between_info_and_the_media_both_ways() {
    if !have(&[baresip::PROGRAM, sipp::PROGRAM]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let machine = demo.add_user("acme.test", "machine", &["--media", "rtp"]);
    let user = demo.add_user("acme.test", "desk", &["--media", "sdes"]);
    let options =
        Options { encryption: Some("srtp-mand"), ..Options::of(&demo, "ie1", "udp", &user) };
    let mut desk = Baresip::registered(directory.path(), &options);
    let proxy = demo.sip("ie1", "udp").to_owned();
    // baresip's jitter buffer gives a packet for a packet: in silence the end of a
    // key would stay there.
    let (port, sound) = (free_ports(2), free_ports(4).to_string());
    let keys = [
        ("user", machine.name.as_str()),
        ("password", &machine.password),
        ("domain", &machine.domain),
        ("target", "desk"),
        ("echo", &sound),
    ];
    let mut caller = Sipp::start(directory.path(), "uac_keys", port, &proxy, 1, &keys);
    desk.expect("CALL_ESTABLISHED", SOON);
    // By INFO from SIPp: baresip hears both in its media.
    for key in ["7", "#"] {
        let heard = desk.expect("CALL_DTMF_START", SOON);
        assert_eq!(heard["param"], key, "{heard}");
        desk.expect("CALL_DTMF_END", SOON);
    }
    // In the media from baresip: SIPp hears it by INFO, and hangs up.
    desk.command("sndcode", "4");
    caller.succeeds();
    desk.expect("CALL_CLOSED", SOON);
}
