//! Who is connected: the answers' bodies of GET_CONSUMER_CONNECTION_LIST, GET_PRODUCER_CONNECTION_LIST and
//! GET_ALL_PRODUCER_INFO.

use super::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel};
use super::subscription_data::SubscriptionData;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// Its address as the broker sees it.
    pub client_addr: String,
    /// Its client id.
    pub client_id: String,
    /// Its language, as named in headers.
    pub language: String,
    /// Its version number.
    pub version: i32,
}

/// Members of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerConnection {
    /// The members.
    pub connection_set: Vec<Connection>,
    /// Of the last heartbeat.
    pub consume_from_where: ConsumeFromWhere,
    /// Of the last heartbeat.
    pub consume_type: ConsumeType,
    /// Of the last heartbeat.
    pub message_model: MessageModel,
    /// The group's subscriptions by topic.
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// Members of a producer group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerConnection {
    /// The members.
    pub connection_set: Vec<Connection>,
}

/// All producers of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProducerTable {
    /// Members by producer group.
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

/// One producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerInfo {
    /// Its client id.
    pub client_id: String,
    /// Its language.
    pub language: String,
    /// Its last heartbeat, ms.
    pub last_update_timestamp: i64,
    /// Its address.
    #[serde(rename = "remoteIP")]
    pub remote_ip: String,
    /// Its version number.
    pub version: i32,
}
