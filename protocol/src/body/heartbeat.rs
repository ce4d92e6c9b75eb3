//! The body of HEART_BEAT: which groups a client process produces and consumes for, and its subscriptions.

use super::subscription_data::SubscriptionData;
use serde::{Deserialize, Serialize};

named_enum! {
    /// How a consumer gets its messages.
    ConsumeType {
        /// Pull consumer.
        Actively = 0 "CONSUME_ACTIVELY",
        /// Push consumer.
        #[default]
        Passively = 1 "CONSUME_PASSIVELY",
        /// Pop consumer.
        Pop = 2 "CONSUME_POP",
    }
}

named_enum! {
    /// Whether members of a group share a topic's messages.
    MessageModel {
        /// Every member gets every message.
        Broadcasting = 0 "BROADCASTING",
        /// Members share the queues.
        #[default]
        Clustering = 1 "CLUSTERING",
    }
}

named_enum! {
    /// Where a group without a stored offset begins.
    ConsumeFromWhere {
        /// At the end of each queue.
        #[default]
        LastOffset = 0 "CONSUME_FROM_LAST_OFFSET",
        /// Legacy.
        LastOffsetAndMinWhenBootFirst = 1 "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        /// Legacy.
        MinOffset = 2 "CONSUME_FROM_MIN_OFFSET",
        /// Legacy.
        MaxOffset = 3 "CONSUME_FROM_MAX_OFFSET",
        /// At the first message of each queue.
        FirstOffset = 4 "CONSUME_FROM_FIRST_OFFSET",
        /// At a time the client names.
        Timestamp = 5 "CONSUME_FROM_TIMESTAMP",
    }
}

/// One client process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatData {
    /// Unique per process; one id for all its groups.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Groups it consumes in.
    pub consumer_data_set: Vec<ConsumerData>,
    /// Since 5.x. Other than 0: the client runs the second version of the heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_fingerprint: Option<i32>,
    /// Groups it produces in.
    pub producer_data_set: Vec<ProducerData>,
    /// Since 5.x. True: subscriptions are left out, those of the last full heartbeat hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_sub: Option<bool>,
}

/// One consumer group of a client process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerData {
    /// Where to begin without a stored offset.
    pub consume_from_where: ConsumeFromWhere,
    /// Pull, push or pop.
    pub consume_type: ConsumeType,
    /// Group.
    pub group_name: String,
    /// Clustering or broadcasting.
    pub message_model: MessageModel,
    /// Its subscriptions, one per topic.
    pub subscription_data_set: Vec<SubscriptionData>,
    /// Legacy deployment units.
    pub unit_mode: bool,
}

/// One producer group of a client process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerData {
    /// Group.
    pub group_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::java_json;

    #[test]
    fn a_cpp_heartbeat_has_ordinals_and_strings() {
        let text = br#"{"clientID":"10.0.0.1@1","consumerDataSet":[{"consumeFromWhere":4,"consumeType":1,"groupName":"CG",
            "messageModel":0,"subscriptionDataSet":[{"classFilterMode":false,"subString":"*","subVersion":"1700000000000",
            "topic":"T"}]}],"producerDataSet":[{"groupName":"PG"}]}"#;
        let data: HeartbeatData = java_json::from_slice(text).unwrap();
        let consumer = &data.consumer_data_set[0];
        assert_eq!(
            (consumer.consume_from_where, consumer.consume_type, consumer.message_model),
            (ConsumeFromWhere::FirstOffset, ConsumeType::Passively, MessageModel::Broadcasting)
        );
        let subscription = &consumer.subscription_data_set[0];
        assert_eq!((subscription.sub_version, subscription.is_tag_filter()), (1_700_000_000_000, true));
        assert_eq!((data.heartbeat_fingerprint, data.without_sub), (None, None));
    }

    #[test]
    fn go_writes_null_for_what_it_has_not() {
        let text = br#"{"clientID":"c","producerDataSet":null,"consumerDataSet":[{"groupName":"g","subscriptionDataSet":null}]}"#;
        let data: HeartbeatData = java_json::from_slice(text).unwrap();
        assert_eq!((data.producer_data_set.len(), data.consumer_data_set.len()), (0, 1));
    }

    #[test]
    fn unknown_enum_values_are_refused_with_the_known_ones() {
        for text in
            [&br#"{"consumerDataSet":[{"consumeType":3}]}"#[..], br#"{"consumerDataSet":[{"consumeType":"X"}]}"#]
        {
            let error = java_json::from_slice::<HeartbeatData>(text).unwrap_err().to_string();
            assert!(error.contains("CONSUME_POP"), "{error}");
        }
    }
}
