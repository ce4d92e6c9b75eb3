//! Writing a batch: the host's side of the hot path. Fills a borrowed arena front to back, every byte of it explicit,
//! so that nothing of an earlier batch shines through. Called by the broker's plugin host and by the test harness.

use super::{
    ABI_MINOR, BATCH_MAGIC, ENTRY_BYTES, HEADER_BYTES, Hook, PROPERTIES_BYTES_MAX, RECORD_BYTES, TOKEN_BYTES,
    header_at, record_at,
};

/// A token as it stands in the arena. Hosts keep their tokens in this form: a batch then takes them in one copy.
pub type TokenBytes = [u8; TOKEN_BYTES];

/// Where one property stands in its block. Offsets count from the block's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// First byte of the name.
    pub name_off: u16,
    /// Bytes of the name.
    pub name_len: u16,
    /// First byte of the value.
    pub value_off: u16,
    /// Bytes of the value.
    pub value_len: u16,
}

impl Token {
    /// The four numbers in order, little endian.
    #[inline]
    pub fn to_bytes(self) -> TokenBytes {
        let word = u64::from(self.name_off)
            | u64::from(self.name_len) << 16
            | u64::from(self.value_off) << 32
            | u64::from(self.value_len) << 48;
        word.to_le_bytes()
    }

    /// Back from the arena.
    #[inline]
    pub fn from_bytes(bytes: TokenBytes) -> Self {
        let word = u64::from_le_bytes(bytes);
        Self {
            name_off: word as u16,
            name_len: (word >> 16) as u16,
            value_off: (word >> 32) as u16,
            value_len: (word >> 48) as u16,
        }
    }
}

/// Cuts a stored property block into tokens, in order: `name 0x01 value 0x02 …`, the last 0x02 optional. As Java reads
/// it: a piece without 0x01, with an empty name or with an empty value is no property; a name that stands twice is two
/// tokens, and readers take the last. The plain form of what the host does with SIMD.
/// A block longer than [`PROPERTIES_BYTES_MAX`] has no tokens: no store can hold one.
pub fn split_properties(block: &[u8], tokens: &mut Vec<TokenBytes>) {
    if block.len() > PROPERTIES_BYTES_MAX {
        return;
    }
    let mut start = 0;
    for piece in block.split(|&byte| byte == 2) {
        if let Some(name_len) = piece.iter().position(|&byte| byte == 1)
            && name_len > 0
            && name_len + 1 < piece.len()
        {
            let token = Token {
                name_off: start as u16,
                name_len: name_len as u16,
                value_off: (start + name_len + 1) as u16,
                value_len: (piece.len() - name_len - 1) as u16,
            };
            tokens.push(token.to_bytes());
        }
        start += piece.len() + 1;
    }
}

/// What all records of a batch share.
#[derive(Clone, Copy, Debug)]
pub struct BatchHead<'a> {
    /// What is asked.
    pub hook: Hook,
    /// Handle of the prepared subscription.
    pub handle: u32,
    /// Generation of the plugin set.
    pub plugin_epoch: u64,
    /// Wall clock, ms since 1970.
    pub now_ms: u64,
    /// Topic of the messages.
    pub topic: &'a str,
    /// From the plugin's manifest: how much of each body is copied.
    pub body_bytes_max: u32,
}

/// One message as the store has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Place in its queue.
    pub queue_offset: u64,
    /// Place in the commit log.
    pub physical_offset: u64,
    /// When the producer made it, ms since 1970.
    pub born_ms: u64,
    /// When the broker stored it, ms since 1970.
    pub store_ms: u64,
    /// Java hash of its tag, 0 without tag.
    pub tags_code: i64,
    /// RocketMQ's system flag.
    pub sys_flag: u32,
    /// Queue within the topic.
    pub queue_id: u32,
    /// Times consumed before.
    pub reconsume: u32,
    /// The producer's own flag.
    pub flags: u32,
    /// The property block as stored.
    pub properties: &'a [u8],
    /// The whole body; how much of it is copied is for [`BatchHead::body_bytes_max`].
    pub body: &'a [u8],
}

