//! What the core did and what it dropped, for the metrics.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Each only grows, but for those said to be a level.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64),+
        }

        impl Counters {
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }
    };
}

counters! {
    calls_opened,
    calls_closed,
    calls_answered,
    /// Answered calls taken up that a former process or another one had.
    calls_restored,
    /// Kept calls that could not be taken up; their records are closed.
    calls_unrestorable,
    /// Calls that another proxy took over.
    calls_taken,
    /// Calls of another proxy that we took over; they count as restored, too.
    calls_taken_over,
    /// Other proxies' calls that could not be held for them.
    replicas_dropped,
    /// Times an answered call was kept for who takes it up.
    calls_kept,
    /// Legs opened, the callers' included.
    legs_opened,
    registrations,
    registrations_refused,
    bindings_expired,
    bindings_store_failed,
    /// Stored bindings that could not be taken over at start.
    bindings_unreadable,
    auth_challenges,
    auth_accepted,
    /// Wrong passwords, unknown users, forged nonces.
    auth_failures,
    auth_stale,
    /// Credentials used twice.
    auth_replays,
    auth_shut_out,
    /// Calls refused by a limit of user, account, trunk or core.
    calls_over_limit,
    /// Times a call was sent on in a user's stead.
    calls_diverted,
    /// Times it was not, for the place leads nowhere.
    diversions_refused,
    /// Calls that were asked for of users or with sids that will not do.
    starts_refused,
    calls_without_relay,
    journal_failures,
    relay_refusals,
    relay_timeouts,
    relays_lost,
    /// Links to relays that broke and stood again before it mattered.
    relays_relinked,
    /// Calls moved to another relay, and those ended for lack of one.
    calls_moved,
    calls_adrift,
    /// Attempts at a move that another one had to follow.
    moves_repeated,
    /// Calls that stayed on a draining relay because a side refused to move.
    moves_refused,
    /// Messages of a relay about sessions or requests that are gone.
    relay_strays,
    /// Requests for domains that no account has.
    unknown_domains,
    requests_refused,
    unsupported_methods,
    unsupported_extensions,
    malformed_requests,
    /// In-dialog requests of no dialog.
    stray_dialog_requests,
    /// In-dialog requests that came another way and had to authenticate.
    dialog_challenges,
    stray_acks,
    stray_responses,
    stray_transactions,
    forwarded,
    forwards_answered,
    forwards_failed,
    forwards_over_limit,
    /// Requests for clients whose flows are gone (RFC 5626 §5.3.1).
    flows_failed,
    /// Header fields that no declaration names, left off at an edge.
    headers_withheld,
    redirected,
    edge_refused,
    loops,
    hops_exhausted,
    peer_violations,
    /// Calls sent to another account's home region, and those taken from one.
    region_calls_out,
    region_calls_in,
    /// Refused by the called account's policy, or for an account or number that
    /// is not here.
    region_calls_refused,
    /// Calls that the egress gate did not let out.
    region_calls_kept_in,
    /// Messages taken up, and what came of them: a phone or another region took
    /// it; none did; nobody was there, or it may not be.
    /// Keys said by INFO that the other side heard as events in its media.
    keys_to_events,
    /// Keys pressed in the media that the other side heard by INFO.
    keys_to_info,
    /// Keys that cannot be read, or are more than the other side takes.
    keys_refused,
    messages,
    messages_delivered,
    messages_failed,
    messages_refused,
    /// Sent to another account's home region, taken from one, and kept by the
    /// egress gate.
    messages_out,
    messages_in,
    messages_kept_in,
    /// Taken by a further phone, or after the sender was told otherwise.
    messages_late,
    /// Subscriptions taken, refused, run out, and given up since their watchers
    /// do not hear; and what they were told.
    subscriptions,
    subscriptions_refused,
    subscriptions_expired,
    subscriptions_lost,
    notifications,
    /// Calls transferred, transfers that came to nothing, and those refused at once.
    transfers,
    transfers_failed,
    transfers_refused,
    /// Calls that a colleague took while they rang, whose place a colleague took
    /// while they were up, and INVITEs that wanted either and were refused.
    calls_picked_up,
    calls_replaced,
    pickups_refused,
    /// Numbers that users wanted to be shown by and do not have (RFC 3325).
    identities_refused,
    /// Calls that wait for whoever takes them, and those that rang where they
    /// came from since nobody did.
    calls_parked,
    /// Callers that a mailbox answered.
    mailboxes_reached,
    /// And those that it did not, for it holds as many messages as it may.
    mailboxes_full,
    /// Users who listened to their messages.
    mailboxes_listened,
    /// Messages that callers began, those of them that are kept, and those that were
    /// too short.
    voicemails_begun,
    voicemails_left,
    voicemails_dropped,
    calls_recalled,
    glare,
    media_faults,
    ack_timeouts,
    late_answers,
    /// Devices that push services were asked to wake for a call, and those that
    /// woke up for it (RFC 8599).
    wakes_asked,
    wakes_answered,
    /// INVITEs that went to a device by another of its flows (RFC 5626).
    flows_replaced,
    /// Provisional responses to callers that are sent until they are
    /// acknowledged (RFC 3262), and those for which too many waited.
    provisionals_reliable,
    provisionals_dropped,
    /// Those of callees that we acknowledged, and those that came again or too
    /// early.
    pracks_sent,
    provisionals_repeated,
    /// PRACKs for nothing that we sent.
    pracks_unmatched,
    /// Sides of calls that were refreshed by us (RFC 4028), and calls ended
    /// because one was not refreshed.
    sessions_refreshed,
    sessions_expired,
    /// Requests for a shorter time to refresh in than is allowed.
    session_intervals_refused,
    descriptions_refused,
    encryption_missing,
}
