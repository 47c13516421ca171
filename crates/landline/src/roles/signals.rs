use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGINT or SIGTERM. A second one ends the process at once.
pub async fn until_asked_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}

/// Resolves at the first SIGUSR1, by which a keeper replaces its proxy, and an
/// operator one that has no keeper.
pub async fn until_asked_to_hand_over() -> Result<()> {
    signal(SignalKind::user_defined1()).context("SIGUSR1 cannot be heard")?.recv().await;
    Ok(())
}
