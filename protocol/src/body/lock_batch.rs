//! The bodies of LOCK_BATCH_MQ and UNLOCK_BATCH_MQ: queues that one ordered consumer wants for itself.

use crate::message::MessageQueue;
use serde::{Deserialize, Serialize};

/// The request of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LockBatch {
    /// Who wants the queues, or gives them back.
    pub client_id: String,
    /// Its group.
    pub consumer_group: String,
    /// The queues.
    pub mq_set: Vec<MessageQueue>,
    /// Since 5.x. True when brokers ask one another in strict mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_this_broker: Option<bool>,
}

/// The answer of LOCK_BATCH_MQ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockedQueues {
    /// Those of the queues asked for that this client holds now.
    #[serde(rename = "lockOKMQSet")]
    pub queues: Vec<MessageQueue>,
}
