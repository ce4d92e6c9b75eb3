//! The broker's store: messages in RocketMQ's own files. [`MessageStore`] is the only way in.
//! Knows no sockets, topics' rules, groups or plugins; news goes up through [`MessageFilter`] and
//! [`ArrivalListener`]. The bytes of every file are drawn in `FORMAT.md`.

pub mod clock;
pub mod persist;
pub mod storage;

mod error;
mod filter;
mod mapped_file;
mod mapped_file_queue;
mod offsets;
mod queue;

pub use error::StoreError;
pub use filter::{Arrival, ArrivalListener, FILTER_BATCH_MAX, FilterRecord, MessageFilter, NoListener, QueueEntry, Verdict};
pub use offsets::{PhysicalOffset, QueueOffset};
pub use queue::Queue;
