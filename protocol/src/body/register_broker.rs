//! The body of REGISTER_BROKER: a broker's topics, in three forms.
//!
//! Plain JSON (all current brokers), a zlib stream with lengths before each part, and the bare topic table of
//! very old brokers. Read by the nameserver, written by the broker. Must hold: a small stream cannot become
//! an unbounded amount of memory.

use super::data_version::DataVersion;
use super::topic_config::{TopicConfig, TopicConfigTable, TopicFilterType};
use super::topic_queue_mapping::TopicQueueMapping;
use crate::java_json::{self, JavaJsonError};
use crate::message::record;
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// Largest content of a compressed body, bytes.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Senders below this version (3.0.11) send the bare topic table.
const WRAPPED_SINCE: i32 = 37;
/// Senders from this version (5.0.0) on append queue mappings to the compressed form.
const MAPPINGS_SINCE: i32 = 413;

/// A broker's topics and filter servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    /// Legacy.
    pub filter_server_list: Vec<String>,
    /// The topics.
    pub topic_config_serialize_wrapper: TopicConfigTable,
}

/// Why a registration's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegisterBodyError {
    /// A JSON part.
    #[error("the registration's {part} cannot be read: {source}")]
    Json {
        /// Which.
        part: &'static str,
        /// Why.
        source: JavaJsonError,
    },
    /// The stream is no zlib, or cut off.
    #[error("the registration's compressed body cannot be inflated: {0}")]
    Inflate(#[from] std::io::Error),
    /// The content is too large.
    #[error("the registration's compressed body has more than {CONTENT_BYTES_MAX} bytes")]
    TooLarge,
    /// A length that does not fit.
    #[error("the registration's {part} at byte {at} does not fit its content of {len} bytes")]
    Cut {
        /// Which part.
        part: &'static str,
        /// Where, in the content.
        at: usize,
        /// Length of the content.
        len: usize,
    },
    /// A topic line.
    #[error(
        "the registration's topic line {line:?} is not `topic readQueues writeQueues perm filterType [attributes]`"
    )]
    TopicLine {
        /// The line, cut if it is very long.
        line: String,
    },
}

/// What the header field `bodyCrc32` must be for a body as sent.
pub fn body_crc32(body: &[u8]) -> i32 {
    record::body_crc(body) as i32
}

impl RegisterBrokerBody {
    /// Reads a body by the sender's version and the header's `compressed`. No body means no topics.
    ///
    /// # Errors
    /// See [`RegisterBodyError`].
    pub fn decode(body: &[u8], sender_version: i32, compressed: bool) -> Result<Self, RegisterBodyError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        if sender_version < WRAPPED_SINCE {
            let topic_config_serialize_wrapper = json("topic table", body)?;
            return Ok(Self { topic_config_serialize_wrapper, ..Self::default() });
        }
        if !compressed {
            return json("body", body);
        }
        let mut content = Vec::new();
        ZlibDecoder::new(body).take(CONTENT_BYTES_MAX as u64 + 1).read_to_end(&mut content)?;
        if content.len() > CONTENT_BYTES_MAX {
            return Err(RegisterBodyError::TooLarge);
        }
        Self::decode_content(&content, sender_version >= MAPPINGS_SINCE)
    }

    /// Writes the plain form.
    pub fn encode(&self) -> Vec<u8> {
        java_json::to_vec(self)
    }

    /// Writes the compressed form, as a sender of that version would.
    pub fn encode_compressed(&self, sender_version: i32) -> Vec<u8> {
        let content = self.encode_content(sender_version >= MAPPINGS_SINCE);
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        // Writing into memory does not fail; were it to, an empty body would be refused by its receiver.
        encoder.write_all(&content).and_then(|()| encoder.finish()).unwrap_or_default()
    }

    fn encode_content(&self, mappings: bool) -> Vec<u8> {
        let table = &self.topic_config_serialize_wrapper;
        let mut out = Vec::new();
        push_part(&mut out, &java_json::to_vec(&table.data_version));
        push_count(&mut out, table.topic_config_table.len());
        for topic in table.topic_config_table.values() {
            push_part(&mut out, topic_line(topic, mappings).as_bytes());
        }
        push_part(&mut out, &java_json::to_vec(&self.filter_server_list));
        if mappings {
            let infos = table.topic_queue_mapping_info_map.as_ref();
            push_count(&mut out, infos.map_or(0, BTreeMap::len));
            for info in infos.into_iter().flat_map(BTreeMap::values) {
                push_part(&mut out, &java_json::to_vec(info));
            }
        }
        out
    }

    fn decode_content(content: &[u8], mappings: bool) -> Result<Self, RegisterBodyError> {
        let mut parts = Parts { content, at: 0 };
        let data_version: DataVersion = json("data version", parts.part("data version")?)?;
        let mut topics = BTreeMap::new();
        for _ in 0..parts.length("topic count")? {
            let topic = read_topic_line(parts.part("topic line")?)?;
            topics.insert(topic.topic_name.clone(), topic);
        }
        let filter_server_list = json("filter server list", parts.part("filter server list")?)?;
        let mut infos = BTreeMap::new();
        if mappings && parts.at < content.len() {
            for _ in 0..parts.length("mapping count")? {
                let info: TopicQueueMapping = json("queue mapping", parts.part("queue mapping")?)?;
                infos.insert(info.topic.clone().unwrap_or_default(), info);
            }
        }
        let table = TopicConfigTable {
            data_version,
            topic_config_table: topics,
            topic_queue_mapping_info_map: mappings.then_some(infos),
            ..TopicConfigTable::default()
        };
        Ok(Self { filter_server_list, topic_config_serialize_wrapper: table })
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &'static str, text: &[u8]) -> Result<T, RegisterBodyError> {
    java_json::from_slice(text).map_err(|source| RegisterBodyError::Json { part, source })
}

