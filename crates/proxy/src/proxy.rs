//! Starting and stopping a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_call::directory::Directory;
use landline_call::{Core, CoreConfig, StartCall, Tenants};
use landline_control::{Hello, VERSION};
use landline_region::{CallSid, DataClass, Entropy, PseudonymKey, Seed, UnixMillis};
use landline_sip::{Endpoint, EndpointConfig, Transport};
use landline_store::{Ledger, LedgerConfig, LedgerCounters, StoreError, directory};
use rustls::ServerConfig;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::admission::Admission;
use crate::advertise::{Bound, core_config, endpoint_listeners};
use crate::connect::Connector;
use crate::driver::Driver;
use crate::driver_thread::{DriverRuntime, DriverThread};
use crate::inbox::Incoming;
use crate::journal::unix_now;
use crate::keeper::{KeeperLink, Kept};
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::relay_link::RelayLink;
use crate::replica::Replication;
use crate::replica_link::{PeerLink, PeerServer, Peering};
use crate::resolve::Dns;
use crate::shared::Shared;
use crate::sockets::{Certificates, Sockets};
use crate::sweeper::Sweeper;
use crate::tls::{self, Reloading};
use crate::upkeep;
use crate::wire::Wire;
use crate::{PeerAddress, ProxyConfig, StartError, bindings, journal, mailboxes};

/// What the proxy calls itself in User-Agent and Server headers.
const PRODUCT: &str = concat!("Landline/", env!("CARGO_PKG_VERSION"));
/// How long the ledger may take to ship the last events when the proxy stops;
/// what is not shipped by then is on disk, and shipped after the next start.
const LEDGER_FLUSH: Duration = Duration::from_secs(2);

/// One region's signalling: see [`Proxy::start`].
pub struct Proxy;

impl Proxy {
    /// Reads certificates, accounts, bindings and the directory, binds every
    /// listener, and starts to serve. On an error nothing is left running.
    pub async fn start(config: ProxyConfig) -> Result<ProxyHandle, StartError> {
        let certificates = Certificates::read(&config)?;
        let mut entropy = Entropy::new(seed()?);
        let metrics = Metrics::new(&config.registry, config.region.as_str(), &config.name)?;
        let directory = read_directory(&config)?;
        let tenancy = config.store.tenancy().await.map_err(StartError::Store)?;
        let known = config.store.load_bindings().await.map_err(StartError::Store)?;
        metrics.database_up.set(1);
        metrics.tenancy_revision.set(tenancy.revision);
        metrics.directory_version.set(i64::try_from(directory.version).unwrap_or(i64::MAX));

        let runtime = DriverRuntime::new().map_err(StartError::Thread)?;
        let (kept, listeners) = match &config.keeper {
            Some(path) => Kept::connect(path).await.map(|(kept, it)| (Some(kept), Some(it)))?,
            None => (None, None),
        };
        let sockets = Sockets::bind(&config, &certificates, &runtime, listeners)?;
        let (inbox, from_network) = mpsc::channel(config.limits.inbox);
        let (answers, from_within) = mpsc::channel(config.limits.inbox);
        let (limits, origins) = (config.limits.clone(), config.origins.clone());
        let shared = Shared::new(limits, origins, metrics, inbox, answers, unix_now().0);
        let transports: Vec<_> = sockets.bound.iter().map(|bound| bound.transport).collect();
        let dns = Arc::new(Dns::new(&config.dns, &transports, entropy.seed())?);

        let peering = Peering {
            region: config.region,
            name: config.name.clone(),
            client: Arc::clone(&certificates.region_client),
            dns: Arc::clone(&dns),
        };
        let ledger = open_ledger(&config, &peering).await?;
        let now = landline_region::Now { instant: Instant::now(), unix: unix_now() };
        let endpoint = endpoint(&config, &sockets.bound, entropy.seed(), now.instant);
        let pseudonyms = config.store.pseudonym_key();
        let signing_key = signing_key(&pseudonyms);
        let own = sockets.inter_region_advertised(&config)?;
        let number_key = directory::number_key(&config.directory);
        let number_key = number_key.map_err(|error| unreadable(&config, &error))?;
        let core_config =
            core_config(&config, &sockets.bound, own.as_ref(), pseudonyms, signing_key, PRODUCT);
        let (number_key, egress) = (Some(number_key), Some(Arc::clone(config.store.gate())));
        let core_config = CoreConfig { number_key, egress, ..core_config };
        let mut core = Core::new(core_config, entropy.seed(), now);
        let (revision, version) = (tenancy.revision, directory.version);
        core.handle_input(now, landline_call::Input::Directory(Arc::new(directory)));
        core.handle_input(now, landline_call::Input::Tenancy(Arc::new(Tenants::new(&tenancy))));
        core.handle_input(now, landline_call::Input::Bindings(known));
        let calls = ledger.kept();
        let proven_until = ledger.last_alive().unwrap_or(UnixMillis(0));
        core.handle_input(now, landline_call::Input::Restore { calls, proven_until });

        let peers = config.peering.map(|address| {
            let failed = |source| StartError::PeerListener { address, source };
            crate::listen::bind(address).map_err(failed)
        });
        let peers = peers.transpose()?;
        let parts = Parts {
            config,
            certificates,
            runtime,
            sockets,
            kept,
            ledger,
            shared,
            dns,
            incoming: (from_network, from_within),
            incarnation: entropy.u64(),
            peering,
            peers,
            revision,
            version,
        };
        parts.run(endpoint, core)
    }
}

