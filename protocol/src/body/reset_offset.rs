//! Resetting and asking offsets of running clients: the bodies of INVOKE_BROKER_TO_RESET_OFFSET,
//! RESET_CONSUMER_CLIENT_OFFSET and the two GET_CONSUMER_STATUS codes.

use crate::java_json;
use crate::message::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// New offsets by queue; Java's form, also the answer to the tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffset {
    /// By queue.
    #[serde(with = "java_json::queue_keys")]
    pub offset_table: BTreeMap<MessageQueue, i64>,
}

/// The same for C++ clients, which read a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffsetList {
    /// The queues.
    pub offset_table: Vec<QueueWithOffset>,
}

/// One queue and its offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueWithOffset {
    /// Broker name.
    pub broker_name: String,
    /// The offset.
    pub offset: i64,
    /// Queue.
    pub queue_id: i32,
    /// Topic.
    pub topic: String,
}

impl From<&ResetOffset> for ResetOffsetList {
    fn from(reset: &ResetOffset) -> Self {
        let offset_table = reset.offset_table.iter().map(|(queue, &offset)| QueueWithOffset {
            broker_name: queue.broker_name.clone(),
            offset,
            queue_id: queue.queue_id,
            topic: queue.topic.clone(),
        });
        Self { offset_table: offset_table.collect() }
    }
}

/// Offsets that clients hold: one client's answer, or the broker's of all clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerStatus {
    /// By client id; filled in the broker's answer.
    pub consumer_table: BTreeMap<String, QueueOffsets>,
    /// By queue; filled in a client's answer.
    #[serde(with = "java_json::queue_keys")]
    pub message_queue_table: BTreeMap<MessageQueue, i64>,
}

/// Offsets by queue, where a map of such maps is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueOffsets(#[serde(with = "java_json::queue_keys")] pub BTreeMap<MessageQueue, i64>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_gets_queue_keys_and_cpp_a_list() {
        let reset = ResetOffset { offset_table: BTreeMap::from([(MessageQueue::new("T", "broker-a", 0), 5)]) };
        let java = r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:5}}"#;
        let cpp = r#"{"offsetTable":[{"brokerName":"broker-a","offset":5,"queueId":0,"topic":"T"}]}"#;
        assert_eq!(String::from_utf8(java_json::to_vec(&reset)).unwrap(), java);
        assert_eq!(String::from_utf8(java_json::to_vec(&ResetOffsetList::from(&reset))).unwrap(), cpp);
    }

    #[test]
    fn a_status_holds_maps_of_maps() {
        let text = r#"{"consumerTable":{"cid":{{"brokerName":"b","queueId":0,"topic":"T"}:5}},"messageQueueTable":{}}"#;
        let status: ConsumerStatus = java_json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(status.consumer_table["cid"].0[&MessageQueue::new("T", "b", 0)], 5);
        assert_eq!(String::from_utf8(java_json::to_vec(&status)).unwrap(), text);
    }
}
