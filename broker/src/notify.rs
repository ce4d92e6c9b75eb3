//! Tells the members of a consumer group that their number changed (NOTIFY_CONSUMER_IDS_CHANGED, 40), so that they
//! share out the queues anew at once instead of at their next round.

use waspmq_protocol::code::RequestCode;
use waspmq_protocol::command::RemotingCommand;
use waspmq_protocol::header::NotifyConsumerIdsChangedRequestHeader;

use crate::consumers::Consumers;

/// Tells everybody in the group.
pub fn members_changed(consumers: &Consumers, group: &str) {
    let header = NotifyConsumerIdsChangedRequestHeader { consumer_group: group.to_owned() };
    for connection in consumers.to_notify(group) {
        let notice = RemotingCommand::request(RequestCode::NOTIFY_CONSUMER_IDS_CHANGED, &header);
        if let Err(error) = connection.send_oneway(notice) {
            // It will see the change at its next round, within 20 s.
            tracing::debug!(peer = %connection.peer(), %error, "a member was not told of a change of its group");
        }
    }
}
