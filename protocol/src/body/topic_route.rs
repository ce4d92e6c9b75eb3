//! The answer's body of GET_ROUTEINFO_BY_TOPIC (and the request's of REGISTER_TOPIC_IN_NAMESRV): which
//! brokers have a topic, where they are, and how many queues each has.

use super::topic_queue_mapping::TopicQueueMapping;
use crate::java_json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// First client version (4.9.4) that reads the quoted form and is sent it.
const STANDARD_JSON_SINCE: i32 = 401;

/// The route of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRouteData {
    /// The brokers.
    pub broker_datas: Vec<BrokerData>,
    /// Broker address to filter servers; legacy.
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `broker-a:4;broker-b:2` makes an ordered topic of exactly these queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    /// The topic's queues, by broker name.
    pub queue_datas: Vec<QueueData>,
    /// Static topics only: broker name to mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_by_broker: Option<BTreeMap<String, TopicQueueMapping>>,
}

impl TopicRouteData {
    /// In the form a client expects: broker ids as quoted keys for those that say so and for Java since 4.9.4,
    /// bare for all others.
    pub fn encode_for(&self, client_version: i32, accept_standard_json_only: bool) -> Vec<u8> {
        if accept_standard_json_only || client_version >= STANDARD_JSON_SINCE {
            java_json::to_standard(self)
        } else {
            java_json::to_vec(self)
        }
    }
}

/// Brokers of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    /// Broker id (0 is the master) to address.
    pub broker_addrs: BTreeMap<i64, String>,
    /// The name they share.
    pub broker_name: String,
    /// Cluster.
    pub cluster: String,
    /// Since 5.0: a slave may stand in for a lost master.
    pub enable_acting_master: bool,
    /// Zone of the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

/// The queues of a topic on the brokers of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    /// Broker name.
    pub broker_name: String,
    /// The `PERM_…` bits of the topic there.
    pub perm: i32,
    /// Queues that consumers see.
    pub read_queue_nums: i32,
    /// The topic's flag; spelled `topicSynFlag` up to 4.8 and in Go.
    #[serde(alias = "topicSynFlag")]
    pub topic_sys_flag: i32,
    /// Queues that producers see.
    pub write_queue_nums: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_ids_are_quoted_by_client_version() {
        let route = TopicRouteData {
            broker_datas: vec![BrokerData {
                broker_addrs: BTreeMap::from([(0, "127.0.0.1:10911".to_owned()), (1, "127.0.0.1:20911".to_owned())]),
                broker_name: "broker-a".to_owned(),
                cluster: "DefaultCluster".to_owned(),
                ..BrokerData::default()
            }],
            queue_datas: vec![QueueData {
                broker_name: "broker-a".to_owned(),
                perm: 6,
                read_queue_nums: 8,
                topic_sys_flag: 0,
                write_queue_nums: 8,
            }],
            ..TopicRouteData::default()
        };
        let bare = r#"{"brokerDatas":[{"brokerAddrs":{0:"127.0.0.1:10911",1:"127.0.0.1:20911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
        let quoted = bare.replace("0:\"", "\"0\":\"").replace("1:\"127.0.0.1:2", "\"1\":\"127.0.0.1:2");
        for (version, standard, expected) in
            [(317, false, bare), (400, false, bare), (401, false, &quoted), (0, true, &quoted)]
        {
            let text = String::from_utf8(route.encode_for(version, standard)).unwrap();
            assert_eq!(text, expected);
            assert_eq!(java_json::from_slice::<TopicRouteData>(text.as_bytes()).unwrap(), route);
        }
    }

    #[test]
    fn the_old_spelling_of_the_topic_flag_is_read() {
        let data: QueueData = java_json::from_slice(br#"{"brokerName":"b","topicSynFlag":3}"#).unwrap();
        assert_eq!(data.topic_sys_flag, 3);
    }
}
