//! The property block of a message on its way into the store: what the client sent, without what only the broker
//! may set, with the broker's own entries behind it. One pass finds everything the send path asks of the
//! properties. Called per message: nothing is allocated beyond the arena, which is shared by a whole socket read.

use std::ops::Range;

use waspmq_protocol::message::{properties, property};

/// Where in the arena a message's property block lies, and what it says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendProperties {
    /// The block, as it will be stored.
    pub block: Range<usize>,
    /// The value of UNIQ_KEY: the id by which users know the message.
    pub unique_key: Range<usize>,
    /// The client set no UNIQ_KEY: it was made here.
    pub key_made: bool,
    /// What kind of message the properties make it.
    pub kind: MessageKind,
    /// `WAIT=false`: the producer does not want to wait until the message is durable.
    pub no_wait: bool,
    /// KEYS is present.
    pub has_keys: bool,
}

/// How a message wants to be delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MessageKind {
    /// At once.
    #[default]
    Normal,
    /// After a delay level or at a time.
    Delayed,
    /// When its transaction commits.
    Transactional,
}

/// The entries that the broker puts on every message: region, trace switch and cluster.
pub struct BrokerEntries {
    block: Vec<u8>,
}

impl BrokerEntries {
    /// The entries of one broker.
    pub fn new(region: &str, trace_on: bool, cluster: &str) -> Self {
        let mut block = Vec::new();
        properties::set(&mut block, property::MSG_REGION, region);
        properties::set(&mut block, property::TRACE_ON, if trace_on { "true" } else { "false" });
        properties::set(&mut block, property::CLUSTER, cluster);
        Self { block }
    }

    /// Completes the block that starts at `start` in the arena: drops the entries only a broker may set, adds ours,
    /// and a unique key if the client set none.
    pub fn complete(&self, arena: &mut Vec<u8>, start: usize, unique_key: impl FnOnce() -> String) -> SendProperties {
        let mut found = SendProperties::default();
        let mut write = start;
        let mut read = start;
        while read < arena.len() {
            let end = memchr::memchr(ENTRY_END, &arena[read..]).map_or(arena.len(), |at| read + at);
            let entry = read..end;
            if let Some(value) = examine(&arena[entry.clone()], &mut found) {
                if let Some(value) = value {
                    found.unique_key = write + value..write + entry.len();
                }
                let length = entry.len();
                if write != read {
                    arena.copy_within(entry, write);
                }
                write += length;
                if write == arena.len() {
                    arena.push(ENTRY_END);
                } else {
                    arena[write] = ENTRY_END;
                }
                write += 1;
            }
            read = end + 1;
        }
        arena.truncate(write);
        found.key_made = found.unique_key.is_empty();
        if found.key_made {
            arena.extend_from_slice(property::UNIQ_KEY.as_bytes());
            arena.push(NAME_END);
            let value = arena.len();
            arena.extend_from_slice(unique_key().as_bytes());
            found.unique_key = value..arena.len();
            arena.push(ENTRY_END);
        }
        arena.extend_from_slice(&self.block);
        found.block = start..arena.len();
        found
    }
}

const NAME_END: u8 = 1;
const ENTRY_END: u8 = 2;

/// Notes what an entry says. `None`: the entry is dropped; `Some(Some(at))`: it is the unique key, its value there.
fn examine(entry: &[u8], found: &mut SendProperties) -> Option<Option<usize>> {
    let name_len = memchr::memchr(NAME_END, entry)?;
    let (name, value) = (&entry[..name_len], &entry[name_len + 1..]);
    if name.is_empty() || value.is_empty() {
        return None;
    }
    match name {
        b"MSG_REGION" | b"TRACE_ON" | b"CLUSTER" | b"POP_CK" => return None,
        b"UNIQ_KEY" => return Some(Some(name_len + 1)),
        b"KEYS" => found.has_keys = true,
        b"WAIT" => found.no_wait = value == b"false",
        b"TRAN_MSG" if value.eq_ignore_ascii_case(b"true") => found.kind = MessageKind::Transactional,
        b"TIMER_DELAY_SEC" | b"TIMER_DELAY_MS" | b"TIMER_DELIVER_MS" if found.kind == MessageKind::Normal => {
            found.kind = MessageKind::Delayed;
        }
        b"DELAY" if found.kind == MessageKind::Normal && is_positive(value) => found.kind = MessageKind::Delayed,
        _ => {}
    }
    Some(None)
}

fn is_positive(value: &[u8]) -> bool {
    std::str::from_utf8(value).ok().and_then(|text| text.parse::<i32>().ok()).is_some_and(|level| level > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(block: &str) -> (String, SendProperties, String) {
        let mut arena = b"another message\x02".to_vec();
        let start = arena.len();
        arena.extend_from_slice(block.as_bytes());
        let entries = BrokerEntries::new("DefaultRegion", true, "C");
        let found = entries.complete(&mut arena, start, || "NEW".to_owned());
        assert_eq!(&arena[..start], b"another message\x02");
        let text = String::from_utf8(arena[found.block.clone()].to_vec()).unwrap();
        let key = String::from_utf8(arena[found.unique_key.clone()].to_vec()).unwrap();
        (text, found, key)
    }

    const OURS: &str = "MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02CLUSTER\x01C\x02";

    #[test]
    fn the_brokers_entries_replace_those_of_the_client() {
        let (block, found, key) =
            complete("UNIQ_KEY\x01K1\x02CLUSTER\x01other\x02WAIT\x01true\x02POP_CK\x01x\x02TAGS\x01A");
        assert_eq!(block, format!("UNIQ_KEY\x01K1\x02WAIT\x01true\x02TAGS\x01A\x02{OURS}"));
        assert_eq!((key.as_str(), found.kind, found.no_wait), ("K1", MessageKind::Normal, false));
    }

    #[test]
    fn a_key_after_a_dropped_entry_is_found_where_it_went() {
        let (block, _, key) = complete("TRACE_ON\x01false\x02a\x011\x02UNIQ_KEY\x01K2\x02");
        assert_eq!((block, key.as_str()), (format!("a\x011\x02UNIQ_KEY\x01K2\x02{OURS}"), "K2"));
    }

    #[test]
    fn a_missing_key_is_made() {
        let (block, _, key) = complete("");
        assert_eq!((block, key.as_str()), (format!("UNIQ_KEY\x01NEW\x02{OURS}"), "NEW"));
    }

    #[test]
    fn entries_without_name_or_value_are_dropped() {
        let (block, found, _) =
            complete("\x01v\x02n\x01\x02\x02nonsense\x02UNIQ_KEY\x01K\x02KEYS\x01k\x02WAIT\x01false");
        assert_eq!(block, format!("UNIQ_KEY\x01K\x02KEYS\x01k\x02WAIT\x01false\x02{OURS}"));
        assert!(found.has_keys && found.no_wait);
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |block: &str| complete(block).1.kind;
        assert_eq!(kind("DELAY\x013\x02"), MessageKind::Delayed);
        assert_eq!(kind("DELAY\x010\x02"), MessageKind::Normal);
        assert_eq!(kind("TIMER_DELAY_MS\x015000\x02"), MessageKind::Delayed);
        assert_eq!(kind("DELAY\x013\x02TRAN_MSG\x01TRUE\x02"), MessageKind::Transactional);
        assert_eq!(kind("TRAN_MSG\x01false\x02"), MessageKind::Normal);
    }
}
