//! Tells the region's database that this proxy lives, and closes what others
//! left open that do not.

use std::sync::Arc;
use std::time::Duration;

use landline_region::UnixMillis;
use landline_store::{Ledger, Store};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::journal::unix_now;
use crate::metrics::StoreFault;
use crate::shared::Shared;
use crate::upkeep::PATIENCE;

const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// How often dead proxies' calls are looked for, at most.
const LOOK: Duration = Duration::from_secs(60);

pub(crate) struct Sweeper {
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) shared: Arc<Shared>,
    /// This one's name.
    pub(crate) proxy: String,
}

impl Sweeper {
    pub(crate) async fn run(self) {
        let patience = self.shared.limits.abandoned_after;
        let look = LOOK.min(patience / 4);
        let mut ticks = interval(SIGN_OF_LIFE.min(look));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Not at once: those that start together tell of themselves first.
        let mut look_at = Instant::now() + look;
        loop {
            ticks.tick().await;
            let told = timeout(PATIENCE, self.store.proxy_alive(&self.proxy, unix_now())).await;
            // While the database is away nobody is judged by what it last heard.
            if !matches!(told, Ok(Ok(()))) {
                look_at = Instant::now() + look;
            } else if look_at <= Instant::now() {
                self.look(patience).await;
                look_at = Instant::now() + look;
            }
        }
    }

    async fn look(&self, patience: Duration) {
        let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let since = UnixMillis(unix_now().0.saturating_sub(patience));
        match self.ledger.sweep_abandoned(&self.proxy, since).await {
            Ok(events) if events.is_empty() => {}
            Ok(events) => {
                self.shared.metrics.calls_abandoned.inc_by(events.len() as u64);
                tracing::warn!(calls = events.len(), "closed calls of proxies that are gone");
            }
            Err(error) => {
                self.shared.metrics.store_fault(StoreFault::Ledger);
                tracing::warn!(%error, "calls of proxies that are gone cannot be closed");
            }
        }
    }
}
