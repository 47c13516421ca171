use std::sync::Arc;
use std::time::Duration;

use landline_control::{LegStats, MediaFault};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::agent::Command;
use crate::ear::Ear;
use crate::session;
use crate::{Heard, PhoneError};

/// How often the ear is asked while waiting for a tone.
const LISTEN: Duration = Duration::from_millis(40);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallState {
    /// The INVITE is out, or came in and is not answered.
    Calling,
    /// 18x seen; with `early_media`, the other side is heard already.
    Ringing {
        early_media: bool,
    },
    Answered,
    Ended(Ended),
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The final status of the INVITE; 200 when a BYE ended the call.
    pub status: u16,
    pub by_us: bool,
    /// The values of Warning and Reason headers that came with the end.
    pub words: Vec<String>,
}

/// One call of a phone. Dropping it does not hang up.
pub struct Call {
    pub(crate) line: u64,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) state: watch::Receiver<CallState>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) media: mpsc::Sender<session::Command>,
    pub(crate) faults: watch::Receiver<Option<MediaFault>>,
    /// User part of the other side's URI, as it showed itself.
    pub(crate) peer: String,
    pub(crate) call_id: String,
}

impl Call {
    pub fn state(&self) -> CallState {
        self.state.borrow().clone()
    }

    /// Who is on the other side, as the signalling says.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The Call-ID, by which a leg of the record knows this call.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    pub async fn ringing(&self, limit: Duration) -> Result<(), PhoneError> {
        self.reaches(limit, "the call rings", |state| *state != CallState::Calling).await.map(drop)
    }

    /// Waits for the answer. A call that ends instead is an error with its status.
    pub async fn answered(&self, limit: Duration) -> Result<(), PhoneError> {
        let done = |state: &CallState| matches!(state, CallState::Answered | CallState::Ended(_));
        match self.reaches(limit, "the call is answered", done).await? {
            CallState::Ended(Ended { status, words, .. }) => {
                Err(PhoneError::Refused { status, reason: words.join("; ") })
            }
            _ => Ok(()),
        }
    }

    pub async fn ended(&self, limit: Duration) -> Result<Ended, PhoneError> {
        let done = |state: &CallState| matches!(state, CallState::Ended(_));
        match self.reaches(limit, "the call ends", done).await? {
            CallState::Ended(ended) => Ok(ended),
            _ => Err(PhoneError::Off),
        }
    }

    async fn reaches(
        &self,
        limit: Duration,
        what: &'static str,
        done: impl FnMut(&CallState) -> bool,
    ) -> Result<CallState, PhoneError> {
        let mut state = self.state.clone();
        let reached = timeout(limit, state.wait_for(done))
            .await
            .map_err(|_| PhoneError::Late(limit, what))?
            .map_err(|_| PhoneError::Off)?
            .clone();
        Ok(reached)
    }

    /// What was heard in the last half second.
    pub fn heard(&self) -> Heard {
        self.ear.heard()
    }

    /// Waits until this tone is the dominant one, judging only what comes from
    /// now on.
    pub async fn hears(&self, tone: u32, limit: Duration) -> Result<Heard, PhoneError> {
        self.ear.forget();
        let listening = async {
            loop {
                let heard = self.heard();
                if heard.is(tone) {
                    return heard;
                }
                sleep(LISTEN).await;
            }
        };
        timeout(limit, listening)
            .await
            .map_err(|_| PhoneError::Late(limit, "the other side's tone is heard"))
    }

    /// Waits until nothing more arrives.
    pub async fn hears_nothing(&self, limit: Duration) -> Result<(), PhoneError> {
        let listening = async {
            loop {
                let before = self.heard().packets;
                sleep(Duration::from_millis(300)).await;
                if self.heard().packets == before {
                    return;
                }
            }
        };
        timeout(limit, listening).await.map_err(|_| PhoneError::Late(limit, "the line is silent"))
    }

    pub async fn answer(&self) -> Result<(), PhoneError> {
        self.ask(|line, done| Command::Answer { line, done: Some(done) }).await
    }

    /// Refuses an incoming call with a final status, as 486.
    pub async fn decline(&self, status: u16) -> Result<(), PhoneError> {
        self.ask(|line, done| Command::Decline { line, status, done }).await
    }

    /// Cancels, declines or says goodbye, whatever the state asks for.
    pub async fn hang_up(&self) -> Result<(), PhoneError> {
        self.ask(|line, done| Command::HangUp { line, done }).await
    }

    /// Puts the other side on hold by re-INVITE (`a=sendonly`).
    pub async fn hold(&self) -> Result<(), PhoneError> {
        self.ask(|line, done| Command::Hold { line, hold: true, collisions: 0, done }).await
    }

    pub async fn resume(&self) -> Result<(), PhoneError> {
        self.ask(|line, done| Command::Hold { line, hold: false, collisions: 0, done }).await
    }

    /// Sends one key press as an RFC 4733 event.
    pub async fn press(&self, digit: char) -> Result<(), PhoneError> {
        self.media.send(session::Command::Digit(digit)).await.map_err(|_| PhoneError::Ended)
    }

    /// The media statistics so far.
    pub async fn stats(&self) -> Result<LegStats, PhoneError> {
        let (done, answer) = oneshot::channel();
        self.media.send(session::Command::Stats(done)).await.map_err(|_| PhoneError::Ended)?;
        answer.await.map_err(|_| PhoneError::Ended)
    }

    /// What is wrong with the media path, if anything.
    pub fn fault(&self) -> Option<MediaFault> {
        *self.faults.borrow()
    }

    async fn ask(
        &self,
        command: impl FnOnce(u64, oneshot::Sender<Result<(), PhoneError>>) -> Command,
    ) -> Result<(), PhoneError> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(self.line, done)).await.map_err(|_| PhoneError::Off)?;
        answer.await.map_err(|_| PhoneError::Off)?
    }
}
