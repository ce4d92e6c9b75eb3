//! What one connection has counted, behind a lock its thread takes once a read, so that the reporter can look every second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies up to this are told apart; longer ones count as this.
const LATENCY_NANOS_MAX: u64 = 300_000_000_000;

/// The pseudo code under which requests count whose connection broke before the answer.
pub const LOST_CONNECTION: i32 = i32::MIN;

/// Counts and latencies.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Messages acknowledged or received.
    pub messages: u64,
    /// Requests answered with success.
    pub requests: u64,
    /// Bytes of message bodies sent, or of records received.
    pub bytes: u64,
    /// Queue entries passed over by a pull, matching or not.
    pub scanned: u64,
    /// Failed requests by response code.
    pub errors: BTreeMap<i32, u64>,
    /// Nanoseconds from sending (or from the intended moment) to the answer.
    pub latency: Histogram<u64>,
    /// Nanoseconds from the intended moment of a send to its receipt.
    pub receipt: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            messages: 0,
            requests: 0,
            bytes: 0,
            scanned: 0,
            errors: BTreeMap::new(),
            latency: histogram(),
            receipt: histogram(),
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_NANOS_MAX, 3).expect("the bounds are in order")
}

impl Tally {
    /// One request answered with success.
    pub fn success(&mut self, messages: u64, bytes: u64, waited: Duration) {
        self.messages += messages;
        self.requests += 1;
        self.bytes += bytes;
        self.latency.saturating_record(nanos(waited));
    }

    /// One request that failed.
    pub fn failure(&mut self, code: i32, count: u64) {
        if count > 0 {
            *self.errors.entry(code).or_default() += count;
        }
    }

    /// Adds what another connection has counted.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.scanned += other.scanned;
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
        self.latency += &other.latency;
        self.receipt += &other.receipt;
    }
}

/// A duration as a histogram's value.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A tally two threads look at.
#[derive(Clone, Debug, Default)]
pub struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything counted so far.
    pub fn reset(&self) {
        *self.lock() = Tally::default();
    }
}
