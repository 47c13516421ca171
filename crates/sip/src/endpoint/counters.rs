use std::collections::BTreeMap;

/// What an endpoint absorbed, answered by itself or dropped. Each only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    pub requests: u64,
    pub responses: u64,
    /// Messages the parser refused, by what was wrong with them.
    pub parse_errors: BTreeMap<&'static str, u64>,
    /// Refused requests that were answered (400, 505, 513 …).
    pub malformed_answered: u64,
    /// Requests of a transaction that is already there.
    pub request_retransmissions: u64,
    /// Responses that were passed up before.
    pub response_retransmissions: u64,
    /// Responses to nothing we asked.
    pub stray_responses: u64,
    /// ACKs to non-2xx responses we no longer or not yet expected.
    pub stray_acks: u64,
    /// CANCELs of nothing we have, answered 481.
    pub stray_cancels: u64,
    /// Requests that came a second way, answered 482.
    pub merged_requests: u64,
    /// Requests answered 503 because the table was full.
    pub overload_answered: u64,
    /// New requests answered 503 because messages waited too long to be read.
    pub shed: u64,
    /// Client transactions refused: table full, or wrongly asked for.
    pub refused_requests: u64,
    /// Further 2xx of one INVITE beyond the bound on its forks.
    pub forks_dropped: u64,
    /// Messages sent again by a timer.
    pub retransmissions_sent: u64,
    /// Client transactions that got no final response.
    pub client_timeouts: u64,
    /// Tries of another target after the one before failed.
    pub failovers: u64,
    /// Requests the transaction user left unanswered until their sender had
    /// given up.
    pub unanswered_requests: u64,
    /// Final responses to INVITE that were never acknowledged.
    pub missing_acks: u64,
    /// Inputs that named a transaction which is gone.
    pub late_inputs: u64,
    /// Responses with nowhere to go, their connection gone.
    pub unroutable_responses: u64,
    /// Stateless sends dropped: nothing found, or too many look-ups at once.
    pub forwards_dropped: u64,
    /// Sends the shell reported as failed.
    pub sends_failed: u64,
}

impl Counters {
    /// Names and values, parse errors summed up.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("requests", self.requests),
            ("responses", self.responses),
            ("parse_errors", self.parse_errors.values().sum()),
            ("malformed_answered", self.malformed_answered),
            ("request_retransmissions", self.request_retransmissions),
            ("response_retransmissions", self.response_retransmissions),
            ("stray_responses", self.stray_responses),
            ("stray_acks", self.stray_acks),
            ("stray_cancels", self.stray_cancels),
            ("merged_requests", self.merged_requests),
            ("overload_answered", self.overload_answered),
            ("shed", self.shed),
            ("refused_requests", self.refused_requests),
            ("forks_dropped", self.forks_dropped),
            ("retransmissions_sent", self.retransmissions_sent),
            ("client_timeouts", self.client_timeouts),
            ("failovers", self.failovers),
            ("unanswered_requests", self.unanswered_requests),
            ("missing_acks", self.missing_acks),
            ("late_inputs", self.late_inputs),
            ("unroutable_responses", self.unroutable_responses),
            ("forwards_dropped", self.forwards_dropped),
            ("sends_failed", self.sends_failed),
        ]
        .into_iter()
    }
}
