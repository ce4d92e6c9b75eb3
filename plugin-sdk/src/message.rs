//! How a filter sees a message: borrowed views into the batch, nothing copied. Made by the runtime.

use crate::abi::{BatchView, RecordBytes, Token, record_at};

/// A message to decide.
pub struct Message<'a> {
    record: RecordBytes<'a>,
    batch: &'a BatchView<'a>,
}

impl<'a> Message<'a> {
    #[inline]
    pub(crate) fn new(batch: &'a BatchView<'a>, record: RecordBytes<'a>) -> Self {
        Self { record, batch }
    }

    /// Value of a property; `None` if it is absent or not UTF-8. RocketMQ's own properties count too (`TAGS`, `KEYS`,
    /// `UNIQ_KEY` …). Of a name that stands twice, the last, as in Java.
    #[inline]
    pub fn prop(&self, name: &str) -> Option<&'a str> {
        str::from_utf8(self.prop_bytes(name)?).ok()
    }

    /// Value of a property as stored.
    #[inline]
    pub fn prop_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.record.property(name.as_bytes())
    }

    /// Value of a property that is a whole decimal number; `None` if it is absent or anything else.
    #[inline]
    pub fn prop_i64(&self, name: &str) -> Option<i64> {
        self.prop(name)?.parse().ok()
    }

    /// All properties in stored order, as bytes.
    pub fn props(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let block = self.record.properties();
        let range = move |off: u16, len: u16| block.get(usize::from(off)..)?.get(..usize::from(len));
        self.record.tokens().iter().filter_map(move |token| {
            let token = Token::from_bytes(*token);
            Some((range(token.name_off, token.name_len)?, range(token.value_off, token.value_len)?))
        })
    }

    /// Its tag.
    pub fn tag(&self) -> Option<&'a str> {
        self.prop("TAGS")
    }

    /// Its keys, separated by blanks.
    pub fn keys(&self) -> Option<&'a str> {
        self.prop("KEYS")
    }

    /// Topic it is stored under.
    pub fn topic(&self) -> &'a str {
        str::from_utf8(self.batch.topic()).unwrap_or_default()
    }

    /// The body, as far as the plugin's `body = …` allows; empty without.
    pub fn body(&self) -> &'a [u8] {
        self.record.body()
    }

    /// Bytes of the whole body.
    pub fn body_len(&self) -> u32 {
        self.record.half(record_at::BODY_LEN)
    }

    /// Place in its queue.
    pub fn queue_offset(&self) -> u64 {
        self.record.word(record_at::QUEUE_OFFSET)
    }

    /// Place in the commit log.
    pub fn physical_offset(&self) -> u64 {
        self.record.word(record_at::PHYSICAL_OFFSET)
    }

    /// When the producer made it, ms since 1970.
    pub fn born_ms(&self) -> u64 {
        self.record.word(record_at::BORN_MS)
    }

    /// When the broker stored it, ms since 1970.
    pub fn store_ms(&self) -> u64 {
        self.record.word(record_at::STORE_MS)
    }

    /// The batch's wall clock, ms since 1970: the only clock there is, so that a batch is decided at one moment.
    pub fn now_ms(&self) -> u64 {
        self.batch.now_ms()
    }

    /// Queue within the topic.
    pub fn queue_id(&self) -> u32 {
        self.record.half(record_at::QUEUE_ID)
    }

    /// How often it was consumed before.
    pub fn reconsume_times(&self) -> u32 {
        self.record.half(record_at::RECONSUME)
    }

    /// RocketMQ's system flag.
    pub fn sys_flag(&self) -> u32 {
        self.record.half(record_at::SYS_FLAG)
    }

    /// The producer's own flag.
    pub fn flag(&self) -> u32 {
        self.record.half(record_at::FLAGS)
    }

    /// Hash of its tag; see [`tags_code`].
    pub fn tags_code(&self) -> i64 {
        self.record.word(record_at::TAGS_CODE) as i64
    }
}

/// A consume-queue entry to decide, before its message is read.
pub struct Entry<'a> {
    record: RecordBytes<'a>,
}

impl<'a> Entry<'a> {
    #[inline]
    pub(crate) fn new(record: RecordBytes<'a>) -> Self {
        Self { record }
    }

    /// Hash of the message's tag; see [`tags_code`].
    #[inline]
    pub fn tags_code(&self) -> i64 {
        self.record.word(record_at::TAGS_CODE) as i64
    }

    /// Place in its queue.
    pub fn queue_offset(&self) -> u64 {
        self.record.word(record_at::QUEUE_OFFSET)
    }

    /// Place in the commit log.
    pub fn physical_offset(&self) -> u64 {
        self.record.word(record_at::PHYSICAL_OFFSET)
    }
}

/// The code of a tag in the consume queue: Java's `String.hashCode`, over UTF-16 units in 32 bits, sign-extended.
/// 0 also stands for "no tag".
pub fn tags_code(tag: &str) -> i64 {
    tag.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_java_s() {
        assert_eq!(tags_code(""), 0);
        assert_eq!(tags_code("TagA"), 2_598_919);
        assert_eq!(tags_code("polygenelubricants"), i64::from(i32::MIN));
        assert_eq!(tags_code("Aa"), tags_code("BB"));
        assert_eq!(tags_code("\u{1f41d}"), 0xd83d * 31 + 0xdc1d, "surrogates count one by one");
    }
}
