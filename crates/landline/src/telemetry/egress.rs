//! The egress gate's counts as metrics, and metrics as they may leave.

use landline_region::RegionCode;
use landline_region::egress::{Counted, Step};
use prometheus::core::{Collector, Desc, Describer};
use prometheus::proto::{Counter, Gauge, Histogram, Metric, MetricFamily, MetricType};
use prometheus::{IntCounterVec, Opts};

/// Labels whose values come from closed sets. A family with any other label
/// stays in the region: it might tell accounts or people apart.
const LABELS: &[&str] = &[
    "region",
    "proxy",
    "relay",
    "outcome",
    "method",
    "class",
    "cause",
    "part",
    "transport",
    "flow",
    "verdict",
    "event",
    "direction",
    "state",
    "fault",
    "reason",
];

const NAME: &str = "landline_egress_total";
const HELP: &str = "What the egress gate decided, by flow, destination and verdict.";
const BY: [&str; 3] = ["flow", "destination", "verdict"];

/// Reads the gate's counts when somebody looks at the metrics.
pub struct EgressMetrics<C> {
    region: RegionCode,
    description: Desc,
    read: C,
}

impl<C: Fn() -> Vec<Counted>> EgressMetrics<C> {
    pub fn new(region: RegionCode, read: C) -> prometheus::Result<Self> {
        let labels = BY.iter().map(|&label| label.to_owned()).collect();
        let description = opts(region).variable_labels(labels).describe()?;
        Ok(Self { region, description, read })
    }
}

fn opts(region: RegionCode) -> Opts {
    Opts::new(NAME, HELP).const_label("region", region.as_str())
}

impl<C: Fn() -> Vec<Counted> + Send + Sync> Collector for EgressMetrics<C> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(family) = IntCounterVec::new(opts(self.region), &BY) else { return Vec::new() };
        for line in (self.read)() {
            let labels = [line.flow.name(), line.destination.as_str(), line.verdict.name()];
            family.with_label_values(&labels).inc_by(line.count);
        }
        family.collect()
    }
}

/// What somebody outside the region is told: counters, gauges and histograms
/// whose labels are known to say nothing of anybody, in steps of the smallest
/// group. Sums are left out, for they are not counts of anything.
pub fn coarse(families: Vec<MetricFamily>, step: Step) -> Vec<MetricFamily> {
    families.into_iter().filter_map(|family| coarse_family(family, step)).collect()
}

fn coarse_family(mut family: MetricFamily, step: Step) -> Option<MetricFamily> {
    let kind = family.get_field_type();
    if !matches!(kind, MetricType::COUNTER | MetricType::GAUGE | MetricType::HISTOGRAM) {
        return None;
    }
    let closed = |metric: &Metric| metric.get_label().iter().all(|it| LABELS.contains(&it.name()));
    if !family.get_metric().iter().all(closed) {
        return None;
    }
    for metric in family.mut_metric() {
        match kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(floor(metric.get_counter().get_value(), step));
                metric.set_counter(counter);
            }
            MetricType::GAUGE => {
                let mut gauge = Gauge::default();
                gauge.set_value(floor(metric.get_gauge().get_value(), step));
                metric.set_gauge(gauge);
            }
            _ => metric.set_histogram(coarse_histogram(metric.get_histogram(), step)),
        }
    }
    Some(family)
}

fn coarse_histogram(exact: &Histogram, step: Step) -> Histogram {
    let mut buckets = exact.get_bucket().to_vec();
    for bucket in &mut buckets {
        bucket.set_cumulative_count(step.floor(bucket.cumulative_count()));
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(step.floor(exact.get_sample_count()));
    histogram.set_bucket(buckets);
    histogram
}

/// Below zero and past the whole numbers there is nobody to count.
fn floor(value: f64, step: Step) -> f64 {
    if !(0.0..=9e15).contains(&value) {
        return 0.0;
    }
    step.floor(value as u64) as f64
}

#[cfg(test)]
mod tests {
    use landline_region::egress::{Declared, Destination, Flow, Gate};
    use prometheus::{HistogramOpts, HistogramVec, IntGaugeVec, Registry, TextEncoder};

    use super::*;

    fn region() -> RegionCode {
        "ie1".parse().unwrap()
    }

    fn shown(families: &[MetricFamily]) -> String {
        TextEncoder::new().encode_to_string(families).unwrap()
    }

    #[test]
    fn what_the_gate_decided_is_a_metric() {
        let gate = std::sync::Arc::new(Gate::new(region(), Declared::default()));
        let _ = gate.decide(Flow::Mail, &Destination::Party("smtp.secret.example"), &[]);
        let registry = Registry::new();
        let read = move || gate.counted();
        registry.register(Box::new(EgressMetrics::new(region(), read).unwrap())).unwrap();
        let text = shown(&registry.gather());
        let line = r#"landline_egress_total{destination="undeclared",flow="mail",region="ie1",verdict="unlisted"} 1"#;
        assert!(text.contains(line) && !text.contains("secret"), "{text}");
    }

    #[test]
    fn outside_values_come_in_steps_and_unknown_labels_stay() {
        let registry = Registry::new();
        let calls = IntCounterVec::new(Opts::new("calls", "h"), &["outcome"]).unwrap();
        calls.with_label_values(&["few"]).inc_by(9);
        calls.with_label_values(&["many"]).inc_by(47);
        let by_account = IntGaugeVec::new(Opts::new("by_account", "h"), &["account"]).unwrap();
        by_account.with_label_values(&["AC1"]).set(1000);
        let buckets = HistogramOpts::new("seconds", "h").buckets(vec![1.0]);
        let seconds = HistogramVec::new(buckets, &["part"]).unwrap();
        (0..25).for_each(|_| seconds.with_label_values(&["x"]).observe(0.5));
        registry.register(Box::new(calls)).unwrap();
        registry.register(Box::new(by_account)).unwrap();
        registry.register(Box::new(seconds)).unwrap();
        let gate = Gate::new(region(), Declared::default());
        let text = shown(&coarse(registry.gather(), gate.aggregate(10).unwrap()));
        for line in [
            r#"calls{outcome="few"} 0"#,
            r#"calls{outcome="many"} 40"#,
            r#"seconds_count{part="x"} 20"#,
            r#"seconds_sum{part="x"} 0"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("by_account"), "{text}");
    }
}
