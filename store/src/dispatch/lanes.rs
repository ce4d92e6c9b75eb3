//! The queues of one batch of records, each with the entries that will be appended to it together.
//! Owned by the dispatcher's thread. Keeps the queues of past batches at hand, so that a record finds its queue by
//! comparing bytes instead of by a lookup. Must hold: a lane with pending entries is never given to another queue.

use std::sync::Arc;

use waspmq_protocol::name::SCHEDULE_TOPIC;

use crate::consume_queue::{ConsumeQueue, ConsumeQueues, encode};
use crate::error::StoreError;
use crate::index::TopicHash;
use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::queue::Queue;

/// How many queues are kept at hand; a power of two.
const LANES: usize = 4096;
/// How many places a queue may stand in.
const PROBES: usize = 8;
/// A lane that once collected a lot gives the memory back above this.
const PENDING_BYTES_KEPT: usize = 4096;
/// The smallest record: bounds how many entries can be missing between two.
const RECORD_BYTES_MIN: i64 = 91;

/// One queue and what is about to be appended to it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Arc<Queue>,
    files: Arc<ConsumeQueue>,
    pub(crate) topic_hash: TopicHash,
    pub(crate) is_schedule: bool,
    /// Where the next entry goes.
    next: QueueOffset,
    /// Where the last entry's record ends.
    end: PhysicalOffset,
    pending: Vec<u8>,
}

/// Queues by topic and id, at fixed places.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Option<Lane>>,
    dirty: Vec<usize>,
}

/// What one record contributes to its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry {
    pub(crate) queue_offset: QueueOffset,
    pub(crate) physical_offset: PhysicalOffset,
    pub(crate) size: i32,
    pub(crate) tags_code: i64,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self { lanes: std::iter::repeat_with(|| None).take(LANES).collect(), dirty: Vec::new() }
    }

    /// Where the lane of a queue stands; it takes the place of one without pending entries if it has none yet. `None`
    /// if all its places are taken: append what is pending, then ask again.
    pub(crate) fn find(&mut self, queues: &ConsumeQueues, topic: &str, id: i32) -> Result<Option<usize>, StoreError> {
        let home = place(topic.as_bytes(), id);
        let mut free = None;
        for probe in 0..PROBES {
            let at = (home + probe) % LANES;
            match &self.lanes[at] {
                Some(lane) if lane.queue.id() == id && **lane.queue.topic() == *topic => {
                    // A deleted queue takes its last entries too, until another one has its name.
                    let has_name = || queues.find(topic, id).is_some_and(|queue| Arc::ptr_eq(&queue, &lane.queue));
                    if !lane.queue.is_deleted() || has_name() {
                        return Ok(Some(at));
                    }
                    free = Some(at);
                    break;
                }
                Some(lane) if !lane.pending.is_empty() => {}
                Some(_) => free = free.or(Some(at)),
                None => {
                    free = Some(at);
                    break;
                }
            }
        }
        let Some(at) = free else { return Ok(None) };
        self.lanes[at] = Some(Lane::open(queues, topic, id)?);
        Ok(Some(at))
    }

    pub(crate) fn at(&self, at: usize) -> Option<&Lane> {
        self.lanes[at].as_ref()
    }

    /// Adds an entry to the lane at `at`. False if the record cannot be in that queue at the place it claims.
    pub(crate) fn push(&mut self, at: usize, entry: NewEntry) -> Result<bool, StoreError> {
        let Some(lane) = &mut self.lanes[at] else { return Ok(false) };
        let was_clean = lane.pending.is_empty();
        let placed = lane.push(entry)?;
        if was_clean && !lane.pending.is_empty() {
            self.dirty.push(at);
        }
        Ok(placed)
    }

    /// Appends everything pending, and makes it readable.
    pub(crate) fn append(&mut self) -> Result<(), StoreError> {
        while let Some(at) = self.dirty.last() {
            if let Some(lane) = &mut self.lanes[*at] {
                lane.append()?;
            }
            self.dirty.pop();
        }
        Ok(())
    }

    /// Forgets everything, also what is pending: after a failure the files say what they hold.
    pub(crate) fn clear(&mut self) {
        self.dirty.clear();
        self.lanes.iter_mut().for_each(|lane| *lane = None);
    }
}