fn topic_line(topic: &TopicConfig, attributes: bool) -> String {
    let TopicConfig { topic_name, read_queue_nums, write_queue_nums, perm, topic_filter_type, .. } = topic;
    let mut line = format!("{topic_name} {read_queue_nums} {write_queue_nums} {perm} {}", topic_filter_type.name());
    if attributes {
        line.push(' ');
        line.push_str(&String::from_utf8_lossy(&java_json::to_vec(&topic.attributes)));
    }
    line
}

fn read_topic_line(line: &[u8]) -> Result<TopicConfig, RegisterBodyError> {
    let text = String::from_utf8_lossy(line);
    let wrong = || RegisterBodyError::TopicLine { line: text.chars().take(300).collect() };
    let mut words = text.splitn(6, ' ');
    let mut word = || words.next().ok_or_else(wrong);
    let topic_name = word()?.to_owned();
    let mut number = || word()?.parse::<i32>().map_err(|_| wrong());
    let (read_queue_nums, write_queue_nums, perm) = (number()?, number()?, number()?);
    let topic_filter_type = TopicFilterType::from_name(word()?).ok_or_else(wrong)?;
    let attributes = match words.next() {
        Some(attributes) if !attributes.trim().is_empty() => json("topic attributes", attributes.as_bytes())?,
        _ => BTreeMap::new(),
    };
    Ok(TopicConfig {
        attributes,
        perm,
        read_queue_nums,
        topic_filter_type,
        topic_name,
        write_queue_nums,
        ..TopicConfig::default()
    })
}

fn push_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
}

fn push_part(out: &mut Vec<u8>, part: &[u8]) {
    push_count(out, part.len());
    out.extend_from_slice(part);
}

