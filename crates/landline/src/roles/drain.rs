//! A relay that is to be emptied: by an administrator's word, which it finds in
//! the region's database, or because its process is to stop.

use std::time::Duration;

use landline_control::RelayId;
use landline_relay::RelayHandle;
use landline_store::{Result, Store};
use tokio::time::{Instant, sleep, timeout};

use super::region::{Shared, look};

/// How often the relay looks whether it is wanted empty.
const LOOK: Duration = Duration::from_millis(400);
/// A database that does not answer for so long changes nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a relay that is asked to stop waits for its calls to leave: they do
/// at once where there is another relay, and have nowhere to go where there is
/// none.
const PARTING: Duration = Duration::from_secs(3);

/// Drains the relay while the database says so.
pub async fn follow(store: Store, name: RelayId, relay: Shared<RelayHandle>) {
    let mut draining = false;
    loop {
        sleep(LOOK).await;
        let asked = timeout(PATIENCE, report(&store, &name, &relay)).await;
        let wanted = match asked {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(error)) => {
                tracing::debug!(%error, "whether the relay is to be empty is not known");
                continue;
            }
            Err(_) => continue,
        };
        if wanted == draining {
            continue;
        }
        draining = wanted;
        let told = look(&relay, |relay| match wanted {
            true => relay.drain(),
            false => relay.resume(),
        });
        if told.is_none() {
            return;
        }
        tracing::info!(relay = %name, draining, "an administrator's word on the relay");
    }
}

/// Says how far the relay is, if that is asked.
async fn report(store: &Store, name: &RelayId, relay: &Shared<RelayHandle>) -> Result<bool> {
    let Some(asked) = store.relay_drain_of(name).await? else { return Ok(false) };
    let state = look(relay, |relay| (relay.sessions() as u64, relay.is_draining()));
    // What it had before it drained says nothing.
    if let Some((sessions, true)) = state
        && asked.sessions != Some(sessions)
    {
        store.relay_report(name, sessions).await?;
    }
    Ok(true)
}

/// Lets the relay's calls go elsewhere before it stops.
pub async fn part(relay: &RelayHandle) {
    if relay.sessions() == 0 {
        return;
    }
    relay.drain();
    let until = Instant::now() + PARTING;
    while relay.sessions() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
    }
    let left = relay.sessions();
    if left > 0 {
        tracing::warn!(left, "the relay stops with sessions that have nowhere to go");
    }
}
