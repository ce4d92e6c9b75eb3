//! Reading a batch: the guest's side of the hot path. Checks the header once and every range on use; what does not add
//! up is a `Fault`, never a read beyond `total_len`, where an earlier batch may still stand.

use super::{
    BATCH_MAGIC, ENTRY_BYTES, Fault, HEADER_BYTES, Hook, RECORD_BYTES, TOKEN_BYTES, header_at, record_at, u16_at,
    u32_at, u64_at,
};

/// A batch in an IN arena.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
    records: &'a [u8],
    stride: usize,
    count: usize,
    hook: Hook,
}

impl<'a> BatchView<'a> {
    /// Checks the header of `bytes`, which are the `total_len` bytes passed to `filter`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        if bytes.len() < HEADER_BYTES
            || u32_at(bytes, header_at::MAGIC) != BATCH_MAGIC
            || u32_at(bytes, header_at::TOTAL_LEN) as usize != bytes.len()
            || u16_at(bytes, header_at::TOKEN_STRIDE) as usize != TOKEN_BYTES
        {
            return Err(Fault::BadBatch);
        }
        let hook = Hook::from_number(u16_at(bytes, header_at::HOOK)).ok_or(Fault::UnknownHook)?;
        let stride = u16_at(bytes, header_at::RECORD_STRIDE) as usize;
        let least = match hook {
            Hook::Entries => ENTRY_BYTES,
            Hook::Records => RECORD_BYTES,
        };
        let count = u32_at(bytes, header_at::COUNT) as usize;
        let table = count.checked_mul(stride).ok_or(Fault::BadBatch)?;
        let records = slice(bytes, u32_at(bytes, header_at::RECORDS_OFF), table).ok_or(Fault::BadBatch)?;
        if stride < least {
            return Err(Fault::BadBatch);
        }
        Ok(Self { bytes, records, stride, count, hook })
    }

    /// What is asked.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Handle of the prepared subscription.
    pub fn handle(&self) -> u32 {
        u32_at(self.bytes, header_at::BINDING_ID)
    }

    /// Wall clock of this batch, ms since 1970.
    pub fn now_ms(&self) -> u64 {
        u64_at(self.bytes, header_at::NOW_MS)
    }

    /// Generation of the broker's plugin set.
    pub fn plugin_epoch(&self) -> u64 {
        u64_at(self.bytes, header_at::PLUGIN_EPOCH)
    }

    /// Topic of all messages in it; empty if the batch names none.
    pub fn topic(&self) -> &'a [u8] {
        let len = u32_at(self.bytes, header_at::TOPIC_LEN) as usize;
        slice(self.bytes, u32_at(self.bytes, header_at::TOPIC_OFF), len).unwrap_or_default()
    }

    /// Records in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The fields of the records in order, without properties and bodies: all there is in a batch of entries.
    #[inline]
    pub fn entries(&self) -> impl Iterator<Item = RecordBytes<'a>> + use<'a> {
        let entry = |fields| RecordBytes { fields, properties: &[], tokens: &[], body: &[] };
        self.records.chunks_exact(self.stride).map(entry)
    }

    /// The records in order. `body_bytes_max` is the plugin's own, from its manifest.
    #[inline]
    pub fn records(&self, body_bytes_max: u32) -> impl Iterator<Item = Result<RecordBytes<'a>, Fault>> + use<'a> {
        let (bytes, hook) = (self.bytes, self.hook);
        self.entries().map(move |record| match hook {
            Hook::Entries => Ok(record),
            Hook::Records => RecordBytes::full(bytes, record.fields, body_bytes_max).ok_or(Fault::BadBatch),
        })
    }
}

/// One record of a batch: its fields and the ranges they point to.
#[derive(Clone, Copy, Debug)]
pub struct RecordBytes<'a> {
    fields: &'a [u8],
    properties: &'a [u8],
    tokens: &'a [[u8; TOKEN_BYTES]],
    body: &'a [u8],
}

impl<'a> RecordBytes<'a> {
    #[inline]
    fn full(bytes: &'a [u8], fields: &'a [u8], body_bytes_max: u32) -> Option<Self> {
        let field = |at: usize| u32_at(fields, at);
        let properties = slice(bytes, field(record_at::PROPS_OFF), field(record_at::PROPS_LEN) as usize)?;
        let tokens_len = (field(record_at::N_TOKENS) as usize).checked_mul(TOKEN_BYTES)?;
        let tokens = slice(bytes, field(record_at::TOKENS_OFF), tokens_len)?.as_chunks().0;
        let shown = match field(record_at::BODY_OFF) {
            0 => 0,
            _ => field(record_at::BODY_LEN).min(body_bytes_max) as usize,
        };
        let body = slice(bytes, field(record_at::BODY_OFF), shown)?;
        Some(Self { fields, properties, tokens, body })
    }

    /// A u64 field at an offset of [`record_at`]; 0 if this kind of record has none.
    #[inline]
    pub fn word(&self, at: usize) -> u64 {
        if at + 8 <= self.fields.len() { u64_at(self.fields, at) } else { 0 }
    }

