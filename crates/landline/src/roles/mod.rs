//! What a process of a region does: proxy, relay, or both.

mod drain;
mod keep;
mod open_files;
mod push;
mod region;
mod settings;

mod signals;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use landline_region::UnixMillis;

use crate::config::{CheckFiles, Config, ConfigError};
use crate::telemetry::start_logging;

pub use keep::keep;
pub use region::{Region, Roles};
pub use signals::until_asked_to_stop;

pub async fn up(file: &Path) -> Result<()> {
    run(file, None, |roles| {
        *roles = Roles { proxy: true, relay: true, console: roles.console };
    })
    .await
}

/// With its client sockets, or on those that a keeper holds.
pub async fn proxy(file: &Path, keeper: Option<&Path>) -> Result<()> {
    run(file, keeper, |roles| *roles = Roles { proxy: true, ..Roles::default() }).await
}

pub async fn relay(file: &Path) -> Result<()> {
    run(file, None, |roles| *roles = Roles { relay: true, ..Roles::default() }).await
}

pub async fn console(file: &Path) -> Result<()> {
    run(file, None, |roles| *roles = Roles { console: true, ..Roles::default() }).await
}

/// Milliseconds since 1970, read at the shell's edge.
pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The configuration, complete for the roles that are chosen from those it has.
fn wanted(file: &Path, choose: impl FnOnce(&mut Roles)) -> Result<(Config, Roles)> {
    let config = Config::load(file)?;
    let mut roles = Roles { console: config.console.is_some(), ..Roles::default() };
    choose(&mut roles);
    for (wanted, there, name) in [
        (roles.proxy, config.proxy.is_some(), "proxy"),
        (roles.relay, config.relay.is_some(), "relay"),
        (roles.console, config.console.is_some(), "console"),
    ] {
        if wanted && !there {
            bail!(
                "{}: no [{name}]: this process is to run region {}'s {name}",
                file.display(),
                config.region.code
            );
        }
    }
    let problems = config.missing_files();
    if !problems.is_empty() {
        return Err(ConfigError { file: file.to_owned(), problems }.into());
    }
    Ok((config, roles))
}

async fn run(file: &Path, keeper: Option<&Path>, choose: impl FnOnce(&mut Roles)) -> Result<()> {
    let (config, roles) = wanted(file, choose)?;
    start_logging(&config.telemetry);
    let region = Region::start(&config, roles, keeper).await?;
    let code = config.region.code;
    // A relay in the same process would end with it, and its calls too.
    let hands_over = roles.proxy && !roles.relay;
    tracing::info!(region = %code, proxy = roles.proxy, relay = roles.relay, console = roles.console, "running");
    tokio::select! {
        stopped = until_asked_to_stop() => stopped?,
        asked = signals::until_asked_to_hand_over(), if hands_over => {
            asked?;
            tracing::info!(region = %code, "handing over");
            region.hand_over().await;
            return Ok(());
        }
        role = region.failed() => bail!("region {code}'s {role} has ended by itself"),
    }
    tracing::info!(region = %code, "stopping");
    region.stop().await;
    Ok(())
}
