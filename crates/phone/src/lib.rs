//! A scriptable softphone on `landline-sip` and `landline-media`: the demo's
//! callers, the tests' and the benches' user agent.
//!
//! A phone sends one tone and listens for others, so a script can say who hears
//! whom:
//!
//! ```no_run
//! # async fn script(alice: landline_phone::Phone) -> Result<(), landline_phone::PhoneError> {
//! alice.register().await?;
//! let call = alice.call("bob").await?;
//! call.answered(std::time::Duration::from_secs(5)).await?;
//! call.hears(600, std::time::Duration::from_secs(3)).await?;
//! call.hang_up().await
//! # }
//! ```

mod agent;
mod call;
mod config;
pub mod description;
mod ear;
mod error;
mod ice;
mod session;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use landline_media::Identity;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::agent::{Agent, Command};
pub use crate::call::{Call, CallState, Ended};
pub use crate::config::{MediaMode, OnCall, PhoneConfig};
pub use crate::ear::Heard;
pub use crate::error::PhoneError;
pub use landline_media::Rollover;
pub use landline_media::audio::Codec;
pub use landline_sip::Transport;

/// How many calls may wait to be picked up by [`Phone::next_call`].
const WAITING_CALLS: usize = 64;

/// A phone that is switched on. Dropping it switches it off, without a word to
/// the registrar; see [`Phone::unregister`].
pub struct Phone {
    commands: mpsc::Sender<Command>,
    incoming: Mutex<mpsc::Receiver<Call>>,
    task: JoinHandle<()>,
    address: SocketAddr,
}

impl Phone {
    /// Opens the path to the server. Nothing is sent yet over UDP.
    pub async fn start(config: PhoneConfig) -> Result<Self, PhoneError> {
        let identity = match config.media {
            MediaMode::Dtls | MediaMode::Webrtc => Some(Arc::new(Identity::generate()?)),
            MediaMode::Rtp | MediaMode::Sdes => None,
        };
        let (commands, queue) = mpsc::channel(64);
        let (arrivals, incoming) = mpsc::channel(WAITING_CALLS);
        let agent = Agent::new(config, identity, commands.downgrade(), arrivals).await?;
        let address = agent.address();
        let task = tokio::spawn(agent.run(queue));
        Ok(Self { commands, incoming: Mutex::new(incoming), task, address })
    }

    /// The phone's own signalling address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers, answering the registrar's challenge. Registers again by
    /// itself before the binding expires.
    pub async fn register(&self) -> Result<(), PhoneError> {
        self.ask(|done| Command::Register { keep: true, done }).await?
    }

    pub async fn unregister(&self) -> Result<(), PhoneError> {
        self.ask(|done| Command::Register { keep: false, done }).await?
    }

    /// Calls a user of the phone's own domain, a number, or any SIP URI.
    /// Returns when the INVITE is out.
    pub async fn call(&self, target: &str) -> Result<Call, PhoneError> {
        let target = target.to_owned();
        self.ask(|done| Command::Call { target, done }).await?
    }

    /// The next call somebody makes to this phone.
    pub async fn next_call(&self) -> Option<Call> {
        self.incoming.lock().await.recv().await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, PhoneError> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| PhoneError::Off)?;
        answer.await.map_err(|_| PhoneError::Off)
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}
