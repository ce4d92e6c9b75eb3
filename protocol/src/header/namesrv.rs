//! Headers of the nameserver's requests: key-values 100 to 102 and 219, registration 103, 104, 322 and 904,
//! routes 105, topics and permissions.

use super::headers;

headers! {
    /// PUT_KV_CONFIG (100).
    pub struct PutKVConfigRequestHeader {
        /// Namespace, `ORDER_TOPIC_CONFIG` for ordered topics.
        namespace: String => "namespace",
        /// Key.
        key: String => "key",
        /// Value.
        value: String => "value",
    }

    /// GET_KV_CONFIG (101).
    pub struct GetKVConfigRequestHeader {
        /// Namespace.
        namespace: String => "namespace",
        /// Key.
        key: String => "key",
    }

    /// Answer to GET_KV_CONFIG.
    pub struct GetKVConfigResponseHeader {
        /// The value.
        value: Option<String> => "value",
    }

    /// DELETE_KV_CONFIG (102).
    pub struct DeleteKVConfigRequestHeader {
        /// Namespace.
        namespace: String => "namespace",
        /// Key.
        key: String => "key",
    }

    /// GET_KVLIST_BY_NAMESPACE (219).
    pub struct GetKVListByNamespaceRequestHeader {
        /// Namespace.
        namespace: String => "namespace",
    }

    /// REGISTER_BROKER (103).
    pub struct RegisterBrokerRequestHeader {
        /// Name of the broker group.
        broker_name: String => "brokerName",
        /// `ip:port` for clients.
        broker_addr: String => "brokerAddr",
        /// Cluster.
        cluster_name: String => "clusterName",
        /// `ip:port` for replication.
        ha_server_addr: String => "haServerAddr",
        /// 0: master.
        broker_id: i64 => "brokerId",
        /// Silence after which the broker counts as dead; absent: the nameserver's own 120 s.
        heartbeat_timeout_millis: Option<i64> => "heartbeatTimeoutMillis",
        /// Whether a slave may act for a dead master.
        enable_acting_master: Option<bool> => "enableActingMaster",
        /// Whether the body is the compressed form.
        compressed: bool => "compressed" or false,
        /// CRC-32 of the body without its sign bit; 0: not checked.
        body_crc32: i32 => "bodyCrc32" or 0,
        /// Zone.
        zone_name: Option<String> => "__ZONE_NAME",
    }

    /// Answer to REGISTER_BROKER.
    pub struct RegisterBrokerResponseHeader {
        /// `ip:port` of the master's replication, for a slave.
        ha_server_addr: Option<String> => "haServerAddr",
        /// `ip:port` of the master, for a slave.
        master_addr: Option<String> => "masterAddr",
    }

    /// UNREGISTER_BROKER (104).
    pub struct UnRegisterBrokerRequestHeader {
        /// Name of the broker group.
        broker_name: String => "brokerName",
        /// `ip:port` for clients.
        broker_addr: String => "brokerAddr",
        /// Cluster.
        cluster_name: String => "clusterName",
        /// 0: master.
        broker_id: i64 => "brokerId",
    }

    /// GET_ROUTEINFO_BY_TOPIC (105).
    pub struct GetRouteInfoRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Whether the body has to be standard JSON, whatever the client's version.
        accept_standard_json_only: Option<bool> => "acceptStandardJsonOnly",
    }

    /// WIPE_WRITE_PERM_OF_BROKER (205).
    pub struct WipeWritePermOfBrokerRequestHeader {
        /// Broker that shall get no more messages.
        broker_name: String => "brokerName",
    }

    /// Answer to WIPE_WRITE_PERM_OF_BROKER.
    pub struct WipeWritePermOfBrokerResponseHeader {
        /// Topics concerned.
        wipe_topic_count: i32 => "wipeTopicCount",
    }

    /// ADD_WRITE_PERM_OF_BROKER (327).
    pub struct AddWritePermOfBrokerRequestHeader {
        /// Broker that shall get messages again.
        broker_name: String => "brokerName",
    }

    /// Answer to ADD_WRITE_PERM_OF_BROKER.
    pub struct AddWritePermOfBrokerResponseHeader {
        /// Topics concerned.
        add_topic_count: i32 => "addTopicCount",
    }

    /// DELETE_TOPIC_IN_NAMESRV (216).
    pub struct DeleteTopicFromNamesrvRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Only the brokers of this cluster.
        cluster_name: Option<String> => "clusterName",
    }

    /// REGISTER_TOPIC_IN_NAMESRV (217).
    pub struct RegisterTopicRequestHeader {
        /// Topic.
        topic: String => "topic",
    }

    /// GET_TOPICS_BY_CLUSTER (224).
    pub struct GetTopicsByClusterRequestHeader {
        /// Cluster.
        cluster: String => "cluster",
    }

    /// QUERY_DATA_VERSION (322).
    pub struct QueryDataVersionRequestHeader {
        /// Name of the broker group.
        broker_name: String => "brokerName",
        /// `ip:port` for clients.
        broker_addr: String => "brokerAddr",
        /// Cluster.
        cluster_name: String => "clusterName",
        /// 0: master.
        broker_id: i64 => "brokerId",
    }

    /// Answer to QUERY_DATA_VERSION.
    pub struct QueryDataVersionResponseHeader {
        /// Whether the nameserver knows another version than the one sent.
        changed: bool => "changed",
    }

    /// GET_BROKER_MEMBER_GROUP (901).
    pub struct GetBrokerMemberGroupRequestHeader {
        /// Cluster.
        cluster_name: String => "clusterName",
        /// Name of the broker group.
        broker_name: String => "brokerName",
    }

    /// BROKER_HEARTBEAT (904).
    pub struct BrokerHeartbeatRequestHeader {
        /// Cluster.
        cluster_name: String => "clusterName",
        /// `ip:port` for clients.
        broker_addr: String => "brokerAddr",
        /// Name of the broker group.
        broker_name: String => "brokerName",
        /// 0: master.
        broker_id: Option<i64> => "brokerId",
        /// Epoch of the replicated log.
        epoch: Option<i32> => "epoch",
        /// End of the broker's log.
        max_offset: Option<i64> => "maxOffset",
        /// End of what all in-sync replicas have.
        confirm_offset: Option<i64> => "confirmOffset",
        /// Silence after which the broker counts as dead.
        heartbeat_timeout_mills: Option<i64> => "heartbeatTimeoutMills",
        /// Lower wins an election.
        election_priority: Option<i32> => "electionPriority",
    }

    /// NOTIFY_MIN_BROKER_ID_CHANGE (905), nameserver to broker.
    pub struct NotifyMinBrokerIdChangeRequestHeader {
        /// Smallest broker id that is alive.
        min_broker_id: Option<i64> => "minBrokerId",
        /// Name of the broker group.
        broker_name: Option<String> => "brokerName",
        /// Address of the broker with that id.
        min_broker_addr: Option<String> => "minBrokerAddr",
        /// Address of the broker that went away.
        offline_broker_addr: Option<String> => "offlineBrokerAddr",
        /// Replication address of the broker with that id.
        ha_broker_addr: Option<String> => "haBrokerAddr",
    }
}
