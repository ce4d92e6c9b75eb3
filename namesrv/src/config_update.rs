//! Settings changed over the network: which may be, what becomes of the values and of the file they are kept in. Pure;
//! `namesrv` reads and writes the file. Must hold: what the nameserver does not take is not written, and the file
//! keeps its comments and the keys nobody changed.

use crate::config::Keys;
use waspmq_settings::{Given, Properties, PropertiesError, Settings as _, ValueError, find};

/// Keys that nobody may change, whatever `configBlackList` says: they name files, or who may change what.
const ALWAYS_BLACK: [&str; 4] = ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

/// Keys whose new value holds from the next request or look on. The others are read once, at the start.
const LIVE: [&str; 9] = [
    "orderMessageEnable",
    "returnOrderTopicConfigToBroker",
    "scanNotActiveBrokerInterval",
    "supportActingMaster",
    "enableAllTopicList",
    "enableTopicList",
    "deleteTopicWithBrokerRegistration",
    "needWaitForService",
    "waitSecondsForService",
];

/// Why settings are not changed; then none is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpdateError {
    /// No text.
    #[error("the settings in the body are not UTF-8")]
    NotText,
    /// No properties.
    #[error("the settings in the body cannot be understood: {0}")]
    NoProperties(#[from] PropertiesError),
    /// A forbidden key.
    #[error(
        "{name} cannot be changed over the network; change it in the configuration file and restart the nameserver"
    )]
    BlackListed {
        /// The key.
        name: String,
    },
    /// A key that is read at the start only.
    #[error("{name} cannot be changed while the nameserver runs; change it in the configuration file and restart")]
    NotLive {
        /// The key.
        name: String,
    },
    /// A value of the wrong kind.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// The changes in the body of a request. Unknown keys, and known ones without effect, are passed over as by RocketMQ.
pub(crate) fn read(keys: &Keys, body: &[u8]) -> Result<Vec<Given>, UpdateError> {
    let text = std::str::from_utf8(body).map_err(|_| UpdateError::NotText)?;
    let mut changes = Properties::parse(text)?.into_given();
    let listed = |name: &str| keys.config_black_list.split(';').any(|black| black.trim() == name);
    if let Some(black) = changes.iter().find(|given| ALWAYS_BLACK.contains(&&*given.name) || listed(&given.name)) {
        return Err(UpdateError::BlackListed { name: black.name.clone() });
    }
    changes.retain(|given| {
        let known = find(Keys::TABLE, &given.name).is_some_and(|setting| setting.has_effect);
        if !known {
            tracing::warn!(name = given.name, "a setting without effect here was to be changed");
        }
        known
    });
    if let Some(given) = changes.iter().find(|given| !LIVE.contains(&&*given.name)) {
        return Err(UpdateError::NotLive { name: given.name.clone() });
    }
    Ok(changes)
}

/// The settings with some of them changed.
pub(crate) fn apply(keys: &Keys, changes: &[Given]) -> Result<Keys, ValueError> {
    let mut given = keys.to_properties().into_given();
    given.extend_from_slice(changes);
    Keys::from_given(&given)
}

/// The settings with those live ones changed that a file says.
pub(crate) fn apply_stored(keys: &Keys, mut stored: Vec<Given>) -> Result<Keys, ValueError> {
    stored.retain(|given| LIVE.contains(&&*given.name));
    apply(keys, &stored)
}

/// A file's text with some settings changed: their lines go, the new ones stand at the end.
pub(crate) fn edit(text: &str, changes: &[Given]) -> String {
    let mut edited = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut entry = line.to_owned();
        let is_comment = line.trim_start().starts_with(['#', '!']);
        while !is_comment && entry.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            let Some(continued) = lines.next() else { break };
            entry.push('\n');
            entry.push_str(continued);
        }
        let parsed = Properties::parse(&entry).unwrap_or_default();
        let is_changed = parsed.entries.iter().any(|(name, _)| changes.iter().any(|given| given.name == *name));
        if !is_changed {
            edited.push_str(&entry);
            edited.push('\n');
        }
    }
    let entries = changes.iter().map(|given| (given.name.clone(), given.value.clone())).collect();
    edited + &Properties { entries }.to_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NamesrvConfig;

    fn keys() -> Keys {
        NamesrvConfig::in_folder("/data").keys
    }

    fn given(name: &str, value: &str) -> Given {
        Given { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn live_keys_are_keys() {
        for name in LIVE {
            assert!(find(Keys::TABLE, name).is_some_and(|setting| setting.has_effect), "{name}");
        }
    }

    #[test]
    fn what_may_be_changed() {
        let mut keys = keys();
        let changes = read(&keys, b"enableTopicList=false\nnobodyKnows=1\nclusterTest=true").unwrap();
        assert_eq!(changes, [given("enableTopicList", "false")]);
        let changed = apply(&keys, &changes).unwrap();
        assert_eq!(changed, Keys { enable_topic_list: false, ..keys.clone() });
        for name in ALWAYS_BLACK {
            let body = format!("enableTopicList=false\n{name}=/tmp/x");
            assert_eq!(read(&keys, body.as_bytes()), Err(UpdateError::BlackListed { name: name.to_owned() }));
        }
        assert_eq!(read(&keys, b"listenPort=1"), Err(UpdateError::NotLive { name: "listenPort".to_owned() }));
        keys.config_black_list = "a; enableTopicList".to_owned();
        let error = read(&keys, b"enableTopicList=false").unwrap_err();
        assert_eq!(error, UpdateError::BlackListed { name: "enableTopicList".to_owned() });
        assert_eq!(read(&keys, b"\xff"), Err(UpdateError::NotText));
        assert!(matches!(read(&keys, b"a=\\u00"), Err(UpdateError::NoProperties(_))));
        assert!(apply(&keys, &[given("enableTopicList", "no")]).is_err());
    }

    #[test]
    fn a_stored_file_changes_live_keys_only() {
        let stored = vec![given("listenPort", "1"), given("enableTopicList", "false"), given("kvConfigPath", "/x")];
        assert_eq!(apply_stored(&keys(), stored).unwrap(), Keys { enable_topic_list: false, ..keys() });
    }

    #[test]
    fn a_file_keeps_what_nobody_changed() {
        let text = "# About a=1 \\\na = 1\nb=\\\n  2\n\n!c\nrocketmqHome:/opt\nd=4";
        let edited = edit(text, &[given("a", "x y"), given("b", "3"), given("e", "C:\\x")]);
        assert_eq!(edited, "# About a=1 \\\n\n!c\nrocketmqHome:/opt\nd=4\na=x y\nb=3\ne=C:\\\\x\n");
        assert_eq!(edit("", &[]), "");
    }
}
