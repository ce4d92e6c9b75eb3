//! Finding the end of the log after a restart, and making it the end. Called once, by `recovery`, before any append.
//! What must hold: a torn end is cut, at whichever byte it was torn; damage before the end is never taken for the
//! end, it is fenced: named, passed over, and left as it is; bytes behind the cut are wiped, so that no record of an earlier life can ever be read again.

use std::sync::atomic::Ordering;

use memchr::memmem;
use waspmq_protocol::message::record::{self, LogEntry, RecordError, RecordView};

use super::{CommitLog, earlier_life::EarlierLife, physical};
use crate::{
    error::{OpenError, StoreError},
    mapped_file::MappedSlice,
    offsets::PhysicalOffset,
};

/// Pages are asked for in steps that grow to this size.
const STEP_BYTES_MAX: usize = 4 << 20;
/// How far behind a bad record a good one is looked for: more than the longest record.
const SEARCH_BYTES: usize = 16 << 20;
/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;
/// This much without a byte that is not zero: nothing was ever written here.
const EMPTY_BYTES: usize = 64 << 10;

/// From where the log is to be read after a restart, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// A record's beginning, or the end of the log.
    pub(crate) offset: u64,
    /// The log below was synced: it must be there, whole.
    pub(crate) durable: Option<u64>,
    /// Records stored before this time, ms, were synced; for folders of which only RocketMQ's checkpoint is known.
    pub(crate) durable_ms: i64,
}

/// What may lie behind the end of the log that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing: the store was closed.
    Zeros,
    /// A process of this boot was killed: the record that it was writing. Going through all that is made ready for records
    /// to come would take seconds.
    HalfARecord,
    /// Whatever a power cut or another broker has left.
    Anything,
}

/// A stretch of the log that holds no readable record although it should. It is left as it is and passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Where the readable part before it ends.
    pub from: PhysicalOffset,
    /// Where the next readable record begins.
    pub to: PhysicalOffset,
    /// What is wrong with the bytes at its beginning.
    pub reason: String,
}

/// What reading the log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// One past the last good record.
    pub(crate) end: u64,
    /// Good records read.
    pub(crate) records: u64,
    /// Store time of the last of them, ms; 0 if there was none.
    pub(crate) newest_ms: i64,
    /// Bytes behind the end that are not zero, as far as they were looked for.
    pub(crate) torn_bytes: u64,
    /// Damage before the end.
    pub(crate) fences: Vec<Fence>,
}

