//! What changes under a running proxy: accounts, the directory, certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landline_call::Tenants;
use landline_store::directory::{self, Stamp};
use landline_store::{Store, StoreError};
use tokio::time::{sleep, timeout};

use crate::StartError;
use crate::inbox::Incoming;
use crate::metrics::StoreFault;
use crate::shared::Shared;

/// An administrator's change is in force within a second; this leaves time for
/// the reading.
const POLL: Duration = Duration::from_millis(300);
/// A database that does not answer for so long is away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const CERTIFICATES: Duration = Duration::from_secs(2);

/// Follows the revision of the region's accounts. While the database is away
/// the proxy goes on with those it has.
pub(crate) async fn follow_tenancy(store: Store, mut revision: i64, shared: Arc<Shared>) {
    let mut away = false;
    loop {
        sleep(POLL).await;
        let read = timeout(PATIENCE, changed(store.clone(), revision)).await;
        let problem = match read {
            Ok(Ok(None)) => None,
            Ok(Ok(Some((at, tenants)))) => {
                revision = at;
                shared.metrics.tenancy_revision.set(at);
                if shared.answers.send(Incoming::Tenancy(Arc::new(tenants))).await.is_err() {
                    return;
                }
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it did not answer in time".to_owned()),
        };
        shared.metrics.database_up.set(i64::from(problem.is_none()));
        match problem {
            Some(problem) => {
                shared.metrics.store_fault(StoreFault::Tenancy);
                if !away {
                    tracing::error!(%problem, "the region database is away; accounts stay as they were");
                }
                away = true;
            }
            None if away => {
                tracing::info!("the region database is back");
                away = false;
            }
            None => {}
        }
    }
}

async fn changed(store: Store, revision: i64) -> Result<Option<(i64, Tenants)>, StoreError> {
    if store.revision().await? == revision {
        return Ok(None);
    }
    let tenancy = store.tenancy().await?;
    Ok(Some((tenancy.revision, Tenants::new(&tenancy))))
}

/// Follows the directory snapshot. One that cannot be read changes nothing.
pub(crate) async fn follow_directory(path: PathBuf, version: u64, shared: Arc<Shared>) {
    let mut seen = Stamp::default();
    let mut version = version;
    loop {
        sleep(POLL).await;
        let now = Stamp::of(&path);
        if now == seen {
            continue;
        }
        seen = now;
        match directory::read(&path) {
            Ok(directory) if directory.version == version => {}
            // Signed once, and since replaced: a copy that came late, or was
            // put back.
            Ok(directory) if directory.version < version => {
                shared.metrics.store_fault(StoreFault::Directory);
                let found = directory.version;
                tracing::error!(found, version, "the directory is older; the former one stays");
            }
            Ok(directory) => {
                version = directory.version;
                shared.metrics.directory_version.set(i64::try_from(version).unwrap_or(i64::MAX));
                if shared.answers.send(Incoming::Directory(Arc::new(directory))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                shared.metrics.store_fault(StoreFault::Directory);
                tracing::error!(%error, "the directory cannot be read; the former one stays");
            }
        }
    }
}

/// A certificate that is looked at again now and then.
pub(crate) type Refresh = Box<dyn Fn() -> Result<bool, StartError> + Send>;

pub(crate) async fn follow_certificates(certificates: Vec<Refresh>) {
    loop {
        sleep(CERTIFICATES).await;
        for refresh in &certificates {
            match refresh() {
                Ok(false) => {}
                Ok(true) => tracing::info!("a changed certificate is in use"),
                Err(problem) => {
                    tracing::error!(%problem, "a changed certificate is not taken up");
                }
            }
        }
    }
}
