//! Which queue a send may go to: the checks of a send header in RocketMQ's order, topic auto-creation, and the
//! redirection of exhausted retries to a group's dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use waspmq_protocol::body::topic_config::PERM_WRITE;
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::header::SendMessageHeader;
use waspmq_protocol::name;
use waspmq_store::clock::Clock;
use waspmq_store::{MessageStore, Queue};

use super::refusal::Refusal;
use super::send_properties::{MessageKind, SendProperties};
use crate::queue_locks::QueueLocks;
use crate::register::Registration;
use crate::subscription::SubscriptionTable;
use crate::topic::{Topic, TopicTable, TopicWish};

/// Dead letters of a group go to one queue.
const DEAD_LETTER_QUEUES: i32 = 1;

/// Clients before this version (V3_4_9) send a `maxReconsumeTimes` that means nothing.
const MAX_RECONSUME_SINCE_VERSION: i32 = 121;

/// Where one send goes.
pub struct Target {
    /// The queue, of this topic or of the group's dead letters.
    pub queue: Arc<Queue>,
    /// Its number, as the answer says it.
    pub queue_id: i32,
}

/// Finds the queue of a send.
pub struct SendTargets {
    /// The queues.
    pub store: Arc<MessageStore>,
    /// The topics, and how new ones come to be.
    pub topics: Arc<TopicTable>,
    /// Retry limits.
    pub groups: Arc<SubscriptionTable>,
    /// A group that holds locks consumes in order.
    pub locks: Arc<QueueLocks>,
    /// Who must hear of a new topic.
    pub registration: Arc<Registration>,
    /// For the version of a changed topic table.
    pub clock: Arc<dyn Clock>,
    /// Permission bits of the whole broker.
    pub broker_permission: i32,
    /// Turns the choice of a queue when the client leaves it to us.
    pub turn: AtomicU32,
}

impl SendTargets {
    /// The queue for a send, or why it is refused.
    ///
    /// # Errors
    /// The first check that fails, with RocketMQ's code.
    pub fn find(
        &self,
        header: &SendMessageHeader<'_>,
        properties: &SendProperties,
        client_version: i32,
    ) -> Result<Target, Refusal> {
        let name = header.topic.to_cow();
        name::check_send_topic(&name)?;
        let topic = self.topic(&name, header)?;
        if self.broker_permission & PERM_WRITE == 0 && topic.config.order {
            return Err(Refusal::new(ResponseCode::NO_PERMISSION, "the broker sending message is forbidden"));
        }
        let queue_id = self.queue_id(&topic, header.queue_id)?;
        let retry_of = name::retry_group(&name);
        if header.batch && retry_of.is_some() {
            let remark = format!("batch request does not support retry group {name}");
            return Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark));
        }
        if is_compacted(&topic) && !properties.has_keys {
            return Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, "Required message key is missing"));
        }
        if let Some(group) = retry_of
            && let Some(dead_letters) = self.dead_letters(group, header, client_version)?
        {
            return self.target(&dead_letters, 0);
        }
        refuse_what_is_not_served(properties.kind)?;
        self.target(&topic, queue_id)
    }

    fn target(&self, topic: &Topic, queue_id: i32) -> Result<Target, Refusal> {
        let queue = topic.queue(&self.store, queue_id).cloned().ok_or_else(|| illegal_queue(topic, queue_id))?;
        Ok(Target { queue, queue_id })
    }

    fn topic(&self, name: &str, header: &SendMessageHeader<'_>) -> Result<Arc<Topic>, Refusal> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic);
        }
        let now = self.clock.now_ms();
        let template = header.default_topic.to_cow();
        let wish = TopicWish {
            topic: name,
            template: &template,
            queues: header.default_topic_queue_nums,
            unit_mode: header.unit_mode,
        };
        let created = match self.topics.create_for_send(&wish, now) {
            None if name::retry_group(name).is_some() => Some(self.topics.create_for_group(name, 1, now)),
            created => created,
        };
        let topic = created.ok_or_else(|| {
            let remark = format!("topic[{name}] not exist, apply first please! Create it, or let the broker do so with autoCreateTopicEnable=true");
            Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark)
        })?;
        self.registration.topics_changed();
        Ok(topic)
    }

    fn queue_id(&self, topic: &Topic, wanted: i32) -> Result<i32, Refusal> {
        if wanted >= topic.config.write_queue_nums.max(topic.config.read_queue_nums) {
            return Err(illegal_queue(topic, wanted));
        }
        if wanted >= 0 {
            return Ok(wanted);
        }
        match u32::try_from(topic.config.write_queue_nums) {
            Ok(queues @ 1..) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % queues;
                i32::try_from(turn).map_err(|_| illegal_queue(topic, wanted))
            }
            _ => Err(illegal_queue(topic, wanted)),
        }
    }

    /// The dead-letter topic, if this retry is exhausted: past its limit, or sent by a group that consumes in order.
    fn dead_letters(
        &self,
        group: &str,
        header: &SendMessageHeader<'_>,
        client_version: i32,
    ) -> Result<Option<Arc<Topic>>, Refusal> {
        let now = self.clock.now_ms();
        let Some(config) = self.groups.get_or_create(group, now) else {
            let remark = format!("subscription group not exist, {group}");
            return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        let of_client = header.max_reconsume_times.filter(|_| client_version >= MAX_RECONSUME_SINCE_VERSION);
        let limit = of_client.unwrap_or(config.retry_max_times);
        if header.reconsume_times <= limit && !self.locks.any_held(group) {
            return Ok(None);
        }
        let dead_letters = self.topics.create_for_group(&name::dlq_topic(group), DEAD_LETTER_QUEUES, now);
        self.registration.topics_changed();
        Ok(Some(dead_letters))
    }
}

fn illegal_queue(topic: &Topic, queue_id: i32) -> Refusal {
    let remark = format!(
        "request queueId[{queue_id}] is illegal, topic {} has {} write and {} read queues",
        topic.config.topic_name, topic.config.write_queue_nums, topic.config.read_queue_nums
    );
    Refusal::new(ResponseCode::INVALID_PARAMETER, remark)
}

fn is_compacted(topic: &Topic) -> bool {
    topic.config.attributes.get("cleanup.policy").is_some_and(|policy| policy == "COMPACTION")
}

/// Delayed and transactional messages are refused rather than delivered at once: a consumer must never see a
/// message before its time, or one whose transaction may roll back.
fn refuse_what_is_not_served(kind: MessageKind) -> Result<(), Refusal> {
    let what = match kind {
        MessageKind::Normal => return Ok(()),
        MessageKind::Delayed => "delayed",
        MessageKind::Transactional => "transaction",
    };
    let remark = format!("the broker does not accept {what} messages in this version");
    Err(Refusal::new(ResponseCode::NO_PERMISSION, remark))
}
