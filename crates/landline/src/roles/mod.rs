//! What a process of a region does: proxy, relay, or both.

mod region;
mod settings;

mod signals;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use landline_region::UnixMillis;

use crate::config::{CheckFiles, Config, ConfigError};
use crate::telemetry::start_logging;

pub use region::{Region, Roles};
pub use signals::until_asked_to_stop;

pub async fn up(file: &Path) -> Result<()> {
    run(file, |config| Roles { proxy: true, relay: true, console: config.console.is_some() }).await
}

pub async fn proxy(file: &Path) -> Result<()> {
    run(file, |_| Roles { proxy: true, relay: false, console: false }).await
}

pub async fn relay(file: &Path) -> Result<()> {
    run(file, |_| Roles { proxy: false, relay: true, console: false }).await
}

pub async fn console(file: &Path) -> Result<()> {
    run(file, |_| Roles { proxy: false, relay: false, console: true }).await
}

/// Milliseconds since 1970, read at the shell's edge.
pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

async fn run(file: &Path, roles: impl FnOnce(&Config) -> Roles) -> Result<()> {
    let config = Config::load(file)?;
    let roles = roles(&config);
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
    start_logging(&config.telemetry);
    let region = Region::start(&config, roles).await?;
    tracing::info!(region = %config.region.code, proxy = roles.proxy, relay = roles.relay, console = roles.console, "running");
    tokio::select! {
        stopped = until_asked_to_stop() => stopped?,
        role = region.failed() => bail!("region {}'s {role} has ended by itself", config.region.code),
    }
    tracing::info!(region = %config.region.code, "stopping");
    region.stop().await;
    Ok(())
}
