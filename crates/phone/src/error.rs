use std::io;
use std::time::Duration;

/// What went wrong, in words for whoever scripts the phone. No personal data.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    #[error("the phone could not reach its server: {0}")]
    Connect(#[source] io::Error),
    #[error("the phone could not open a socket: {0}")]
    Socket(#[source] io::Error),
    #[error("the server's certificate or our trust in it: {0}")]
    Tls(String),
    #[error("the phone could not make its DTLS identity: {0}")]
    Identity(#[from] landline_media::IdentityError),
    #[error("`{0}` cannot be called: want a user, a number or a SIP URI")]
    Target(String),
    #[error("the server said {status} {reason}")]
    Refused { status: u16, reason: String },
    #[error("no answer from the server")]
    NoAnswer,
    #[error("the description of the other side's media does not fit: {0}")]
    Media(String),
    #[error("not within {0:?}: {1}")]
    Late(Duration, &'static str),
    #[error("the call has ended")]
    Ended,
    #[error("the phone was switched off")]
    Off,
}