impl CommitLog {
    /// Reads from `start` to the end of the log. `each` is given every good record.
    ///
    /// Damage before the end is fenced.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] if files are missing that had been synced.
    pub(crate) fn scan(&self, start: Start, mut each: impl FnMut(&RecordView<'_>)) -> Result<Scanned, OpenError> {
        let mut scanned = Scanned { end: start.offset, records: 0, newest_ms: 0, torn_bytes: 0, fences: Vec::new() };
        // We wipe what we cut; another broker may have left it.
        let mut earlier_life = start.durable.is_none().then(EarlierLife::default);
        while let Some(rest) = self.files.slice_up_to(scanned.end, usize::MAX)? {
            let reason = self.scan_file(start, &rest, &mut scanned, earlier_life.as_mut(), &mut each)?;
            if let Some(begin) = earlier_life.as_ref().and_then(EarlierLife::proven) {
                tracing::warn!(end = begin.end, "what lies behind was cut off once by another broker; it stays cut");
                scanned = begin.clone();
                scanned.torn_bytes = written_bytes(&self.files.slice_up_to(scanned.end, usize::MAX)?)?;
                break;
            }
            if let Some(reason) = reason {
                if let Some(to) = self.check_torn(start, &scanned, &reason)? {
                    let (from, to) = (physical(scanned.end), physical(to));
                    tracing::error!(from = from.0, to = to.0, %reason, "the log is damaged here; the part is passed over");
                    scanned.fences.push(Fence { from, to, reason: reason.to_string() });
                    scanned.end = to.0 as u64;
                    continue;
                }
                scanned.torn_bytes = written_bytes(&self.files.slice_up_to(scanned.end, usize::MAX)?)?;
                break;
            }
        }
        // A scan may also begin behind the last file, and then reads nothing.
        let end = scanned.end.min(self.files.end_offset());
        if start.durable.is_some_and(|durable| end < durable) {
            return Err(self.damaged(end, "the file with the following messages is missing".into()));
        }
        Ok(scanned)
    }

    /// Reads one file to its end (`None`), or to the first thing that is no record (and why it is none).
    fn scan_file(
        &self,
        start: Start,
        rest: &MappedSlice,
        scanned: &mut Scanned,
        mut earlier_life: Option<&mut EarlierLife>,
        each: &mut impl FnMut(&RecordView<'_>),
    ) -> Result<Option<RecordError>, StoreError> {
        let begin = scanned.end;
        let mut window = Window { rest, brought_in: 0, step: EMPTY_BYTES };
        loop {
            let at = (scanned.end - begin) as usize;
            window.bring_in(at + record::BODY_CRC_AT)?;
            if let Some((size, _)) = rest[at..].split_first_chunk::<4>() {
                let size = usize::try_from(i32::from_be_bytes(*size)).unwrap_or(0);
                window.bring_in(at + size.min(SEARCH_BYTES))?;
            }
            match next_entry(&rest[at..], scanned.end, self.settings.check_crc_on_recovery) {
                Ok(LogEntry::Record(record)) => {
                    let unsynced = start.durable.is_none_or(|durable| scanned.end >= durable);
                    let in_file = scanned.end % self.files.file_bytes();
                    if let Some(have) = torn_at(&record, in_file).filter(|_| unsynced) {
                        return Ok(Some(RecordError::Truncated { size: record.len() as i32, have }));
                    }
                    if let Some(earlier_life) = earlier_life.as_deref_mut() {
                        earlier_life.look_at(&record, scanned);
                        if earlier_life.proven().is_some() {
                            return Ok(None);
                        }
                    }
                    scanned.records += 1;
                    scanned.newest_ms = record.store_timestamp();
                    each(&record);
                    scanned.end += record.len() as u64;
                }
                Ok(LogEntry::Blank { .. }) => {
                    scanned.end = begin + rest.len() as u64;
                    return Ok(None);
                }
                Err(reason) => return Ok(Some(reason)),
            }
        }
    }

    /// Decides whether the bad record at the end of the scan is where the log was torn (`None`), or damage: damage is
    /// what was synced once, or is followed by what was. Then returns where the next good record begins.
    fn check_torn(&self, start: Start, scanned: &Scanned, reason: &RecordError) -> Result<Option<u64>, OpenError> {
        if start.durable.is_some_and(|durable| scanned.end >= durable) {
            return Ok(None);
        }
        // Of what was synced nothing may be missed; behind that a short look will do.
        let search_bytes = if start.durable.is_some() { usize::MAX } else { SEARCH_BYTES };
        let behind = self.record_behind(scanned.end, search_bytes)?;
        let next = match start.durable {
            Some(durable) => behind.filter(|(offset, _)| *offset < durable),
            // A record older than the last good one was cut in an earlier life; RocketMQ leaves those in place.
            None => behind.filter(|(_, ms)| scanned.records > 0 && (scanned.newest_ms..start.durable_ms).contains(ms)),
        };
        match (next, start.durable) {
            (Some((offset, _)), _) => Ok(Some(offset)),
            (None, None) => Ok(None),
            // Nothing good is left of what was synced: the log goes on behind it.
            (None, Some(durable)) if durable <= self.files.end_offset() => Ok(Some(durable)),
            (None, Some(_)) => Err(self.damaged(scanned.end, reason.to_string())),
        }
    }

    fn damaged(&self, offset: u64, reason: String) -> OpenError {
        let start = offset - offset % self.files.file_bytes();
        let path = crate::mapped_file_queue::file_path(self.files.dir(), start);
        OpenError::Damaged { path, position: offset - start, offset, reason }
    }

    /// The first good record behind `offset`, and its store time, ms: within `search_bytes` in its file, or first in a
    /// later one.
    fn record_behind(&self, offset: u64, search_bytes: usize) -> Result<Option<(u64, i64)>, StoreError> {
        if let Some(rest) = self.files.slice_up_to(offset, search_bytes)? {
            rest.read_ahead()?;
            if let Some(at) = find_record(&rest, offset, 1)
                && let Ok(LogEntry::Record(record)) = next_entry(&rest[at..], offset + at as u64, true)
            {
                return Ok(Some((offset + at as u64, record.store_timestamp())));
            }
        }
        let mut start = offset - offset % self.files.file_bytes() + self.files.file_bytes();
        while let Some(file) = self.files.slice_up_to(start, SEARCH_BYTES)? {
            if let Ok(LogEntry::Record(record)) = next_entry(&file, start, true) {
                return Ok(Some((start, record.store_timestamp())));
            }
            start += self.files.file_bytes();
        }
        Ok(None)
    }

    /// Whether the bytes at `offset` are a record, or the filler, that belongs there.
    pub(crate) fn is_entry(&self, offset: u64) -> Result<bool, StoreError> {
        let rest = self.files.slice_up_to(offset, usize::MAX)?;
        Ok(rest.is_some_and(|rest| next_entry(&rest, offset, false).is_ok()))
    }

    /// Where RocketMQ's rule for a folder that was not closed starts reading: the last file whose first record was
    /// stored by `min_ms`, else the first file.
    pub(crate) fn start_by_time(&self, min_ms: i64) -> Result<u64, StoreError> {
        let min = self.files.min_offset();
        let mut start = self.files.end_offset();
        while start > min {
            start -= self.files.file_bytes();
            let Some(file) = self.files.slice_up_to(start, SEARCH_BYTES)? else { continue };
            if let Ok(LogEntry::Record(first)) = next_entry(&file, start, false)
                && (1..=min_ms).contains(&first.store_timestamp())
            {
                return Ok(start);
            }
        }
        Ok(min)
    }

    /// Makes `end` the end of the log. What lies behind it in its file becomes zeros: it may be records that were cut
    /// before, which the next unclean stop would take for new ones.
    pub(crate) fn cut(&self, end: u64, tail: Tail) -> Result<(), StoreError> {
        self.files.truncate(end)?;
        match tail {
            Tail::Zeros => Ok(()),
            Tail::HalfARecord => self.files.wipe_tail(SEARCH_BYTES as u64),
            Tail::Anything => self.files.wipe_tail(u64::MAX),
        }
    }

    /// After recovery: the log ends here, its newest record is this old, and it is known to be on disk so far.
    pub(crate) fn recovered(&self, newest_ms: i64, flushed: u64) {
        self.newest_ms.store(newest_ms, Ordering::Release);
        self.files.set_flushed(flushed);
        self.opened_at.store(self.files.wrote(), Ordering::Release);
    }
}

/// Asks for the pages of a file before they are touched, so that a bad one is an error. Small steps first: a scan often
/// ends where it began.
struct Window<'a> {
    rest: &'a MappedSlice,
    brought_in: usize,
    step: usize,
}

impl Window<'_> {
    fn bring_in(&mut self, upto: usize) -> Result<(), StoreError> {
        if upto > self.brought_in && self.brought_in < self.rest.len() {
            let upto = upto.max(self.brought_in + self.step).min(self.rest.len());
            self.rest.part(self.brought_in..upto).read_ahead()?;
            self.brought_in = upto;
            self.step = (2 * self.step).min(STEP_BYTES_MAX);
        }
        Ok(())
    }
}

