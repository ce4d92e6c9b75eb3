//! One topic of a consumer's subscription: part of heartbeats, of CHECK_CLIENT_CONFIG and of several answers.

use super::tolerant;
use crate::message::flags::java_string_hash;
use serde::{Deserialize, Serialize};

/// The expression type of tag filters; also what a missing or empty type means.
pub const TAG: &str = "TAG";
/// The expression type of SQL filters.
pub const SQL92: &str = "SQL92";
/// The expression that keeps everything.
pub const ALL: &str = "*";

/// What a consumer wants of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionData {
    /// Legacy mode of filter servers.
    pub class_filter_mode: bool,
    /// Java string hash of each tag. Go sends them as strings.
    #[serde(deserialize_with = "tolerant::numbers")]
    pub code_set: Vec<i32>,
    /// `TAG`, `SQL92`, or the name of another filter.
    pub expression_type: String,
    /// The expression as the user wrote it.
    pub sub_string: String,
    /// Version: the client's clock at the subscription, ms. C++ sends it as a string.
    #[serde(deserialize_with = "tolerant::number")]
    pub sub_version: i64,
    /// Tags of a tag filter; empty for `*` and other kinds.
    pub tags_set: Vec<String>,
    /// Topic.
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> Self {
        Self {
            class_filter_mode: false,
            code_set: Vec::new(),
            expression_type: TAG.to_owned(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: Vec::new(),
            topic: String::new(),
        }
    }
}

impl SubscriptionData {
    /// From what a user writes: an empty expression of a tag filter becomes `*`, and tags separated by `||`
    /// are cut out, trimmed and hashed. Other kinds of expression are taken as they are.
    pub fn from_expression(topic: &str, expression: &str, expression_type: &str, version: i64) -> Self {
        let expression_type = if expression_type.is_empty() { TAG } else { expression_type };
        let mut data = Self {
            expression_type: expression_type.to_owned(),
            sub_string: expression.to_owned(),
            sub_version: version,
            topic: topic.to_owned(),
            ..Self::default()
        };
        if !data.is_tag_filter() {
            return data;
        }
        if expression.trim().is_empty() || expression.trim() == ALL {
            ALL.clone_into(&mut data.sub_string);
            return data;
        }
        for tag in expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
            if !data.tags_set.iter().any(|known| known == tag) {
                data.tags_set.push(tag.to_owned());
                data.code_set.push(java_string_hash(tag));
            }
        }
        data
    }

    /// Whether it filters by tags alone.
    pub fn is_tag_filter(&self) -> bool {
        self.expression_type.is_empty() || self.expression_type == TAG
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::java_json;

    #[test]
    fn expressions_become_tags() {
        let data = SubscriptionData::from_expression("T", " TagA || TagB||TagA|| ", "", 7);
        assert_eq!(data.tags_set, ["TagA", "TagB"]);
        assert_eq!(data.code_set, [2_598_919, 2_598_920]);
        assert_eq!((data.expression_type.as_str(), data.sub_version), (TAG, 7));
        for all in ["", " ", "*"] {
            let data = SubscriptionData::from_expression("T", all, TAG, 0);
            assert_eq!((data.sub_string.as_str(), data.tags_set.len()), (ALL, 0));
        }
        let sql = SubscriptionData::from_expression("T", "a > 5 || b", SQL92, 0);
        assert_eq!((sql.sub_string.as_str(), sql.tags_set.len(), sql.is_tag_filter()), ("a > 5 || b", 0, false));
    }

    #[test]
    fn reads_what_go_and_cpp_write() {
        let go = br#"{"classFilterMode":false,"topic":"T","subString":"TagA","tagsSet":["TagA"],"codeSet":["2598919"],"subVersion":5,"expressionType":"TAG"}"#;
        let cpp = br#"{"classFilterMode":false,"subString":"TagA","subVersion":"5","topic":"T"}"#;
        let go: SubscriptionData = java_json::from_slice(go).unwrap();
        assert_eq!(go, SubscriptionData::from_expression("T", "TagA", TAG, 5));
        let cpp: SubscriptionData = java_json::from_slice(cpp).unwrap();
        assert_eq!(cpp, SubscriptionData { tags_set: vec![], code_set: vec![], ..go });
        assert!(java_json::from_slice::<SubscriptionData>(br#"{"codeSet":[2147483648]}"#).is_err());
        assert!(java_json::from_slice::<SubscriptionData>(br#"{"subVersion":"x"}"#).is_err());
    }
}
