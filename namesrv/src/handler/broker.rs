//! What brokers send: registrations, their end, heartbeats, questions about versions and members.

use super::{Outcome, Refusal, success};
use crate::kv_config::ORDER_TOPIC_CONFIG;
use crate::namesrv::Namesrv;
use crate::route_info::{BrokerKey, Registration};
use std::sync::Arc;
use waspmq_protocol::Command;
use waspmq_protocol::body::broker_member_group::BrokerMemberGroupAnswer;
use waspmq_protocol::body::data_version::DataVersion;
use waspmq_protocol::body::kv_table::KvTable;
use waspmq_protocol::body::register_broker::{RegisterBrokerBody, body_crc32};
use waspmq_protocol::body::topic_route::TopicRouteData;
use waspmq_protocol::header::{
    BrokerHeartbeatRequestHeader, GetBrokerMemberGroupRequestHeader, QueryDataVersionRequestHeader,
    QueryDataVersionResponseHeader, RegisterBrokerRequestHeader, RegisterBrokerResponseHeader,
    RegisterTopicRequestHeader, UnRegisterBrokerRequestHeader,
};
use waspmq_protocol::java_json;
use waspmq_remoting::Connection;

impl Namesrv {
    pub(super) fn register_broker(&self, connection: &Arc<Connection>, request: &Command<'_>) -> Outcome {
        let header: RegisterBrokerRequestHeader = request.header()?;
        if header.body_crc32 != 0 && header.body_crc32 != body_crc32(request.body) {
            return Err(Refusal::error("crc32 not match"));
        }
        let body =
            RegisterBrokerBody::decode(request.body, request.version, header.compressed).map_err(Refusal::error)?;
        let (delete_absent_topics, return_order) = {
            let keys = self.keys();
            (keys.delete_topic_with_broker_registration, keys.return_order_topic_config_to_broker)
        };
        let registration =
            Registration { header, body, connection: connection.id(), now: self.now(), delete_absent_topics };
        let registered = self.routes_mut().register(registration).map_err(Refusal::error)?;
        let reply = success().with_header(&RegisterBrokerResponseHeader {
            ha_server_addr: registered.ha_server_addr,
            master_addr: registered.master_addr,
        });
        let order = if return_order { self.kv().list(ORDER_TOPIC_CONFIG).cloned() } else { None };
        Ok(match order {
            Some(table) => reply.with_body(java_json::to_vec(&KvTable { table })),
            None => reply,
        })
    }

    pub(super) fn unregister_broker(&self, request: &Command<'_>) -> Outcome {
        let header: UnRegisterBrokerRequestHeader = request.header()?;
        let key = BrokerKey { cluster: header.cluster_name, addr: header.broker_addr };
        if self.routes_mut().unregister(&key) {
            tracing::info!(broker = header.broker_name, address = key.addr, "broker unregistered");
        }
        Ok(success())
    }

    pub(super) fn query_data_version(&self, request: &Command<'_>) -> Outcome {
        let header: QueryDataVersionRequestHeader = request.header()?;
        let sent: DataVersion = java_json::from_slice(request.body).map_err(Refusal::error)?;
        let key = BrokerKey { cluster: header.cluster_name, addr: header.broker_addr };
        let known = self.routes().data_version(&key);
        let changed = known != Some(sent);
        if !changed {
            self.routes_mut().heard_of(&key, self.now());
        }
        let reply = success().with_header(&QueryDataVersionResponseHeader { changed });
        Ok(match known {
            Some(version) => reply.with_body(java_json::to_vec(&version)),
            None => reply,
        })
    }

    pub(super) fn broker_heartbeat(&self, request: &Command<'_>) -> Outcome {
        let header: BrokerHeartbeatRequestHeader = request.header()?;
        let key = BrokerKey { cluster: header.cluster_name, addr: header.broker_addr };
        self.routes_mut().heard_of(&key, self.now());
        Ok(success())
    }

    pub(super) fn broker_member_group(&self, request: &Command<'_>) -> Outcome {
        let header: GetBrokerMemberGroupRequestHeader = request.header()?;
        let group = self.routes().member_group(&header.cluster_name, &header.broker_name);
        let body = BrokerMemberGroupAnswer { broker_member_group: Some(group) };
        Ok(success().with_body(java_json::to_vec(&body)))
    }

    pub(super) fn register_topic(&self, request: &Command<'_>) -> Outcome {
        let header: RegisterTopicRequestHeader = request.header()?;
        let route: TopicRouteData = java_json::from_slice(request.body).map_err(Refusal::error)?;
        self.routes_mut().register_topic(&header.topic, route.queue_datas).map_err(Refusal::error)?;
        Ok(success())
    }
}
