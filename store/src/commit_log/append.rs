//! Appending: lengths and checksums first, then one short lock that gives queue offset, physical offset and store time
//! and encodes each record into the mapped file. Called by `MessageStore::append` on the threads of the connections.
//! What must hold inside the lock: no allocation, no waiting, and no system call except when a file is full and the
//! next one was not made ahead.

use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use smallvec::SmallVec;
use waspmq_protocol::message::{
    flags, properties,
    record::{self, BLANK_BYTES_MIN, RecordFields},
};

use super::{CommitLog, physical};
use crate::{
    clock::Clock,
    config::FlushMode,
    error::AppendError,
    mapped_file::MappedFile,
    offsets::{PhysicalOffset, QueueOffset},
    queue::Queue,
    sleeper,
};

/// A whole record may be this much longer than the longest body.
const RECORD_EXTRA_BYTES: usize = 65_536;

/// One message, or one batch of messages, to be stored in one queue.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// The queue.
    pub queue: &'a Arc<Queue>,
    /// The producer's address.
    pub born_host: SocketAddr,
    /// What to store.
    pub items: Items<'a>,
    /// Bits of `protocol::message::flags`; the address-family bits are set here.
    pub sys_flag: i32,
    /// The producer's clock, ms.
    pub born_timestamp: i64,
    /// Times the message was consumed without success.
    pub reconsume_times: i32,
    /// For a committed message: where its half message lies; else 0.
    pub prepared_transaction_offset: i64,
    /// Whether the sender waits for the disk: with [`FlushMode::Sync`] the sync then starts at once.
    pub wait_durable: bool,
}

/// A message or a batch.
#[derive(Clone, Copy, Debug)]
pub enum Items<'a> {
    /// One message.
    One(Item<'a>),
    /// Messages that get consecutive offsets and lie in one file; all of them are stored, or none.
    Batch(&'a [Item<'a>]),
}

impl<'a> Items<'a> {
    fn as_slice(&self) -> &[Item<'a>] {
        match self {
            Items::One(item) => std::slice::from_ref(item),
            Items::Batch(items) => items,
        }
    }
}

/// What differs between the messages of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The user's flag, not interpreted.
    pub flag: i32,
    /// Body, possibly compressed.
    pub body: &'a [u8],
    /// Property block.
    pub properties: &'a [u8],
}

/// Where an [`Append`] went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Queue offset of its first message; the others follow one by one.
    pub first_queue_offset: QueueOffset,
    /// Physical offset of each message.
    pub physical_offsets: SmallVec<[PhysicalOffset; 2]>,
    /// One past its last byte: what to wait for with `when_durable`.
    pub end: PhysicalOffset,
    /// The broker's clock when it was stored, ms.
    pub store_timestamp: i64,
}

/// The end of the log, guarded by the append lock.
#[derive(Debug, Default)]
pub(super) struct Appender {
    /// The file the log ends in; none before the first append to an empty log.
    file: Option<Arc<MappedFile>>,
    /// Where in that file the next record goes.
    position: usize,
    /// A thread panicked while it held the lock: nobody knows what it left behind.
    broken: bool,
}

/// What is known of an [`Append`] before and after the lock. Kept per thread, so that appends allocate nothing.
struct Prepared {
    items: usize,
    bytes: usize,
    outcome: Result<Placed, AppendError>,
}

#[derive(Clone, Copy, Default)]
struct Placed {
    physical: u64,
    queue_offset: QueueOffset,
}

