use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use landline_sip::FlowId;
use tokio::runtime::Handle;

use crate::Limits;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::origin::Origins;

/// What every task around the driver holds.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    /// Pages that may open a WebSocket.
    pub(crate) origins: Origins,
    pub(crate) metrics: Metrics,
    /// What comes from the network by connections.
    pub(crate) inbox: Inbox,
    /// What comes from within: the driver takes it even while the journal is
    /// behind and nothing more may come from the network.
    pub(crate) answers: Inbox,
    /// Where everything but the driver runs.
    pub(crate) tasks: Handle,
    next_flow: AtomicU64,
}

impl Shared {
    /// Connections are numbered from the start's time on, so that a binding
    /// stored by a former process never names a connection of this one. UDP
    /// listeners have small numbers, the same at every start. Called within
    /// the runtime that carries the tasks.
    pub(crate) fn new(
        limits: Limits,
        origins: Origins,
        metrics: Metrics,
        inbox: Inbox,
        answers: Inbox,
        unix_millis: i64,
    ) -> Arc<Self> {
        let first = unix_millis.unsigned_abs() << 20;
        let tasks = Handle::current();
        let next_flow = AtomicU64::new(first);
        Arc::new(Self { limits, origins, metrics, inbox, answers, tasks, next_flow })
    }

    pub(crate) fn next_flow(&self) -> FlowId {
        FlowId(self.next_flow.fetch_add(1, Ordering::Relaxed))
    }
}