/// A running proxy. Dropping it stops everything at once; [`Self::shutdown`]
/// ends calls in order.
pub struct ProxyHandle {
    addresses: Vec<(Transport, SocketAddr)>,
    inter_region: Option<SocketAddr>,
    peering: Option<SocketAddr>,
    shared: Arc<Shared>,
    relays: usize,
    ledger: Ledger,
    driver: DriverThread,
    journal: JoinHandle<()>,
    keeper: Option<KeeperLink>,
    tasks: JoinSet<()>,
}

/// For health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyStatus {
    /// False once the driver has ended.
    pub running: bool,
    /// Whether the region database answered last.
    pub database_up: bool,
    pub relays_connected: usize,
    pub relays_configured: usize,
    pub calls_open: u64,
}

impl ProxyHandle {
    /// Every client listener with the address it is bound to.
    pub fn addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// The first listener of a transport.
    pub fn address(&self, transport: Transport) -> Option<SocketAddr> {
        let found = self.addresses.iter().find(|(known, _)| *known == transport);
        found.map(|(_, address)| *address)
    }

    /// Where other regions' proxies reach this one.
    pub fn inter_region_address(&self) -> Option<SocketAddr> {
        self.inter_region
    }

    /// Where the region's other proxies reach this one.
    pub fn peering_address(&self) -> Option<SocketAddr> {
        self.peering
    }

    pub fn status(&self) -> ProxyStatus {
        let metrics = &self.shared.metrics;
        ProxyStatus {
            running: self.driver.is_running(),
            database_up: metrics.database_up.get() == 1,
            relays_connected: usize::try_from(metrics.relays_connected.get()).unwrap_or(0),
            relays_configured: self.relays,
            calls_open: u64::try_from(metrics.calls_open.get()).unwrap_or(0),
        }
    }

    /// Of the call ledger: what waits to be shipped shows in it.
    pub fn ledger(&self) -> LedgerCounters {
        self.ledger.counters()
    }

    /// Asks for the end of a call; one that is not open here stays as it is.
    /// `false` where the driver is behind and takes nothing more.
    pub fn hang_up(&self, call: CallSid) -> bool {
        self.shared.answers.try_send(Incoming::HangUp(call)).is_ok()
    }

    /// Asks for a call: its record shows what comes of it. `false` as above.
    pub fn start_call(&self, start: StartCall) -> bool {
        self.shared.answers.try_send(Incoming::StartCall(Box::new(start))).is_ok()
    }

    /// Resolves when the proxy has ended by itself, which is a fault.
    pub async fn ended(&self) {
        self.driver.ended().await;
    }

    /// Ends no call and closes no connection that a keeper holds: the next proxy
    /// of this name goes on with them.
    pub async fn hand_over(mut self) {
        let is_told = match &self.keeper {
            Some(keeper) => keeper.pause().await,
            None => false,
        };
        if !is_told {
            let _gone = self.shared.inbox.send(Incoming::HandOver).await;
        }
        if timeout(LEDGER_FLUSH, self.driver.ended()).await.is_err() {
            tracing::error!("the driver did not stop in time");
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.finish().await;
        }
        self.tasks.shutdown().await;
        let _late = timeout(LEDGER_FLUSH, &mut self.journal).await;
        self.ledger.clone().close().await;
    }

    /// Ends every call with BYE and its record, flushes the ledger and closes
    /// the listeners. Bounded by [`crate::Limits::shutdown`] and some seconds.
    pub async fn shutdown(mut self) {
        let _gone = self.shared.answers.send(Incoming::Shutdown).await;
        let patience = self.shared.limits.shutdown + Duration::from_secs(2);
        if timeout(patience, self.driver.ended()).await.is_err() {
            tracing::error!("the driver did not stop in time");
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.finish().await;
        }
        self.tasks.shutdown().await;
        // With the driver gone the journal's task appends the rest and ends.
        let _late = timeout(LEDGER_FLUSH, &mut self.journal).await;
        if let Ok(Err(problem)) = timeout(LEDGER_FLUSH, self.ledger.flush()).await {
            tracing::warn!(%problem, "call events stay in the ledger until the next start");
        }
        self.ledger.clone().close().await;
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        // Before the driver, which lets go of its connections by it.
        self.keeper = None;
        self.journal.abort();
    }
}

