//! Names of topics and groups: the one validator, retry and dead-letter names, and the topics the system keeps.
//!
//! Called by the broker before anything is created or stored, by the nameserver and by tools. A checked name
//! is also safe as a folder name: it holds no separator and no dot.

/// Longest topic name, characters; retry and dead-letter topics may be longer.
pub const TOPIC_CHARS_MAX: usize = 127;
/// Longest name of a retry or dead-letter topic, characters.
pub const RETRY_TOPIC_CHARS_MAX: usize = 255;
/// Longest group name, characters.
pub const GROUP_CHARS_MAX: usize = 120;
/// Starts the topic that holds a group's messages under retry.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Starts the topic that holds a group's dead letters.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Starts every topic the system creates for itself since 4.x.
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
/// Starts every group of the system.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";
/// The template of automatically created topics.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
/// Holds messages with a delay level until they are due.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Holds half messages.
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// Holds the outcomes of half messages.
pub const OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Takes half messages whose outcome was asked for too often.
pub const CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// The group under which the broker consumes its half messages.
pub const TRANSACTION_GROUP: &str = "CID_RMQ_SYS_TRANS";
/// Trace records, where tracing uses the standard topic.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Self test.
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
/// Benchmarks.
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
/// Notes of corrected offsets.
pub const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";
/// Legacy checkpoint topic.
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
/// Holds messages with an exact delivery time until they are due.
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";

/// Topics of the system with fixed names. A broker adds its cluster's name, its own name and its reply topic.
pub const SYSTEM_TOPICS: &[&str] = &[
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    HALF_TOPIC,
    TRACE_TOPIC,
    OP_HALF_TOPIC,
    CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_TOPIC,
    CHECKPOINT_TOPIC,
];

/// Topics that clients may not send to.
const SEND_FORBIDDEN: &[&str] =
    &[SCHEDULE_TOPIC, HALF_TOPIC, OP_HALF_TOPIC, CHECK_MAX_TIME_TOPIC, SELF_TEST_TOPIC, OFFSET_MOVED_TOPIC];

/// Groups the broker creates at start and never lets anybody delete for good.
pub const SYSTEM_GROUPS: &[&str] = &[
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    TRANSACTION_GROUP,
];

/// What is wrong with a name. The text is what clients get as the remark of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An empty topic.
    #[error("The specified topic is blank.")]
    BlankTopic,
    /// A character that topics may not have.
    #[error("The specified topic: {topic}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    IllegalTopic {
        /// The topic, cut to its first characters if it is very long.
        topic: String,
    },
    /// Too long.
    #[error("The specified topic: {topic}, is longer than topic max length: {chars_max}")]
    LongTopic {
        /// The topic, cut to its first characters if it is very long.
        topic: String,
        /// The limit, characters.
        chars_max: usize,
    },
    /// A topic of the system, where a user's is expected.
    #[error("The topic[{topic}] is conflict with system topic.")]
    SystemTopic {
        /// The topic.
        topic: String,
    },
    /// A topic of the system that clients may not send to.
    #[error("Sending message to topic[{topic}] is forbidden.")]
    SendForbidden {
        /// The topic.
        topic: String,
    },
    /// An empty group.
    #[error("the specified group is blank")]
    BlankGroup,
    /// A character that groups may not have.
    #[error("the specified group[{group}] contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    IllegalGroup {
        /// The group, cut to its first characters if it is very long.
        group: String,
    },
    /// Too long.
    #[error("the specified group[{group}] is longer than group max length: {GROUP_CHARS_MAX}.")]
    LongGroup {
        /// The group, cut to its first characters if it is very long.
        group: String,
    },
}

/// Checks the form of a topic name. Names of system topics pass.
///
/// # Errors
/// Blank, an illegal character, or too long; asked in this order.
pub fn check_topic(topic: &str) -> Result<(), NameError> {
    if topic.trim().is_empty() {
        return Err(NameError::BlankTopic);
    }
    if !legal(topic) {
        return Err(NameError::IllegalTopic { topic: shortened(topic) });
    }
    let retry = topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX);
    let chars_max = if retry { RETRY_TOPIC_CHARS_MAX } else { TOPIC_CHARS_MAX };
    if topic.len() > chars_max {
        return Err(NameError::LongTopic { topic: shortened(topic), chars_max });
    }
    Ok(())
}

/// Checks a topic that a client wants to send to.
///
/// # Errors
/// As [`check_topic`], and [`NameError::SendForbidden`].
pub fn check_send_topic(topic: &str) -> Result<(), NameError> {
    check_topic(topic)?;
    if SEND_FORBIDDEN.contains(&topic) {
        return Err(NameError::SendForbidden { topic: topic.to_owned() });
    }
    Ok(())
}

