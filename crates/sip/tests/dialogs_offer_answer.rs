//! Offers, answers and their collisions: RFC 3264, RFC 3261 §13 and §14,
//! RFC 3311 §5, RFC 6337.

use std::time::Duration;

use landline_sip::Carrier::{Invite, Update};
use landline_sip::{Collision, OfferAnswer, SessionRole, StatusCode, glare_wait};

const SESSION: bool = true;
const NONE: bool = false;
const OK: StatusCode = StatusCode::OK;
const PROGRESS: StatusCode = StatusCode::SESSION_PROGRESS;

/// A confirmed dialog of the caller with nothing pending.
fn caller() -> OfferAnswer {
    let mut state = OfferAnswer::new();
    state.request_sent(Invite, SESSION);
    assert_eq!(state.response_received(Invite, OK, SESSION), SessionRole::Answer);
    state.ack_sent();
    state
}

/// The same of the callee.
fn callee() -> OfferAnswer {
    let mut state = OfferAnswer::new();
    assert_eq!(state.request_received(Invite, SESSION), Ok(SessionRole::Offer));
    assert_eq!(state.response_sent(Invite, OK, SESSION), SessionRole::Answer);
    assert_eq!(state.ack_received(NONE), SessionRole::Nothing);
    state
}

#[test]
fn an_offer_in_the_invite_is_answered_in_the_2xx() {
    for state in [caller(), callee()] {
        assert_eq!(state.may_offer(Invite), Ok(()));
        assert_eq!(state.may_offer(Update), Ok(()));
    }
}

#[test]
fn an_invite_without_an_offer_is_offered_in_the_2xx_and_answered_in_the_ack() {
    let mut caller = OfferAnswer::new();
    caller.request_sent(Invite, NONE);
    assert_eq!(caller.response_received(Invite, OK, SESSION), SessionRole::Offer);
    assert_eq!(caller.may_offer(Update), Err(Collision::Overtaken));
    caller.ack_sent();
    assert_eq!(caller.may_offer(Update), Ok(()));

    let mut callee = OfferAnswer::new();
    assert_eq!(callee.request_received(Invite, NONE), Ok(SessionRole::Nothing));
    assert_eq!(callee.response_sent(Invite, OK, SESSION), SessionRole::Offer);
    assert_eq!(callee.may_offer(Update), Err(Collision::Glare));
    assert_eq!(callee.ack_received(SESSION), SessionRole::Answer);
    assert_eq!(callee.may_offer(Invite), Ok(()));
}

#[test]
fn an_ack_that_owes_an_answer_and_brings_none_is_noticed() {
    let mut callee = OfferAnswer::new();
    callee.request_received(Invite, NONE).unwrap();
    callee.response_sent(Invite, OK, SESSION);
    assert_eq!(callee.ack_received(NONE), SessionRole::Missing);
    assert_eq!(callee.may_offer(Invite), Ok(()));
}

#[test]
fn a_description_in_an_unreliable_18x_is_a_preview() {
    let mut caller = OfferAnswer::new();
    caller.request_sent(Invite, SESSION);
    assert_eq!(caller.response_received(Invite, StatusCode::RINGING, NONE), SessionRole::Nothing);
    assert_eq!(caller.response_received(Invite, PROGRESS, SESSION), SessionRole::EarlyAnswer);
    assert_eq!(caller.may_offer(Update), Err(Collision::Glare), "not answered for good");
    let mut without = caller.clone();
    assert_eq!(caller.response_received(Invite, OK, SESSION), SessionRole::Answer);
    // The 2xx may lean on it.
    assert_eq!(without.response_received(Invite, OK, NONE), SessionRole::Nothing);
    let mut late_offer = OfferAnswer::new();
    late_offer.request_sent(Invite, NONE);
    assert_eq!(late_offer.response_received(Invite, PROGRESS, SESSION), SessionRole::EarlyOffer);
}

#[test]
fn a_2xx_without_any_description_is_noticed() {
    for session in [SESSION, NONE] {
        let mut caller = OfferAnswer::new();
        caller.request_sent(Invite, session);
        assert_eq!(caller.response_received(Invite, OK, NONE), SessionRole::Missing);
    }
}

#[test]
fn forks_answer_for_themselves() {
    let mut first = OfferAnswer::new();
    first.request_sent(Invite, SESSION);
    let mut second = first.clone();
    assert_eq!(first.response_received(Invite, PROGRESS, SESSION), SessionRole::EarlyAnswer);
    assert_eq!(second.response_received(Invite, OK, NONE), SessionRole::Missing);
    assert_eq!(first.response_received(Invite, OK, NONE), SessionRole::Nothing);
}