fn endpoint(config: &ProxyConfig, bound: &[Bound], seed: Seed, now: Instant) -> Endpoint {
    let config = EndpointConfig {
        listeners: endpoint_listeners(bound),
        limits: config.limits.message.clone(),
        max_transactions: config.limits.transactions,
        longest_wait: config.limits.longest_wait,
        emergency_numbers: config.limits.emergency_numbers.clone(),
        user_agent: Some(PRODUCT.to_owned()),
        server: Some(PRODUCT.to_owned()),
        ..EndpointConfig::default()
    };
    Endpoint::new(config, seed, now)
}

fn read_directory(config: &ProxyConfig) -> Result<Directory, StartError> {
    directory::read(&config.directory).map_err(|error| unreadable(config, &error))
}

fn unreadable(config: &ProxyConfig, error: &StoreError) -> StartError {
    StartError::Directory { path: config.directory.clone(), problem: error.to_string() }
}

async fn open_ledger(config: &ProxyConfig, peering: &Peering) -> Result<Ledger, StartError> {
    let failed = |error: landline_store::StoreError| StartError::Ledger {
        path: config.ledger.clone(),
        problem: error.to_string(),
    };
    let opening = LedgerConfig::new(&config.ledger);
    let ledger = Ledger::open(opening, config.store.clone()).await.map_err(failed)?;
    // First what we have to say: the database may be away for long, and what the
    // peers say before tells nothing of what they take up meanwhile.
    ledger.flush().await.map_err(failed)?;
    ledger.spare(peering.carried_by(&config.peers).await);
    let lost = ledger.sweep_lost(&config.name).await.map_err(failed)?;
    if !lost.is_empty() {
        tracing::warn!(events = lost.len(), "closed the records of calls that a former run lost");
    }
    Ok(ledger)
}

/// The same at every start, so that phones registered through us stay reachable.
fn signing_key(pseudonyms: &PseudonymKey) -> [u8; 32] {
    let mut key = [0; 32];
    for (half, part) in key.chunks_exact_mut(16).zip(["signing key 1", "signing key 2"]) {
        half.copy_from_slice(pseudonyms.token(DataClass::Credential, part).as_bytes());
    }
    key
}

fn seed() -> Result<Seed, StartError> {
    let mut seed = Seed::default();
    tls::provider().secure_random.fill(&mut seed).map_err(|_| StartError::Randomness)?;
    Ok(seed)
}

/// Everything that was made ready, before the tasks take it.
struct Parts {
    config: ProxyConfig,
    certificates: Certificates,
    runtime: DriverRuntime,
    sockets: Sockets,
    kept: Option<Kept>,
    ledger: Ledger,
    shared: Arc<Shared>,
    dns: Arc<Dns>,
    incoming: (mpsc::Receiver<Incoming>, mpsc::Receiver<Incoming>),
    incarnation: u64,
    peering: Peering,
    /// Where the peers connect.
    peers: Option<tokio::net::TcpListener>,
    /// Of the accounts and the directory that the core was given.
    revision: i64,
    version: u64,
}

