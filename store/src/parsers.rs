//! Every reader of files by itself, over bytes that may be anything: `tests/fuzz` calls these by the hundred million, the
//! tests below with what proptest makes up. Each must end soon, without a panic, and believe nothing impossible.

use std::path::Path;
use std::sync::Arc;

use waspmq_protocol::message::record::LogEntry;

use crate::checkpoint::Checkpoint;
use crate::clock::SystemClock;
use crate::commit_log::{find_record, next_entry};
use crate::consume_queue::{ConsumeQueues, ENTRY_BYTES};
use crate::dispatch::{DelayLevels, Wanted};
use crate::error::StoreError;
use crate::filter::QueueEntry;
use crate::index::{Index, IndexShape, KeyEntry, Lookup, Trust};
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::storage::{MemoryStorage, Storage};
use crate::sums::Sums;

/// Few, so that chains are long.
const SHAPE: IndexShape = IndexShape { slots: 3, entries: 12 };
const QUEUE_ENTRIES: usize = 8;
/// Of a file of the log; its file of sums then has 800 bytes.
const LOG_FILE_BYTES: u64 = 8192;

/// A file of the log, read as recovery and dispatch read it. The first byte says whether bodies' checksums count.
pub fn log(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes.split_first() else { return };
    let check_crc = flags & 1 == 1;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        at = match next_entry(rest, at as u64, check_crc) {
            Ok(LogEntry::Record(record)) => {
                assert!((1..=rest.len()).contains(&record.len()));
                let wanted = Wanted::read(record.properties());
                let _ = wanted.tags_code(Some(&DelayLevels::default()), record.store_timestamp());
                assert!(wanted.each_key().all(|key| !key.is_empty()));
                let _ = (record.topic(), record.body(), record.born_host(), record.store_host());
                at + record.len()
            }
            Ok(LogEntry::Blank { len }) => {
                assert_eq!(len as usize, rest.len());
                return;
            }
            Err(_) => match find_record(bytes, 0, at + 1) {
                Some(next) => {
                    assert!(next > at && next < bytes.len());
                    next
                }
                None => return,
            },
        };
    }
}

/// An index file: opened as after a clean stop or a crash, asked, written to.
pub fn index(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let trust = if how & 1 == 1 { Trust::All } else { Trust::Until(1_700_000_000_000) };
    let storage = holding("/index", "/index/20231114221320000", &sized(bytes, SHAPE.file_bytes() as usize));
    let opened = Index::open(storage, Arc::new(SystemClock::new()), "/index".into(), SHAPE, trust);
    let index = opened.expect("any content of the right size can be opened");
    for hash in [0, 1, 2, i32::MAX, i32::MIN] {
        let mut found = 0;
        index.find(Lookup { hash, begin_ms: i64::MIN, end_ms: i64::MAX }, &mut |_| {
            found += 1;
            true
        });
        assert!(found < SHAPE.entries, "more found than there is room for");
    }
    let (_, end) = index.last_update();
    let key =
        |n: i64| KeyEntry { hash: 1, physical_offset: PhysicalOffset(end.0.saturating_add(n)), store_timestamp: n };
    index.put(&[1, 2, 3].map(key)).expect("there is room on the disk");
    index.flush(true).expect("nothing fails");
}

/// A file of a consume queue: opened, corrected, read, cut.
pub fn queue(bytes: &[u8]) {
    let file_bytes = QUEUE_ENTRIES * ENTRY_BYTES;
    let content = sized(bytes, file_bytes);
    let storage = holding("/queues/T/0", "/queues/T/0/00000000000000000000", &content);
    let queues = ConsumeQueues::open(storage, "/queues".into(), file_bytes as u64, 4).expect("the right size");
    let files = queues.find("T", 0).and_then(|queue| queue.files().map(Arc::clone)).expect("there is a queue");
    assert!(files.first() <= files.end() && files.end() <= QueueOffset(QUEUE_ENTRIES as i64));
    let mut read = [QueueEntry::default(); QUEUE_ENTRIES + 1];
    let count = files.read(QueueOffset(0), QueueOffset(i64::MAX), &mut read).expect("nothing fails");
    for entry in &read[..count] {
        let _ = (entry.is_written(), entry.is_blank(), entry.lacks_tags_code(), entry.physical_end(), entry.bytes());
    }
    let middle = PhysicalOffset(read[QUEUE_ENTRIES / 2].physical_offset.0);
    queues.correct_min(middle).expect("nothing fails");
    queues.truncate_to(middle, true).expect("nothing fails");
    assert!(files.end() <= QueueOffset(QUEUE_ENTRIES as i64));
    queues.flush(0).expect("nothing fails");
}

