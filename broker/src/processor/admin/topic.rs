//! Topics by request: UPDATE_AND_CREATE_TOPIC (17), DELETE_TOPIC_IN_BROKER (215), GET_ALL_TOPIC_CONFIG (21),
//! GET_TOPIC_CONFIG (351). A change is told to the name servers before it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use waspmq_protocol::body::topic_config::{PERM_INHERIT, PERM_READ, PERM_WRITE, TopicConfig, TopicFilterType};
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{Command, CommandHeader, RemotingCommand};
use waspmq_protocol::header::{
    CreateTopicRequestHeader, DeleteTopicRequestHeader, GetAllTopicConfigRequestHeader, GetTopicConfigRequestHeader,
};
use waspmq_protocol::java_json;
use waspmq_protocol::name;
use waspmq_store::MessageStore;
use waspmq_store::clock::Clock;

use crate::config::QUEUES_MAX;
use crate::offset::OffsetTable;
use crate::processor::refusal::Refusal;
use crate::topic::TopicTable;

/// Administers topics.
pub struct TopicAdmin {
    /// The topics.
    pub topics: Arc<TopicTable>,
    /// A deleted topic's messages go too.
    pub store: Arc<MessageStore>,
    /// And its offsets.
    pub offsets: Arc<OffsetTable>,
    /// For the version of the changed table.
    pub clock: Arc<dyn Clock>,
    /// Names that this broker uses for itself, besides those that all brokers do.
    pub own_topics: Vec<String>,
}

impl TopicAdmin {
    /// UPDATE_AND_CREATE_TOPIC. Returns whether the name servers must hear of it.
    ///
    /// # Errors
    /// When the name or a number is not allowed.
    pub fn update(&self, command: &Command<'_>) -> Result<bool, Refusal> {
        let header = CreateTopicRequestHeader::decode(&command.ext)?;
        name::check_user_topic(&header.topic)?;
        self.refuse_own_topic(&header.topic)?;
        let queues = [("readQueueNums", header.read_queue_nums), ("writeQueueNums", header.write_queue_nums)];
        for (field, count) in queues {
            if !(0..=QUEUES_MAX).contains(&count) {
                let remark = format!("{field} is {count}, it must lie between 0 and {QUEUES_MAX}");
                return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
            }
        }
        if header.perm & !(PERM_INHERIT | PERM_WRITE | PERM_READ) != 0 {
            let remark = format!("perm is {}, it must be a sum of 4 (read), 2 (write) and 1 (inherit)", header.perm);
            return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
        }
        let known = self.topics.get(&header.topic).map(|topic| topic.config.attributes.clone()).unwrap_or_default();
        let config = TopicConfig {
            attributes: change_attributes(known, header.attributes.as_deref().unwrap_or_default())?,
            topic_filter_type: header
                .topic_filter_type
                .as_deref()
                .and_then(TopicFilterType::from_name)
                .unwrap_or_default(),
            topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
            order: header.order,
            perm: header.perm,
            read_queue_nums: header.read_queue_nums,
            write_queue_nums: header.write_queue_nums,
            topic_name: header.topic,
            mapping_detail: None,
        };
        Ok(self.topics.put(config, self.clock.now_ms()))
    }

    /// DELETE_TOPIC_IN_BROKER. A topic that is not there is as good as deleted.
    ///
    /// # Errors
    /// When it is a topic of the system.
    pub fn delete(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let topic = DeleteTopicRequestHeader::decode(&command.ext)?.topic;
        name::check_user_topic(&topic)?;
        self.refuse_own_topic(&topic)?;
        if self.topics.remove(&topic, self.clock.now_ms()) {
            self.offsets.forget_topic(&topic);
            self.store.delete_topic(&topic)?;
        }
        Ok(RemotingCommand::response(ResponseCode::SUCCESS))
    }

    /// GET_ALL_TOPIC_CONFIG. Who asks for a part of the topics is told how many there are, and gets them all.
    ///
    /// # Errors
    /// When a field is no number.
    pub fn all(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = GetAllTopicConfigRequestHeader::decode(&command.ext)?;
        let table = self.topics.snapshot();
        let mut response = RemotingCommand::response(ResponseCode::SUCCESS);
        if header.topic_seq.is_some() {
            response = response.with_ext("totalTopicNum", table.topic_config_table.len().to_string());
        }
        Ok(response.with_body(java_json::to_vec(&table)))
    }

    /// GET_TOPIC_CONFIG.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn one(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let topic = GetTopicConfigRequestHeader::decode(&command.ext)?.topic;
        let Some(known) = self.topics.get(&topic) else {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("No topic in this broker. topic: {topic}"),
            ));
        };
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(java_json::to_vec(&known.config)))
    }

    fn refuse_own_topic(&self, topic: &str) -> Result<(), Refusal> {
        if self.own_topics.iter().any(|own| own == topic) {
            return Err(name::NameError::SystemTopic { topic: topic.to_owned() }.into());
        }
        Ok(())
    }
}

/// Applies the attribute changes of a request: `+key=value` sets, `-key` deletes, joined by commas.
fn change_attributes(
    mut attributes: BTreeMap<String, String>,
    changes: &str,
) -> Result<BTreeMap<String, String>, Refusal> {
    for change in changes.split(',').map(str::trim).filter(|change| !change.is_empty()) {
        match (change.strip_prefix('+').and_then(|set| set.split_once('=')), change.strip_prefix('-')) {
            (Some((key, value)), _) => {
                attributes.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            (None, Some(key)) => {
                attributes.remove(key.trim());
            }
            (None, None) => {
                let remark = format!("attribute change {change:?} is neither +key=value nor -key");
                return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
            }
        }
    }
    Ok(attributes)
}
