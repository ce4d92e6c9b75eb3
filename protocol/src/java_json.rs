//! The JSON that Java's fastjson 1.x reads and writes, which is not always JSON: integer keys stand without
//! quotes (`{0:"a"}`), and a map keyed by queues has whole objects as keys (`{{"queueId":0}:5}`).
//!
//! Every body of the protocol is read by [`from_slice`] and written by [`to_vec`] or [`to_standard`].
//! Must hold: no input panics, time and memory are linear in the input, nesting is bounded by [`DEPTH_MAX`].

mod read;
mod write;

use crate::message::MessageQueue;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Deepest nesting of objects and arrays that is read.
pub const DEPTH_MAX: usize = 64;

/// Why a text could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JavaJsonError {
    /// The text is no JSON, not even Java's.
    #[error("malformed JSON at byte {at}: {expected} expected")]
    Syntax {
        /// Where, bytes from the start.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// Nested deeper than any body of the protocol.
    #[error("JSON nested deeper than {DEPTH_MAX} levels at byte {at}")]
    TooDeep {
        /// Where, bytes from the start.
        at: usize,
    },
    /// An object as key inside an object that is itself a key.
    #[error("an object key inside an object key at byte {at} cannot be read")]
    NestedKey {
        /// Where, bytes from the start.
        at: usize,
    },
    /// JSON, but not of the expected body.
    #[error("the JSON is not of the expected form: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Rewrites Java's JSON into standard JSON; text that is standard already is returned as it is.
///
/// - an unquoted key and single quotes get double quotes;
/// - an object as key becomes a string that holds the object's JSON text;
/// - a member whose value is null is left out: Java omits nulls, other clients write them, both mean "absent";
/// - raw control characters in strings are escaped.
///
/// Scalars are not examined: what is left wrong is found by the parser that reads the result.
///
/// # Errors
/// Broken structure or nesting beyond [`DEPTH_MAX`].
pub fn normalise(text: &[u8]) -> Result<Cow<'_, [u8]>, JavaJsonError> {
    read::normalise(text)
}

/// Reads a body.
///
/// # Errors
/// As [`normalise`], and [`JavaJsonError::Shape`] if the JSON is of another form.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, JavaJsonError> {
    Ok(serde_json::from_slice(&normalise(text)?)?)
}

/// Writes a body as fastjson does: integer keys (i32, i64) without quotes, queue keys inline.
///
/// Fields come in the order of the struct, which for the bodies of this crate is alphabetical, as in Java.
pub fn to_vec(body: &impl Serialize) -> Vec<u8> {
    write::to_vec(body)
}

/// Writes a body as standard JSON: integer keys quoted, queue keys as strings that hold JSON text.
///
/// For clients that ask for it, tools that are not Java, and files.
pub fn to_standard(body: &impl Serialize) -> Vec<u8> {
    write::to_standard(body)
}

/// For fields of type `BTreeMap<MessageQueue, V>`: `#[serde(with = "java_json::queue_keys")]`.
///
/// Reads the inline form, string keys that hold JSON text, and a list of `[queue, value]` pairs (Go's form).
pub mod queue_keys {
    use super::*;