impl Parts {
    fn run(mut self, endpoint: Endpoint, core: Core) -> Result<ProxyHandle, StartError> {
        let addresses: Vec<_> =
            self.sockets.bound.iter().map(|bound| (bound.transport, bound.local)).collect();
        let inter_region = self.sockets.inter_region.as_ref().map(Listener::local);
        let (journal, entries) = mpsc::channel(journal::QUEUE);
        let (bindings, changes) = mpsc::channel(bindings::QUEUE);
        let (mailboxes, owners) = mpsc::channel(mailboxes::QUEUE);
        let driver = Driver {
            shared: Arc::clone(&self.shared),
            endpoint,
            core,
            wire: self.wire(&addresses, inter_region),
            inbox: self.incoming.0,
            answers: self.incoming.1,
            relays: Default::default(),
            journal,
            unjournaled: Default::default(),
            bindings,
            mailboxes,
            push: self.config.push.as_ref().map(|it| it.orders.clone()),
            resolutions: Arc::new(Semaphore::new(self.config.limits.resolutions)),
            dns: Arc::clone(&self.dns),
            mirror: Mirror::default(),
            replication: Replication::new(!self.config.peers.is_empty()),
            links: Default::default(),
            stop: None,
        };
        let name = format!("proxy-{}", self.config.region);
        let driver = self.runtime.start(name, driver).map_err(StartError::Thread)?;
        let mut tasks = JoinSet::new();
        let Self { config, certificates, sockets, kept, ledger, shared, dns, .. } = self;
        let keeper = kept.map(|kept| KeeperLink::start(kept, &shared));
        tasks.spawn(bindings::run(config.store.clone(), changes, Arc::clone(&shared)));
        tasks.spawn(mailboxes::run(config.store.clone(), owners, Arc::clone(&shared)));
        tasks.spawn(journal::heartbeat(ledger.clone(), Arc::clone(&shared)));
        let sweeper = Sweeper {
            store: config.store.clone(),
            ledger: ledger.clone(),
            shared: Arc::clone(&shared),
            proxy: config.name.clone(),
        };
        tasks.spawn(sweeper.run());
        tasks.spawn(upkeep::follow_tenancy(
            config.store.clone(),
            self.revision,
            Arc::clone(&shared),
        ));
        let directory = config.directory.clone();
        tasks.spawn(upkeep::follow_directory(directory, self.version, Arc::clone(&shared)));
        tasks.spawn(upkeep::follow_certificates(certificates.refreshes()));
        listen(&mut tasks, sockets.streams, sockets.inter_region, &shared);
        for relay in &config.relays {
            let link = RelayLink {
                relay: relay.clone(),
                region: config.region,
                hello: hello(&config, self.incarnation),
                tls: Arc::clone(&certificates.region_client),
                dns: Arc::clone(&dns),
                shared: Arc::clone(&shared),
            };
            tasks.spawn(link.run());
        }
        let listening = self.peers.as_ref().and_then(|listener| listener.local_addr().ok());
        let acceptor = Arc::clone(&certificates.region_server);
        meet_peers(&mut tasks, &config.peers, self.peering, (self.peers, acceptor), &shared);
        let journal = tokio::spawn(journal::run(ledger.clone(), entries, Arc::clone(&shared)));
        let relays = config.relays.len();
        let peering = listening;
        Ok(ProxyHandle {
            addresses,
            inter_region,
            peering,
            shared,
            relays,
            ledger,
            driver,
            journal,
            keeper,
            tasks,
        })
    }

    fn wire(
        &mut self,
        addresses: &[(Transport, SocketAddr)],
        inter_region: Option<SocketAddr>,
    ) -> Wire {
        let connector = Connector {
            shared: Arc::clone(&self.shared),
            store: self.config.store.clone(),
            dns: Arc::clone(&self.dns),
            carriers: Arc::clone(&self.certificates.carriers),
            regions: Arc::clone(&self.certificates.region_client),
        };
        let streams = addresses.iter().filter(|(transport, _)| *transport != Transport::Udp);
        Wire::new(
            Arc::clone(&self.shared),
            Arc::new(connector),
            std::mem::take(&mut self.sockets.udp),
            streams.copied().collect(),
            inter_region,
        )
    }
}

/// A link to each of the region's other proxies, and the end of theirs.
fn meet_peers(
    tasks: &mut JoinSet<()>,
    peers: &[PeerAddress],
    peering: Peering,
    (listener, acceptor): (Option<tokio::net::TcpListener>, Arc<Reloading<ServerConfig>>),
    shared: &Arc<Shared>,
) {
    for peer in peers {
        let (peering, shared) = (peering.clone(), Arc::clone(shared));
        tasks.spawn(PeerLink { peering, peer: peer.clone(), shared }.run());
    }
    let Some(listener) = listener else { return };
    let server = PeerServer {
        peering,
        acceptor,
        peers: peers.to_vec(),
        shared: Arc::clone(shared),
        last_link: Default::default(),
    };
    tasks.spawn(Arc::new(server).run(listener));
}

fn listen(
    tasks: &mut JoinSet<()>,
    streams: Vec<Listener>,
    inter_region: Option<Listener>,
    shared: &Arc<Shared>,
) {
    let admission =
        || Admission::new(shared.limits.connections, shared.limits.connections_per_source);
    let clients = admission();
    for listener in streams {
        tasks.spawn(listener.run(Arc::clone(shared), Arc::clone(&clients)));
    }
    if let Some(listener) = inter_region {
        // Apart from clients' connections: a flood of those shuts no region out.
        tasks.spawn(listener.run(Arc::clone(shared), admission()));
    }
}

fn hello(config: &ProxyConfig, incarnation: u64) -> Hello {
    Hello { version: VERSION, region: config.region, name: config.name.clone(), incarnation }
}