/// The batch cannot take this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No room: send what is in the batch, then try again in a fresh one. In a fresh one it means the message can never
    /// be shown to this plugin, and the fault policy decides.
    #[error("the message does not fit into the rest of the arena")]
    Full,
    /// More tokens or properties than a stored message can have.
    #[error("the property block has more than {PROPERTIES_BYTES_MAX} bytes")]
    PropertiesTooLong,
}

/// Fills an IN arena with one batch.
///
/// ```text
/// | header 64 | topic, padded to 8 | records: count x stride | heap: per record tokens, properties, body, padded to 8 |
/// ```
pub struct BatchWriter<'a> {
    arena: &'a mut [u8],
    head: BatchHead<'a>,
    stride: usize,
    records_off: usize,
    records_max: usize,
    heap_off: usize,
    end: usize,
    count: usize,
}

impl<'a> BatchWriter<'a> {
    /// Begins a batch of at most `records_max` messages, one at least. `Full`: not even the table of records fits.
    pub fn new(arena: &'a mut [u8], head: BatchHead<'a>, records_max: usize) -> Result<Self, BatchError> {
        let stride = match head.hook {
            Hook::Entries => ENTRY_BYTES,
            Hook::Records => RECORD_BYTES,
        };
        let records_off = HEADER_BYTES + pad8(head.topic.len());
        let heap_off = records_max.checked_mul(stride).and_then(|table| table.checked_add(records_off));
        let heap_off = heap_off.filter(|end| *end <= arena.len()).ok_or(BatchError::Full)?;
        arena[HEADER_BYTES..records_off].fill(0);
        arena[HEADER_BYTES..HEADER_BYTES + head.topic.len()].copy_from_slice(head.topic.as_bytes());
        Ok(Self { arena, head, stride, records_off, records_max, heap_off, end: heap_off, count: 0 })
    }

    /// Records written so far; the verdict of the next one will stand at this index.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a consume-queue entry, in a batch of [`Hook::Entries`].
    #[inline]
    pub fn push_entry(&mut self, queue_offset: u64, physical_offset: u64, tags_code: i64) -> Result<(), BatchError> {
        self.push_fields(&Record { queue_offset, physical_offset, tags_code, ..Record::default() }, [0; 4])
    }

    /// Adds a message, in a batch of [`Hook::Records`]; a batch of entries takes only its first fields.
    /// All or nothing: after `Full` the batch is as before.
    #[inline]
    pub fn push_record(&mut self, record: &Record<'_>, tokens: &[TokenBytes]) -> Result<(), BatchError> {
        let tokens = tokens.as_flattened();
        let properties = record.properties;
        if self.head.hook == Hook::Entries {
            return self.push_fields(record, [0; 4]);
        }
        if properties.len() > PROPERTIES_BYTES_MAX || tokens.len() > 8 * PROPERTIES_BYTES_MAX {
            return Err(BatchError::PropertiesTooLong);
        }
        let shown = record.body.len().min(self.head.body_bytes_max as usize);
        let tokens_off = self.end;
        let properties_off = tokens_off + tokens.len();
        let body_off = properties_off + properties.len();
        let end = body_off + shown;
        if self.count >= self.records_max || pad8(end) > self.arena.len() {
            return Err(BatchError::Full);
        }
        let places = [properties_off, tokens_off, tokens.len() / TOKEN_BYTES, if shown == 0 { 0 } else { body_off }];
        self.push_fields(record, places.map(|place| place as u32))?;
        // Before what it pads, as a whole word: that is one store.
        if !end.is_multiple_of(8) {
            self.arena[pad8(end) - 8..pad8(end)].copy_from_slice(&[0; 8]);
        }
        self.arena[tokens_off..properties_off].copy_from_slice(tokens);
        self.arena[properties_off..body_off].copy_from_slice(properties);
        self.arena[body_off..end].copy_from_slice(&record.body[..shown]);
        self.end = pad8(end);
        Ok(())
    }

