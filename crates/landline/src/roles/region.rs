//! One region's roles within a process, from start to stop.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use landline_call::StartCall;
use landline_console::{CallControl, Console, ConsoleHandle};
use landline_control::RelayId;
use landline_proxy::{Proxy, ProxyHandle};
use landline_region::CallSid;
use landline_relay::{Relay, RelayHandle};
use landline_store::{Issuer, IssuerConfig, Recorder, RecorderConfig, Retention, Store};
use prometheus::Registry;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{drain, open_files, settings};
use crate::config::{BindAddress, Config, Regions, Scope};
use crate::open;
use crate::telemetry::{EgressMetrics, Health, MemoryMetrics, Readers, Server, StoreMetrics};

/// How long a database may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Events in the ledger, not yet in the database, beyond which something is wrong.
const BACKLOG: u64 = 10_000;

/// Which roles a process takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Roles {
    pub proxy: bool,
    pub relay: bool,
    pub console: bool,
}

/// A running region: all or some of its roles in this process.
pub struct Region {
    store: Store,
    recorder: Option<Recorder>,
    relay: Shared<RelayHandle>,
    /// Beside a relay: whether an administrator wants it empty.
    drained: Option<JoinHandle<()>>,
    /// Its calls may leave it before it stops.
    parts: bool,
    proxy: Shared<ProxyHandle>,
    /// Beside a proxy, of closed calls.
    receipts: Option<Issuer>,
    /// Beside a proxy, of calls past their retention.
    retention: Option<Retention>,
    console: Option<ConsoleHandle>,
    /// Serves until the region has stopped.
    _telemetry: Option<Server>,
    egress: JoinHandle<()>,
}

/// How often what left the region is written into its database.
const AUDIT: Duration = Duration::from_secs(5);

/// How often what has been kept for long enough is looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// How often a running proxy is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A handle that health checks look at while it is there.
pub(super) type Shared<T> = Arc<Mutex<Option<T>>>;

/// The calls of the proxy in this process, as the console may touch them.
struct Calls(Shared<ProxyHandle>);

impl CallControl for Calls {
    fn hang_up(&self, call: CallSid) -> bool {
        look(&self.0, |proxy| proxy.hang_up(call)).unwrap_or(false)
    }

    fn start(&self, call: StartCall) -> bool {
        look(&self.0, |proxy| proxy.start_call(call)).unwrap_or(false)
    }
}

