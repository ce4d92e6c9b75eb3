//! The answer of `filter`: keep bits, then error bits, both as u64 words. The guest's runtime writes them, the host reads
//! and distrusts them.

use super::Fault;

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

/// Writes the answer for `count` records to the start of `out`, from what `verdicts` says of each in order: kept, or
/// undecided, or neither. `AnswerTooLong` if it does not fit, else the first fault among the verdicts.
#[inline]
pub fn write_verdicts(
    out: &mut [u8],
    count: usize,
    mut verdicts: impl Iterator<Item = Result<(bool, bool), Fault>>,
) -> Result<(), Fault> {
    let words = count.div_ceil(64) * 8;
    let (keep_words, rest) = out.split_at_mut_checked(words).ok_or(Fault::AnswerTooLong)?;
    let error_words = rest.get_mut(..words).ok_or(Fault::AnswerTooLong)?;
    for (keep_word, error_word) in keep_words.chunks_exact_mut(8).zip(error_words.chunks_exact_mut(8)) {
        let (mut keep, mut error) = (0u64, 0u64);
        for (bit, verdict) in (0..64).zip(&mut verdicts) {
            let (kept, undecided) = verdict?;
            keep |= u64::from(kept) << bit;
            error |= u64::from(undecided) << bit;
        }
        keep_word.copy_from_slice(&keep.to_le_bytes());
        error_word.copy_from_slice(&error.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for count in [0, 1, 31, 32, 63, 64, 65, 128, 200] {
            let mut out = vec![0xff; verdict_bytes(count) + 8];
            write_verdicts(&mut out, count, (0..count).map(|n| Ok((n % 3 == 0, n % 3 == 1)))).unwrap();
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
    }

    #[test]
    fn faults_go_through() {
        let keep_all = || std::iter::repeat(Ok((true, false)));
        assert_eq!(write_verdicts(&mut [0; 15], 1, keep_all()), Err(Fault::AnswerTooLong));
        let broken = keep_all().take(3).chain([Err(Fault::BadBatch)]);
        assert_eq!(write_verdicts(&mut [0; 16], 10, broken), Err(Fault::BadBatch));
    }
}