    #[inline]
    fn push_fields(&mut self, record: &Record<'_>, places: [u32; 4]) -> Result<(), BatchError> {
        let words =
            [record.queue_offset, record.physical_offset, record.born_ms, record.store_ms, record.tags_code as u64];
        if self.head.hook == Hook::Entries {
            let mut entry = [0; ENTRY_BYTES];
            for (place, word) in entry.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *place = word.to_le_bytes();
            }
            return self.push_row(&entry);
        }
        let mut bytes = [0; RECORD_BYTES];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        let [properties_off, tokens_off, n_tokens, body_off] = places;
        let properties_len = record.properties.len() as u32;
        let halves = [record.sys_flag, record.queue_id, record.reconsume, record.flags, properties_off, properties_len]
            .into_iter()
            .chain([tokens_off, n_tokens, body_off, record.body.len() as u32]);
        for (place, half) in bytes[record_at::SYS_FLAG..].as_chunks_mut::<4>().0.iter_mut().zip(halves) {
            *place = half.to_le_bytes();
        }
        self.push_row(&bytes)
    }

    /// One row of the table, of the stride of this batch. The compiler knows its length: a few stores, no `memcpy`.
    #[inline]
    fn push_row<const N: usize>(&mut self, row: &[u8; N]) -> Result<(), BatchError> {
        debug_assert_eq!(N, self.stride);
        if self.count >= self.records_max {
            return Err(BatchError::Full);
        }
        let place = self.arena.get_mut(self.records_off + self.count * N..);
        *place.and_then(|rest| rest.first_chunk_mut()).ok_or(BatchError::Full)? = *row;
        self.count += 1;
        Ok(())
    }

    /// Completes the header; the length to call `filter` with.
    pub fn finish(self) -> usize {
        let Self { arena, head, stride, records_off, heap_off, end, count, .. } = self;
        arena[records_off + count * stride..heap_off].fill(0);
        let mut header = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(header_at::MAGIC, &BATCH_MAGIC.to_le_bytes());
        put(header_at::ABI_MINOR, &ABI_MINOR.to_le_bytes());
        put(header_at::HOOK, &(head.hook as u16).to_le_bytes());
        put(header_at::COUNT, &(count as u32).to_le_bytes());
        put(header_at::RECORD_STRIDE, &(stride as u16).to_le_bytes());
        put(header_at::TOKEN_STRIDE, &(TOKEN_BYTES as u16).to_le_bytes());
        put(header_at::NOW_MS, &head.now_ms.to_le_bytes());
        put(header_at::RECORDS_OFF, &(records_off as u32).to_le_bytes());
        put(header_at::HEAP_OFF, &(heap_off as u32).to_le_bytes());
        put(header_at::TOTAL_LEN, &(end as u32).to_le_bytes());
        put(header_at::BINDING_ID, &head.handle.to_le_bytes());
        put(header_at::TOPIC_OFF, &(HEADER_BYTES as u32).to_le_bytes());
        put(header_at::TOPIC_LEN, &(head.topic.len() as u32).to_le_bytes());
        put(header_at::PLUGIN_EPOCH, &head.plugin_epoch.to_le_bytes());
        arena[..HEADER_BYTES].copy_from_slice(&header);
        end
    }
}

