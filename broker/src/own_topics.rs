//! The topics that a broker has before anybody asks for one (TopicConfigManager's list in RocketMQ).

use waspmq_protocol::body::topic_config::{PERM_INHERIT, PERM_READ, PERM_WRITE, TopicConfig};
use waspmq_protocol::name;

const READ_WRITE: i32 = PERM_READ | PERM_WRITE;
const TEMPLATE: i32 = READ_WRITE | PERM_INHERIT;

/// What decides which topics a broker has.
pub struct OwnTopics<'a> {
    /// Name of the cluster: a topic of that name lets clients create topics in all of it.
    pub cluster: &'a str,
    /// Name of the broker: likewise on this broker alone.
    pub broker: &'a str,
    /// `autoCreateTopicEnable`.
    pub auto_create: bool,
    /// `defaultTopicQueueNums`.
    pub default_queues: i32,
    /// `clusterTopicEnable`.
    pub cluster_topic: bool,
    /// `brokerTopicEnable`.
    pub broker_topic: bool,
    /// `traceTopicEnable` with `msgTraceTopicName`.
    pub trace_topic: Option<&'a str>,
}

impl OwnTopics<'_> {
    /// The topics with their settings.
    pub fn configs(&self) -> Vec<TopicConfig> {
        let mut topics = vec![
            TopicConfig::new(name::SELF_TEST_TOPIC, 1, READ_WRITE),
            TopicConfig::new(name::BENCHMARK_TOPIC, 1024, READ_WRITE),
            TopicConfig::new(self.cluster, 16, if self.cluster_topic { TEMPLATE } else { PERM_INHERIT }),
            TopicConfig::new(self.broker, 1, if self.broker_topic { TEMPLATE } else { PERM_INHERIT }),
            TopicConfig::new(name::OFFSET_MOVED_TOPIC, 1, READ_WRITE),
            TopicConfig::new(name::SCHEDULE_TOPIC, 18, READ_WRITE),
            TopicConfig::new(name::reply_topic(self.cluster), 1, READ_WRITE),
            TopicConfig::new(name::HALF_TOPIC, 1, READ_WRITE),
            TopicConfig::new(name::OP_HALF_TOPIC, 1, READ_WRITE),
        ];
        if self.auto_create {
            topics.push(TopicConfig::new(name::AUTO_CREATE_TOPIC, self.default_queues, TEMPLATE));
        }
        topics.extend(self.trace_topic.map(|trace| TopicConfig::new(trace, 1, READ_WRITE)));
        topics
    }
}
