//! What the dispatcher needs of a record besides its fields: the tags code and the keys, read in one pass over its properties.
//! Called once per message, so nothing is allocated and nothing is read twice.

use memchr::memchr;
use waspmq_protocol::message::flags;
use waspmq_protocol::message::properties::{ENTRY_END, NAME_END};

/// The delay levels of `SCHEDULE_TOPIC_XXXX` (`messageDelayLevel`): milliseconds per level, level 1 first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayLevels(Vec<i64>);

/// What an unknown level counts as, as in Java.
const UNKNOWN_LEVEL_MS: i64 = 1000;

impl DelayLevels {
    /// Levels from their durations, milliseconds, level 1 first.
    pub fn new(durations_ms: Vec<i64>) -> Self {
        Self(durations_ms)
    }

    /// When a message of this level, stored at `store_timestamp`, is due.
    pub(crate) fn due(&self, level: usize, store_timestamp: i64) -> i64 {
        let level = level.min(self.0.len());
        let duration = level.checked_sub(1).and_then(|at| self.0.get(at)).copied().unwrap_or(UNKNOWN_LEVEL_MS);
        store_timestamp.saturating_add(duration)
    }
}

impl Default for DelayLevels {
    /// RocketMQ's 18 levels, 1 second to 2 hours.
    fn default() -> Self {
        const SECONDS: [i64; 18] =
            [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        Self(SECONDS.iter().map(|seconds| seconds * 1000).collect())
    }
}

/// The properties that dispatch looks at. Empty: not there. Of two entries of one name the later counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    pub(crate) tags: &'a [u8],
    pub(crate) unique_key: &'a [u8],
    pub(crate) keys: &'a [u8],
    delay: &'a [u8],
}

impl<'a> Wanted<'a> {
    pub(crate) fn read(block: &'a [u8]) -> Self {
        let mut wanted = Self::default();
        let mut rest = block;
        while !rest.is_empty() {
            let (entry, after) = match memchr(ENTRY_END, rest) {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, &[][..]),
            };
            wanted.note(entry);
            rest = after;
        }
        wanted
    }

    #[inline]
    fn note(&mut self, entry: &'a [u8]) {
        let (name, place): (&[u8], _) = match entry.first() {
            Some(b'T') => (b"TAGS", &mut self.tags),
            Some(b'U') => (b"UNIQ_KEY", &mut self.unique_key),
            Some(b'K') => (b"KEYS", &mut self.keys),
            Some(b'D') => (b"DELAY", &mut self.delay),
            _ => return,
        };
        if let Some((&NAME_END, value)) = entry.strip_prefix(name).and_then(|rest| rest.split_first())
            && !value.is_empty()
        {
            *place = value;
        }
    }

    /// What the queue entry carries: the hash of the tags, or in the schedule topic the time the message is due.
    pub(crate) fn tags_code(&self, levels: Option<&DelayLevels>, store_timestamp: i64) -> i64 {
        if let Some(level) = levels.and_then(|levels| self.due(levels, store_timestamp)) {
            return level;
        }
        match std::str::from_utf8(self.tags) {
            Ok(tags) => flags::tags_code(tags),
            Err(_) => flags::tags_code(&String::from_utf8_lossy(self.tags)),
        }
    }

    fn due(&self, levels: &DelayLevels, store_timestamp: i64) -> Option<i64> {
        let level: i32 = std::str::from_utf8(self.delay).ok()?.parse().ok()?;
        let level = usize::try_from(level).ok().filter(|level| *level > 0)?;
        Some(levels.due(level, store_timestamp))
    }

    /// Every key to be indexed: the unique one, then each word of KEYS.
    pub(crate) fn each_key(&self) -> impl Iterator<Item = &'a [u8]> {
        let unique = Some(self.unique_key).filter(|key| !key.is_empty());
        unique.into_iter().chain(self.keys.split(|byte| *byte == b' ').filter(|word| !word.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_four_properties_and_nothing_that_looks_like_them() {
        let block = b"a\x011\x02TAGSX\x01no\x02KEYS\x01k0  k1 \x02UNIQ_KEY\x01U\x02TAGS\x01\x02TAGS\x01TagA";
        let wanted = Wanted::read(block);
        assert_eq!((wanted.tags, wanted.unique_key, wanted.keys), (&b"TagA"[..], &b"U"[..], &b"k0  k1 "[..]));
        assert_eq!(wanted.each_key().collect::<Vec<_>>(), [&b"U"[..], b"k0", b"k1"]);
        assert_eq!(wanted.tags_code(None, 0), 0x27a807);
        assert_eq!(Wanted::read(b"TAGS").each_key().count(), 0);
        assert_eq!(Wanted::read(b"TAGS\x01a\x02TAGS\x01b\x02").tags, b"b", "the later of two counts");
        assert_eq!(Wanted::read(b"").tags_code(None, 0), 0);
    }

    #[test]
    fn negative_hashes_keep_their_sign() {
        let wanted = Wanted::read(b"TAGS\x01polygenelubricants\x02");
        assert_eq!(wanted.tags_code(None, 0), i64::from(i32::MIN));
    }

    #[test]
    fn a_delayed_message_carries_the_time_it_is_due() {
        let levels = DelayLevels::default();
        let due = |delay: &str| {
            let block = format!("TAGS\x01TagA\x02DELAY\x01{delay}\x02");
            Wanted::read(block.as_bytes()).tags_code(Some(&levels), 5_000)
        };
        assert_eq!(due("1"), 6_000);
        assert_eq!(due("3"), 15_000);
        assert_eq!(due("99"), 7_205_000, "above the last level counts as the last");
        assert_eq!(due("0"), 0x27a807);
        assert_eq!(due("-1"), 0x27a807);
        assert_eq!(due("x"), 0x27a807);
        assert_eq!(DelayLevels::new(vec![]).due(3, 5_000), 6_000);
    }
}
