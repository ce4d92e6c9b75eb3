//! Headers of pulling: PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361). [`PullMessageHeader`] is the broker's view,
//! borrowed from the frame; the owned form is for clients and for requests that are held.

use super::headers;
use crate::command::{ExtFields, FieldValue, HeaderError, Text};

headers! {
    /// PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).
    pub struct PullMessageRequestHeader {
        /// Group.
        consumer_group: String => "consumerGroup",
        /// Topic.
        topic: String => "topic",
        /// Queue.
        queue_id: i32 => "queueId",
        /// Next offset wanted.
        queue_offset: i64 => "queueOffset",
        /// Most messages wanted.
        max_msg_nums: i32 => "maxMsgNums",
        /// Bits: 1 commit, 2 hold, 4 subscription, 8 class filter, 16 lite pull.
        sys_flag: i32 => "sysFlag",
        /// Offset to commit when bit 1 is set.
        commit_offset: i64 => "commitOffset",
        /// Milliseconds the broker may hold the request.
        suspend_timeout_millis: i64 => "suspendTimeoutMillis",
        /// Filter expression when bit 4 is set.
        subscription: Option<String> => "subscription",
        /// Version of the subscription, milliseconds of the client's clock.
        sub_version: i64 => "subVersion",
        /// `TAG` (the default) or `SQL92`.
        expression_type: Option<String> => "expressionType",
        /// Most bytes wanted; accepted, not used.
        max_msg_bytes: Option<i32> => "maxMsgBytes",
        /// Where the request comes from; -1 or absent: a client.
        request_source: Option<i32> => "requestSource",
        /// Client id behind a proxy; the spelling is RocketMQ's.
        proxy_froward_client_id: Option<String> => "proxyFrowardClientId",
        /// Name of the broker that is meant.
        broker_name: Option<String> => "bname",
    }

    /// Answer to a pull. The first four must be there on codes 0, 19, 20 and 21.
    pub struct PullMessageResponseHeader {
        /// Above 0: pull the next batch from that slave.
        suggest_which_broker_id: i64 => "suggestWhichBrokerId",
        /// Where to pull next.
        next_begin_offset: i64 => "nextBeginOffset",
        /// First offset of the queue.
        min_offset: i64 => "minOffset",
        /// Next offset to be assigned in the queue.
        max_offset: i64 => "maxOffset",
        /// Added by the client to the queue offset of each message.
        offset_delta: Option<i64> => "offsetDelta",
        /// Flags of the topic.
        topic_sys_flag: Option<i32> => "topicSysFlag",
        /// Flags of the group.
        group_sys_flag: Option<i32> => "groupSysFlag",
        /// Why reading is forbidden, 1 to 5.
        forbidden_type: Option<i32> => "forbiddenType",
    }
}

/// The header of a pull request, borrowed from its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullMessageHeader<'a> {
    /// Group.
    pub consumer_group: Text<'a>,
    /// Topic.
    pub topic: Text<'a>,
    /// Queue.
    pub queue_id: i32,
    /// Next offset wanted.
    pub queue_offset: i64,
    /// Most messages wanted.
    pub max_msg_nums: i32,
    /// Bits: 1 commit, 2 hold, 4 subscription, 8 class filter, 16 lite pull.
    pub sys_flag: i32,
    /// Offset to commit when bit 1 is set; 0 when absent.
    pub commit_offset: i64,
    /// Milliseconds the broker may hold the request; 0 when absent.
    pub suspend_timeout_millis: i64,
    /// Filter expression when bit 4 is set.
    pub subscription: Option<Text<'a>>,
    /// Version of the subscription; 0 when absent.
    pub sub_version: i64,
    /// `TAG` when absent or empty.
    pub expression_type: Option<Text<'a>>,
    /// Most bytes wanted.
    pub max_msg_bytes: Option<i32>,
    /// Where the request comes from; -1: a client.
    pub request_source: i32,
    /// Client id behind a proxy.
    pub proxy_froward_client_id: Option<Text<'a>>,
    /// Name of the broker that is meant.
    pub broker_name: Option<Text<'a>>,
}

/// The values as they are found, before what is required is checked.
#[derive(Default)]
struct Found<'a> {
    consumer_group: Option<Text<'a>>,
    topic: Option<Text<'a>>,
    queue_id: Option<i32>,
    queue_offset: Option<i64>,
    max_msg_nums: Option<i32>,
    sys_flag: Option<i32>,
    commit_offset: Option<i64>,
    suspend_timeout_millis: Option<i64>,
    subscription: Option<Text<'a>>,
    sub_version: Option<i64>,
    expression_type: Option<Text<'a>>,
    max_msg_bytes: Option<i32>,
    request_source: Option<i32>,
    proxy_froward_client_id: Option<Text<'a>>,
    broker_name: Option<Text<'a>>,
}