/// The entry at the start of `bytes`, which lie at `offset` in the log. A record must say that it belongs there: one
/// that does not was copied or left behind.
pub(crate) fn next_entry(bytes: &[u8], offset: u64, check_crc: bool) -> Result<LogEntry<'_>, RecordError> {
    match RecordView::parse(bytes, check_crc) {
        Ok(record) if record.physical_offset() as u64 == offset => Ok(LogEntry::Record(record)),
        Ok(record) => Err(RecordError::UnknownMagic { magic: record.magic(), size: record.len() as i32 }),
        Err(RecordError::Blank { size }) if size as usize == bytes.len() => Ok(LogEntry::Blank { len: size as u32 }),
        Err(error) => Err(error),
    }
}

/// Where a record that lies at `in_file` of its file ends in truth, if a power cut has taken what followed. The body has
/// its checksum; topic and properties have none, but what never reached the disk is zeros, a sector's part of it at a
/// time, and neither holds or ends with such.
fn torn_at(record: &RecordView<'_>, in_file: u64) -> Option<usize> {
    let properties = record.properties();
    let begin = record.len() - properties.len();
    if record.topic().as_bytes().contains(&0) {
        return Some(begin);
    }
    let first = SECTOR_BYTES - (in_file as usize + begin) % SECTOR_BYTES;
    let (head, rest) = properties.split_at(first.min(properties.len()));
    let mut at = begin;
    for part in std::iter::once(head).chain(rest.chunks(SECTOR_BYTES)) {
        if !part.is_empty() && part.iter().all(|byte| *byte == 0) {
            return Some(at);
        }
        at += part.len();
    }
    (properties.last() == Some(&0)).then_some(begin)
}

