//! The keeper's role: holds a proxy's sockets and connections, and keeps a
//! proxy process running on them.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use landline_proxy::{Keeper, KeeperConfig};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::{Roles, open_files, settings, signals, wanted};
use crate::config::Regions;
use crate::telemetry::start_logging;

/// The keeper's door, in `data_dir`.
const SOCKET: &str = "keeper.sock";
/// A proxy that ends this soon after its start did not start.
const STARTED: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a proxy may take to hand over, and to end its calls.
const HAND_OVER: Duration = Duration::from_secs(5);
const STOP: Duration = Duration::from_secs(15);

pub async fn keep(file: &Path) -> Result<()> {
    let config = wanted(file, |roles| roles.proxy = true)?.0;
    let Some(proxy) = &config.proxy else { bail!("{}: no [proxy]", file.display()) };
    start_logging(&config.telemetry);
    open_files::allow(&config, Roles { proxy: true, ..Roles::default() });
    let data = &config.data_dir;
    std::fs::create_dir_all(data).with_context(|| format!("{}", data.display()))?;
    let socket = data.join(SOCKET);
    let keeper = Keeper::start(KeeperConfig {
        region: config.region.code,
        socket: socket.clone(),
        listeners: settings::listeners(proxy),
        client_tls: proxy.tls.as_ref().map(settings::client_tls),
        origins: settings::origins(proxy, &Regions::load(&config.directory.regions)?),
        limits: settings::limits(proxy),
    });
    let _keeper = keeper.await.context("the keeper cannot start")?;
    // The path, not the file: an upgrade puts another one there.
    let program = std::env::current_exe().context("this program's file cannot be found")?;
    Supervisor { program, file: file.to_owned(), socket }.run().await
}

struct Supervisor {
    program: PathBuf,
    file: PathBuf,
    socket: PathBuf,
}

impl Supervisor {
    /// Until it is asked to stop. SIGHUP replaces the proxy by one from the
    /// program's present file.
    async fn run(self) -> Result<()> {
        let mut upgrades = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
        let stop = signals::until_asked_to_stop();
        tokio::pin!(stop);
        let mut pause = FIRST_PAUSE;
        let mut is_first = true;
        loop {
            let began = Instant::now();
            let mut proxy = self.start()?;
            tokio::select! {
                stopped = &mut stop => {
                    stopped?;
                    return end(&mut proxy, Signal::TERM, STOP).await.map(drop);
                }
                _ = upgrades.recv() => {
                    tracing::info!("the proxy is replaced");
                    end(&mut proxy, Signal::USR1, HAND_OVER).await?;
                    pause = FIRST_PAUSE;
                }
                ended = proxy.wait() => {
                    let ended = ended.context("the proxy cannot be waited for")?;
                    let never_ran = began.elapsed() < STARTED;
                    if never_ran && is_first {
                        bail!("the proxy does not start ({ended}): its own words say why");
                    }
                    tracing::error!(status = %ended, "the proxy has ended; another one takes its place");
                    sleep(pause).await;
                    pause = if never_ran { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
                }
            }
            is_first = false;
        }
    }

    fn start(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("proxy").arg("--config").arg(&self.file).arg("--keeper").arg(&self.socket);
        command.kill_on_drop(true);
        command.spawn().with_context(|| format!("{} cannot be started", self.program.display()))
    }
}

/// Asks by a signal, and insists when that does not help.
async fn end(proxy: &mut Child, ask: Signal, patience: Duration) -> Result<Option<ExitStatus>> {
    let id = proxy.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(id) = id {
        kill_process(id, ask).context("the proxy cannot be signalled")?;
    }
    if let Ok(ended) = timeout(patience, proxy.wait()).await {
        return Ok(Some(ended.context("the proxy cannot be waited for")?));
    }
    tracing::error!("the proxy does not end when asked, and is killed");
    proxy.kill().await.context("the proxy cannot be killed")?;
    Ok(None)
}
