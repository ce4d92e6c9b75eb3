//! Consume queues on disk: per topic and queue a row of files of 20-byte entries, `consumequeue/TOPIC/ID/OFFSET`.
//! Derived from the commit log: the dispatcher appends, `get` reads, recovery cuts back to what the log holds.
//! Must hold: entry n stands at byte `n * 20`, without gaps; a queue nobody touches costs no mapping and no descriptor.

mod entry;
mod far_reads;
mod open_queues;
mod queue_files;
mod table;

#[cfg(test)]
pub(crate) use entry::BLANK;
pub(crate) use entry::{ENTRY_BYTES, encode};
pub(crate) use queue_files::ConsumeQueue;
pub(crate) use table::ConsumeQueues;

#[cfg(test)]
mod tests;