#[derive(Default)]
struct Scratch {
    /// One per message to append.
    prepared: Vec<Prepared>,
    /// Length and body checksum, one per item of all messages.
    items: Vec<(u32, u32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl CommitLog {
    /// See `MessageStore::append`.
    pub(crate) fn append(
        &self,
        messages: &[Append<'_>],
        clock: &dyn Clock,
        out: &mut Vec<Result<Appended, AppendError>>,
    ) {
        self.backlog.wait_for_room(self.confirmed());
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.prepared.clear();
            scratch.items.clear();
            for message in messages {
                let prepared = self.prepare(message, &mut scratch.items);
                scratch.prepared.push(prepared);
            }
            let store_timestamp = self.place_all(messages, scratch, clock);
            self.tell_followers(messages);
            let mut items = scratch.items.iter();
            for prepared in scratch.prepared.drain(..) {
                let lengths = items.by_ref().take(prepared.items).map(|(bytes, _)| u64::from(*bytes));
                out.push(appended(prepared, lengths, store_timestamp));
            }
        });
    }

    /// Checks limits, measures, and computes checksums: all that needs no lock.
    fn prepare(&self, message: &Append<'_>, items: &mut Vec<(u32, u32)>) -> Prepared {
        let body_bytes_max = self.settings.body_bytes_max.load(Ordering::Relaxed);
        let first = items.len();
        let mut bytes = 0;
        for item in message.items.as_slice() {
            match self.measure(message, item, body_bytes_max) {
                Ok(length) => {
                    bytes += length;
                    items.push((length as u32, record::body_crc(item.body)));
                }
                Err(error) => {
                    items.truncate(first);
                    return Prepared { items: 0, bytes: 0, outcome: Err(error) };
                }
            }
        }
        let bytes_max = self.files.file_bytes() as usize - BLANK_BYTES_MIN;
        if bytes > bytes_max {
            items.truncate(first);
            return Prepared { items: 0, bytes: 0, outcome: Err(AppendError::RecordTooLarge { bytes, bytes_max }) };
        }
        Prepared { items: items.len() - first, bytes, outcome: Ok(Placed::default()) }
    }

    fn measure(&self, message: &Append<'_>, item: &Item<'_>, body_bytes_max: usize) -> Result<usize, AppendError> {
        if item.body.len() > body_bytes_max {
            return Err(AppendError::BodyTooLarge { bytes: item.body.len(), bytes_max: body_bytes_max });
        }
        if item.properties.len() > properties::BLOCK_BYTES_MAX {
            let (bytes, bytes_max) = (item.properties.len(), properties::BLOCK_BYTES_MAX);
            return Err(AppendError::PropertiesTooLarge { bytes, bytes_max });
        }
        let bytes = record::encoded_len(&self.fields(message, item));
        let bytes_max = body_bytes_max.saturating_add(RECORD_EXTRA_BYTES);
        if bytes > bytes_max || message.queue.topic().len() > record::TOPIC_BYTES_MAX {
            return Err(AppendError::RecordTooLarge { bytes, bytes_max });
        }
        Ok(bytes)
    }

    fn fields<'a>(&self, message: &'a Append<'_>, item: &'a Item<'_>) -> RecordFields<'a> {
        RecordFields {
            queue_id: message.queue.id(),
            flag: item.flag,
            queue_offset: 0,
            physical_offset: 0,
            sys_flag: message.sys_flag,
            born_timestamp: message.born_timestamp,
            born_host: message.born_host,
            store_timestamp: 0,
            store_host: self.settings.store_host,
            reconsume_times: message.reconsume_times,
            prepared_transaction_offset: message.prepared_transaction_offset,
            body: item.body,
            topic: message.queue.topic(),
            properties: item.properties,
        }
    }

    /// Takes the lock once and stores all messages that were not refused before. Returns their store time.
    fn place_all(&self, messages: &[Append<'_>], scratch: &mut Scratch, clock: &dyn Clock) -> i64 {
        let mut appender = match self.appender.lock() {
            Ok(appender) => appender,
            Err(poisoned) => {
                let mut appender = poisoned.into_inner();
                appender.broken = true;
                appender
            }
        };
        if let Some(error) = self.refusal_now(&appender) {
            for prepared in scratch.prepared.iter_mut().filter(|prepared| prepared.outcome.is_ok()) {
                prepared.outcome = Err(error.clone());
            }
            return 0;
        }
        let now_ms = clock.now_ms();
        let mut items = scratch.items.as_slice();
        for (message, prepared) in messages.iter().zip(&mut scratch.prepared) {
            let (mine, later) = items.split_at(prepared.items);
            items = later;
            if prepared.outcome.is_ok() {
                prepared.outcome = self.place(&mut appender, message, (mine, prepared.bytes), now_ms, clock);
            }
        }
        self.publish(&appender);
        self.newest_ms.store(now_ms, Ordering::Release);
        now_ms
    }

    fn refusal_now(&self, appender: &Appender) -> Option<AppendError> {
        if appender.broken {
            let reason = "an append panicked, so the end of the log is not known".into();
            self.refuse(Some(AppendError::Poisoned { reason }));
        }
        self.refusal()
    }

    /// Encodes one message, or one batch, at the end of the log.
    fn place(
        &self,
        appender: &mut Appender,
        message: &Append<'_>,
        (items, bytes): (&[(u32, u32)], usize),
        now_ms: i64,
        clock: &dyn Clock,
    ) -> Result<Placed, AppendError> {
        if message.queue.is_deleted() {
            return Err(AppendError::QueueDeleted { topic: Arc::clone(message.queue.topic()) });
        }
        self.make_room(appender, bytes, clock)?;
        let Appender { file: Some(file), position, .. } = appender else {
            unreachable!("make_room leaves a file to write to");
        };
        // What is in no consume queue takes no place in it.
        let in_queue = flags::is_queued(message.sys_flag);
        let first = if in_queue { message.queue.take_offsets(items.len()) } else { QueueOffset(0) };
        let placed = Placed { physical: file.start() + *position as u64, queue_offset: first };
        let mut writer = file.writer();
        for (at, (item, (length, crc))) in message.items.as_slice().iter().zip(items).enumerate() {
            let fields = RecordFields {
                queue_offset: if in_queue { first.0 + at as i64 } else { 0 },
                physical_offset: (file.start() + *position as u64) as i64,
                store_timestamp: now_ms,
                ..self.fields(message, item)
            };
            let end = *position + *length as usize;
            record::encode_with_crc(&fields, *crc, writer.bytes_mut(*position..end));
            *position = end;
        }
        Ok(placed)
    }

    /// Makes sure that `bytes`, and the filler behind them, fit into the file at hand: else closes it with a filler
    /// and goes on to the next. The next file is there before the filler is written: if it is not to be had,
    /// nothing has changed, and shorter messages may still fit.
    fn make_room(&self, appender: &mut Appender, bytes: usize, clock: &dyn Clock) -> Result<(), AppendError> {
        if let Some(file) = &appender.file
            && bytes + BLANK_BYTES_MIN <= file.bytes() - appender.position
        {
            return Ok(());
        }
        let start = appender.file.as_ref().map_or(self.files.wrote(), |file| file.start() + file.bytes() as u64);
        let next = self.next_file(start, clock)?;
        if let Some(file) = &appender.file {
            let end = file.bytes();
            record::encode_blank(file.writer().bytes_mut(appender.position..end));
            appender.position = end;
            self.publish(appender);
        }
        appender.position = (start - next.start()) as usize;
        appender.file = Some(next);
        Ok(())
    }

    /// Lets readers see what was encoded.
    fn publish(&self, appender: &Appender) {
        if let Some(file) = &appender.file {
            file.writer().publish(appender.position);
            self.files.advance_wrote(file.start() + appender.position as u64);
        }
    }

    /// Points the appender at the log's end. Called once, after recovery.
    pub(crate) fn start_appending(&self) -> Result<(), crate::error::StoreError> {
        let end = self.files.wrote();
        let file = self.files.file_for(end)?;
        let mut appender = self.appender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        appender.position = file.as_ref().map_or(0, |file| (end - file.start()) as usize);
        appender.file = file;
        Ok(())
    }

    /// Runs `action` while nothing is appended.
    pub(crate) fn while_still<T>(&self, action: impl FnOnce() -> T) -> T {
        let _appender = self.appender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        action()
    }

    fn tell_followers(&self, messages: &[Append<'_>]) {
        let sync = self.settings.flush == FlushMode::Sync;
        let wanted = sync && messages.iter().any(|message| message.wait_durable);
        if wanted {
            self.sync_wanted.store(true, Ordering::Release);
        }
        sleeper::announce();
        if wanted {
            self.followers.sync.wake();
        }
        if self.wants_population() {
            self.followers.populate.wake();
        }
        self.followers.flush.wake();
        if !sync {
            // In sync mode readers see nothing before the flush, which then wakes dispatch.
            self.followers.dispatch.wake();
        }
    }
}

/// The result for the caller, with the place of every item.
fn appended(
    prepared: Prepared,
    lengths: impl Iterator<Item = u64>,
    store_timestamp: i64,
) -> Result<Appended, AppendError> {
    let placed = prepared.outcome?;
    let mut end = placed.physical;
    let physical_offsets = lengths
        .map(|length| {
            let begin = end;
            end += length;
            physical(begin)
        })
        .collect();
    Ok(Appended { first_queue_offset: placed.queue_offset, physical_offsets, end: physical(end), store_timestamp })
}
