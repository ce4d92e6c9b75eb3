//! Offsets that clients ask for and set: QUERY_CONSUMER_OFFSET (14), UPDATE_CONSUMER_OFFSET (15),
//! SEARCH_OFFSET_BY_TIMESTAMP (29), GET_MAX_OFFSET (30), GET_MIN_OFFSET (31), GET_EARLIEST_MSG_STORETIME (32).

use std::sync::Arc;

use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{Command, CommandHeader, RemotingCommand};
use waspmq_protocol::header::{
    GetEarliestMsgStoretimeRequestHeader, GetMaxOffsetRequestHeader, GetMinOffsetRequestHeader,
    QueryConsumerOffsetRequestHeader, SearchOffsetRequestHeader, UpdateConsumerOffsetRequestHeader,
};
use waspmq_store::clock::Clock;
use waspmq_store::{Boundary, MessageStore, Queue};

use super::refusal::Refusal;
use crate::offset::OffsetTable;
use crate::subscription::SubscriptionTable;
use crate::topic::TopicTable;

/// Answers for offsets.
pub struct ConsumerOffsets {
    /// The queues.
    pub store: Arc<MessageStore>,
    /// Stored offsets.
    pub offsets: Arc<OffsetTable>,
    /// An update needs an existing topic.
    pub topics: Arc<TopicTable>,
    /// An update needs an existing group.
    pub groups: Arc<SubscriptionTable>,
    /// For the version of the changed table.
    pub clock: Arc<dyn Clock>,
    /// Memory of the machine: what was stored within it is taken to be in memory still.
    pub memory_bytes: u64,
}

impl ConsumerOffsets {
    /// QUERY_CONSUMER_OFFSET. A new group starts at 0 while the first message of the queue is still in memory.
    ///
    /// # Errors
    /// When there is no offset.
    pub fn query(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = QueryConsumerOffsetRequestHeader::decode(&command.ext)?;
        if let Some(offset) = self.offsets.offset(&header.consumer_group, &header.topic, header.queue_id) {
            return Ok(offset_response(offset));
        }
        let young = match self.queue(&header.topic, header.queue_id) {
            // RocketMQ 5 answers "not found" for an empty queue; its client then takes the max offset, and misses what
            // was sent between its two questions. 0, as RocketMQ 4.9 answers, misses nothing.
            Some(queue) if queue.max_offset().0 == 0 => true,
            Some(queue) => self.store.first_record_in_memory(&queue, self.memory_bytes)?,
            None => false,
        };
        if header.set_zero_if_not_found != Some(false) && young {
            return Ok(offset_response(0));
        }
        Err(Refusal::new(
            ResponseCode::QUERY_NOT_FOUND,
            "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
        ))
    }

    /// UPDATE_CONSUMER_OFFSET.
    ///
    /// # Errors
    /// When group or topic do not exist or a field is missing.
    pub fn update(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = UpdateConsumerOffsetRequestHeader::decode(&command.ext)
            .map_err(|error| Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()))?;
        let now = self.clock.now_ms();
        if self.groups.get_or_create(&header.consumer_group, now).is_none() {
            let remark = format!("Group {} not exist!", header.consumer_group);
            return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        if self.topics.get(&header.topic).is_none() {
            return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("Topic {} not exist!", header.topic)));
        }
        self.offsets.commit(&header.consumer_group, &header.topic, header.queue_id, header.commit_offset, now);
        Ok(RemotingCommand::response(ResponseCode::SUCCESS))
    }

    /// SEARCH_OFFSET_BY_TIMESTAMP.
    ///
    /// # Errors
    /// When the header is incomplete.
    pub fn search(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = SearchOffsetRequestHeader::decode(&command.ext)?;
        let upper = header.boundary_type.as_deref().is_some_and(|text| text.eq_ignore_ascii_case("upper"));
        let boundary = if upper { Boundary::Upper } else { Boundary::Lower };
        let offset = match self.store.find_queue(&header.topic, header.queue_id) {
            Some(queue) => self.store.offset_by_time(&queue, header.timestamp, boundary)?.0,
            None => 0,
        };
        Ok(offset_response(offset))
    }

    /// GET_MAX_OFFSET: the offset that the next message gets.
    ///
    /// # Errors
    /// When the header is incomplete.
    pub fn max(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = GetMaxOffsetRequestHeader::decode(&command.ext)?;
        let queue = self.store.find_queue(&header.topic, header.queue_id);
        Ok(offset_response(queue.map_or(0, |queue| queue.max_offset().0)))
    }

    /// GET_MIN_OFFSET: the oldest message that is still there.
    ///
    /// # Errors
    /// When the header is incomplete.
    pub fn min(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = GetMinOffsetRequestHeader::decode(&command.ext)?;
        let queue = self.queue(&header.topic, header.queue_id);
        Ok(offset_response(queue.map_or(-1, |queue| queue.min_offset().0)))
    }

    /// A queue of a topic that exists, also one without a message yet.
    fn queue(&self, topic: &str, queue_id: i32) -> Option<Arc<Queue>> {
        self.topics.get(topic)?.queue(&self.store, queue_id).cloned()
    }

    /// GET_EARLIEST_MSG_STORETIME.
    ///
    /// # Errors
    /// When the header is incomplete.
    pub fn earliest(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = GetEarliestMsgStoretimeRequestHeader::decode(&command.ext)?;
        let queue = self.store.find_queue(&header.topic, header.queue_id);
        let time = match queue {
            Some(queue) => self.store.store_time_of(&queue, queue.min_offset())?,
            None => None,
        };
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_ext("timestamp", time.unwrap_or(-1).to_string()))
    }
}

fn offset_response(offset: i64) -> RemotingCommand {
    RemotingCommand::response(ResponseCode::SUCCESS).with_ext("offset", offset.to_string())
}
