//! What is looked after beside the requests.

use std::sync::Arc;
use std::time::Duration;

use landline_region::UnixMillis;
use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::homes;
use crate::time::wall_clock;
use crate::tls::Certificate;

const CERTIFICATE: Duration = Duration::from_secs(30);
const ANSWERS: Duration = Duration::from_secs(600);
/// How long it can be seen which events were given up.
const GIVEN_UP_KEPT_MS: i64 = 7 * 86_400_000;

pub async fn run(app: Arc<App>, certificate: Arc<Certificate>) {
    let (mut certificate_at, mut answers_at) = (Instant::now() + CERTIFICATE, Instant::now());
    loop {
        if let Err(problem) = app.homes.refresh() {
            tracing::error!(%problem, "the directory cannot be read; the former one stays");
        }
        let now = Instant::now();
        if certificate_at <= now {
            certificate_at = now + CERTIFICATE;
            if let Err(problem) = certificate.refresh() {
                tracing::error!(%problem, "a changed certificate is not taken up");
            }
        }
        if answers_at <= now {
            answers_at = now + ANSWERS;
            if let Err(error) = app.store.answers_expire().await {
                tracing::warn!(%error, "old answers stay for now");
            }
            let given_up = UnixMillis(wall_clock().0 - GIVEN_UP_KEPT_MS);
            if let Err(error) = app.store.deliveries_expire(given_up).await {
                tracing::warn!(%error, "old events that were given up stay for now");
            }
        }
        sleep(homes::LOOK_AGAIN).await;
    }
}
