//! Headers of sending: SEND_MESSAGE (10, long names), SEND_MESSAGE_V2, SEND_BATCH_MESSAGE and the replies (310, 320,
//! 325; one letter per field), and their answer. [`SendMessageHeader`] is the broker's view, borrowed from the frame.

use super::headers;
use crate::code::RequestCode;
use crate::command::{ExtFields, FieldValue, HeaderError, Text};

headers! {
    /// SEND_MESSAGE (10) and SEND_REPLY_MESSAGE (324).
    pub struct SendMessageRequestHeader {
        /// Producer group.
        producer_group: String => "producerGroup",
        /// Topic.
        topic: String => "topic",
        /// Template topic for creating the topic, normally `TBW102`.
        default_topic: String => "defaultTopic",
        /// Queues wanted for a topic that is created.
        default_topic_queue_nums: i32 => "defaultTopicQueueNums",
        /// Queue; below 0 the broker chooses.
        queue_id: i32 => "queueId",
        /// System flag.
        sys_flag: i32 => "sysFlag",
        /// Milliseconds of the client's clock.
        born_timestamp: i64 => "bornTimestamp",
        /// User flag.
        flag: i32 => "flag",
        /// Property block.
        properties: Option<String> => "properties",
        /// Times consumed.
        reconsume_times: Option<i32> => "reconsumeTimes",
        /// Unit mode.
        unit_mode: Option<bool> => "unitMode",
        /// Whether the body holds several messages.
        batch: Option<bool> => "batch",
        /// Most deliveries, for retry topics.
        max_reconsume_times: Option<i32> => "maxReconsumeTimes",
        /// Name of the broker that is meant.
        broker_name: Option<String> => "bname",
    }

    /// SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320) and SEND_REPLY_MESSAGE_V2 (325).
    pub struct SendMessageRequestHeaderV2 {
        /// Producer group.
        producer_group: String => "a",
        /// Topic.
        topic: String => "b",
        /// Template topic for creating the topic, normally `TBW102`.
        default_topic: String => "c",
        /// Queues wanted for a topic that is created.
        default_topic_queue_nums: i32 => "d",
        /// Queue; below 0 the broker chooses.
        queue_id: i32 => "e",
        /// System flag.
        sys_flag: i32 => "f",
        /// Milliseconds of the client's clock.
        born_timestamp: i64 => "g",
        /// User flag.
        flag: i32 => "h",
        /// Property block.
        properties: Option<String> => "i",
        /// Times consumed.
        reconsume_times: Option<i32> => "j",
        /// Unit mode.
        unit_mode: Option<bool> => "k",
        /// Most deliveries, for retry topics.
        max_reconsume_times: Option<i32> => "l",
        /// Whether the body holds several messages.
        batch: Option<bool> => "m",
        /// Name of the broker that is meant.
        broker_name: Option<String> => "n",
    }

    /// Answer to every kind of send. The first three must be there on codes 0, 10, 11 and 12.
    pub struct SendMessageResponseHeader {
        /// Offset message id; of a batch all of them, joined by commas.
        msg_id: String => "msgId",
        /// Queue the message went to.
        queue_id: i32 => "queueId",
        /// Its offset there; of a batch that of the first message.
        queue_offset: i64 => "queueOffset",
        /// Unique id of the message.
        transaction_id: Option<String> => "transactionId",
        /// Unique id of a batch stored as one record.
        batch_uniq_id: Option<String> => "batchUniqId",
        /// Handle to recall a timer message.
        recall_handle: Option<String> => "recallHandle",
        /// Region of the broker, `DefaultRegion`.
        msg_region: Option<String> => "MSG_REGION",
        /// Whether clients shall trace.
        trace_on: Option<String> => "TRACE_ON",
    }
}

/// The header of any send request, borrowed from its frame. Long and short names are understood alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendMessageHeader<'a> {
    /// Producer group.
    pub producer_group: Text<'a>,
    /// Topic.
    pub topic: Text<'a>,
    /// Template topic for creating the topic, normally `TBW102`.
    pub default_topic: Text<'a>,
    /// Queues wanted for a topic that is created.
    pub default_topic_queue_nums: i32,
    /// Queue; below 0 the broker chooses.
    pub queue_id: i32,
    /// System flag.
    pub sys_flag: i32,
    /// Milliseconds of the client's clock.
    pub born_timestamp: i64,
    /// User flag.
    pub flag: i32,
    /// Property block.
    pub properties: Option<Text<'a>>,
    /// Times consumed; 0 when absent.
    pub reconsume_times: i32,
    /// Unit mode.
    pub unit_mode: bool,
    /// Most deliveries, for retry topics.
    pub max_reconsume_times: Option<i32>,
    /// Whether the body holds several messages. This field decides, not the request code.
    pub batch: bool,
    /// Name of the broker that is meant.
    pub broker_name: Option<Text<'a>>,
}