struct Parts<'a> {
    content: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    fn length(&mut self, part: &'static str) -> Result<usize, RegisterBodyError> {
        let word = self.content.get(self.at..).and_then(|rest| rest.first_chunk::<4>());
        let length = word.and_then(|word| usize::try_from(i32::from_be_bytes(*word)).ok());
        let length = length.ok_or(RegisterBodyError::Cut { part, at: self.at, len: self.content.len() })?;
        self.at += 4;
        Ok(length)
    }

    fn part(&mut self, part: &'static str) -> Result<&'a [u8], RegisterBodyError> {
        let start = self.at;
        let end = self.length(part)?.saturating_add(self.at);
        let bytes = self.content.get(self.at..end);
        let bytes = bytes.ok_or(RegisterBodyError::Cut { part, at: start, len: self.content.len() })?;
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTENT: &str = "000000387b22636f756e746572223a312c22737461746556657273696f6e223a302c2274696d657374616d70223a3137\
        30303030303030303030307d000000010000001d546f706963546573742034203420362053494e474c455f544147207b\
        7d000000025b5d00000000";

    fn golden() -> RegisterBrokerBody {
        let version = DataVersion { counter: 1, state_version: 0, timestamp: 1_700_000_000_000 };
        let mut table = TopicConfigTable::new(version, [TopicConfig::new("TopicTest", 4, 6)]);
        table.mapping_data_version = None;
        table.topic_queue_mapping_detail_map = None;
        RegisterBrokerBody { filter_server_list: vec![], topic_config_serialize_wrapper: table }
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn golden_compressed_content() {
        let content = hex::decode(CONTENT).unwrap();
        assert_eq!(golden().encode_content(true), content);
        assert_eq!(RegisterBrokerBody::decode(&zlib(&content), 479, true).unwrap(), golden());
        assert_eq!(RegisterBrokerBody::decode(&golden().encode_compressed(479), 479, true).unwrap(), golden());
    }

    #[test]
    fn senders_of_4x_have_neither_attributes_nor_mappings() {
        let content = golden().encode_content(false);
        assert!(String::from_utf8_lossy(&content).ends_with("SINGLE_TAG\0\0\0\u{2}[]"));
        let body = RegisterBrokerBody::decode(&golden().encode_compressed(407), 407, true).unwrap();
        let table = &body.topic_config_serialize_wrapper;
        assert_eq!(table.topic_config_table, golden().topic_config_serialize_wrapper.topic_config_table);
        assert_eq!(table.topic_queue_mapping_info_map, None);
    }

    #[test]
    fn golden_crc_and_plain_forms() {
        let text = br#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1700000000000},"topicConfigTable":{}}}"#;
        assert_eq!((text.len(), body_crc32(text)), (148, 385_843_084));
        let body = RegisterBrokerBody::decode(text, 479, false).unwrap();
        assert_eq!(body.encode(), text);
        let bare = br#"{"dataVersion":{"counter":1,"timestamp":1700000000000},"topicConfigTable":{}}"#;
        assert_eq!(RegisterBrokerBody::decode(bare, 36, false).unwrap(), body);
        assert_eq!(RegisterBrokerBody::decode(b"", 479, true).unwrap(), RegisterBrokerBody::default());
    }

    #[test]
    fn attributes_and_mappings_come_along() {
        let mut body = golden();
        let table = &mut body.topic_config_serialize_wrapper;
        let topic = table.topic_config_table.get_mut("TopicTest").unwrap();
        topic.attributes.insert("message.type".to_owned(), "a b".to_owned());
        let mapping = TopicQueueMapping {
            topic: Some("S".to_owned()),
            curr_id_map: BTreeMap::from([(0, 1)]),
            ..TopicQueueMapping::default()
        };
        table.topic_queue_mapping_info_map = Some(BTreeMap::from([("S".to_owned(), mapping)]));
        assert_eq!(RegisterBrokerBody::decode(&body.encode_compressed(479), 479, true).unwrap(), body);
        assert_eq!(RegisterBrokerBody::decode(&body.encode(), 479, false).unwrap(), body);
    }

    #[test]
    fn a_small_stream_cannot_become_unbounded_memory() {
        let bomb = zlib(&vec![0; CONTENT_BYTES_MAX + 1]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(RegisterBrokerBody::decode(&bomb, 479, true), Err(RegisterBodyError::TooLarge)));
    }

    #[test]
    fn damage_is_named() {
        let content = hex::decode(CONTENT).unwrap();
        let error = |content: &[u8]| RegisterBrokerBody::decode(&zlib(content), 479, true).unwrap_err().to_string();
        assert!(error(&content[..80]).contains("topic line at byte 64"), "{}", error(&content[..80]));
        let mut line = content.clone();
        line[78] = b'x';
        assert!(error(&line).contains("`topic readQueues"), "{}", error(&line));
        assert!(matches!(RegisterBrokerBody::decode(b"no zlib", 479, true), Err(RegisterBodyError::Inflate(_))));
        assert!(matches!(RegisterBrokerBody::decode(b"{", 479, false), Err(RegisterBodyError::Json { .. })));
    }

    proptest! {
        #[test]
        fn damaged_content_never_panics(at in 0usize..110, value in any::<u8>(), cut in 0usize..111, mappings in any::<bool>()) {
            let mut content = hex::decode(CONTENT).unwrap();
            let at = at % content.len();
            content[at] = value;
            content.truncate(cut);
            let _ = RegisterBrokerBody::decode_content(&content, mappings);
        }

        #[test]
        fn both_forms_round_trip(
            topics in prop::collection::btree_map("[a-zA-Z0-9_%|-]{1,20}", (any::<i32>(), 0i32..16, any::<bool>(), any::<String>()), 0..8),
            servers in prop::collection::vec(any::<String>(), 0..3),
            counter in any::<i64>(),
        ) {
            let topics = topics.into_iter().map(|(name, (queues, perm, multi, attribute))| TopicConfig {
                topic_filter_type: if multi { TopicFilterType::MultiTag } else { TopicFilterType::SingleTag },
                attributes: BTreeMap::from([("k".to_owned(), attribute)]),
                ..TopicConfig::new(name, queues, perm)
            });
            let mut body = golden();
            body.filter_server_list = servers;
            body.topic_config_serialize_wrapper.topic_config_table = topics.map(|topic| (topic.topic_name.clone(), topic)).collect();
            body.topic_config_serialize_wrapper.data_version.counter = counter;
            prop_assert_eq!(&RegisterBrokerBody::decode(&body.encode_compressed(479), 479, true).unwrap(), &body);
            prop_assert_eq!(&RegisterBrokerBody::decode(&body.encode(), 479, false).unwrap(), &body);
        }
    }
}
