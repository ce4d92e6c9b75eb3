//! What a pull must pass before anything is read, in RocketMQ's order (PullMessageProcessor), and the filter that
//! its subscription means.

use std::sync::Arc;

use waspmq_protocol::body::heartbeat::MessageModel;
use waspmq_protocol::body::subscription_data::TAG;
use waspmq_protocol::body::topic_config::PERM_READ;
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{HeaderError, RemotingCommand};
use waspmq_protocol::header::PullMessageHeader;
use waspmq_store::clock::Clock;
use waspmq_store::{MessageStore, QueueOffset};

use super::pull_message::pull_flag;
use super::refusal::Refusal;
use crate::consumers::Consumers;
use crate::filter::{Filters, PreparedFilter};
use crate::long_polling::Pull;
use crate::subscription::SubscriptionTable;
use crate::topic::TopicTable;

/// Which permission a pull lacked, as `forbiddenType` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forbidden {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
}

/// A refused pull.
pub struct PullRefusal {
    refusal: Refusal,
    forbidden: Option<Forbidden>,
}

impl PullRefusal {
    fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { refusal: Refusal::new(code, remark), forbidden: None }
    }

    fn forbidden(what: Forbidden, remark: impl Into<String>) -> Self {
        Self { refusal: Refusal::new(ResponseCode::NO_PERMISSION, remark), forbidden: Some(what) }
    }

    /// The response that says so.
    pub fn into_response(self) -> RemotingCommand {
        let response = self.refusal.into_response();
        match self.forbidden {
            Some(what) => response.with_ext("forbiddenType", (what as i32).to_string()),
            None => response,
        }
    }
}

impl From<HeaderError> for PullRefusal {
    fn from(error: HeaderError) -> Self {
        Self { refusal: error.into(), forbidden: None }
    }
}

impl From<Refusal> for PullRefusal {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, forbidden: None }
    }
}

/// Switches of pulling.
#[derive(Debug, Clone, Copy)]
pub struct PullSwitches {
    /// Permission bits of the whole broker.
    pub broker_permission: i32,
    /// `litePullMessageEnable`.
    pub lite_pull: bool,
    /// `enablePropertyFilter`: subscriptions other than tags.
    pub property_filter: bool,
    /// Messages in one answer at most.
    pub count_max: usize,
}

/// Checks pulls.
pub struct PullChecks {
    /// The queues.
    pub store: Arc<MessageStore>,
    /// The topics.
    pub topics: Arc<TopicTable>,
    /// The groups' settings.
    pub groups: Arc<SubscriptionTable>,
    /// The groups' subscriptions.
    pub consumers: Arc<Consumers>,
    /// For pulls that bring their own subscription.
    pub filters: Arc<Filters>,
    /// For a group created by its first pull.
    pub clock: Arc<dyn Clock>,
    /// What is allowed at all.
    pub switches: PullSwitches,
}