fn pad8(len: usize) -> usize {
    len.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(block: &[u8]) -> Vec<(String, String)> {
        let mut tokens = Vec::new();
        split_properties(block, &mut tokens);
        let text = |off: u16, len: u16| String::from_utf8_lossy(&block[off as usize..][..len as usize]).into_owned();
        let token = |bytes: &TokenBytes| Token::from_bytes(*bytes);
        tokens.iter().map(token).map(|t| (text(t.name_off, t.name_len), text(t.value_off, t.value_len))).collect()
    }

    #[test]
    fn properties_are_cut_as_java_does() {
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(split(b""), []);
        assert_eq!(split(b"a\x01b"), [pair("a", "b")]);
        assert_eq!(split(b"a\x01b\x02"), [pair("a", "b")]);
        assert_eq!(split(b"a\x01b\x02cc\x01dd\x02"), [pair("a", "b"), pair("cc", "dd")]);
        assert_eq!(split(b"a\x01b\x01c\x02"), [pair("a", "b\x01c")], "only the first 0x01 separates");
        assert_eq!(split(b"\x01b\x02a\x01\x02x\x02\x02"), [], "no name, no value, no separator");
        assert_eq!(split(&vec![b'a'; PROPERTIES_BYTES_MAX + 1]), []);
    }

    #[test]
    fn golden_bytes_of_a_batch() {
        let mut arena = vec![0xee; 512];
        let head =
            BatchHead { hook: Hook::Records, handle: 7, plugin_epoch: 9, now_ms: 5, topic: "Top", body_bytes_max: 2 };
        let mut writer = BatchWriter::new(&mut arena, head, 2).unwrap();
        let record = Record {
            queue_offset: 1,
            physical_offset: 2,
            born_ms: 3,
            store_ms: 4,
            tags_code: -1,
            sys_flag: 5,
            queue_id: 6,
            reconsume: 7,
            flags: 8,
            properties: b"a\x01b\x02",
            body: b"xyz",
        };
        let mut tokens = Vec::new();
        split_properties(record.properties, &mut tokens);
        writer.push_record(&record, &tokens).unwrap();
        let total = writer.finish();

        let mut expected = Vec::new();
        expected.extend_from_slice(b"WQB1\0\0\x02\0\x01\0\0\0\x50\0\x08\0\x05\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x48\0\0\0\xe8\0\0\0\xf8\0\0\0\x07\0\0\0\x40\0\0\0\x03\0\0\0\x09\0\0\0\0\0\0\0");
        expected.extend_from_slice(&[0; 8]);
        expected.extend_from_slice(b"Top\0\0\0\0\0");
        for word in [1u64, 2, 3, 4, u64::MAX] {
            expected.extend_from_slice(&word.to_le_bytes());
        }
        for half in [5u32, 6, 7, 8, 0xf0, 4, 0xe8, 1, 0xf4, 3] {
            expected.extend_from_slice(&half.to_le_bytes());
        }
        expected.extend_from_slice(&[0; RECORD_BYTES]);
        expected.extend_from_slice(b"\0\0\x01\0\x02\0\x01\0a\x01b\x02xy\0\0");
        assert_eq!(arena[..total], expected);
        assert!(arena[total..].iter().all(|byte| *byte == 0xee), "writes nothing behind the batch");
    }

    #[test]
    fn full_leaves_the_batch_as_it_was() {
        let mut arena = [0xee; 64 + 2 * 80 + 16];
        let head =
            BatchHead { hook: Hook::Records, handle: 0, plugin_epoch: 0, now_ms: 0, topic: "", body_bytes_max: 9 };
        assert_eq!(BatchWriter::new(&mut arena, head, 3).err(), Some(BatchError::Full));
        let mut writer = BatchWriter::new(&mut arena, head, 2).unwrap();
        let big = Record { body: &[1; 17], ..Record::default() };
        let small = Record { body: &[1; 9], ..Record::default() };
        let token = [[0; 8]];
        writer.push_record(&big, &[]).unwrap();
        assert_eq!(writer.push_record(&small, &token), Err(BatchError::Full));
        assert_eq!(writer.count(), 1);
        writer.push_record(&Record::default(), &[]).unwrap();
        assert_eq!(writer.push_record(&Record::default(), &[]), Err(BatchError::Full), "the table is full");
        let long = vec![0; PROPERTIES_BYTES_MAX + 1];
        let mut writer = BatchWriter::new(&mut arena, head, 1).unwrap();
        let record = Record { properties: &long, ..Record::default() };
        assert_eq!(writer.push_record(&record, &[]), Err(BatchError::PropertiesTooLong));
    }
}
