//! Headers of mqadmin's requests to a broker: topics, groups, statistics, inspection, configuration.

use super::headers;

headers! {
    /// UPDATE_AND_CREATE_TOPIC (17) and UPDATE_AND_CREATE_STATIC_TOPIC (513).
    pub struct CreateTopicRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Template topic; not used by the broker.
        default_topic: Option<String> => "defaultTopic",
        /// Queues for consumers.
        read_queue_nums: i32 => "readQueueNums",
        /// Queues for producers.
        write_queue_nums: i32 => "writeQueueNums",
        /// Permission bits: 4 read, 2 write, 1 inherit.
        perm: i32 => "perm",
        /// `SINGLE_TAG` or `MULTI_TAG`.
        topic_filter_type: Option<String> => "topicFilterType",
        /// 1 unit, 2 unit subscription.
        topic_sys_flag: Option<i32> => "topicSysFlag",
        /// Whether the topic is an ordered one.
        order: bool => "order" or false,
        /// `+key=value` to set and `-key` to delete, joined by commas.
        attributes: Option<String> => "attributes",
        /// Static topics: overwrite.
        force: Option<bool> => "force",
    }

    /// DELETE_TOPIC_IN_BROKER (215).
    pub struct DeleteTopicRequestHeader {
        /// Topic.
        topic: String => "topic",
    }

    /// GET_ALL_TOPIC_CONFIG (21); the fields come from clients newer than 5.3.3.
    pub struct GetAllTopicConfigRequestHeader {
        /// First topic wanted.
        topic_seq: Option<i32> => "topicSeq",
        /// Version the paging started with.
        data_version: Option<String> => "dataVersion",
        /// Most topics wanted.
        max_topic_num: Option<i32> => "maxTopicNum",
    }

    /// Answer to GET_ALL_TOPIC_CONFIG.
    pub struct GetAllTopicConfigResponseHeader {
        /// Topics there are.
        total_topic_num: Option<i32> => "totalTopicNum",
    }

    /// GET_TOPIC_CONFIG (351).
    pub struct GetTopicConfigRequestHeader {
        /// Topic.
        topic: String => "topic",
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG (352).
    pub struct GetSubscriptionGroupConfigRequestHeader {
        /// Group.
        group: String => "group",
    }

    /// DELETE_SUBSCRIPTIONGROUP (207).
    pub struct DeleteSubscriptionGroupRequestHeader {
        /// Group.
        group_name: String => "groupName",
        /// Whether its offsets go too.
        clean_offset: Option<bool> => "cleanOffset",
        /// The same, as late 4.9 releases spell it.
        remove_offset: Option<bool> => "removeOffset",
    }

    /// UPDATE_AND_GET_GROUP_FORBIDDEN (353).
    pub struct UpdateGroupForbiddenRequestHeader {
        /// Group.
        group: String => "group",
        /// Topic.
        topic: String => "topic",
        /// `false` forbids reading; absent only asks.
        readable: Option<bool> => "readable",
    }

    /// GET_TOPIC_STATS_INFO (202).
    pub struct GetTopicStatsInfoRequestHeader {
        /// Topic.
        topic: String => "topic",
    }

    /// GET_CONSUMER_CONNECTION_LIST (203).
    pub struct GetConsumerConnectionListRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
    }

    /// GET_PRODUCER_CONNECTION_LIST (204).
    pub struct GetProducerConnectionListRequestHeader {
        /// Group.
        producer_group: String => "producerGroup",
    }

    /// GET_CONSUME_STATS (208).
    pub struct GetConsumeStatsRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// One topic.
        topic: Option<String> => "topic",
        /// Several topics joined by semicolons.
        topic_list: Option<String> => "topicList",
    }

    /// GET_BROKER_CONSUME_STATS (317).
    pub struct GetConsumeStatsInBrokerHeader {
        /// Whether ordered groups are wanted.
        is_order: bool => "isOrder" or false,
    }

    /// QUERY_TOPIC_CONSUME_BY_WHO (300).
    pub struct QueryTopicConsumeByWhoRequestHeader {
        /// Topic.
        topic: String => "topic",
    }

    /// QUERY_TOPICS_BY_CONSUMER (343).
    pub struct QueryTopicsByConsumerRequestHeader {
        /// Group.
        group: String => "group",
    }

    /// QUERY_SUBSCRIPTION_BY_CONSUMER (345).
    pub struct QuerySubscriptionByConsumerRequestHeader {
        /// Group.
        group: String => "group",
        /// Topic.
        topic: Option<String> => "topic",
    }

    /// QUERY_CONSUME_TIME_SPAN (303).
    pub struct QueryConsumeTimeSpanRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Group.
        group: String => "group",
    }

    /// QUERY_CORRECTION_OFFSET (308).
    pub struct QueryCorrectionOffsetHeader {
        /// Groups joined by commas.
        filter_groups: Option<String> => "filterGroups",
        /// Group to compare with.
        compare_group: String => "compareGroup",
        /// Topic.
        topic: String => "topic",
    }

    /// CLONE_GROUP_OFFSET (314).
    pub struct CloneGroupOffsetRequestHeader {
        /// Group to copy from.
        src_group: String => "srcGroup",
        /// Group to copy to.
        dest_group: String => "destGroup",
        /// Only this topic.
        topic: Option<String> => "topic",
        /// Whether the groups are offline.
        offline: Option<bool> => "offline",
    }

    /// VIEW_BROKER_STATS_DATA (315).
    pub struct ViewBrokerStatsDataRequestHeader {
        /// Name of the statistic, such as `TOPIC_PUT_NUMS`.
        stats_name: String => "statsName",
        /// Its key, such as a topic or `topic@group`.
        stats_key: String => "statsKey",
    }

    /// QUERY_CONSUME_QUEUE (321).
    pub struct QueryConsumeQueueRequestHeader {
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// First queue offset wanted.
        index: i64 => "index",
        /// Most entries wanted.
        count: i32 => "count",
        /// Group whose filter is applied.
        consumer_group: Option<String> => "consumerGroup",
    }

    /// Answer to GET_BROKER_CONFIG (26).
    pub struct GetBrokerConfigResponseHeader {
        /// A data version as JSON text.
        version: String => "version",
    }

    /// RESET_MASTER_FLUSH_OFFSET (908).
    pub struct ResetMasterFlushOffsetHeader {
        /// Physical offset.
        master_flush_offset: Option<i64> => "masterFlushOffset",
    }

    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201); the fields come from clients newer than 5.3.3.
    pub struct GetAllSubscriptionGroupRequestHeader {
        /// First group wanted.
        group_seq: Option<i32> => "groupSeq",
        /// Version the paging started with.
        data_version: Option<String> => "dataVersion",
        /// Most groups wanted.
        max_group_num: Option<i32> => "maxGroupNum",
    }
}
