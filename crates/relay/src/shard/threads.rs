use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread::JoinHandle;

use landline_control::{Outcome, Refusal, SessionId};
use landline_region::Entropy;
use tokio::sync::mpsc;

use super::kernel::Kernel;
use super::poller::Waker;
use super::{Command, Shard};
use crate::config::Engine;
use crate::ice_ports::IceSocket;
use crate::owner::OwnerKey;
use crate::shared::Shared;
use crate::streams::Arrival;

/// The ways to the shards.
#[derive(Debug, Clone)]
pub(crate) struct Shards(Arc<[Entrance]>);

#[derive(Debug)]
struct Entrance {
    commands: mpsc::Sender<Command>,
    waker: Waker,
}

impl Shards {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Gives a command to the session's shard, waiting while its queue is full.
    pub async fn send(&self, session: SessionId, command: Command) {
        // Identifiers may be counted or random: either way the sum of the
        // halves spreads them.
        let spread = (session.0 >> 32).wrapping_add(session.0) as usize;
        if let Some(shard) = self.0.get(spread % self.0.len().max(1)) {
            shard.send(command).await;
        }
    }

    /// Gives a connection to its leg's shard. False when that one is too busy:
    /// a stranger does not wait among requests.
    pub fn hand_over(&self, arrival: Arrival) -> bool {
        let Some(shard) = self.0.get(arrival.place.shard) else { return false };
        let is_taken = shard.commands.try_send(Command::Stream(arrival)).is_ok();
        shard.waker.wake();
        is_taken
    }

    pub async fn close_owner(&self, owner: OwnerKey) {
        for shard in self.0.iter() {
            shard.send(Command::CloseOwner(owner)).await;
        }
    }

    fn wake_all(&self) {
        self.0.iter().for_each(|shard| shard.waker.wake());
    }
}

impl Entrance {
    async fn send(&self, command: Command) {
        match self.commands.send(command).await {
            Ok(()) => self.waker.wake(),
            // The shard is gone, and its sessions with it.
            Err(mpsc::error::SendError(Command::Request { reply, .. })) => {
                reply.send(Outcome::Refused(Refusal::UnknownSession));
            }
            Err(_) => {}
        }
    }
}

/// The shards' threads.
#[derive(Debug)]
pub(crate) struct ShardThreads {
    shared: Arc<Shared>,
    shards: Shards,
    threads: Vec<JoinHandle<()>>,
}

impl ShardThreads {
    /// One for each of the sockets that legs with ICE share.
    pub fn start(
        shared: &Arc<Shared>,
        ice: Vec<Vec<IceSocket<UdpSocket>>>,
        engine: Engine,
        entropy: &mut Entropy,
    ) -> io::Result<Self> {
        let mut entrances = Vec::with_capacity(ice.len());
        let mut shards = Vec::with_capacity(ice.len());
        for (number, ice) in ice.into_iter().enumerate() {
            let kernel = Kernel::new(engine)?;
            let (commands, receiver) =
                mpsc::channel(shared.config.limits.commands_per_shard.max(1));
            entrances.push(Entrance { commands, waker: kernel.waker() });
            let entropy = Entropy::new(entropy.seed());
            let shard = Shard::new(Arc::clone(shared), number, kernel, ice, entropy)?;
            shards.push((shard, receiver));
        }
        let mut started =
            Self { shared: Arc::clone(shared), shards: Shards(entrances.into()), threads: vec![] };
        for (number, (shard, commands)) in shards.into_iter().enumerate() {
            let thread = std::thread::Builder::new()
                .name(format!("relay-shard-{number}"))
                .spawn(move || shard.run(commands))
                .inspect_err(|_| started.stop())?;
            started.threads.push(thread);
        }
        Ok(started)
    }

    pub fn shards(&self) -> Shards {
        self.shards.clone()
    }

    pub fn all_run(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    pub fn all_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Asks the shards to close everything and end.
    pub fn stop(&self) {
        self.shared.stop();
        self.shards.wake_all();
    }
}