    /// As a map whose keys are the queues' JSON texts; [`to_vec`] puts those inline.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<V: Serialize, S: Serializer>(
        table: &BTreeMap<MessageQueue, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(table.len()))?;
        for (queue, value) in table {
            map.serialize_entry(&serde_json::to_string(queue).map_err(S::Error::custom)?, value)?;
        }
        map.end()
    }

    /// From any of the three forms.
    ///
    /// # Errors
    /// A key that is no queue, or a value of another type.
    pub fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<MessageQueue, V>, D::Error> {
        deserializer.deserialize_any(QueueKeys(PhantomData))
    }

    struct QueueKeys<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for QueueKeys<V> {
        type Value = BTreeMap<MessageQueue, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map keyed by message queues")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut table = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, V>()? {
                table.insert(serde_json::from_str(&key).map_err(A::Error::custom)?, value);
            }
            Ok(table)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut table = BTreeMap::new();
            while let Some((queue, value)) = list.next_element::<(MessageQueue, V)>()? {
                table.insert(queue, value);
            }
            Ok(table)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Sample {
        by_id: BTreeMap<i64, String>,
        by_name: BTreeMap<String, f64>,
        #[serde(with = "queue_keys")]
        by_queue: BTreeMap<MessageQueue, i64>,
    }

    #[track_caller]
    fn check(java: &str, standard: &str) {
        let normalised = normalise(java.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&normalised).unwrap(), standard);
    }

    #[test]
    fn java_forms_become_standard() {
        check(r#"{0:"a",-1:"b"}"#, r#"{"0":"a","-1":"b"}"#);
        check(r#"{ name : 1 }"#, r#"{ "name" : 1 }"#);
        check(r#"{'a':'it\'s "so"'}"#, r#"{"a":"it's \"so\""}"#);
        check(r#"{{"queueId":0}:5}"#, r#"{"{\"queueId\":0}":5}"#);
        check(r#"{{0:'x'}:[{1:2}]}"#, r#"{"{\"0\":\"x\"}":[{"1":2}]}"#);
        check(r#"{{"a":"q\"\n"}:{{"b":1}:2}}"#, r#"{"{\"a\":\"q\\\"\\n\"}":{"{\"b\":1}":2}}"#);
        check("{\"a\":\"x\u{1}\ty\"}", r#"{"a":"x\u0001\u0009y"}"#);
    }

    #[test]
    fn null_members_are_left_out() {
        check(r#"{"a":null}"#, "{}");
        check(r#"{"a":1,"b":null,"c":null}"#, r#"{"a":1}"#);
        check(r#"{"a":null,"b":2, 3 : null ,"d":[null]}"#, r#"{"b":2, "d":[null]}"#);
        check(r#"{{"q":null}:null,x:{"y":null}}"#, r#"{"x":{}}"#);
        check("null", "null");
    }

    #[test]
    fn standard_text_is_not_copied() {
        for text in [r#"{"a":[1,2.5,"x\"\\",true,{}],"b":{"c":-1e5}}"#, " [] ", "\"é\"", "5"] {
            assert!(matches!(normalise(text.as_bytes()), Ok(Cow::Borrowed(_))), "{text}");
        }
    }

    #[test]
    fn broken_text_is_refused_with_its_place() {
        for (text, at) in [
            ("", 0),
            ("{", 1),
            ("{\"a\"", 4),
            ("{\"a\":", 5),
            ("{\"a\":1", 6),
            ("[1", 2),
            ("[1,]", 3),
            ("{,}", 1),
            ("{}x", 2),
            ("\"abc", 4),
            ("{\"a\" 1}", 5),
            ("[1 2]", 3),
            ("{:1}", 1),
            ("{\"a\":1,}", 7),
            ("\"\\", 2),
        ] {
            match normalise(text.as_bytes()) {
                Err(JavaJsonError::Syntax { at: found, .. }) => assert_eq!(found, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(normalise(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(matches!(normalise(nested(DEPTH_MAX + 1).as_bytes()), Err(JavaJsonError::TooDeep { at: 64 })));
        assert!(matches!(normalise("[".repeat(1_000_000).as_bytes()), Err(JavaJsonError::TooDeep { .. })));
        assert!(matches!(normalise(b"{{{1:2}:3}:4}"), Err(JavaJsonError::NestedKey { at: 2 })));
    }

    fn sample() -> Sample {
        Sample {
            by_id: BTreeMap::from([(0, "a".to_owned()), (10, "b".to_owned())]),
            by_name: BTreeMap::from([("x\"".to_owned(), 0.0), (String::new(), 1.5)]),
            by_queue: BTreeMap::from([(MessageQueue::new("T", "b\"", 1), 5)]),
        }
    }

    #[test]
    fn writes_both_forms() {
        let java = String::from_utf8(to_vec(&sample())).unwrap();
        let queue = r#"{"brokerName":"b\"","queueId":1,"topic":"T"}"#;
        assert_eq!(
            java,
            format!(r#"{{"byId":{{0:"a",10:"b"}},"byName":{{"":1.5,"x\"":0.0}},"byQueue":{{{queue}:5}}}}"#)
        );
        let standard = String::from_utf8(to_standard(&sample())).unwrap();
        let key = serde_json::to_string(queue).unwrap();
        assert_eq!(
            standard,
            format!(r#"{{"byId":{{"0":"a","10":"b"}},"byName":{{"":1.5,"x\"":0.0}},"byQueue":{{{key}:5}}}}"#)
        );
        for text in [java, standard] {
            assert_eq!(from_slice::<Sample>(text.as_bytes()).unwrap(), sample());
        }
    }

    #[test]
    fn queue_maps_are_read_from_pairs_too() {
        let text = r#"{"byQueue":[[{"brokerName":"b\"","queueId":1,"topic":"T"},5]],"unknown":[null]}"#;
        assert_eq!(from_slice::<Sample>(text.as_bytes()).unwrap().by_queue, sample().by_queue);
        assert!(from_slice::<Sample>(br#"{"byQueue":{"x":1}}"#).is_err());
    }

    /// A string key that looks like an object but is no queue stays a string.
    #[test]
    fn only_queues_are_written_inline() {
        for key in ["{", "{}", r#"{"brokerName":1}"#, r#"{"brokerName":"b","queueId":0,"topic":"T"},"x":{"#] {
            let body = Sample { by_name: BTreeMap::from([(key.to_owned(), 1.0)]), ..Sample::default() };
            assert_eq!(from_slice::<Sample>(&to_vec(&body)).unwrap(), body);
            serde_json::from_slice::<serde_json::Value>(&to_vec(&body)).unwrap();
        }
    }

    proptest! {
        #[test]
        fn typed_bodies_round_trip(
            by_id in prop::collection::btree_map(any::<i64>(), any::<String>(), 0..5),
            by_name in prop::collection::btree_map(any::<String>(), any::<i32>().prop_map(|n| f64::from(n) / 8.0), 0..5),
            by_queue in prop::collection::btree_map((any::<String>(), any::<String>(), any::<i32>()), any::<i64>(), 0..5),
        ) {
            let by_queue = by_queue.into_iter().map(|((t, b, q), v)| (MessageQueue::new(t, b, q), v)).collect();
            let body = Sample { by_id, by_name, by_queue };
            prop_assert_eq!(&from_slice::<Sample>(&to_vec(&body)).unwrap(), &body);
            prop_assert_eq!(&from_slice::<Sample>(&to_standard(&body)).unwrap(), &body);
        }

        #[test]
        fn any_text_is_rewritten_once_or_refused(text in r#"[\[\]{}:,"'\\ a01n\u{1}]{0,40}"#) {
            if let Ok(normalised) = normalise(text.as_bytes()) {
                let again = normalise(&normalised).unwrap();
                prop_assert_eq!(&again, &normalised);
                prop_assert!(matches!(again, Cow::Borrowed(_)));
            }
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = from_slice::<Sample>(&bytes);
        }

        #[test]
        fn standard_json_keeps_its_value(text in prop::collection::vec("\\PC{0,6}", 0..6)) {
            let value = serde_json::json!({ "list": text, "n": 1, "nested": { "k": [true, 1.5] } });
            let bytes = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(from_slice::<serde_json::Value>(&bytes).unwrap(), value);
        }
    }
}
