use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use landline_control::{Hello, VERSION};
use landline_media::Identity;
use landline_region::{Entropy, Seed};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::{RelayConfig, StartError};
use crate::ice_ports::{self, IceSocket};
use crate::owner::Owners;
use crate::server::Server;
use crate::shard::{Room, ShardThreads, bind_shared, try_engine};
use crate::shared::Shared;
use crate::streams::{self, Reception};
use crate::tls;

/// How long a shutdown waits for recordings to be stored.
const FINISHING_TIME: Duration = Duration::from_secs(10);

/// A media relay: its ports, its shards and its control server.
#[derive(Debug)]
pub struct Relay;

impl Relay {
    /// Starts the shards and the control server, the latter on the current
    /// tokio runtime.
    pub async fn start(config: RelayConfig) -> Result<RelayHandle, StartError> {
        let mut entropy = Entropy::new(read_seed()?);
        let tls = tls::server_config(&config.tls, config.region)?;
        try_addresses(&config)?;
        let identity = Identity::generate().map_err(|e| StartError::Identity(e.to_string()))?;
        let listen = config.control_listen;
        let unusable = |source| StartError::ControlAddress { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(unusable)?;
        let control_addr = listener.local_addr().map_err(unusable)?;

        let identity = Arc::new(identity);
        let (listeners, streams) = listen_for_streams(&config)?;
        let ice = ice_ports::bind(&config, config.shard_count(), bind_shared)?;
        let runtime = Handle::current();
        let shared = Shared::new(config, streams, &ice, identity, &mut entropy, runtime)?;
        let shared = Arc::new(shared);
        report_room(&shared, &ice);
        let engine = shared.config.engine;
        try_engine(engine)?;
        shared.metrics.engine.with_label_values(&[engine.name()]).set(1);
        let threads =
            ShardThreads::start(&shared, ice, engine, &mut entropy).map_err(StartError::Shard)?;
        let owners = Arc::new(Owners::new(shared.config.limits.proxies));
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            shared: Arc::clone(&shared),
            shards: threads.shards(),
            owners: Arc::clone(&owners),
            acceptor: TlsAcceptor::from(tls),
            hello: Hello {
                version: VERSION,
                region: shared.config.region,
                name: shared.config.name.0.clone(),
                incarnation: entropy.u64(),
            },
            next_connection: AtomicU64::new(1),
            stop: stopped.clone(),
        };
        tokio::spawn(Arc::new(server).run(listener));
        let reception = Arc::new(Reception {
            shared: Arc::clone(&shared),
            shards: threads.shards(),
            strangers: Arc::default(),
            stop: stopped.clone(),
        });
        for listener in listeners {
            tokio::spawn(Arc::clone(&reception).run(listener));
        }
        tokio::spawn(keep_house(Arc::clone(&shared), stopped));
        tracing::info!(
            relay = %shared.config.name,
            region = %shared.config.region,
            shards = threads.shards().count(),
            engine = engine.name(),
            "the relay is up"
        );
        Ok(RelayHandle { control_addr, shared, owners, threads, stop })
    }
}

/// A running relay. Dropping it stops the relay without waiting; see
/// [`RelayHandle::shutdown`].
pub struct RelayHandle {
    control_addr: SocketAddr,
    shared: Arc<Shared>,
    owners: Arc<Owners>,
    threads: ShardThreads,
    stop: watch::Sender<bool>,
}

impl RelayHandle {
    /// Where the control server listens.
    pub fn control_addr(&self) -> SocketAddr {
        self.control_addr
    }

    /// Where peers' connections are taken, as they are told.
    pub fn stream_addrs(&self) -> &[SocketAddr] {
        &self.shared.streams
    }

    /// The ports that legs with ICE share, as their peers are told: of each media
    /// address, one for each shard.
    pub fn ice_addrs(&self) -> &[SocketAddr] {
        &self.shared.ice
    }

