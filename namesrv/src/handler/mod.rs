//! From request to answer: one match over the nameserver's request codes. Called by `remoting` for every request of
//! every connection. What clients ask is here, what brokers send in `broker`, what admins ask in `admin`: all answered
//! at once. What has to be on disk before it is answered is in `change`.

mod admin;
mod broker;
mod change;

pub(crate) use change::CHANGES_MAX;

use crate::kv_config::ORDER_TOPIC_CONFIG;
use crate::namesrv::Namesrv;
use crate::route_info::UnitTopics;
use change::Change;
use std::sync::Arc;
use waspmq_protocol::command::HeaderError;
use waspmq_protocol::header::GetRouteInfoRequestHeader;
use waspmq_protocol::java_json;
use waspmq_protocol::{Command, FRAME_BYTES_MAX, RemotingCommand, RequestCode, ResponseCode};
use waspmq_remoting::{Batch, Connection, Handler, Replies, ReplyTo};

/// Largest body of an answer; the rest of the frame is left for its header.
const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - 64 * 1024;

/// An answer other than success: code and remark.
#[derive(Debug)]
struct Refusal {
    code: ResponseCode,
    remark: String,
}

impl Refusal {
    fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }

    /// The answer for whatever has no code of its own.
    fn error(reason: impl ToString) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, reason.to_string())
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::error(error)
    }
}

/// An answer that is ready, or why there is none.
type Outcome = Result<RemotingCommand, Refusal>;

fn success() -> RemotingCommand {
    RemotingCommand::response(ResponseCode::SUCCESS)
}

fn into_reply(outcome: Outcome) -> RemotingCommand {
    let reply = outcome.and_then(|reply| match reply.body.len() {
        0..=BODY_BYTES_MAX => Ok(reply),
        bytes => Err(Refusal::error(format!("the answer has {bytes} bytes; {BODY_BYTES_MAX} fit into a frame"))),
    });
    reply.unwrap_or_else(|refusal| RemotingCommand::response(refusal.code).with_remark(refusal.remark))
}

impl Handler for Namesrv {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        while let Some(request) = requests.next_request() {
            let outcome = match Change::of(request) {
                Ok(Some(change)) => {
                    self.begin(change, connection.responder(request));
                    continue;
                }
                Ok(None) => self.answer(connection, request),
                Err(refusal) => Err(refusal),
            };
            replies.push(ReplyTo::of(request), into_reply(outcome));
        }
    }

    fn closed(&self, connection: &Arc<Connection>) {
        // Nearly all connections are clients'; they end without a stop for the others.
        if !self.routes().is_brokers_connection(connection.id()) {
            return;
        }
        for broker in self.routes_mut().connection_closed(connection.id()) {
            tracing::warn!(cluster = broker.cluster, address = broker.addr, "broker forgotten, its connection closed");
        }
    }
}

impl Namesrv {
    fn answer(&self, connection: &Arc<Connection>, request: &Command<'_>) -> Outcome {
        match request.request_code() {
            RequestCode::GET_ROUTEINFO_BY_TOPIC => self.route_of_topic(request),
            RequestCode::REGISTER_BROKER => self.register_broker(connection, request),
            RequestCode::UNREGISTER_BROKER => self.unregister_broker(request),
            RequestCode::QUERY_DATA_VERSION => self.query_data_version(request),
            RequestCode::BROKER_HEARTBEAT => self.broker_heartbeat(request),
            RequestCode::GET_BROKER_MEMBER_GROUP => self.broker_member_group(request),
            RequestCode::REGISTER_TOPIC_IN_NAMESRV => self.register_topic(request),
            RequestCode::GET_BROKER_CLUSTER_INFO => {
                Ok(success().with_body(java_json::to_vec(&self.routes().cluster_info())))
            }
            RequestCode::GET_KV_CONFIG => self.get_kv(request),
            RequestCode::GET_KVLIST_BY_NAMESPACE => self.list_kv(request),
            RequestCode::WIPE_WRITE_PERM_OF_BROKER => self.wipe_write_permission(request),
            RequestCode::ADD_WRITE_PERM_OF_BROKER => self.add_write_permission(request),
            RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => self.all_topics(),
            RequestCode::GET_TOPICS_BY_CLUSTER => self.topics_of_cluster(request),
            RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS => {
                Ok(success().with_body(java_json::to_vec(&self.routes().system_topics())))
            }
            RequestCode::GET_UNIT_TOPIC_LIST => self.unit_topics(UnitTopics::Unit),
            RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST => self.unit_topics(UnitTopics::Subscribed),
            RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => self.unit_topics(UnitTopics::SubscribedOnly),
            RequestCode::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(request),
            RequestCode::GET_NAMESRV_CONFIG => Ok(self.config_text()),
            RequestCode(other) => Err(Refusal::new(
                ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {other} not supported"),
            )),
        }
    }

    fn route_of_topic(&self, request: &Command<'_>) -> Outcome {
        if self.is_warming_up() {
            return Err(Refusal::error("the nameserver has just started and waits for brokers to register"));
        }
        let header: GetRouteInfoRequestHeader = request.header()?;
        let (acting_master, order_messages) = {
            let keys = self.keys();
            (keys.support_acting_master, keys.order_message_enable)
        };
        let route = self.routes().route(&header.topic, acting_master);
        let Some(mut route) = route else {
            let remark = format!("No topic route info in name server for the topic: {}", header.topic);
            return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
        };
        if order_messages {
            route.order_topic_conf = self.kv().get(ORDER_TOPIC_CONFIG, &header.topic).map(str::to_owned);
        }
        let standard_json = header.accept_standard_json_only == Some(true);
        Ok(success().with_body(route.encode_for(request.version, standard_json)))
    }
}
