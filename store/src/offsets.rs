//! The two kinds of offset a store has, as types that cannot be mixed up.
//! A physical offset counts bytes of the commit log from its very beginning; a queue offset counts messages of one queue.

use std::fmt;

/// A byte position in the commit log, counted from the start of the first file ever written (not of the file it lies in).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalOffset(pub i64);

/// The place of a message in its queue: 0 for the first message the queue ever had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueOffset(pub i64);

impl PhysicalOffset {
    /// The offset `bytes` further on; stays at the largest offset instead of wrapping.
    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX)))
    }

    /// How many bytes `self` lies behind `earlier`; 0 if it does not.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl QueueOffset {
    /// The offset `count` messages further on; stays at the largest offset instead of wrapping.
    pub fn plus(self, count: usize) -> Self {
        Self(self.0.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for PhysicalOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for QueueOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(PhysicalOffset(10).plus(5), PhysicalOffset(15));
        assert_eq!(PhysicalOffset(i64::MAX).plus(5), PhysicalOffset(i64::MAX));
        assert_eq!(QueueOffset(i64::MAX - 1).plus(5), QueueOffset(i64::MAX));
        assert_eq!(PhysicalOffset(10).bytes_since(PhysicalOffset(3)), 7);
        assert_eq!(PhysicalOffset(3).bytes_since(PhysicalOffset(10)), 0);
    }
}
