//! One place of a file and when something was done there: a number that is read and written without a lock. For what costs
//! time only when it is forgotten.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the time step: they repeat after weeks.
const STEP_BITS: u32 = 20;

/// The place dealt with last, and in which time step. Places are below 2^44; steps begin at 2, so that nothing counts as
/// dealt with at first.
#[derive(Debug, Default)]
pub(crate) struct Recent(AtomicU64);

impl Recent {
    /// Notes that `place` was dealt with; what was written before is seen by whoever then finds it noted.
    pub(crate) fn note(&self, place: u64, now: u64) {
        self.0.store(mark(place, now), Ordering::Release);
    }

    /// Whether `place` was dealt with last, in this step or the one before.
    pub(crate) fn is(&self, place: u64, now: u64) -> bool {
        let seen = self.0.load(Ordering::Acquire);
        seen == mark(place, now) || seen == mark(place, now - 1)
    }
}

fn mark(place: u64, now: u64) -> u64 {
    (place << STEP_BITS) | (now & ((1 << STEP_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_for_this_step_and_the_next() {
        let recent = Recent::default();
        assert!(!recent.is(0, 2) && !recent.is(0, 3));
        recent.note(7, 2);
        assert!(recent.is(7, 2) && recent.is(7, 3) && !recent.is(7, 4) && !recent.is(6, 2));
        recent.note(8, 3);
        assert!(recent.is(8, 3) && !recent.is(7, 3));
    }
}
