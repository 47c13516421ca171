//! Emptying a relay for maintenance, with no call dropped.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use landline_control::RelayId;
use landline_store::Store;
use serde_json::json;
use tokio::time::sleep;

use super::Place;
use crate::cli::{RelayVerb, Where};
use crate::output::{Style, card, say};

const LOOK: Duration = Duration::from_millis(250);

/// Prints how far it is, unless in JSON, and fails where the relay is not empty
/// in time.
pub async fn run(verb: &RelayVerb) -> Result<()> {
    match verb {
        RelayVerb::Drain { relay, limit, place } => {
            let store = region_of(place, relay).await?;
            drain(&store, relay, *limit, Style::detect(place.json)).await
        }
        RelayVerb::Resume { relay, place } => {
            let store = region_of(place, relay).await?;
            let was_draining = store.relay_resume(relay).await?;
            let answer = json!({ "relay": relay.to_string(), "was_draining": was_draining });
            Ok(say(&card(&answer, Style::detect(place.json)))?)
        }
    }
}

/// The store of the one region at hand that has a relay of this name.
async fn region_of(place: &Where, relay: &RelayId) -> Result<Store> {
    let place = Place::open(place)?;
    for config in place.configs() {
        let linked = config.proxy.iter().flat_map(|proxy| &proxy.relays).map(|link| &link.name);
        let own = config.relay.iter().map(|own| &own.name);
        if linked.chain(own).any(|name| *name == relay.0) {
            return crate::open::store(config).await;
        }
    }
    bail!(
        "no relay {relay} in the configuration of {}: its proxy's [[proxy.relays]] name those there are",
        place.shown()
    )
}

async fn drain(store: &Store, relay: &RelayId, limit: u32, style: Style) -> Result<()> {
    store.relay_drain(relay).await?;
    let until = Instant::now() + Duration::from_secs(u64::from(limit));
    let mut told = None;
    loop {
        let state = store.relay_drain_of(relay).await?;
        let Some(state) = state else { bail!("somebody let relay {relay} resume meanwhile") };
        if state.sessions != told && !style.json {
            told = state.sessions;
            let left = state.sessions.unwrap_or(0);
            say(&format!(
                "relay {relay}: {left} session{} left",
                if left == 1 { "" } else { "s" }
            ))?;
        }
        let is_empty = state.sessions == Some(0);
        if !is_empty && Instant::now() < until {
            sleep(LOOK).await;
            continue;
        }
        if is_empty || style.json {
            let answer = json!({
                "relay": relay.to_string(),
                "empty": is_empty,
                "sessions": state.sessions,
                "asked_at": state.asked_at.to_string(),
                "reported_at": state.reported_at.map(|at| at.to_string()),
            });
            say(&card(&answer, style))?;
        }
        return match state.sessions {
            Some(0) => Ok(()),
            Some(left) => bail!(
                "relay {relay} still has {left} sessions after {limit} s; it goes on being emptied"
            ),
            None => bail!("relay {relay} says nothing: does it run, on this region's database?"),
        };
    }
}