#[test]
fn a_refused_offer_leaves_all_as_it_was() {
    let before = caller();
    let mut state = before.clone();
    state.request_sent(Invite, SESSION);
    let refused = state.response_received(Invite, StatusCode::NOT_ACCEPTABLE_HERE, SESSION);
    assert_eq!(refused, SessionRole::Nothing);
    assert_eq!(state, before);
    state.request_sent(Update, SESSION);
    state.request_failed(Update);
    assert_eq!(state, before);
    let mut state = callee();
    state.request_received(Invite, SESSION).unwrap();
    state.response_sent(Invite, StatusCode::NOT_ACCEPTABLE_HERE, NONE);
    assert_eq!(state, callee());
}

#[test]
fn re_invites_that_cross_get_491() {
    let mut state = caller();
    state.request_sent(Invite, SESSION);
    let collision = state.request_received(Invite, SESSION).unwrap_err();
    assert_eq!(collision, Collision::Glare);
    assert_eq!(collision.status(), StatusCode::REQUEST_PENDING);
    assert_eq!(collision.retry_after(5), None);
    assert_eq!(state.request_received(Invite, NONE), Err(Collision::Glare));
    // Ours goes on as if nothing had been.
    assert_eq!(state.response_received(Invite, OK, SESSION), SessionRole::Answer);
}

#[test]
fn a_second_invite_before_the_first_is_answered_gets_500_and_retry_after() {
    let mut state = caller();
    state.request_received(Invite, SESSION).unwrap();
    let collision = state.request_received(Invite, SESSION).unwrap_err();
    assert_eq!(collision, Collision::Overtaken);
    assert_eq!(collision.status(), StatusCode::SERVER_INTERNAL_ERROR);
    let waits: Vec<_> = (0..100).filter_map(|random| collision.retry_after(random)).collect();
    assert_eq!((waits.iter().min(), waits.iter().max()), (Some(&0), Some(&10)));
}

#[test]
fn no_invite_is_sent_before_the_peer_s_is_acknowledged() {
    let mut state = callee();
    state.request_received(Invite, SESSION).unwrap();
    assert_eq!(state.may_offer(Invite), Err(Collision::Overtaken));
    state.response_sent(Invite, OK, SESSION);
    assert_eq!(state.may_offer(Invite), Err(Collision::Overtaken), "not yet acknowledged");
    assert_eq!(state.may_offer(Update), Ok(()));
    let mut missed = state.clone();
    state.ack_received(NONE);
    missed.ack_missed();
    assert_eq!(state.may_offer(Invite), Ok(()));
    assert_eq!(missed.may_offer(Invite), Ok(()));
}

#[test]
fn updates_collide_as_rfc_3311_says() {
    // Both offer at once.
    let mut state = caller();
    state.request_sent(Update, SESSION);
    assert_eq!(state.request_received(Update, SESSION), Err(Collision::Glare));
    assert_eq!(state.request_received(Invite, SESSION), Err(Collision::Glare));
    // One without an offer disturbs nobody.
    assert_eq!(state.request_received(Update, NONE), Ok(SessionRole::Nothing));
    // A second one before the first is answered.
    assert_eq!(state.request_received(Update, NONE), Err(Collision::Overtaken));
    state.response_sent(Update, OK, NONE);
    assert_eq!(state.response_received(Update, OK, SESSION), SessionRole::Answer);
    assert_eq!(state, caller());
    // An offer of the peer is still unanswered.
    let mut state = callee();
    state.request_received(Invite, SESSION).unwrap();
    assert_eq!(state.request_received(Update, SESSION), Err(Collision::Overtaken));
    assert_eq!(state.may_offer(Update), Err(Collision::Overtaken));
    // Our offer in a 2xx waits for its answer in the ACK.
    let mut state = callee();
    state.request_received(Invite, NONE).unwrap();
    state.response_sent(Invite, OK, SESSION);
    assert_eq!(state.request_received(Update, SESSION), Err(Collision::Glare));
}

#[test]
fn an_update_is_answered_in_its_2xx() {
    let mut state = callee();
    assert_eq!(state.request_received(Update, SESSION), Ok(SessionRole::Offer));
    assert_eq!(state.response_sent(Update, OK, SESSION), SessionRole::Answer);
    assert_eq!(state, callee());
    assert_eq!(state.request_received(Update, NONE), Ok(SessionRole::Nothing));
    assert_eq!(state.response_sent(Update, OK, NONE), SessionRole::Nothing);
    state.request_received(Update, SESSION).unwrap();
    assert_eq!(state.response_sent(Update, OK, NONE), SessionRole::Missing);
}

#[test]
fn after_491_the_owner_of_the_call_id_waits_longer() {
    let range = |owns| {
        let waits = (0..1000).map(|random| glare_wait(owns, random));
        (waits.clone().min().unwrap(), waits.max().unwrap())
    };
    assert_eq!(range(true), (Duration::from_millis(2100), Duration::from_secs(4)));
    assert_eq!(range(false), (Duration::ZERO, Duration::from_secs(2)));
}
