//! The pure machines' own counters, carried over into the metrics.

use landline_call::Core;
use landline_sip::Endpoint;
use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Metrics;

/// What was carried over so far, by name.
#[derive(Default)]
pub(crate) struct Mirror {
    sip: Vec<Counter>,
    parse_errors: Vec<Counter>,
    call: Vec<Counter>,
}

struct Counter {
    name: &'static str,
    metric: IntCounter,
    carried: u64,
}

impl Mirror {
    pub(crate) fn report(&mut self, metrics: &Metrics, endpoint: &Endpoint, core: &Core) {
        let counters = endpoint.counters();
        let errors = counters.parse_errors.iter().map(|(name, count)| (*name, *count));
        carry(&mut self.parse_errors, &metrics.parse_errors, errors);
        carry(&mut self.sip, &metrics.sip, counters.iter());
        let counters = core.counters();
        carry(&mut self.call, &metrics.call, counters.iter());
        let open = core.live().count() as u64;
        metrics.calls_open.set(level(open));
        let had = level(counters.calls_opened) + level(counters.calls_restored);
        let gone = level(counters.calls_closed) + level(counters.calls_taken);
        let balance = had - gone - level(open);
        metrics.calls_unbalanced.set(balance);
        metrics.transactions.set(level(endpoint.len() as u64));
        metrics.bindings.set(level(core.bindings() as u64));
    }
}

fn carry(
    known: &mut Vec<Counter>,
    metrics: &IntCounterVec,
    counters: impl Iterator<Item = (&'static str, u64)>,
) {
    for (name, count) in counters {
        let index = match known.iter().position(|counter| counter.name == name) {
            Some(index) => index,
            None => {
                let metric = metrics.with_label_values(&[name]);
                known.push(Counter { name, metric, carried: 0 });
                known.len() - 1
            }
        };
        if let Some(counter) = known.get_mut(index) {
            counter.metric.inc_by(count.saturating_sub(counter.carried));
            counter.carried = count;
        }
    }
}

fn level(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