    /// The registry of the configuration.
    pub fn registry(&self) -> &prometheus::Registry {
        &self.shared.config.registry
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        self.shared.open_sessions()
    }

    /// Whether every shard still runs. Sessions of one that does not are dead,
    /// and the process should be replaced.
    pub fn is_healthy(&self) -> bool {
        self.threads.all_run()
    }

    /// Takes no new sessions from now on and tells the proxies so, which take
    /// theirs elsewhere. Sessions that are open go on until then.
    pub fn drain(&self) {
        self.shared.drain(&self.owners);
    }

    /// Takes sessions again, and tells the proxies so.
    pub fn resume(&self) {
        self.shared.resume(&self.owners);
    }

    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Closes everything, waiting for recordings to be stored.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        self.threads.stop();
        while !self.threads.all_ended() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let deadline = Instant::now() + FINISHING_TIME;
        while Arc::strong_count(&self.shared.finishing) > 1 {
            if Instant::now() >= deadline {
                tracing::error!("recordings were not stored in time");
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.threads.stop();
    }
}

impl fmt::Debug for RelayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayHandle")
            .field("relay", &self.shared.config.name)
            .field("control_addr", &self.control_addr)
            .finish_non_exhaustive()
    }
}

fn read_seed() -> Result<Seed, StartError> {
    let mut seed = Seed::default();
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut seed)
        .map_err(|_| StartError::Randomness)?;
    Ok(seed)
}

/// Whether the media addresses make sense, and can be bound.
fn try_addresses(config: &RelayConfig) -> Result<(), StartError> {
    if config.media.is_empty() {
        return Err(StartError::NoMediaAddress);
    }
    for media in &config.media {
        let (bind, advertise) = (media.bind, media.advertise);
        if advertise.is_unspecified() {
            return Err(StartError::UnspecifiedAdvertised(advertise));
        }
        if bind.is_ipv4() != advertise.is_ipv4() {
            return Err(StartError::MixedFamilies { bind, advertise });
        }
        UdpSocket::bind((bind, 0))
            .map_err(|source| StartError::MediaAddress { address: bind, source })?;
    }
    Ok(())
}

/// How much may wait at the ports that browsers share. What does not fit is the
/// kernel's to drop, and to count.
fn report_room(shared: &Shared, ice: &[Vec<IceSocket<UdpSocket>>]) {
    let rooms = ice.iter().flatten().filter_map(|it| Room::of(&it.socket).ok());
    let Some(room) = rooms.reduce(Room::least) else { return };
    shared.metrics.ice_room_receive.set(room.receive as i64);
    shared.metrics.ice_room_send.set(room.send as i64);
    for (setting, wanted) in room.wants() {
        tracing::warn!(
            setting,
            wanted,
            receive = room.receive,
            send = room.send,
            "the sockets that browsers share have less room than they want: under load packets \
             are lost in the kernel; raise the setting (sysctl) and start the relay again"
        );
    }
}

/// The listeners for peers' connections, and what peers are told of them.
fn listen_for_streams(
    config: &RelayConfig,
) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let (mut listeners, mut told) = (Vec::new(), Vec::new());
    for media in config.media.iter().filter(|_| config.stream_port.is_some()) {
        let port = config.stream_port.unwrap_or_default();
        let address = SocketAddr::new(media.bind, port);
        let unusable = |source| StartError::StreamAddress { address, source };
        let (listener, advertised) =
            streams::bind(media.bind, media.advertise, port).map_err(unusable)?;
        listeners.push(TcpListener::from_std(listener).map_err(unusable)?);
        told.push(advertised);
    }
    Ok((listeners, told))
}

/// Does what is due by the passing of time alone: keeps gauges right, and forgets
/// what was kept for long enough.
async fn keep_house(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = interval.tick() => {
                let now = Instant::now();
                shared.report_ports(now);
                shared.clips.sweep(now);
            }
            _ = stop.wait_for(|stopped| *stopped) => return,
        }
    }
}
