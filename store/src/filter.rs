//! The two traits through which news leaves the store upwards: `MessageFilter` (asked by `get`) and
//! `ArrivalListener` (told by the dispatcher). The store knows nothing of subscriptions, plugins or held pulls.
//! A filter never passes over a message it could not judge: `Verdict::CannotSay` stops the scan before it.

use std::sync::Arc;

use waspmq_protocol::message::record::RecordView;

use crate::offsets::{PhysicalOffset, QueueOffset};
use crate::queue::Queue;

/// The most entries or records one call of a filter is given.
pub const FILTER_BATCH_MAX: usize = 32;

/// One entry of a consume queue: where a message lies and the hash of its tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueEntry {
    /// The message's place in its queue.
    pub queue_offset: QueueOffset,
    /// Where its record starts in the commit log.
    pub physical_offset: PhysicalOffset,
    /// Length of the record in bytes.
    pub size: i32,
    /// Java's `String.hashCode` of the TAGS property, sign-extended; 0 without tags. In the schedule topic: the
    /// time of delivery in milliseconds.
    pub tags_code: i64,
}

/// A stored record together with its queue entry, as the second stage of a filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct FilterRecord<'a> {
    /// The entry that led to the record.
    pub entry: QueueEntry,
    /// The record, borrowed from the commit log.
    pub record: RecordView<'a>,
}

/// What a filter says of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it.
    Keep,
    /// Pass over it.
    Drop,
    /// The entry alone does not decide (first stage only): show me the record.
    NeedRecord,
    /// No answer can be given now (a fault, a missing plugin). The scan ends before this message; nothing is lost.
    CannotSay,
}

/// Decides which messages of a queue a reader gets.
///
/// Both calls get `verdicts` of the same length as their input (at most [`FILTER_BATCH_MAX`]), preset to
/// [`Verdict::CannotSay`], so a filter that returns early decides nothing by accident.
pub trait MessageFilter {
    /// First stage: by queue entries, before any record is touched.
    fn by_entry(&mut self, entries: &[QueueEntry], verdicts: &mut [Verdict]);

    /// Second stage: the records of which the first stage said [`Verdict::NeedRecord`]. Saying it here again means
    /// [`Verdict::CannotSay`].
    fn by_record(&mut self, records: &[FilterRecord<'_>], verdicts: &mut [Verdict]);
}

/// One message that has just become readable in its queue.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The queue it is in.
    pub queue: &'a Arc<Queue>,
    /// Its place there; a reader at this offset now finds it.
    pub queue_offset: QueueOffset,
    /// The tags hash of its queue entry.
    pub tags_code: i64,
    /// The broker's clock when it was appended, in milliseconds.
    pub store_timestamp: i64,
    /// The record, borrowed from the commit log.
    pub record: RecordView<'a>,
}

/// Told of messages once they are readable.
pub trait ArrivalListener: Send + Sync {
    /// Called on the dispatcher's thread with what one batch made readable, in the order of the commit log: per queue
    /// each message exactly once and in order. Must be quick: the next messages wait for it.
    fn arrived(&self, arrivals: &[Arrival<'_>]);
}

/// A listener that does not listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoListener;

impl ArrivalListener for NoListener {
    fn arrived(&self, _arrivals: &[Arrival<'_>]) {}
}