impl PullChecks {
    /// The pull, ready to run.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(&self, header: &PullMessageHeader<'_>, lite: bool) -> Result<Pull, PullRefusal> {
        if self.switches.broker_permission & PERM_READ == 0 {
            return Err(PullRefusal::forbidden(Forbidden::Broker, "the broker pulling message is forbidden"));
        }
        if lite && !self.switches.lite_pull {
            return Err(PullRefusal::forbidden(Forbidden::Broker, "the broker for lite pull is forbidden"));
        }
        let group_name = header.consumer_group.to_cow();
        let Some(group) = self.groups.get_or_create(&group_name, self.clock.now_ms()) else {
            let remark = format!("subscription group [{group_name}] does not exist");
            return Err(PullRefusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        if !group.consume_enable {
            return Err(PullRefusal::forbidden(
                Forbidden::Group,
                format!("subscription group no permission, {group_name}"),
            ));
        }
        let topic_name = header.topic.to_cow();
        let Some(topic) = self.topics.get(&topic_name) else {
            let remark = format!("topic[{topic_name}] not exist, apply first please!");
            return Err(PullRefusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
        };
        if !topic.is_readable() {
            return Err(PullRefusal::forbidden(
                Forbidden::Topic,
                format!("the topic[{topic_name}] pulling message is forbidden"),
            ));
        }
        let readable = (0..topic.config.read_queue_nums).contains(&header.queue_id);
        let Some(queue) = topic.queue(&self.store, header.queue_id).filter(|_| readable).cloned() else {
            let remark = format!(
                "queueId[{}] is illegal, topic:[{topic_name}] topicConfig.readQueueNums:[{}]",
                header.queue_id, topic.config.read_queue_nums
            );
            return Err(PullRefusal::new(ResponseCode::INVALID_PARAMETER, remark));
        };
        let filter = if header.sys_flag & pull_flag::SUBSCRIPTION != 0 {
            self.own_subscription(header, &group_name, &topic_name)?
        } else {
            self.group_subscription(header, &group_name, &topic_name, group.consume_broadcast_enable)?
        };
        Ok(Pull {
            group: group_name.into_owned(),
            topic,
            queue,
            offset: QueueOffset(header.queue_offset),
            count_max: usize::try_from(header.max_msg_nums).unwrap_or(1).clamp(1, self.switches.count_max),
            filter,
            group_sys_flag: group.group_sys_flag,
        })
    }

    fn own_subscription(
        &self,
        header: &PullMessageHeader<'_>,
        group: &str,
        topic: &str,
    ) -> Result<PreparedFilter, PullRefusal> {
        let text = |text: &Option<waspmq_protocol::command::Text<'_>>| {
            text.as_ref().map(|text| text.to_cow().into_owned()).unwrap_or_default()
        };
        let (kind, expression) = (text(&header.expression_type), text(&header.subscription));
        self.property_filter_allowed(&kind)?;
        match self.filters.prepare_for_pull(group, topic, &kind, &expression) {
            PreparedFilter::Refused(error) => {
                Err(PullRefusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, error.to_string()))
            }
            filter => Ok(filter),
        }
    }

    fn group_subscription(
        &self,
        header: &PullMessageHeader<'_>,
        group: &str,
        topic: &str,
        broadcast: bool,
    ) -> Result<PreparedFilter, PullRefusal> {
        let known = self.consumers.with_group(group, |known| (known.message_model, known.subscription(topic).cloned()));
        let Some((model, subscription)) = known else {
            let remark = format!("the consumer's group info not exist, {group}");
            return Err(PullRefusal::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, remark));
        };
        if !broadcast && model == MessageModel::Broadcasting {
            let remark = format!("the consumer group[{group}] can not consume by broadcast way");
            return Err(PullRefusal::forbidden(Forbidden::Broadcasting, remark));
        }
        let Some(subscription) = subscription else {
            let remark = format!("the consumer's subscription not exist, {group}, topic {topic}");
            return Err(PullRefusal::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, remark));
        };
        if subscription.data.sub_version < header.sub_version {
            let remark = format!("the consumer's subscription of {group} to {topic} is newer than its last heartbeat");
            return Err(PullRefusal::new(ResponseCode::SUBSCRIPTION_NOT_LATEST, remark));
        }
        self.property_filter_allowed(&subscription.data.expression_type)?;
        let filter = match &subscription.filter {
            PreparedFilter::Refused(_) => self.consumers.prepare_again(group, &subscription),
            filter => filter.clone(),
        };
        match filter {
            PreparedFilter::Refused(error) => {
                let remark = format!("no filter for {group} and {topic}. Your expression may be wrong! {error}");
                Err(PullRefusal::new(ResponseCode::FILTER_DATA_NOT_EXIST, remark))
            }
            filter => Ok(filter),
        }
    }

    fn property_filter_allowed(&self, kind: &str) -> Result<(), PullRefusal> {
        if self.switches.property_filter || kind.is_empty() || kind == TAG {
            return Ok(());
        }
        let remark = format!("The broker does not support consumer to filter message by {kind}");
        Err(PullRefusal::new(ResponseCode::SYSTEM_ERROR, remark))
    }
}
