//! What clients tell of themselves and ask of their group: HEART_BEAT (34), UNREGISTER_CLIENT (35),
//! GET_CONSUMER_LIST_BY_GROUP (38), CHECK_CLIENT_CONFIG (46).

use std::sync::Arc;

use waspmq_protocol::body::check_client_config::CheckClientConfig;
use waspmq_protocol::body::consumer_list::ConsumerList;
use waspmq_protocol::body::heartbeat::{ConsumerData, HeartbeatData};
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{Command, CommandHeader, RemotingCommand};
use waspmq_protocol::header::{
    GetConsumerListByGroupRequestHeader, HeartbeatResponseHeader, UnregisterClientRequestHeader,
};
use waspmq_protocol::java_json;
use waspmq_protocol::name;
use waspmq_remoting::Connection;
use waspmq_store::clock::Clock;

use super::refusal::Refusal;
use crate::consumers::{Consumers, Told};
use crate::filter::{Filters, PreparedFilter};
use crate::member::Member;
use crate::notify;
use crate::producers::Producers;
use crate::register::Registration;
use crate::subscription::SubscriptionTable;
use crate::topic::TopicTable;

/// Keeps the groups' members.
pub struct Clients {
    /// Connected producers.
    pub producers: Arc<Producers>,
    /// Connected consumers.
    pub consumers: Arc<Consumers>,
    /// Group settings; a heartbeat may create a group.
    pub groups: Arc<SubscriptionTable>,
    /// A consumer group's retry topic comes with its first heartbeat.
    pub topics: Arc<TopicTable>,
    /// Who must hear of that topic.
    pub registration: Arc<Registration>,
    /// For checks of an expression before it is subscribed.
    pub filters: Arc<Filters>,
    /// For the time of a heartbeat.
    pub clock: Arc<dyn Clock>,
    /// `enablePropertyFilter`.
    pub property_filter: bool,
    /// `notifyConsumerIdsChangedEnable`.
    pub notify_changes: bool,
}

impl Clients {
    /// HEART_BEAT.
    ///
    /// # Errors
    /// When the body is no heartbeat.
    pub fn heart_beat(&self, connection: &Arc<Connection>, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let data = java_json::from_slice::<HeartbeatData>(command.body).map_err(bad_body)?;
        let member = Member {
            client_id: data.client_id.clone(),
            last_beat_ms: self.clock.now_ms(),
            connection: connection.clone(),
        };
        for producer in &data.producer_data_set {
            self.producers.beat(&producer.group_name, member.clone());
        }
        let fingerprint = data.heartbeat_fingerprint.unwrap_or(0);
        let told = Told { fingerprint, left_out: fingerprint != 0 && data.without_sub == Some(true) };
        let mut differed = fingerprint == 0;
        for consumer in &data.consumer_data_set {
            differed |= self.consumer_beat(consumer, told, member.clone());
        }
        let response = HeartbeatResponseHeader { is_support_heart_beat_v2: Some(true), is_sub_change: Some(differed) };
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_header(&response))
    }

    /// Returns whether the group's subscriptions were not those that the heartbeat stands for.
    fn consumer_beat(&self, data: &ConsumerData, told: Told, member: Member) -> bool {
        let group = &data.group_name;
        // A group that may not exist is passed over: the heartbeat also speaks for others.
        let Some(config) = self.groups.get_or_create(group, member.last_beat_ms) else { return false };
        let retry = name::retry_topic(group);
        if config.retry_queue_nums > 0 && self.topics.get(&retry).is_none() {
            self.topics.create_for_group(&retry, config.retry_queue_nums, member.last_beat_ms);
            self.registration.topics_changed();
        }
        let beaten = self.consumers.beat(data, told, member);
        if beaten.rebalance && self.notify_changes && config.notify_consumer_ids_changed_enable {
            notify::members_changed(&self.consumers, group);
        }
        beaten.subscriptions_differed
    }

    /// UNREGISTER_CLIENT.
    ///
    /// # Errors
    /// When the header is incomplete.
    pub fn unregister(&self, connection: &Arc<Connection>, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = UnregisterClientRequestHeader::decode(&command.ext)?;
        if let Some(group) = &header.producer_group {
            self.producers.leave(group, connection);
        }
        if let Some(group) = &header.consumer_group
            && self.consumers.leave(group, connection)
        {
            self.tell_left(group);
        }
        Ok(RemotingCommand::response(ResponseCode::SUCCESS))
    }

    /// A connection ended: its memberships end with it.
    pub fn closed(&self, connection: &Arc<Connection>) {
        self.producers.closed(connection);
        for group in self.consumers.closed(connection) {
            self.tell_left(&group);
        }
    }

    /// Forgets who was silent too long.
    pub fn expire(&self) {
        let now = self.clock.now_ms();
        self.producers.expire(now);
        for group in self.consumers.expire(now) {
            self.tell_left(&group);
        }
    }

    fn tell_left(&self, group: &str) {
        let wanted = self.groups.get(group).is_none_or(|config| config.notify_consumer_ids_changed_enable);
        if self.notify_changes && wanted {
            notify::members_changed(&self.consumers, group);
        }
    }

    /// GET_CONSUMER_LIST_BY_GROUP.
    ///
    /// # Errors
    /// When nobody of the group is connected.
    pub fn consumer_list(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let group = GetConsumerListByGroupRequestHeader::decode(&command.ext)?.consumer_group;
        let members = self
            .consumers
            .with_group(&group, |known| known.members().map(|member| member.client_id.clone()).collect::<Vec<_>>());
        let Some(consumer_id_list) = members else {
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, format!("no consumer for this group, {group}")));
        };
        let body = java_json::to_vec(&ConsumerList { consumer_id_list });
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body))
    }

    /// CHECK_CLIENT_CONFIG: would this subscription be accepted?
    ///
    /// # Errors
    /// When the expression cannot become a filter; the remark says where and why.
    pub fn check_config(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let check = java_json::from_slice::<CheckClientConfig>(command.body).map_err(bad_body)?;
        let kind = &check.subscription_data.expression_type;
        let is_tag = check.subscription_data.is_tag_filter();
        if !is_tag && !self.property_filter {
            let remark = format!("The broker does not support consumer to filter message by {kind}");
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
        }
        match self.filters.prepare(&check.group, &check.subscription_data) {
            PreparedFilter::Refused(error) if !is_tag => {
                Err(Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, error.to_string()))
            }
            _ => Ok(RemotingCommand::response(ResponseCode::SUCCESS)),
        }
    }
}

fn bad_body(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the request's body cannot be read: {error}"))
}
