//! Two phones call each other without a server between them, and hear each
//! other's tones.

use std::net::SocketAddr;
use std::time::Duration;

use landline_phone::{CallState, Codec, MediaMode, OnCall, Phone, PhoneConfig, PhoneError};

const SOON: Duration = Duration::from_secs(10);

fn config(user: &str, server: SocketAddr, media: MediaMode, tone: u32) -> PhoneConfig {
    PhoneConfig { media, tone, ..PhoneConfig::new(user, "example.test", "", server) }
}

/// alice, who calls bob, and bob.
async fn pair(media: MediaMode, change: impl Fn(&mut PhoneConfig)) -> (Phone, Phone) {
    let mut bob = config("bob", "127.0.0.1:9".parse().unwrap(), media, 900);
    change(&mut bob);
    let bob = Phone::start(bob).await.unwrap();
    let mut alice = config("alice", bob.address(), media, 500);
    change(&mut alice);
    (Phone::start(alice).await.unwrap(), bob)
}

async fn both_hear_each_other(media: MediaMode, codec: Codec) {
    let (alice, bob) = pair(media, |config| config.codec = codec).await;
    let calling = alice.call("bob").await.unwrap();
    let called = bob.next_call().await.unwrap();
    assert_eq!(called.peer(), "alice");
    calling.answered(SOON).await.unwrap();
    calling.hears(900, SOON).await.unwrap();
    called.hears(500, SOON).await.unwrap();
    calling.hang_up().await.unwrap();
    assert!(!called.ended(SOON).await.unwrap().by_us);
}

#[tokio::test]
async fn plain_rtp_in_every_codec() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        both_hear_each_other(MediaMode::Rtp, codec).await;
    }
}

#[tokio::test]
async fn keys_in_the_description() {
    both_hear_each_other(MediaMode::Sdes, Codec::Pcmu).await;
}

#[tokio::test]
async fn keys_from_a_handshake() {
    both_hear_each_other(MediaMode::Dtls, Codec::Pcmu).await;
}

#[tokio::test]
async fn full_ice_on_both_sides() {
    both_hear_each_other(MediaMode::Webrtc, Codec::Opus).await;
}

#[tokio::test]
async fn hold_silences_and_resume_restores() {
    let (alice, bob) = pair(MediaMode::Sdes, |_| {}).await;
    let calling = alice.call("bob").await.unwrap();
    let called = bob.next_call().await.unwrap();
    calling.hears(900, SOON).await.unwrap();
    calling.hold().await.unwrap();
    calling.hears_nothing(SOON).await.unwrap();
    called.hears(500, SOON).await.unwrap();
    calling.resume().await.unwrap();
    calling.hears(900, SOON).await.unwrap();
}

#[tokio::test]
async fn an_unanswered_call_can_be_cancelled_or_declined() {
    let (alice, bob) = pair(MediaMode::Rtp, |config| config.on_call = OnCall::Ring).await;
    let calling = alice.call("bob").await.unwrap();
    let called = bob.next_call().await.unwrap();
    calling.ringing(SOON).await.unwrap();
    calling.hang_up().await.unwrap();
    assert_eq!(called.ended(SOON).await.unwrap().status, 487);
    let ended = calling.ended(SOON).await.unwrap();
    assert!(ended.status == 487 && ended.by_us, "{ended:?}");

    let calling = alice.call("bob").await.unwrap();
    let called = bob.next_call().await.unwrap();
    called.decline(603).await.unwrap();
    let refused = calling.answered(SOON).await;
    assert!(matches!(refused, Err(PhoneError::Refused { status: 603, .. })), "{refused:?}");
    assert!(matches!(called.state(), CallState::Ended(ended) if ended.by_us));
}
