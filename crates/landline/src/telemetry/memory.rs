//! How much memory the process holds, as its allocator counts it.

use landline_region::RegionCode;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts};
use tikv_jemalloc_ctl::{epoch, stats};

/// Read when somebody looks at the metrics. What is allocated and grows is a
/// leak; what is resident beyond it waits to be given back to the system.
pub struct MemoryMetrics {
    allocated: IntGauge,
    resident: IntGauge,
}

impl MemoryMetrics {
    pub fn new(region: RegionCode) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            IntGauge::with_opts(Opts::new(name, help).const_label("region", region.as_str()))
        };
        Ok(Self {
            allocated: gauge("landline_heap_allocated_octets", "What the process has allocated.")?,
            resident: gauge(
                "landline_heap_resident_octets",
                "What of the machine's memory the allocator holds for it.",
            )?,
        })
    }

    /// The allocator refreshes its figures when it is told that an epoch begins.
    fn read(&self) -> Result<(), tikv_jemalloc_ctl::Error> {
        epoch::advance()?;
        self.allocated.set(octets(stats::allocated::read()?));
        self.resident.set(octets(stats::resident::read()?));
        Ok(())
    }
}

fn octets(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Collector for MemoryMetrics {
    fn desc(&self) -> Vec<&Desc> {
        [self.allocated.desc(), self.resident.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Err(error) = self.read() {
            tracing::warn!(%error, "the allocator does not say how much memory it holds");
            return Vec::new();
        }
        [self.allocated.collect(), self.resident.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn what_is_allocated_is_seen_and_what_is_freed_is_not() {
        let registry = Registry::new();
        let metrics = MemoryMetrics::new("ie1".parse().unwrap()).unwrap();
        registry.register(Box::new(metrics)).unwrap();
        let allocated = || {
            let families = registry.gather();
            let family = families.iter().find(|it| it.name() == "landline_heap_allocated_octets");
            family.unwrap().get_metric()[0].get_gauge().get_value()
        };
        const PIECE: usize = 64 << 20;
        let before = allocated();
        let piece = std::hint::black_box(vec![1u8; PIECE]);
        let with = allocated();
        drop(piece);
        let after = allocated();
        let half = PIECE as f64 / 2.0;
        assert!(with - before > half && with - after > half, "{before} {with} {after}");
    }
}
