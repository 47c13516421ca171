use landline_sip::Limits;
use landline_sip::sdp::{Candidate, Crypto, Fingerprint, Fmtp, RtpMap, SessionDescription, parse};

/// A session description: what parses prints, what is printed parses to the
/// same, and so does every attribute with a grammar.
pub fn sdp(input: &[u8]) {
    let limits = Limits::default();
    let description = match parse(input, &limits) {
        Ok(description) => description,
        Err(error) => {
            assert!(error.line >= 1 && error.line <= input.len() + 1);
            return;
        }
    };
    let printed = description.to_bytes();
    let roomy = Limits { max_body: 1 << 20, max_sdp_lines: 4096, ..limits };
    let again = parse(&printed, &roomy).expect("what we print parses");
    assert!(again.to_bytes() == printed, "printing is not stable");
    assert_eq!(again.media.len(), description.media.len());
    read_all(&description);
}

fn read_all(description: &SessionDescription) {
    let _ = (description.audio(), description.ice_lite());
    for media in &description.media {
        let _ = (description.direction(media), description.media_ip(media));
        let _ = (description.setup(media), description.is_held_by_address(media));
        let _ = (description.ice_ufrag(media), description.ice_pwd(media));
        let _ = (media.rtcp(), media.rtcp_mux(), media.mid(), media.ptime(), media.maxptime());
        for fingerprint in description.fingerprints(media) {
            assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        }
        for map in media.rtpmaps() {
            assert_eq!(RtpMap::parse(&map.to_string()), Some(map));
        }
        for fmtp in media.fmtps() {
            let _ = media.fmtp(fmtp.payload_type);
            let again = Fmtp::parse(&fmtp.to_string());
            assert!(again.is_some_and(|again| again.payload_type == fmtp.payload_type));
        }
        for crypto in media.cryptos() {
            assert!(Crypto::parse(&crypto.to_string()) == Some(crypto));
        }
        for candidate in media.candidates() {
            let _ = candidate.ip();
            assert!(Candidate::parse(&candidate.to_string()) == Some(candidate));
        }
    }
}