impl Lane {
    fn open(queues: &ConsumeQueues, topic: &str, id: i32) -> Result<Self, StoreError> {
        let queue = queues.queue(topic, id);
        let files = queues.files_of(&queue)?;
        Ok(Self {
            topic_hash: TopicHash::new(topic),
            is_schedule: topic == SCHEDULE_TOPIC,
            next: files.end(),
            end: files.end_physical(),
            pending: Vec::new(),
            queue,
            files,
        })
    }

    fn push(&mut self, entry: NewEntry) -> Result<bool, StoreError> {
        let end = PhysicalOffset(entry.physical_offset.0 + i64::from(entry.size));
        if end <= self.end {
            // Dispatched before: recovery dispatches from a safe place on.
            return Ok(true);
        }
        if entry.queue_offset != self.next && !self.make_room(entry)? {
            return Ok(false);
        }
        self.pending.extend_from_slice(&encode(entry.physical_offset, entry.size, entry.tags_code));
        self.next.0 += 1;
        self.end = end;
        Ok(true)
    }

    /// An entry that is not the next one. Answers whether it is now.
    #[cold]
    fn make_room(&mut self, entry: NewEntry) -> Result<bool, StoreError> {
        self.append()?;
        let (topic, id, expected, found) = (&**self.queue.topic(), self.queue.id(), self.next, entry.queue_offset);
        if self.files.is_new() && found.0 > 0 {
            // The queue's files were deleted, or the log begins after its first message.
            self.files.begin_at(found)?;
            self.queue.publish_min(found);
        } else if found.0 == 0 {
            // The topic was deleted and made again, and a crash came in between: the newer life counts.
            tracing::warn!(topic, queue = id, expected = expected.0, "the queue starts again at 0 in the log");
            self.files.start_over()?;
            if self.queue.next_append_offset() == expected {
                // A restart: nothing was stored since what was dispatched, so the next message follows the newer life's.
                self.queue.restart_at(found);
            }
            self.queue.publish_max(found);
            self.queue.publish_min(found);
        } else if found > expected && found.0 - expected.0 <= (entry.physical_offset.0 - self.end.0) / RECORD_BYTES_MIN
        {
            tracing::error!(
                topic,
                queue = id,
                expected = expected.0,
                found = found.0,
                "entries of the queue are missing; their places are left empty"
            );
            self.files.skip_to(found)?;
        } else {
            tracing::error!(
                topic,
                queue = id,
                expected = expected.0,
                found = found.0,
                offset = entry.physical_offset.0,
                "a record claims a place it cannot have; it is not in its queue"
            );
            return Ok(false);
        }
        self.next = found;
        Ok(true)
    }

    fn append(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.files.append(&self.pending, self.end)?;
        self.pending.clear();
        self.pending.shrink_to(PENDING_BYTES_KEPT);
        self.queue.publish_max(self.next);
        if self.queue.next_append_offset() < self.next {
            self.queue.raise_next_append(self.next);
        }
        Ok(())
    }
}

/// The first place of a queue: a quick hash of the ends of the topic's name, which is where names differ.
#[inline]
fn place(topic: &[u8], id: i32) -> usize {
    let word = |bytes: Option<&[u8; 8]>| u64::from_be_bytes(bytes.copied().unwrap_or_default());
    let (head, tail) = match topic.len() {
        8.. => (word(topic.first_chunk()), word(topic.last_chunk())),
        _ => (topic.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)), 0),
    };
    let mixed = (head ^ tail.rotate_left(23) ^ (id as u64).rotate_left(41) ^ topic.len() as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as usize % LANES
}
