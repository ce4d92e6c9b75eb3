//! The name of one queue of one topic on one broker: key of locks, statistics and client offset tables.
//!
//! Written as JSON with alphabetical keys; as a key of a Java map it stands inline (see `java_json`).

use serde::{Deserialize, Serialize};

/// One queue of a topic on one broker. Ordered by topic, broker, queue, as Java clients sort their queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueue {
    /// Name of the broker (of the master and all its slaves), not an address.
    pub broker_name: String,
    /// Queue number within the topic on that broker, from 0.
    pub queue_id: i32,
    /// Topic.
    pub topic: String,
}

impl MessageQueue {
    /// A queue by its three parts.
    pub fn new(topic: impl Into<String>, broker_name: impl Into<String>, queue_id: i32) -> Self {
        Self { broker_name: broker_name.into(), queue_id, topic: topic.into() }
    }
}

impl Ord for MessageQueue {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.topic, &self.broker_name, self.queue_id).cmp(&(&other.topic, &other.broker_name, other.queue_id))
    }
}

impl PartialOrd for MessageQueue {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keys_are_alphabetical_and_order_is_topic_broker_queue() {
        let queue = MessageQueue::new("T", "broker-a", 3);
        let text = serde_json::to_string(&queue).unwrap();
        assert_eq!(text, r#"{"brokerName":"broker-a","queueId":3,"topic":"T"}"#);
        assert_eq!(serde_json::from_str::<MessageQueue>(&text).unwrap(), queue);
        assert!(MessageQueue::new("A", "z", 9) < MessageQueue::new("B", "a", 0));
        assert!(MessageQueue::new("A", "a", 2) < MessageQueue::new("A", "a", 10));
    }
}
