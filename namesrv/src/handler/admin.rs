//! What mqadmin and consoles ask: key-values, topic lists, settings; and what they change of the routes, which is
//! forgotten with the process.

use super::{Outcome, Refusal, success};
use crate::namesrv::Namesrv;
use crate::route_info::UnitTopics;
use waspmq_protocol::body::kv_table::KvTable;
use waspmq_protocol::header::{
    AddWritePermOfBrokerRequestHeader, AddWritePermOfBrokerResponseHeader, DeleteTopicFromNamesrvRequestHeader,
    GetKVConfigRequestHeader, GetKVConfigResponseHeader, GetKVListByNamespaceRequestHeader,
    GetTopicsByClusterRequestHeader, WipeWritePermOfBrokerRequestHeader, WipeWritePermOfBrokerResponseHeader,
};
use waspmq_protocol::java_json;
use waspmq_protocol::{Command, RemotingCommand, ResponseCode};
use waspmq_settings::Settings as _;

impl Namesrv {
    pub(super) fn get_kv(&self, request: &Command<'_>) -> Outcome {
        let header: GetKVConfigRequestHeader = request.header()?;
        match self.kv().get(&header.namespace, &header.key) {
            Some(value) => Ok(success().with_header(&GetKVConfigResponseHeader { value: Some(value.to_owned()) })),
            None => Err(Refusal::new(
                ResponseCode::QUERY_NOT_FOUND,
                format!("there is no key {} in the namespace {}", header.key, header.namespace),
            )),
        }
    }

    pub(super) fn list_kv(&self, request: &Command<'_>) -> Outcome {
        let header: GetKVListByNamespaceRequestHeader = request.header()?;
        match self.kv().list(&header.namespace).cloned() {
            Some(table) => Ok(success().with_body(java_json::to_vec(&KvTable { table }))),
            None => {
                Err(Refusal::new(ResponseCode::QUERY_NOT_FOUND, format!("there is no namespace {}", header.namespace)))
            }
        }
    }

    pub(super) fn wipe_write_permission(&self, request: &Command<'_>) -> Outcome {
        let header: WipeWritePermOfBrokerRequestHeader = request.header()?;
        let wipe_topic_count = self.routes_mut().wipe_write_permission(&header.broker_name);
        tracing::info!(broker = header.broker_name, topics = wipe_topic_count, "write permission wiped");
        Ok(success().with_header(&WipeWritePermOfBrokerResponseHeader { wipe_topic_count }))
    }

    pub(super) fn add_write_permission(&self, request: &Command<'_>) -> Outcome {
        let header: AddWritePermOfBrokerRequestHeader = request.header()?;
        let add_topic_count = self.routes_mut().add_write_permission(&header.broker_name);
        tracing::info!(broker = header.broker_name, topics = add_topic_count, "write permission added");
        Ok(success().with_header(&AddWritePermOfBrokerResponseHeader { add_topic_count }))
    }

    pub(super) fn all_topics(&self) -> Outcome {
        allowed(self.keys().enable_all_topic_list, "enableAllTopicList")?;
        Ok(success().with_body(java_json::to_vec(&self.routes().all_topics())))
    }

    pub(super) fn topics_of_cluster(&self, request: &Command<'_>) -> Outcome {
        allowed(self.keys().enable_topic_list, "enableTopicList")?;
        let header: GetTopicsByClusterRequestHeader = request.header()?;
        Ok(success().with_body(java_json::to_vec(&self.routes().topics_of_cluster(&header.cluster))))
    }

    pub(super) fn unit_topics(&self, which: UnitTopics) -> Outcome {
        allowed(self.keys().enable_topic_list, "enableTopicList")?;
        Ok(success().with_body(java_json::to_vec(&self.routes().unit_topics(which))))
    }

    pub(super) fn delete_topic(&self, request: &Command<'_>) -> Outcome {
        let header: DeleteTopicFromNamesrvRequestHeader = request.header()?;
        let cluster = header.cluster_name.as_deref().filter(|cluster| !cluster.is_empty());
        self.routes_mut().delete_topic(&header.topic, cluster);
        tracing::info!(topic = header.topic, cluster, "topic deleted from the routes");
        Ok(success())
    }

    pub(super) fn config_text(&self) -> RemotingCommand {
        let mut properties = self.keys().to_properties();
        properties.entries.sort();
        success().with_body(properties.to_text())
    }
}

fn allowed(enabled: bool, setting: &str) -> Result<(), Refusal> {
    if enabled { Ok(()) } else { Err(Refusal::error(format!("disabled by the nameserver's setting {setting}"))) }
}
