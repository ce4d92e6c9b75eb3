//! From request to answer: one match over the nameserver's request codes. Called by `remoting` for every request of
//! every connection; answers at once, except where a file has to be written first. Admin requests live in `admin`, what brokers
//! send in `broker`; what clients ask is here.

mod admin;
mod broker;

use crate::kv_config::ORDER_TOPIC_CONFIG;
use crate::namesrv::Namesrv;
use crate::route_info::UnitTopics;
use std::sync::Arc;
use waspmq_protocol::command::HeaderError;
use waspmq_protocol::header::GetRouteInfoRequestHeader;
use waspmq_protocol::java_json;
use waspmq_protocol::{Command, RemotingCommand, RequestCode, ResponseCode};
use waspmq_remoting::{Batch, Connection, Handler, Replies, ReplyTo, Responder};

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
    outcome.unwrap_or_else(|refusal| RemotingCommand::response(refusal.code).with_remark(refusal.remark))
}

impl Handler for Namesrv {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        for request in requests {
            match (self.answer(connection, &request), Save::after(request.request_code())) {
                (Ok(reply), Some(save)) => self.answer_when_saved(save, connection.responder(&request), reply),
                (outcome, _) => replies.push(ReplyTo::of(&request), into_reply(outcome)),
            }
        }
    }

    fn closed(&self, connection: &Arc<Connection>) {
        for broker in self.routes_mut().connection_closed(connection.id()) {
            tracing::warn!(cluster = broker.cluster, address = broker.addr, "broker forgotten, its connection closed");
        }
    }
}

/// What has to be on disk before a request is answered.
#[derive(Clone, Copy, Debug)]
enum Save {
    KeyValues,
    Settings,
}

impl Save {
    fn after(code: RequestCode) -> Option<Self> {
        match code {
            RequestCode::PUT_KV_CONFIG | RequestCode::DELETE_KV_CONFIG => Some(Self::KeyValues),
            RequestCode::UPDATE_NAMESRV_CONFIG => Some(Self::Settings),
            _ => None,
        }
    }
}

impl Namesrv {
    /// Saves on a thread that may block, then answers.
    fn answer_when_saved(&self, save: Save, responder: Responder, reply: RemotingCommand) {
        let namesrv = self.handle_to_self();
        tokio::task::spawn_blocking(move || {
            let saved = match save {
                Save::KeyValues => namesrv.save_kv(),
                Save::Settings => namesrv.save_keys(),
            };
            responder.send(into_reply(saved.map(|()| reply).map_err(Refusal::error)));
        });
    }

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
            RequestCode::PUT_KV_CONFIG => self.put_kv(request),
            RequestCode::GET_KV_CONFIG => self.get_kv(request),
            RequestCode::DELETE_KV_CONFIG => self.delete_kv(request),
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
            RequestCode::UPDATE_NAMESRV_CONFIG => self.update_config(request),
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