/// Where in `bytes`, which lie at `offset` in the log, the next good record begins, at `from` or behind it.
pub(crate) fn find_record(bytes: &[u8], offset: u64, from: usize) -> Option<usize> {
    let behind = bytes.get(from..)?;
    let of = |magic: i32| {
        memmem::find_iter(behind, &magic.to_be_bytes()).find_map(|found| {
            let at = from + found.checked_sub(record::MAGIC_AT)?;
            matches!(next_entry(&bytes[at..], offset + at as u64, true), Ok(LogEntry::Record(_))).then_some(at)
        })
    };
    [record::MAGIC_V1, record::MAGIC_V2].into_iter().filter_map(of).min()
}

/// How many bytes of `rest` lie before the last one that is not zero, looking no further than a long run of zeros.
fn written_bytes(rest: &Option<MappedSlice>) -> Result<u64, StoreError> {
    let Some(rest) = rest else { return Ok(0) };
    let mut written = 0;
    for (n, block) in rest.chunks(EMPTY_BYTES).enumerate() {
        rest.part(n * EMPTY_BYTES..n * EMPTY_BYTES + block.len()).read_ahead()?;
        match block.iter().rposition(|byte| *byte != 0) {
            Some(last) => written = (n * EMPTY_BYTES + last + 1) as u64,
            None => break,
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use waspmq_protocol::message::record::RecordFields;

    fn put(bytes: &mut [u8], at: usize, topic: &str) -> usize {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        let fields = RecordFields {
            queue_id: 0,
            flag: 0,
            queue_offset: 0,
            physical_offset: at as i64,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: host,
            store_timestamp: 0,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"body",
            topic,
            properties: b"",
        };
        let end = at + record::encoded_len(&fields);
        record::encode_into(&fields, &mut bytes[at..end]);
        end
    }

    #[test]
    fn the_nearest_record_is_found_whichever_version_it_has() {
        let mut bytes = vec![0xEE; 2000];
        let first = put(&mut bytes, 50, &"t".repeat(200));
        put(&mut bytes, first, "short");
        assert_eq!(find_record(&bytes, 0, 1), Some(50));
        assert_eq!(find_record(&bytes, 0, 51), Some(first));
        assert_eq!(find_record(&bytes, 0, first + 1), None);
        assert_eq!(find_record(&bytes, 7, 1), None, "none of them belongs there");
        assert_eq!(find_record(&bytes, 0, 3000), None);
    }
}
