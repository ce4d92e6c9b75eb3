//! What admins do to topics and permissions, here and not at the brokers. A broker that registers a changed table
//! undoes it; one that registers an unchanged table does not.

use super::RouteInfo;
use super::topics::Full;
use waspmq_protocol::body::topic_route::QueueData;

impl RouteInfo {
    /// Takes the write permission from all topics of a broker; returns how many there are.
    pub(crate) fn wipe_write_permission(&mut self, broker: &str) -> i32 {
        self.topics.wipe_write(broker)
    }

    /// Gives read and write permission to all topics of a broker; returns how many there are.
    pub(crate) fn add_write_permission(&mut self, broker: &str) -> i32 {
        self.topics.allow_write(broker)
    }

    /// Deletes a topic, everywhere or from the brokers of one cluster.
    pub(crate) fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        match cluster {
            None => {
                self.topics.remove(topic);
                self.mappings.remove(topic);
            }
            Some(cluster) => {
                for broker in self.clusters.get(cluster).cloned().unwrap_or_default() {
                    self.topics.remove_from(topic, &broker);
                    self.remove_mappings(&broker, |known| known == topic);
                }
            }
        }
    }

    /// Enters queues of one topic, up to the first that names a broker nobody knows.
    pub(crate) fn register_topic(&mut self, topic: &str, queues: Vec<QueueData>) -> Result<(), Full> {
        for queues in queues {
            if !self.brokers.contains_key(&queues.broker_name) {
                tracing::warn!(topic, broker = queues.broker_name, "a topic was registered for an unknown broker");
                return Ok(());
            }
            self.topics.put(topic, queues)?;
        }
        Ok(())
    }
}
