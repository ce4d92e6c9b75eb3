//! What is read from the tables: routes, lists of topics, the cluster. Called by the handler under a read lock.

use super::{BrokerKey, MASTER_ID, RouteInfo};
use std::collections::{BTreeMap, BTreeSet};
use waspmq_protocol::body::broker_member_group::BrokerMemberGroup;
use waspmq_protocol::body::cluster_info::ClusterInfo;
use waspmq_protocol::body::data_version::DataVersion;
use waspmq_protocol::body::topic_config::PERM_WRITE;
use waspmq_protocol::body::topic_list::TopicList;
use waspmq_protocol::body::topic_route::{BrokerData, QueueData, TopicRouteData};

/// Bits of a topic's system flag.
const UNIT: i32 = 1;
const UNIT_SUB: i32 = 2;

/// Start of the names of the topics that brokers of one name find each other by.
const MEMBERS_TOPIC_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

/// Which unit topics are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnitTopics {
    /// Those of a unit.
    Unit,
    /// Those with a unit subscription.
    Subscribed,
    /// Those with a unit subscription that are not of a unit.
    SubscribedOnly,
}

impl RouteInfo {
    /// The route of a topic; `None` when it has no queues or no broker that is alive.
    pub(crate) fn route(&self, topic: &str, support_acting_master: bool) -> Option<TopicRouteData> {
        let queue_datas = self.topics.get(topic)?.to_vec();
        let brokers = queue_datas.iter().filter_map(|queues| self.brokers.get(&queues.broker_name));
        let mut broker_datas: Vec<BrokerData> = brokers.cloned().collect();
        if broker_datas.is_empty() {
            return None;
        }
        let filter_server_table = self.filter_servers_of(&broker_datas);
        // By the route of that topic the brokers of one name find each other: it has to say who is who.
        if support_acting_master && !topic.starts_with(MEMBERS_TOPIC_PREFIX) {
            broker_datas.iter_mut().for_each(|broker| let_slave_act(broker, &queue_datas));
        }
        Some(TopicRouteData {
            broker_datas,
            filter_server_table,
            order_topic_conf: None,
            queue_datas,
            topic_queue_mapping_by_broker: self.mappings.get(topic).cloned(),
        })
    }

    fn filter_servers_of(&self, brokers: &[BrokerData]) -> BTreeMap<String, Vec<String>> {
        let mut table = BTreeMap::new();
        if self.filter_servers.is_empty() {
            return table;
        }
        for broker in brokers {
            for addr in broker.broker_addrs.values() {
                let key = BrokerKey { cluster: broker.cluster.clone(), addr: addr.clone() };
                if let Some(servers) = self.filter_servers.get(&key) {
                    table.insert(addr.clone(), servers.clone());
                }
            }
        }
        table
    }

    pub(crate) fn cluster_info(&self) -> ClusterInfo {
        ClusterInfo { broker_addr_table: self.brokers.clone(), cluster_addr_table: self.clusters.clone() }
    }

    pub(crate) fn member_group(&self, cluster: &str, broker: &str) -> BrokerMemberGroup {
        let addrs = self.brokers.get(broker).map(|data| data.broker_addrs.clone()).unwrap_or_default();
        BrokerMemberGroup { broker_addrs: addrs, broker_name: broker.to_owned(), cluster: cluster.to_owned() }
    }

    pub(crate) fn all_topics(&self) -> TopicList {
        self.topic_list(|_| true)
    }

    /// The topics that brokers of this cluster have.
    pub(crate) fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let nobody = BTreeSet::new();
        let names = self.clusters.get(cluster).unwrap_or(&nobody);
        self.topic_list(|queues| queues.iter().any(|queues| names.contains(&queues.broker_name)))
    }

    pub(crate) fn unit_topics(&self, which: UnitTopics) -> TopicList {
        self.topic_list(|queues| {
            let flag = queues.first().map_or(0, |queues| queues.topic_sys_flag);
            match which {
                UnitTopics::Unit => flag & UNIT != 0,
                UnitTopics::Subscribed => flag & UNIT_SUB != 0,
                UnitTopics::SubscribedOnly => flag & UNIT_SUB != 0 && flag & UNIT == 0,
            }
        })
    }

    fn topic_list(&self, wanted: impl Fn(&[QueueData]) -> bool) -> TopicList {
        let topics = self.topics.iter().filter(|(_, queues)| wanted(queues));
        TopicList { broker_addr: None, topic_list: topics.map(|(topic, _)| topic.clone()).collect() }
    }

    /// The topics that exist by themselves: named as the clusters and as the brokers. With the address of some broker.
    pub(crate) fn system_topics(&self) -> TopicList {
        let mut topic_list = Vec::new();
        for (cluster, brokers) in &self.clusters {
            topic_list.push(cluster.clone());
            topic_list.extend(brokers.iter().cloned());
        }
        let broker_addr = self.brokers.values().find_map(|broker| broker.broker_addrs.values().next().cloned());
        TopicList { broker_addr, topic_list }
    }

    /// The version of the topics that a broker registered last.
    pub(crate) fn data_version(&self, key: &BrokerKey) -> Option<DataVersion> {
        self.live.get(key).map(|live| live.data_version)
    }
}

/// Presents the smallest slave as master, where there is none, its broker allows it, and nothing can be written to it.
fn let_slave_act(broker: &mut BrokerData, queues: &[QueueData]) {
    if !broker.enable_acting_master || broker.broker_addrs.contains_key(&MASTER_ID) {
        return;
    }
    let read_only =
        queues.iter().any(|queues| queues.broker_name == broker.broker_name && queues.perm & PERM_WRITE == 0);
    if read_only && let Some((_, addr)) = broker.broker_addrs.pop_first() {
        broker.broker_addrs.insert(MASTER_ID, addr);
    }
}
