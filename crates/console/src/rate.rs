//! Token buckets, bounded in number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Beyond this many holders, those who did not ask lately are forgotten.
const MAX_BUCKETS: usize = 20_000;

/// How much each holder may take in the long run, and at once.
pub struct Buckets<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, buckets: Mutex::default() }
    }

    /// Takes one token, or says how long to wait for it.
    pub fn take(&self, holder: K, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&holder) {
            buckets.retain(|_, bucket| self.filled(*bucket, now) < self.burst);
            if buckets.len() >= MAX_BUCKETS {
                // So many busy at once: forgetting them is the lesser evil.
                buckets.clear();
            }
        }
        let bucket = buckets.entry(holder).or_insert(Bucket { tokens: self.burst, at: now });
        bucket.tokens = self.filled(*bucket, now);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(self.wait(bucket.tokens))
    }

    /// How long the holder must wait for its next token; nothing is taken.
    pub fn waits(&self, holder: &K, now: Instant) -> Option<Duration> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = self.filled(*buckets.get(holder)?, now);
        (tokens < 1.0).then(|| self.wait(tokens))
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + passed * self.per_second).min(self.burst)
    }

    fn wait(&self, tokens: f64) -> Duration {
        Duration::from_secs_f64((1.0 - tokens) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_each_holder_alone() {
        let (buckets, start) = (Buckets::new(2.0, 3.0), Instant::now());
        for _ in 0..3 {
            buckets.take("a", start).unwrap();
        }
        assert_eq!(buckets.take("a", start), Err(Duration::from_millis(500)));
        assert_eq!(buckets.waits(&"a", start), Some(Duration::from_millis(500)));
        buckets.take("b", start).unwrap();
        buckets.take("a", start + Duration::from_millis(500)).unwrap();
        assert!(buckets.take("a", start + Duration::from_millis(600)).is_err());
        assert_eq!(buckets.waits(&"a", start + Duration::from_secs(9)), None);
    }
}