    /// A u32 field at an offset of [`record_at`]; 0 if this kind of record has none.
    #[inline]
    pub fn half(&self, at: usize) -> u32 {
        if at + 4 <= self.fields.len() { u32_at(self.fields, at) } else { 0 }
    }

    /// The property block as stored.
    #[inline]
    pub fn properties(&self) -> &'a [u8] {
        self.properties
    }

    /// Where properties stand in the block.
    #[inline]
    pub fn tokens(&self) -> &'a [[u8; TOKEN_BYTES]] {
        self.tokens
    }

    /// The shown part of the body.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Value of the property `name`; of the last one if it stands twice, as in Java.
    #[inline]
    pub fn property(&self, name: &[u8]) -> Option<&'a [u8]> {
        for token in self.tokens.iter().rev() {
            let word = u64::from_le_bytes(*token);
            if (word >> 16) as u16 as usize == name.len()
                && self.properties.get(word as u16 as usize..)?.get(..name.len())? == name
            {
                return self.properties.get((word >> 32) as u16 as usize..)?.get(..(word >> 48) as usize);
            }
        }
        None
    }
}

#[inline]
fn slice(bytes: &[u8], off: u32, len: usize) -> Option<&[u8]> {
    bytes.get(off as usize..)?.get(..len)
}

#[cfg(test)]
mod tests {
    use super::super::{BatchHead, BatchWriter, Record, split_properties};
    use super::*;
    use proptest::prelude::*;

    fn tags_codes(view: &BatchView<'_>) -> Vec<i64> {
        view.entries().map(|entry| entry.word(record_at::TAGS_CODE) as i64).collect()
    }

    fn batch(records: &[Record<'_>]) -> Vec<u8> {
        let mut arena = vec![0; 64 * 1024];
        let head =
            BatchHead { hook: Hook::Records, handle: 3, plugin_epoch: 4, now_ms: 5, topic: "T", body_bytes_max: 8 };
        let mut writer = BatchWriter::new(&mut arena, head, records.len()).unwrap();
        for record in records {
            let mut tokens = Vec::new();
            split_properties(record.properties, &mut tokens);
            writer.push_record(record, &tokens).unwrap();
        }
        let total = writer.finish();
        arena.truncate(total);
        arena
    }

    #[test]
    fn what_is_written_is_read() {
        let record = Record {
            queue_offset: 1,
            physical_offset: 2,
            tags_code: -3,
            flags: 4,
            properties: b"a\x011\x02b\x012\x02a\x013\x02",
            body: b"0123456789",
            ..Record::default()
        };
        let bytes = batch(&[Record::default(), record]);
        let view = BatchView::parse(&bytes).unwrap();
        assert_eq!((view.count(), view.handle(), view.now_ms(), view.plugin_epoch()), (2, 3, 5, 4));
        assert_eq!((view.hook(), view.topic()), (Hook::Records, &b"T"[..]));
        assert_eq!(tags_codes(&view), [0, -3]);
        let read = view.records(8).nth(1).unwrap().unwrap();
        assert_eq!((read.word(record_at::PHYSICAL_OFFSET), read.half(record_at::FLAGS)), (2, 4));
        assert_eq!((read.body(), read.half(record_at::BODY_LEN)), (&b"01234567"[..], 10));
        assert_eq!(read.property(b"a"), Some(&b"3"[..]), "the last of two");
        assert_eq!(read.property(b"b"), Some(&b"2"[..]));
        assert_eq!(read.property(b"c"), None);
    }

    #[test]
    fn a_later_host_may_send_longer_records() {
        let mut arena = vec![0; 1024];
        let head =
            BatchHead { hook: Hook::Entries, handle: 0, plugin_epoch: 0, now_ms: 0, topic: "", body_bytes_max: 0 };
        let mut writer = BatchWriter::new(&mut arena, head, 4).unwrap();
        for n in 0..4 {
            writer.push_entry(n, n, n as i64).unwrap();
        }
        let total = writer.finish();
        // Two records of 40 bytes read as one of 80.
        arena[header_at::RECORD_STRIDE..][..2].copy_from_slice(&80u16.to_le_bytes());
        arena[header_at::COUNT..][..4].copy_from_slice(&2u32.to_le_bytes());
        let view = BatchView::parse(&arena[..total]).unwrap();
        assert_eq!(tags_codes(&view), [0, 2]);
        arena[header_at::RECORD_STRIDE..][..2].copy_from_slice(&39u16.to_le_bytes());
        assert_eq!(BatchView::parse(&arena[..total]).err(), Some(Fault::BadBatch));
    }

    proptest! {
        /// Whatever a host writes: a fault or an answer, never a panic.
        #[test]
        fn hostile_batches_do_not_panic(at in 0usize..240, byte: u8, other in 0usize..240, more: u8, cut in 0usize..400) {
            let mut bytes = batch(&[Record { properties: b"a\x011\x02b\x012\x02", body: b"body", ..Record::default() }]);
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes[other % len] = more;
            for bytes in [&bytes[..], &bytes[..cut.min(len)]] {
                if let Ok(view) = BatchView::parse(bytes) {
                    let _ = view.topic();
                    for record in view.records(8).take(64).flatten() {
                        let _ = (record.property(b"a"), record.property(b""), record.body());
                    }
                }
            }
        }
    }
}
