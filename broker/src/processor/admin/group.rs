//! Consumer groups by request: UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200), GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201),
//! DELETE_SUBSCRIPTIONGROUP (207), GET_SUBSCRIPTIONGROUP_CONFIG (352).

use std::sync::Arc;

use waspmq_protocol::body::subscription_group::SubscriptionGroupConfig;
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{Command, CommandHeader, RemotingCommand};
use waspmq_protocol::header::{
    DeleteSubscriptionGroupRequestHeader, GetAllSubscriptionGroupRequestHeader, GetSubscriptionGroupConfigRequestHeader,
};
use waspmq_protocol::java_json;
use waspmq_protocol::name;
use waspmq_store::clock::Clock;

use crate::offset::OffsetTable;
use crate::processor::refusal::Refusal;
use crate::subscription::SubscriptionTable;

/// Administers consumer groups.
pub struct GroupAdmin {
    /// The groups.
    pub groups: Arc<SubscriptionTable>,
    /// A deleted group's offsets go when the request says so.
    pub offsets: Arc<OffsetTable>,
    /// For the version of the changed table.
    pub clock: Arc<dyn Clock>,
}

impl GroupAdmin {
    /// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
    ///
    /// # Errors
    /// When the body cannot be read or the name is not allowed.
    pub fn update(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let group = java_json::from_slice::<SubscriptionGroupConfig>(command.body).map_err(|error| {
            Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the request's body cannot be read: {error}"))
        })?;
        name::check_group(&group.group_name)?;
        self.groups.put(group, self.clock.now_ms());
        Ok(RemotingCommand::response(ResponseCode::SUCCESS))
    }

    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG. Who asks for a part of the groups is told how many there are, and gets them all.
    ///
    /// # Errors
    /// When a field is no number.
    pub fn all(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = GetAllSubscriptionGroupRequestHeader::decode(&command.ext)?;
        let table = self.groups.snapshot();
        let mut response = RemotingCommand::response(ResponseCode::SUCCESS);
        if header.group_seq.is_some() {
            response = response.with_ext("totalGroupNum", table.subscription_group_table.len().to_string());
        }
        Ok(response.with_body(java_json::to_vec(&table)))
    }

    /// DELETE_SUBSCRIPTIONGROUP. A group that is not there is as good as deleted.
    ///
    /// # Errors
    /// When the header is incomplete.
    pub fn delete(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let header = DeleteSubscriptionGroupRequestHeader::decode(&command.ext)?;
        self.groups.remove(&header.group_name, self.clock.now_ms());
        if header.clean_offset.unwrap_or(false) {
            self.offsets.forget_group(&header.group_name);
        }
        Ok(RemotingCommand::response(ResponseCode::SUCCESS))
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG.
    ///
    /// # Errors
    /// When there is no such group and none may be created.
    pub fn one(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let group = GetSubscriptionGroupConfigRequestHeader::decode(&command.ext)?.group;
        let Some(known) = self.groups.get_or_create(&group, self.clock.now_ms()) else {
            let remark = format!("No group in this broker. group: {group}");
            return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(java_json::to_vec(known.as_ref())))
    }
}
