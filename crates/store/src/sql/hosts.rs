//! A PostgreSQL primary among several hosts: the one that takes writes, found
//! again when another was promoted.
//!
//! `postgres://USER@HOST1:PORT1,HOST2:PORT2/DATABASE` as libpq takes it. Of two
//! that both call themselves primary, the one with the later timeline is: the
//! other was promoted away from and came back.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{Instant, sleep, timeout};

/// How often the hosts are asked which of them is the primary.
const LOOK: Duration = Duration::from_secs(1);
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// One for each host of the URL.
pub fn hosts(url: &str) -> Result<Vec<PgConnectOptions>, String> {
    let each = |url: &str| {
        let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
        Ok(options.application_name("landline"))
    };
    let Some((before, hosts, after)) = split(url) else { return Ok(vec![each(url)?]) };
    hosts.split(',').map(|host| each(&format!("{before}{host}{after}"))).collect()
}

/// What stands before the hosts, the hosts, and what stands after them.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let authority = url.find("://")? + 3;
    let end = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
    let start = url[authority..end].rfind('@').map_or(authority, |at| authority + at + 1);
    Some((&url[..start], &url[start..end], &url[end..]))
}

/// A pool of connections to whichever of the hosts is the primary.
pub async fn connect(
    pool: PgPoolOptions,
    hosts: Vec<PgConnectOptions>,
) -> Result<PgPool, sqlx::Error> {
    let Some(first) = hosts.first().cloned() else { return Err(sqlx::Error::PoolClosed) };
    if hosts.len() == 1 {
        return pool.connect_with(first).await;
    }
    let chosen = primary(&hosts).await.unwrap_or(0);
    // Connections from before a change are to the former primary.
    let (begun, changed) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let since = Arc::clone(&changed);
    let pool = pool.before_acquire(move |_, connection| {
        let changed = Duration::from_millis(since.load(Relaxed));
        let of_this_primary = connection.age <= begun.elapsed().saturating_sub(changed);
        Box::pin(async move { Ok(of_this_primary) })
    });
    let pool = pool.connect_with(hosts.get(chosen).cloned().unwrap_or(first)).await?;
    let follow = Follow { pool: pool.clone(), hosts, chosen, begun, changed };
    tokio::spawn(follow.run());
    Ok(pool)
}

struct Follow {
    pool: PgPool,
    hosts: Vec<PgConnectOptions>,
    chosen: usize,
    begun: Instant,
    /// Milliseconds from the beginning to the last change of the primary.
    changed: Arc<AtomicU64>,
}

impl Follow {
    /// Until the pool is closed.
    async fn run(mut self) {
        let closed = self.pool.close_event();
        tokio::pin!(closed);
        loop {
            tokio::select! {
                () = &mut closed => return,
                () = sleep(LOOK) => {}
            }
            match primary(&self.hosts).await {
                Some(found) if found != self.chosen => self.change_to(found),
                // None: it is down, and nobody was promoted yet.
                _ => {}
            }
        }
    }

    fn change_to(&mut self, found: usize) {
        let Some(options) = self.hosts.get(found) else { return };
        tracing::warn!(
            host = options.get_host(),
            port = options.get_port(),
            "another host of the database is the primary now"
        );
        self.chosen = found;
        self.pool.set_connect_options(options.clone());
        let after = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.changed.store(after, Relaxed);
    }
}

/// The host that takes writes; of several, the one with the latest timeline.
async fn primary(hosts: &[PgConnectOptions]) -> Option<usize> {
    let mut best: Option<(String, usize)> = None;
    for (index, host) in hosts.iter().enumerate() {
        let asked = timeout(PATIENCE, timeline(host)).await;
        let Ok(Ok(Some(timeline))) = asked else { continue };
        if best.as_ref().is_none_or(|(known, _)| *known < timeline) {
            best = Some((timeline, index));
        }
    }
    best.map(|(_, index)| index)
}

/// Eight hexadecimal digits that rise with each promotion; `None` of a standby.
async fn timeline(host: &PgConnectOptions) -> Result<Option<String>, sqlx::Error> {
    let mut connection = host.connect().await?;
    let select = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL \
                  ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
    let timeline = sqlx::query_scalar(select).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    timeline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_name_several_hosts() {
        let shown = |url: &str| -> Vec<(String, u16)> {
            let hosts = hosts(url).unwrap();
            hosts.iter().map(|it| (it.get_host().to_owned(), it.get_port())).collect()
        };
        assert_eq!(shown("postgres://u@a:1/d"), [("a".to_owned(), 1)]);
        assert_eq!(
            shown("postgres://u:p%40w@a:1,b:2,[::1]:3/d?sslmode=disable"),
            [("a".to_owned(), 1), ("b".to_owned(), 2), ("[::1]".to_owned(), 3)]
        );
        let both = hosts("postgres://u@a,b/records").unwrap();
        assert!(both.iter().all(|it| it.get_database() == Some("records")));
        assert!(hosts("postgres://u@a:x,b/d").is_err());
    }
}
