//! Being told how far long work is: a recovery, a check of a whole store. Given by the caller, told by whoever works.

use std::fmt;
use std::sync::Arc;

/// How far long work on a store is: bytes of the log done, and in all.
#[derive(Clone)]
pub struct Watch(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Watch {
    /// Calls `told` now and then, with the bytes done and in all.
    pub fn new(told: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    pub(crate) fn tell(&self, done: u64, total: u64) {
        (self.0)(done, total);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
