//! What the recorder and the call ledger count, as metrics.

use landline_region::RegionCode;
use landline_store::{IssuerCounters, LedgerCounters, RecorderCounters, StoreCounters};
use prometheus::core::{Collector, Desc, Describer};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, Opts};

/// A family's name, its help, and its children by outcome.
type Family = (&'static str, &'static str, Vec<(&'static str, u64)>);

pub trait Counted: Default {
    fn counters(&self) -> Vec<Family>;
    /// Name, help and value, where there is one.
    fn gauge(&self) -> Option<(&'static str, &'static str, u64)>;
}

/// Reads counters when somebody looks at the metrics.
pub struct StoreMetrics<C> {
    region: RegionCode,
    descriptions: Vec<Desc>,
    read: C,
}

impl<C> StoreMetrics<C> {
    /// `read` returns `None` where the role is not there.
    pub fn new<T: Counted>(region: RegionCode, read: C) -> prometheus::Result<Self>
    where
        C: Fn() -> Option<T>,
    {
        let none = T::default();
        let counters = none
            .counters()
            .into_iter()
            .map(|(name, help, _)| opts(region, name, help).variable_label("outcome").describe());
        let gauge = none.gauge().map(|(name, help, _)| opts(region, name, help).describe());
        Ok(Self { region, descriptions: counters.chain(gauge).collect::<Result<_, _>>()?, read })
    }
}

fn opts(region: RegionCode, name: &str, help: &str) -> Opts {
    Opts::new(name, help).const_label("region", region.as_str())
}

impl Counted for RecorderCounters {
    fn counters(&self) -> Vec<Family> {
        let packets = vec![("sealed", self.packets), ("dropped", self.packets_dropped)];
        let chunks = vec![
            ("stored", self.chunks_stored),
            ("spooled", self.chunks_spooled),
            ("refused", self.chunks_refused),
            ("spool_damaged", self.spool_damaged),
        ];
        vec![
            ("landline_recorder_packets_total", "Packets of recorded calls, by outcome.", packets),
            ("landline_recorder_chunks_total", "Parts of recordings, by outcome.", chunks),
        ]
    }

    fn gauge(&self) -> Option<(&'static str, &'static str, u64)> {
        let help = "Octets that wait on disk for the database.";
        Some(("landline_recorder_spool_octets", help, self.spool_octets))
    }
}

impl Counted for LedgerCounters {
    fn counters(&self) -> Vec<Family> {
        let events = vec![
            ("appended", self.appended),
            ("shipped", self.shipped),
            ("refused", self.refused),
            ("set_aside", self.set_aside),
            ("damaged", self.damaged),
        ];
        let calls = vec![("opened", self.calls_opened), ("closed", self.calls_closed)];
        let help = "Calls whose opening and whose end went into the ledger.";
        vec![
            ("landline_ledger_events_total", "Call events, by what became of them.", events),
            ("landline_ledger_calls_total", help, calls),
        ]
    }

    fn gauge(&self) -> Option<(&'static str, &'static str, u64)> {
        Some(("landline_ledger_octets", "Octets of the call ledger on disk.", self.octets))
    }
}

impl Counted for IssuerCounters {
    fn counters(&self) -> Vec<Family> {
        let receipts = vec![
            ("issued", self.issued),
            ("refused", self.refused),
            ("database_failed", self.database_failures),
        ];
        vec![("landline_receipts_total", "Receipts of closed calls, by outcome.", receipts)]
    }

    fn gauge(&self) -> Option<(&'static str, &'static str, u64)> {
        Some(("landline_receipts_waiting", "Closed calls without a receipt.", self.waiting))
    }
}

impl Counted for StoreCounters {
    fn counters(&self) -> Vec<Family> {
        let events = vec![
            ("applied", self.events_applied),
            ("duplicate", self.events_duplicate),
            ("orphaned", self.events_orphaned),
        ];
        let foreign = vec![("refused", self.foreign_records)];
        let sweeps = vec![("failed", self.voicemail_sweeps_failed)];
        vec![
            (
                "landline_store_events_total",
                "Events of calls, by what the database made of them.",
                events,
            ),
            ("landline_store_foreign_records_total", "Records of other regions.", foreign),
            ("landline_voicemail_sweeps_total", "Deletions of messages that were removed.", sweeps),
        ]
    }

    fn gauge(&self) -> Option<(&'static str, &'static str, u64)> {
        None
    }
}

impl<T, C> Collector for StoreMetrics<C>
where
    T: Counted,
    C: Fn() -> Option<T> + Send + Sync,
{
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counted = (self.read)().unwrap_or_default();
        let mut families = Vec::new();
        for (name, help, children) in counted.counters() {
            let family = IntCounterVec::new(opts(self.region, name, help), &["outcome"]);
            let Ok(family) = family else { continue };
            for (outcome, count) in children {
                family.with_label_values(&[outcome]).inc_by(count);
            }
            families.extend(family.collect());
        }
        let Some((name, help, value)) = counted.gauge() else { return families };
        if let Ok(gauge) = IntGauge::with_opts(opts(self.region, name, help)) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            families.extend(gauge.collect());
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_recorder_the_ledger_and_the_database_are_metrics() {
        let region: RegionCode = "ie1".parse().unwrap();
        let registry = prometheus::Registry::new();
        let recorder = || Some(RecorderCounters { spool_damaged: 3, ..Default::default() });
        registry.register(Box::new(StoreMetrics::new(region, recorder).unwrap())).unwrap();
        let ledger = || Some(LedgerCounters { set_aside: 2, octets: 44, ..Default::default() });
        registry.register(Box::new(StoreMetrics::new(region, ledger).unwrap())).unwrap();
        let store = || Some(StoreCounters { voicemail_sweeps_failed: 5, ..Default::default() });
        registry.register(Box::new(StoreMetrics::new(region, store).unwrap())).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"landline_recorder_chunks_total{outcome="spool_damaged",region="ie1"} 3"#,
            r#"landline_ledger_events_total{outcome="set_aside",region="ie1"} 2"#,
            r#"landline_ledger_octets{region="ie1"} 44"#,
            r#"landline_voicemail_sweeps_total{outcome="failed",region="ie1"} 5"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
