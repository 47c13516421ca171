//! The driver's own thread and runtime.
//!
//! On a runtime shared with hundreds of other tasks, each datagram could wake
//! another worker to look for work; here the thread that the kernel wakes is the
//! one that handles the message.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

use crate::driver::Driver;

/// The runtime before its thread runs it. Sockets that the driver reads must be
/// made [within](Self::within) it.
pub(crate) struct DriverRuntime(Option<Runtime>);

impl DriverRuntime {
    pub(crate) fn new() -> io::Result<Self> {
        Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    pub(crate) fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _context = self.0.as_ref().map(Runtime::enter);
        make()
    }

    pub(crate) fn start(mut self, name: String, driver: Driver) -> io::Result<DriverThread> {
        let runtime = self.0.take().ok_or(io::ErrorKind::NotFound)?;
        let (stop, stopped) = oneshot::channel();
        let (running, ended) = watch::channel(());
        thread::Builder::new().name(name).spawn(move || {
            // Dropped when the thread ends, even by a panic.
            let _running = running;
            runtime.block_on(async {
                tokio::select! {
                    () = driver.run() => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(DriverThread { _stop: stop, ended })
    }
}

impl Drop for DriverRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Dropping it stops the driver where it is.
pub(crate) struct DriverThread {
    _stop: oneshot::Sender<()>,
    ended: watch::Receiver<()>,
}

impl DriverThread {
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    pub(crate) fn is_running(&self) -> bool {
        self.ended.has_changed().is_ok()
    }
}