/// Checks a topic that a user wants to create, change or delete.
///
/// # Errors
/// As [`check_topic`], and [`NameError::SystemTopic`].
pub fn check_user_topic(topic: &str) -> Result<(), NameError> {
    check_topic(topic)?;
    if is_system_topic(topic) {
        return Err(NameError::SystemTopic { topic: topic.to_owned() });
    }
    Ok(())
}

/// Checks the form of a group name.
///
/// # Errors
/// Blank, too long, or an illegal character; asked in this order.
pub fn check_group(group: &str) -> Result<(), NameError> {
    if group.trim().is_empty() {
        return Err(NameError::BlankGroup);
    }
    if group.chars().count() > GROUP_CHARS_MAX {
        return Err(NameError::LongGroup { group: shortened(group) });
    }
    if !legal(group) {
        return Err(NameError::IllegalGroup { group: shortened(group) });
    }
    Ok(())
}

/// Whether a topic is one of the system's with a fixed name or prefix.
pub fn is_system_topic(topic: &str) -> bool {
    topic.starts_with(SYSTEM_TOPIC_PREFIX) || SYSTEM_TOPICS.contains(&topic)
}

/// Whether a group belongs to the system.
pub fn is_system_group(group: &str) -> bool {
    group.starts_with(SYSTEM_GROUP_PREFIX) || SYSTEM_GROUPS.contains(&group)
}

/// The topic that holds a group's messages under retry.
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// The topic that holds a group's dead letters.
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// The group whose retry topic this is.
pub fn retry_group(topic: &str) -> Option<&str> {
    topic.strip_prefix(RETRY_PREFIX)
}

/// The topic over which replies of request–reply travel in a cluster.
pub fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_REPLY_TOPIC")
}

fn legal(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-'))
}

/// A remark must not carry megabytes back to whoever sent them.
fn shortened(name: &str) -> String {
    name.chars().take(RETRY_TOPIC_CHARS_MAX + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(result: Result<(), NameError>) -> String {
        result.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    #[test]
    fn topics() {
        for good in ["T", "a-b_c%d|e9", "TBW102", "%RETRY%g", &"t".repeat(127), &format!("%RETRY%{}", "g".repeat(248))]
        {
            assert_eq!(check_topic(good), Ok(()), "{good}");
        }
        for blank in ["", " ", "\t\n"] {
            assert_eq!(remark(check_topic(blank)), "The specified topic is blank.");
        }
        assert_eq!(
            remark(check_topic("a.b")),
            "The specified topic: a.b, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        );
        for bad in ["../x", "a/b", "a b", "é", "a\u{0}", "中文"] {
            assert!(matches!(check_topic(bad), Err(NameError::IllegalTopic { .. })), "{bad}");
        }
        let long = "t".repeat(128);
        assert_eq!(
            remark(check_topic(&long)),
            format!("The specified topic: {long}, is longer than topic max length: 127")
        );
        assert!(matches!(
            check_topic(&format!("%DLQ%{}", "g".repeat(251))),
            Err(NameError::LongTopic { chars_max: 255, .. })
        ));
        assert!(remark(check_topic(&"é".repeat(1_000_000))).len() < 1000);
    }

    #[test]
    fn system_topics_are_kept_from_users() {
        assert_eq!(
            remark(check_send_topic("SCHEDULE_TOPIC_XXXX")),
            "Sending message to topic[SCHEDULE_TOPIC_XXXX] is forbidden."
        );
        assert_eq!(check_send_topic("TBW102"), Ok(()));
        assert_eq!(remark(check_user_topic("rmq_sys_x")), "The topic[rmq_sys_x] is conflict with system topic.");
        assert_eq!(check_user_topic("%RETRY%g"), Ok(()));
        assert!(is_system_topic(TIMER_TOPIC) && is_system_topic(TRACE_TOPIC) && !is_system_topic("T"));
        assert!(is_system_group("CID_RMQ_SYS_x") && is_system_group("TOOLS_CONSUMER") && !is_system_group("g"));
    }

    #[test]
    fn groups() {
        assert_eq!(check_group("please_rename-unique%group|name"), Ok(()));
        assert_eq!(check_group(&"g".repeat(120)), Ok(()));
        assert_eq!(remark(check_group("  ")), "the specified group is blank");
        assert!(matches!(check_group(&"g".repeat(121)), Err(NameError::LongGroup { .. })));
        assert!(matches!(check_group("a.b"), Err(NameError::IllegalGroup { .. })));
    }

    #[test]
    fn derived_names() {
        assert_eq!(retry_topic("g"), "%RETRY%g");
        assert_eq!(retry_group("%RETRY%g"), Some("g"));
        assert_eq!(retry_group("%DLQ%g"), None);
        assert_eq!(dlq_topic("g"), "%DLQ%g");
        assert_eq!(reply_topic("DefaultCluster"), "DefaultCluster_REPLY_TOPIC");
    }
}
