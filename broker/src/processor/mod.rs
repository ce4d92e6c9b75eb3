//! Every request of a client enters here: one match from request code to the processor that answers it. Sends that
//! came in one read are appended together; everything else is answered one by one, in order of arrival.
//! Must hold: each request gets exactly one answer, also when it is refused or its code is unknown.

pub mod admin;
pub mod client;
pub mod consumer_offset;
mod durability;
pub mod lock_queue;
pub mod pull_checks;
pub mod pull_message;
pub mod query_message;
mod refusal;
pub mod send_message;
pub mod send_properties;
pub mod send_reply;
pub mod send_target;

use std::sync::Arc;

use waspmq_protocol::code::{RequestCode, ResponseCode};
use waspmq_protocol::command::{Command, RemotingCommand};
use waspmq_remoting::{Batch, Connection, Handler, Replies, ReplyTo};

use self::admin::group::GroupAdmin;
use self::admin::topic::TopicAdmin;
use self::client::Clients;
use self::consumer_offset::ConsumerOffsets;
use self::pull_message::PullMessages;
use self::query_message::QueryMessages;
use self::refusal::Refusal;
use self::send_message::{SendBatch, SendMessages};
use crate::queue_locks::QueueLocks;
use crate::register::RegistrationWatch;

/// All processors of the broker.
pub struct Router {
    /// Sends.
    pub send: SendMessages,
    /// Pulls.
    pub pull: Arc<PullMessages>,
    /// Heartbeats and groups.
    pub clients: Arc<Clients>,
    /// Offsets.
    pub offsets: ConsumerOffsets,
    /// Queries.
    pub query: QueryMessages,
    /// Queue locks.
    pub locks: Arc<QueueLocks>,
    /// Topic administration.
    pub topics: TopicAdmin,
    /// Group administration.
    pub groups: GroupAdmin,
    /// Lets a topic change wait for the name servers.
    pub registration: RegistrationWatch,
}

impl Handler for Router {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        let mut sends = SendBatch::default();
        while let Some(command) = requests.next_request() {
            match command.request_code() {
                RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => {
                    self.send.admit(command, &mut sends, replies);
                }
                _ => {
                    // What a client sent before it asks for something is there when it is answered.
                    self.send.complete(connection, &mut sends, replies);
                    self.answer(connection, command, replies);
                }
            }
        }
        self.send.complete(connection, &mut sends, replies);
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.clients.closed(connection);
    }
}

impl Router {
    fn answer(&self, connection: &Arc<Connection>, command: &Command<'_>, replies: &mut Replies) {
        let answer = match command.request_code() {
            RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => {
                return self.pull.handle(connection, command, replies);
            }
            RequestCode::QUERY_MESSAGE => match self.query.by_key(command, replies) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            RequestCode::UPDATE_AND_CREATE_TOPIC => match self.update_topic(connection, command) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            RequestCode::VIEW_MESSAGE_BY_ID => self.query.by_offset(command),
            RequestCode::HEART_BEAT => self.clients.heart_beat(connection, command),
            RequestCode::UNREGISTER_CLIENT => self.clients.unregister(connection, command),
            RequestCode::GET_CONSUMER_LIST_BY_GROUP => self.clients.consumer_list(command),
            RequestCode::CHECK_CLIENT_CONFIG => self.clients.check_config(command),
            RequestCode::QUERY_CONSUMER_OFFSET => self.offsets.query(command),
            RequestCode::UPDATE_CONSUMER_OFFSET => self.offsets.update(command),
            RequestCode::SEARCH_OFFSET_BY_TIMESTAMP => self.offsets.search(command),
            RequestCode::GET_MAX_OFFSET => self.offsets.max(command),
            RequestCode::GET_MIN_OFFSET => self.offsets.min(command),
            RequestCode::GET_EARLIEST_MSG_STORETIME => self.offsets.earliest(command),
            RequestCode::LOCK_BATCH_MQ => lock_queue::lock(&self.locks, command),
            RequestCode::UNLOCK_BATCH_MQ => lock_queue::unlock(&self.locks, command),
            _ => self.administer(command),
        };
        replies.push(ReplyTo::of(command), answer.unwrap_or_else(Refusal::into_response));
    }

    fn administer(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        match command.request_code() {
            RequestCode::DELETE_TOPIC_IN_BROKER => self.topics.delete(command),
            RequestCode::GET_ALL_TOPIC_CONFIG => self.topics.all(command),
            RequestCode::GET_TOPIC_CONFIG => self.topics.one(command),
            RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => self.groups.update(command),
            RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => self.groups.all(command),
            RequestCode::DELETE_SUBSCRIPTIONGROUP => self.groups.delete(command),
            RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG => self.groups.one(command),
            unknown => {
                let remark = format!(" request type {} not supported", unknown.0);
                Err(Refusal::new(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark))
            }
        }
    }

    /// The topic is at the name servers before the client hears that it exists.
    fn update_topic(&self, connection: &Arc<Connection>, command: &Command<'_>) -> Result<(), Refusal> {
        let changed = self.topics.update(command)?;
        let responder = connection.responder(command);
        let response = RemotingCommand::response(ResponseCode::SUCCESS);
        if !changed {
            responder.send(response);
            return Ok(());
        }
        let registration = self.registration.clone();
        tokio::spawn(async move {
            registration.register_now().await;
            responder.send(response);
        });
        Ok(())
    }
}
