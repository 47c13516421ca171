//! What passes the router: one capture for each region's link.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::net::Network;
use crate::process::{Process, eventually};

pub struct Taps(Vec<Process>);

impl Taps {
    /// Returns when every link is being captured.
    pub fn start(network: &Network, directory: &Path) -> Result<Self> {
        let mut taps = Vec::new();
        for site in &network.regions {
            let mut command = network.in_router("dumpcap");
            // Written out at once, so that nothing is lost at the end.
            command.args(["-q", "-i", site.region, "-w"]).arg(file(directory, site.region));
            let words = directory.join(format!("{}.words", site.region));
            taps.push(Process::start(&mut command, &words)?);
        }
        for site in &network.regions {
            let file = file(directory, site.region);
            eventually("a capture begins", Duration::from_secs(10), || {
                file.metadata().is_ok_and(|file| file.len() > 0).then_some(())
            })?;
        }
        // The file is there before the socket listens.
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self(taps))
    }

    pub fn stop(mut self) -> Result<()> {
        // The kernel hands packets over in blocks.
        std::thread::sleep(Duration::from_millis(500));
        self.0.iter_mut().try_for_each(|tap| tap.end("TERM").map(drop))
    }
}

pub fn file(directory: &Path, region: &str) -> PathBuf {
    directory.join(region).with_extension("pcapng")
}