/// RocketMQ's checkpoint and our own notes beside it.
pub fn checkpoint(bytes: &[u8]) {
    let (times, progress) = bytes.split_at(bytes.len().min(24));
    let storage = holding("/store", "/store/checkpoint", &sized(times, Checkpoint::FILE_BYTES as usize));
    let path = Path::new("/store/progress");
    storage.write(path, &sized(progress, Checkpoint::FILE_BYTES as usize)).expect("a disk without bounds");
    let open =
        || Checkpoint::open(&*storage, Path::new("/store")).expect("any content of the right size can be opened");
    let checkpoint = open();
    let said = checkpoint.progress();
    for known in [said.durable, said.derived, said.clean_end].into_iter().flatten() {
        assert!(known.0 >= 0, "nothing lies before the log");
    }
    checkpoint.flush(said.clean_end).expect("nothing fails");
    let again = open().progress();
    assert_eq!((again.durable, again.derived), (said.durable, said.derived), "what was known stays known");
}

/// A file of the records' sums.
pub fn sums(bytes: &[u8]) {
    let root = Path::new("/store");
    // What is no sum file at all is told by its header; behind that comes what may be damaged.
    let (path, mut content, room) = Sums::first_file(root, LOG_FILE_BYTES);
    content.extend(sized(bytes, room));
    let storage = holding(path.parent().expect("a file lies in a folder"), &path, &content);
    let work = || -> Result<(), StoreError> {
        let sums = Sums::open(storage.clone(), root, LOG_FILE_BYTES)?;
        sums.own_end(true, |offset, sum| offset % 3 == 0 || sum == 0)?;
        sums.start_at(LOG_FILE_BYTES / 2, LOG_FILE_BYTES / 4)?;
        assert!(storage.file_bytes(&path).is_ok_and(|bytes| bytes.is_some()), "it was not taken for a sum file");
        sums.sync()
    };
    work().expect("nothing fails");
}

/// A disk with one file on it.
fn holding(dir: impl AsRef<Path>, path: impl AsRef<Path>, content: &[u8]) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    storage.create_dir(dir.as_ref()).expect("a disk without bounds");
    storage.write(path.as_ref(), content).expect("a disk without bounds");
    Arc::new(storage)
}

/// As many bytes, zeros behind what there is.
fn sized(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut sized = bytes[..bytes.len().min(len)].to_vec();
    sized.resize(len, 0);
    sized
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Mostly small numbers, as such files hold, big-endian; and anything.
    fn content(len: usize) -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            4 => (-2_i32..40).prop_map(|word| word.to_be_bytes().to_vec()),
            1 => any::<i32>().prop_map(|word| word.to_be_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 1..9),
        ];
        prop::collection::vec(word, 0..len / 4).prop_map(|words| words.concat())
    }

    /// Times that cannot be: the fuzzer found the sums of them.
    #[test]
    fn an_index_file_with_impossible_times_is_read() {
        for begin in [i64::MAX, i64::MIN] {
            for seconds in [i32::MAX, i32::MIN] {
                for how in 0..2 {
                    let mut bytes = vec![0; SHAPE.file_bytes() as usize];
                    bytes[..8].copy_from_slice(&begin.to_be_bytes());
                    bytes[36..40].copy_from_slice(&3_i32.to_be_bytes());
                    let slots = SHAPE.slots as usize;
                    (0..slots).for_each(|slot| bytes[40 + 4 * slot..][..4].copy_from_slice(&2_i32.to_be_bytes()));
                    bytes[40 + 4 * slots + 2 * 20 + 12..][..4].copy_from_slice(&seconds.to_be_bytes());
                    index(&[&[how], &bytes[..]].concat());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_log_is_read(bytes in content(4096)) {
            log(&bytes);
        }

        #[test]
        fn any_index_file_is_read(bytes in content(300)) {
            index(&bytes);
        }

        #[test]
        fn any_queue_file_is_read(bytes in content(160)) {
            queue(&bytes);
        }

        #[test]
        fn any_checkpoint_is_read(bytes in content(500)) {
            checkpoint(&bytes);
        }

        #[test]
        fn any_file_of_sums_is_read(bytes in content(800)) {
            sums(&bytes);
        }
    }
}
