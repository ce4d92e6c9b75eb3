//! The answer of `filter`: keep bits, then error bits, both as u64 words. The guest's runtime writes them, the host reads
//! and distrusts them.

/// Bytes of the answer for `count` records.
pub fn verdict_bytes(count: usize) -> usize {
    count.div_ceil(64) * 16
}

/// The answer of a plugin, checked.
#[derive(Clone, Copy, Debug)]
pub struct Verdicts<'a> {
    keep: &'a [u8],
    error: &'a [u8],
}

/// The plugin's answer contradicts itself: treat as a fault of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// OUT is shorter than the answer must be.
    #[error("the answer does not fit the OUT arena")]
    TooShort,
    /// Bits beyond the last record are set.
    #[error("the answer has bits set beyond the last record")]
    BitsBeyond,
    /// A record has both its keep and its error bit set.
    #[error("the answer keeps a record and cannot say, both at once")]
    Both,
}

impl<'a> Verdicts<'a> {
    /// Reads the answer for `count` records from the start of `out`.
    pub fn read(out: &'a [u8], count: usize) -> Result<Self, VerdictError> {
        let words = count.div_ceil(64) * 8;
        let (keep, rest) = out.split_at_checked(words).ok_or(VerdictError::TooShort)?;
        let error = rest.get(..words).ok_or(VerdictError::TooShort)?;
        for (at, (keep, error)) in keep.chunks_exact(8).zip(error.chunks_exact(8)).enumerate() {
            let (keep, error) = (super::u64_at(keep, 0), super::u64_at(error, 0));
            if keep & error != 0 {
                return Err(VerdictError::Both);
            }
            let used = (count - at * 64).min(64) as u32;
            if (keep | error).checked_shr(used).unwrap_or(0) != 0 {
                return Err(VerdictError::BitsBeyond);
            }
        }
        Ok(Self { keep, error })
    }

    /// Whether record `index` is kept. False beyond the count.
    #[inline]
    pub fn keep(&self, index: usize) -> bool {
        bit(self.keep, index)
    }

    /// Whether the plugin cannot say; for a batch of entries: whether it needs the record.
    #[inline]
    pub fn error(&self, index: usize) -> bool {
        bit(self.error, index)
    }
}

fn bit(words: &[u8], index: usize) -> bool {
    words.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

/// Collects verdicts word by word into OUT.
pub struct VerdictsWriter<'a> {
    out: &'a mut [u8],
    words: usize,
    at: usize,
    keep: u64,
    error: u64,
}

impl<'a> VerdictsWriter<'a> {
    /// Room for `count` verdicts at the start of `out`; `None` if they do not fit.
    pub fn new(out: &'a mut [u8], count: usize) -> Option<Self> {
        let words = count.div_ceil(64) * 8;
        let out = out.get_mut(..2 * words)?;
        Some(Self { out, words, at: 0, keep: 0, error: 0 })
    }

    /// The verdict of the next record: kept, or undecided, or neither. Must be called `count` times.
    #[inline]
    pub fn push(&mut self, keep: bool, error: bool) {
        self.keep |= u64::from(keep) << (self.at % 64);
        self.error |= u64::from(error) << (self.at % 64);
        self.at += 1;
        if self.at.is_multiple_of(64) {
            self.flush();
        }
    }

    /// Writes the last word. Bits beyond the last record are 0.
    pub fn finish(mut self) {
        if !self.at.is_multiple_of(64) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let at = (self.at - 1) / 64 * 8;
        self.out[at..at + 8].copy_from_slice(&self.keep.to_le_bytes());
        self.out[self.words + at..self.words + at + 8].copy_from_slice(&self.error.to_le_bytes());
        (self.keep, self.error) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for count in [0, 1, 31, 32, 63, 64, 65, 128, 200] {
            let mut out = vec![0xff; verdict_bytes(count) + 8];
            let mut writer = VerdictsWriter::new(&mut out, count).unwrap();
            (0..count).for_each(|n| writer.push(n % 3 == 0, n % 3 == 1));
            writer.finish();
            let verdicts = Verdicts::read(&out, count).unwrap();
            for n in 0..count {
                assert_eq!((verdicts.keep(n), verdicts.error(n)), (n % 3 == 0, n % 3 == 1), "{n} of {count}");
            }
            assert_eq!(out[verdict_bytes(count)..], [0xff; 8]);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let answer = |keep: u64, error: u64| [keep.to_le_bytes(), error.to_le_bytes()].concat();
        assert_eq!(Verdicts::read(&answer(1, 0)[..15], 1).err(), Some(VerdictError::TooShort));
        assert_eq!(Verdicts::read(&answer(2, 0), 1).err(), Some(VerdictError::BitsBeyond));
        assert_eq!(Verdicts::read(&answer(0, 1 << 63), 63).err(), Some(VerdictError::BitsBeyond));
        assert_eq!(Verdicts::read(&answer(1, 1), 1).err(), Some(VerdictError::Both));
        assert!(Verdicts::read(&answer(u64::MAX, 0), 64).is_ok());
        assert!(VerdictsWriter::new(&mut [0; 15], 1).is_none());
    }
}