/// The fields in the order of the letters `a` to `n`: their long names.
const LONG_NAMES: [&str; 14] = [
    "producerGroup",
    "topic",
    "defaultTopic",
    "defaultTopicQueueNums",
    "queueId",
    "sysFlag",
    "bornTimestamp",
    "flag",
    "properties",
    "reconsumeTimes",
    "unitMode",
    "maxReconsumeTimes",
    "batch",
    "bname",
];

/// The same fields' short names.
const SHORT_NAMES: [&str; 14] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];

/// Which field a name means, as its place in the tables above.
fn place_of(name: &Text<'_>) -> Option<usize> {
    let name = name.as_plain()?;
    match name.as_bytes() {
        [letter @ b'a'..=b'n'] => Some(usize::from(letter - b'a')),
        [_] => None,
        _ => LONG_NAMES.iter().position(|long| *long == name),
    }
}

impl<'a> SendMessageHeader<'a> {
    /// Reads the header of a send request. `code` only says by which names an error speaks of the fields.
    ///
    /// # Errors
    /// A field that is absent or unreadable; see [`HeaderError`].
    pub fn decode(code: RequestCode, ext: &ExtFields<'a>) -> Result<Self, HeaderError> {
        let names = match code {
            RequestCode::SEND_MESSAGE | RequestCode::SEND_REPLY_MESSAGE => &LONG_NAMES,
            _ => &SHORT_NAMES,
        };
        let mut fields = Fields { names, values: [None; 14] };
        for (name, value) in ext.iter() {
            if let Some(place) = place_of(name).and_then(|place| fields.values.get_mut(place)) {
                *place = Some(value);
            }
        }
        Ok(Self {
            producer_group: fields.text(0)?,
            topic: fields.text(1)?,
            default_topic: fields.text(2)?,
            default_topic_queue_nums: fields.required(3)?,
            queue_id: fields.required(4)?,
            sys_flag: fields.required(5)?,
            born_timestamp: fields.required(6)?,
            flag: fields.required(7)?,
            properties: fields.values[8].copied(),
            reconsume_times: fields.present(9)?.unwrap_or(0),
            unit_mode: fields.present(10)?.unwrap_or(false),
            max_reconsume_times: fields.present(11)?,
            batch: fields.present(12)?.unwrap_or(false),
            broker_name: fields.values[13].copied(),
        })
    }
}

/// The values by their places in the tables above.
struct Fields<'f, 'a> {
    names: &'static [&'static str; 14],
    values: [Option<&'f Text<'a>>; 14],
}

impl<'a> Fields<'_, 'a> {
    fn text(&self, place: usize) -> Result<Text<'a>, HeaderError> {
        self.values[place].copied().ok_or(HeaderError::Missing { field: self.names[place] })
    }

    fn present<T: FieldValue>(&self, place: usize) -> Result<Option<T>, HeaderError> {
        self.values[place].map_or(Ok(None), |value| T::read(self.names[place], value))
    }

    fn required<T: FieldValue>(&self, place: usize) -> Result<T, HeaderError> {
        self.present(place)?.ok_or(HeaderError::Missing { field: self.names[place] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: [(&str, &str); 10] = [
        ("a", "PG"),
        ("b", "T"),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", "-1"),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "7"),
        ("i", "TAGS\u{1}A\u{2}"),
        ("m", "true"),
    ];

    #[test]
    fn long_and_short_names_give_the_same() {
        let short: ExtFields<'_> = SHORT.into_iter().collect();
        let long: ExtFields<'_> = SHORT
            .into_iter()
            .map(|(name, value)| (LONG_NAMES[SHORT_NAMES.iter().position(|short| *short == name).unwrap()], value))
            .collect();
        let header = SendMessageHeader::decode(RequestCode::SEND_MESSAGE_V2, &short).unwrap();
        assert_eq!(SendMessageHeader::decode(RequestCode::SEND_MESSAGE, &long), Ok(header.clone()));
        assert_eq!((header.queue_id, header.born_timestamp, header.flag), (-1, 1_700_000_000_000, 7));
        assert!(header.batch && !header.unit_mode);
        assert_eq!((header.reconsume_times, header.max_reconsume_times, header.broker_name), (0, None, None));
    }

    #[test]
    fn errors_use_the_names_of_the_request() {
        let ext: ExtFields<'_> = SHORT.into_iter().filter(|(name, _)| *name != "e").collect();
        assert_eq!(
            SendMessageHeader::decode(RequestCode::SEND_MESSAGE_V2, &ext),
            Err(HeaderError::Missing { field: "e" })
        );
        assert_eq!(
            SendMessageHeader::decode(RequestCode::SEND_MESSAGE, &ext),
            Err(HeaderError::Missing { field: "queueId" })
        );
    }
}