impl Region {
    /// Opens the database, then starts relay and proxy. Every error names what
    /// is at fault; what was started before it is dropped, and so stopped.
    pub async fn start(config: &Config, roles: Roles, keeper: Option<&Path>) -> Result<Self> {
        open_files::allow(config, roles);
        let registry = Registry::new();
        let store = open::store(config).await?;
        if roles.proxy || roles.console {
            open::directory(config, store.gate())?;
        }
        let data = &config.data_dir;
        std::fs::create_dir_all(data).with_context(|| format!("{}", data.display()))?;
        let mut recorder = None;
        let mut relay = None;
        if let Some(wanted) = config.relay.as_ref().filter(|_| roles.relay) {
            let spool = RecorderConfig::new(config.data_dir.join("spool"));
            let started =
                Recorder::start(store.clone(), spool).context("the recorder cannot start")?;
            let settings = settings::relay(
                config,
                wanted,
                Arc::new(started.sink()),
                Arc::new(store.clone()),
                &registry,
            );
            let counted = started.sink();
            let counted = StoreMetrics::new(config.region.code, move || Some(counted.counters()));
            registry.register(Box::new(counted?))?;
            relay = Some(Relay::start(settings).await.context("the relay cannot start")?);
            recorder = Some(started);
        }
        let mut proxy = None;
        if let Some(wanted) = config.proxy.as_ref().filter(|_| roles.proxy) {
            let regions = Regions::load(&config.directory.regions)?;
            let mut settings = settings::proxy(config, wanted, &regions, store.clone(), &registry);
            settings.keeper = keeper.map(Path::to_owned);
            settings.push = super::push::start(wanted, &store, &registry)?;
            proxy = Some(Proxy::start(settings).await.context("the proxy cannot start")?);
        }
        let receipts = roles.proxy.then(|| Issuer::start(store.clone(), IssuerConfig::default()));
        if roles.proxy {
            let counted = store.clone();
            let counted = StoreMetrics::new(config.region.code, move || Some(counted.counters()));
            registry.register(Box::new(counted?))?;
        }
        let retention = roles.proxy.then(|| Retention::start(store.clone(), SWEEP));
        if let Some(issuer) = &receipts {
            let counters = issuer.counter();
            let counters = StoreMetrics::new(config.region.code, move || Some(counters()));
            registry.register(Box::new(counters?))?;
        }
        let (relay, proxy) = (Arc::new(Mutex::new(relay)), Arc::new(Mutex::new(proxy)));
        if roles.proxy {
            let proxy = Arc::clone(&proxy);
            let read = move || look(&proxy, ProxyHandle::ledger);
            registry.register(Box::new(StoreMetrics::new(config.region.code, read)?))?;
        }
        let mut console = None;
        if let Some(wanted) = config.console.as_ref().filter(|_| roles.console) {
            let calls: Option<Arc<dyn CallControl>> = match roles.proxy {
                true => Some(Arc::new(Calls(Arc::clone(&proxy)))),
                false => None,
            };
            let settings = settings::console(config, wanted, store.clone(), calls, &registry);
            console = Some(Console::start(settings).await.context("the console cannot start")?);
        }
        let counted = store.clone();
        let read = move || counted.gate().counted();
        registry.register(Box::new(EgressMetrics::new(config.region.code, read)?))?;
        registry.register(Box::new(MemoryMetrics::new(config.region.code)?))?;
        let telemetry = match telemetry_address(config, roles) {
            Some(address) => {
                let health = health(&store, &relay, &proxy);
                let readers = match config.telemetry.scope {
                    Scope::Region => Readers::Region,
                    Scope::Outside => Readers::Outside(store.clone()),
                };
                Some(Server::start(address.0, registry, health, readers).await?)
            }
            None => None,
        };
        let egress = tokio::spawn(write_egress(store.clone()));
        let drained = config.relay.as_ref().filter(|_| roles.relay).map(|wanted| {
            let name = RelayId(wanted.name.clone());
            tokio::spawn(drain::follow(store.clone(), name, Arc::clone(&relay)))
        });
        // With its proxy in one process there is nobody whom it could tell.
        let parts = roles.relay && !roles.proxy;
        let _telemetry = telemetry;
        Ok(Self {
            store,
            recorder,
            relay,
            drained,
            parts,
            proxy,
            console,
            receipts,
            retention,
            _telemetry,
            egress,
        })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether every configured relay is connected.
    pub fn is_linked(&self) -> bool {
        look(&self.proxy, |proxy| {
            let status = proxy.status();
            status.relays_connected == status.relays_configured
        })
        .unwrap_or(true)
    }

    /// Resolves, with its name, when the proxy or the console has ended by
    /// itself, which is a fault: the process is of no use then, and whoever
    /// supervises it should start another.
    pub async fn failed(&self) -> &'static str {
        loop {
            if !look(&self.proxy, |proxy| proxy.status().running).unwrap_or(true) {
                return "proxy";
            }
            if self.console.as_ref().is_some_and(|console| !console.is_running()) {
                return "console";
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Stops and ends no call: another process goes on with them.
    pub async fn hand_over(self) {
        if let Some(proxy) = take(&self.proxy) {
            proxy.hand_over().await;
        }
        self.stop().await;
    }

    /// Ends calls in order, with their records; then recordings, then receipts,
    /// then the database.
    pub async fn stop(self) {
        drop(self.console);
        if let Some(proxy) = take(&self.proxy) {
            proxy.shutdown().await;
        }
        if let Some(drained) = self.drained {
            drained.abort();
        }
        if let Some(relay) = take(&self.relay) {
            if self.parts {
                drain::part(&relay).await;
            }
            relay.shutdown().await;
        }
        if let Some(recorder) = self.recorder {
            recorder.shutdown().await;
        }
        if let Some(retention) = self.retention {
            retention.shutdown().await;
        }
        if let Some(receipts) = self.receipts {
            receipts.shutdown().await;
        }
        self.egress.abort();
        let _aborted = self.egress.await;
        if let Err(error) = self.store.write_egress().await {
            tracing::error!(%error, "what left the region at last is not written down");
        }
        self.store.close().await;
    }
}

/// Writes the egress gate's audit lines while the region runs.
async fn write_egress(store: Store) {
    loop {
        tokio::time::sleep(AUDIT).await;
        // Kept by the gate, and written with the next.
        if let Err(error) = store.write_egress().await {
            tracing::warn!(%error, "what left the region is not written down yet");
        }
    }
}

/// Proxy and relay of one machine share a file, and not a port. A console
/// apart from them has nothing to serve by plain HTTP.
fn telemetry_address(config: &Config, roles: Roles) -> Option<BindAddress> {
    match (roles.proxy, roles.relay) {
        (true, _) => config.telemetry.address,
        (false, true) => config.telemetry.relay_address,
        (false, false) => None,
    }
}

pub(super) fn look<T, R>(shared: &Shared<T>, at: impl FnOnce(&T) -> R) -> Option<R> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(at)
}

fn take<T>(shared: &Shared<T>) -> Option<T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn health(store: &Store, relay: &Shared<RelayHandle>, proxy: &Shared<ProxyHandle>) -> Health {
    let mut health = Health::default();
    let database = store.clone();
    health.add("database", move || {
        let store = database.clone();
        async move {
            let answered = tokio::time::timeout(PATIENCE, store.revision()).await;
            let fine = matches!(answered, Ok(Ok(_)));
            (fine, json!(if fine { "ok" } else { "away" }))
        }
    });
    if look(relay, |_| ()).is_some() {
        let relay = Arc::clone(relay);
        health.add("relay", move || {
            let state = look(&relay, |relay| (relay.is_healthy(), relay.sessions()));
            let (fine, sessions) = state.unwrap_or_default();
            async move { (fine, json!({ "ok": fine, "sessions": sessions })) }
        });
    }
    if look(proxy, |_| ()).is_some() {
        add_proxy(&mut health, proxy);
    }
    health
}

fn add_proxy(health: &mut Health, proxy: &Shared<ProxyHandle>) {
    let shared = Arc::clone(proxy);
    health.add("proxy", move || {
        let status = look(&shared, ProxyHandle::status);
        let fine = status.is_some_and(|status| status.running);
        let calls = status.map_or(0, |status| status.calls_open);
        async move { (fine, json!({ "ok": fine, "calls": calls })) }
    });
    let shared = Arc::clone(proxy);
    health.add("relay_links", move || {
        let status = look(&shared, ProxyHandle::status);
        let connected = status.map_or(0, |status| status.relays_connected);
        let configured = status.map_or(0, |status| status.relays_configured);
        // One relay that lives can carry calls; none cannot.
        async move { (connected > 0, json!({ "connected": connected, "configured": configured })) }
    });
    let shared = Arc::clone(proxy);
    health.add("ledger", move || {
        let counters = look(&shared, ProxyHandle::ledger);
        let pending = counters.map_or(0, |counters| counters.pending);
        // Events wait here while the database is away; too many, and it has been for long.
        let fine = counters.is_some() && pending < BACKLOG;
        async move { (fine, json!({ "ok": fine, "pending": pending })) }
    });
}
