//! Ids for messages whose producer set none (UNIQ_KEY), in the form that Java clients make.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use waspmq_protocol::message::id;
use waspmq_store::clock::Clock;

/// Milliseconds in the longest month: the id counts time within a month, so that it fits 32 bits.
const MONTH_MS: i64 = 31 * 24 * 60 * 60 * 1_000;

/// Makes ids that differ from one another and from those of other processes.
pub struct UniqueIds {
    ip: IpAddr,
    clock: Arc<dyn Clock>,
    made: AtomicU64,
}

impl UniqueIds {
    /// Ids that carry this address.
    pub fn new(ip: IpAddr, clock: Arc<dyn Clock>) -> Self {
        Self { ip, clock, made: AtomicU64::new(0) }
    }

    /// The next id.
    pub fn next(&self) -> String {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let millis = i32::try_from(self.clock.now_ms().rem_euclid(MONTH_MS)).unwrap_or(0);
        let [low, high] = [made & 0xFFFF, made >> 16].map(|part| u16::try_from(part & 0xFFFF).unwrap_or(0));
        let pid = u16::try_from(std::process::id() & 0xFFFF).unwrap_or(0);
        // The class loader's hash of a Java client; here it carries on the counter.
        id::unique_id(self.ip, pid, i32::from(high), millis, low)
    }
}
