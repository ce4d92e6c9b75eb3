//! The broker's store: messages in RocketMQ's own files. [`MessageStore`] is the only way in.
//! Knows no sockets, topics' rules, groups or plugins; news goes up through [`MessageFilter`] and
//! [`ArrivalListener`]. The bytes of every file are drawn in `FORMAT.md`.

pub mod clock;
pub mod inspect;
pub mod persist;
pub mod storage;

mod checkpoint;
mod commit_log;
mod config;
mod consume_queue;
mod derived;
mod dispatch;
mod error;
mod filter;
mod flush;
mod get;
mod index;
mod mapped_file;
mod mapped_file_queue;
mod message_store;
mod names;
mod offsets;
#[cfg(any(test, fuzzing))]
pub mod parsers;
mod populate;
mod query;
mod queue;
mod recent;
mod recovery;
mod retention;
mod sleeper;
mod sums;
#[cfg(test)]
mod test_rig;
mod watch;

pub use commit_log::{Append, Appended, Fence, Item, Items};
pub use config::{FlushMode, StoreConfig};
pub use dispatch::DelayLevels;
pub use error::{AppendError, OpenError, StoreError};
pub use filter::{
    Arrival, ArrivalListener, FILTER_BATCH_MAX, FilterRecord, MessageFilter, NoListener, QueueEntry, Verdict,
};
pub use flush::Durability;
pub use get::{GetRequest, GetResult, GetStatus};
pub use index::IndexShape;
pub use message_store::{MessageStore, ShutdownReport, StoreStats, Work};
pub use offsets::{PhysicalOffset, QueueOffset};
pub use query::{Boundary, KeyQuery, QueryResult};
pub use queue::Queue;
pub use recovery::OpenReport;
pub use retention::{DiskLevel, DiskStatus, HoursOfDay, RetentionRules};
pub use watch::Watch;