impl<'a> Found<'a> {
    fn take(&mut self, name: &str, value: &Text<'a>) -> Result<(), HeaderError> {
        match name {
            "consumerGroup" => self.consumer_group = Some(*value),
            "topic" => self.topic = Some(*value),
            "queueId" => self.queue_id = FieldValue::read("queueId", value)?,
            "queueOffset" => self.queue_offset = FieldValue::read("queueOffset", value)?,
            "maxMsgNums" => self.max_msg_nums = FieldValue::read("maxMsgNums", value)?,
            "sysFlag" => self.sys_flag = FieldValue::read("sysFlag", value)?,
            "commitOffset" => self.commit_offset = FieldValue::read("commitOffset", value)?,
            "suspendTimeoutMillis" => self.suspend_timeout_millis = FieldValue::read("suspendTimeoutMillis", value)?,
            "subscription" => self.subscription = Some(*value),
            "subVersion" => self.sub_version = FieldValue::read("subVersion", value)?,
            "expressionType" => self.expression_type = Some(*value),
            "maxMsgBytes" => self.max_msg_bytes = FieldValue::read("maxMsgBytes", value)?,
            "requestSource" => self.request_source = FieldValue::read("requestSource", value)?,
            "proxyFrowardClientId" => self.proxy_froward_client_id = Some(*value),
            "bname" => self.broker_name = Some(*value),
            _ => {}
        }
        Ok(())
    }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, HeaderError> {
    value.ok_or(HeaderError::Missing { field })
}

impl<'a> PullMessageHeader<'a> {
    /// Reads the header of a pull request.
    ///
    /// # Errors
    /// A field that is absent or unreadable; see [`HeaderError`].
    pub fn decode(ext: &ExtFields<'a>) -> Result<Self, HeaderError> {
        let mut found = Found::default();
        for (name, value) in ext.iter() {
            if let Some(name) = name.as_plain() {
                found.take(name, value)?;
            }
        }
        Ok(Self {
            consumer_group: required("consumerGroup", found.consumer_group)?,
            topic: required("topic", found.topic)?,
            queue_id: required("queueId", found.queue_id)?,
            queue_offset: required("queueOffset", found.queue_offset)?,
            max_msg_nums: required("maxMsgNums", found.max_msg_nums)?,
            sys_flag: required("sysFlag", found.sys_flag)?,
            commit_offset: found.commit_offset.unwrap_or(0),
            suspend_timeout_millis: found.suspend_timeout_millis.unwrap_or(0),
            subscription: found.subscription,
            sub_version: found.sub_version.unwrap_or(0),
            expression_type: found.expression_type,
            max_msg_bytes: found.max_msg_bytes,
            request_source: found.request_source.unwrap_or(-1),
            proxy_froward_client_id: found.proxy_froward_client_id,
            broker_name: found.broker_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::CommandHeader;

    #[test]
    fn view_and_owned_header_agree() {
        let header = PullMessageRequestHeader {
            consumer_group: "CG".into(),
            topic: "T".into(),
            queue_id: 1,
            queue_offset: 2,
            max_msg_nums: 32,
            sys_flag: 7,
            commit_offset: 3,
            suspend_timeout_millis: 15_000,
            subscription: Some("a > 1".into()),
            sub_version: 4,
            expression_type: Some("SQL92".into()),
            max_msg_bytes: Some(5),
            request_source: Some(2),
            proxy_froward_client_id: Some("client".into()),
            broker_name: Some("broker-a".into()),
        };
        let mut fields = Vec::new();
        header.encode(&mut |name, value| fields.push((name, value.into_owned())));
        let ext: ExtFields<'_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let view = PullMessageHeader::decode(&ext).unwrap();
        assert_eq!(PullMessageRequestHeader::decode(&ext), Ok(header));
        assert_eq!((view.queue_id, view.queue_offset, view.max_msg_nums, view.sys_flag), (1, 2, 32, 7));
        assert_eq!((view.commit_offset, view.suspend_timeout_millis, view.sub_version), (3, 15_000, 4));
        assert!(view.subscription.unwrap().eq_str("a > 1") && view.expression_type.unwrap().eq_str("SQL92"));
        assert_eq!((view.max_msg_bytes, view.request_source), (Some(5), 2));
        let ext: ExtFields<'_> = [("consumerGroup", "CG"), ("topic", "T"), ("queueId", "x")].into_iter().collect();
        assert!(matches!(PullMessageHeader::decode(&ext), Err(HeaderError::Unreadable { field: "queueId", .. })));
    }
}
