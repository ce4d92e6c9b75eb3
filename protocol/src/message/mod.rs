//! A message as RocketMQ stores and carries it: the stored record, the batch body, the property block,
//! system flags, message ids and the name of a queue.
//!
//! Called by the store (append, recovery, reads), the broker and every client.
//! Must hold: nothing here panics on bytes from outside; nothing allocates on the append and pull paths.

pub mod batch;
pub mod flags;
pub mod id;
pub mod properties;
pub mod property;
pub mod record;

mod queue;

pub use queue::MessageQueue;
