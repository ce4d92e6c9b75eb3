//! Everything beside the queues that one broker tells and another must tell too: messages by key and by id, offsets by
//! time, consumer offsets, topics and groups.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use waspmq_tests::wire::{self, Connection};

use crate::asking::{
    self, GET_ALL_SUBSCRIPTIONGROUP_CONFIG, GET_ALL_TOPIC_CONFIG, QUERY_MESSAGE, Request, SEARCH_OFFSET_BY_TIMESTAMP,
    UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, UPDATE_AND_CREATE_TOPIC, UPDATE_CONSUMER_OFFSET, VIEW_MESSAGE_BY_ID, ask_all,
    queue_fields,
};
use crate::ledger::{Ledger, all_queues};
use crate::load::TOPICS;
use crate::record::Record;

const GROUPS: [&str; 2] = ["exchange-group", "another_group"];
/// The index is filled a moment after the queues.
const ATTEMPTS: usize = 50;
/// What both makers keep about a topic, and about a group.
const TOPIC_FIELDS: [&str; 6] = ["topicName", "readQueueNums", "writeQueueNums", "perm", "topicFilterType", "order"];
const GROUP_FIELDS: [&str; 7] = [
    "groupName",
    "consumeEnable",
    "consumeFromMinEnable",
    "consumeBroadcastEnable",
    "retryQueueNums",
    "retryMaxTimes",
    "whichBrokerWhenConsumeSlowly",
];

/// Asks for every message by each of its keys and by its id.
pub fn compare_messages(connection: &mut Connection, ledger: &Ledger) -> Result<()> {
    let mut by_key: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    let mut expected: Vec<(Request, Vec<&Record>)> = Vec::new();
    for record in ledger.records() {
        record.keys().for_each(|key| by_key.entry((&record.topic, key)).or_default().push(record));
        let fields = json!({ "topic": record.topic, "offset": record.physical_offset.to_string() });
        expected.push(((VIEW_MESSAGE_BY_ID, fields, Vec::new()), vec![record]));
    }
    for ((topic, key), mut records) in by_key {
        let fields = json!({
            "topic": topic, "key": key, "maxNum": "64", "beginTimestamp": "0", "endTimestamp": i64::MAX.to_string(),
        });
        records.sort_by_key(|record| record.physical_offset);
        expected.push(((QUERY_MESSAGE, fields, Vec::new()), records));
    }
    for attempt in 1.. {
        let (requests, records): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
        let mut answers = vec![Vec::new(); requests.len()];
        ask_all(connection, &requests, |number, reply| {
            answers[number] = Record::all(&reply.body)?;
            Ok(())
        })?;
        let pairs = requests.into_iter().zip(records);
        expected = pairs.zip(&answers).filter(|(pair, answer)| !fits(pair, answer)).map(|(pair, _)| pair).collect();
        if expected.is_empty() {
            return Ok(());
        }
        let count = expected.len();
        let some: Vec<String> = expected
            .iter()
            .take(3)
            .map(|((code, fields, _), records)| {
                let places: Vec<String> = records.iter().map(|record| record.place()).collect();
                format!("request {code} of {fields} should find {}", places.join(", "))
            })
            .collect();
        ensure!(attempt < ATTEMPTS, "{count} look-ups of {} find something else:\n{}", answers.len(), some.join("\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Java's index knows keys by their hash and returns others too: the client compares.
fn fits(((code, fields, _), expected): &(Request, Vec<&Record>), answer: &[Record]) -> bool {
    let key = fields["key"].as_str().unwrap_or_default();
    let meant = |record: &&Record| {
        *code != QUERY_MESSAGE || (record.topic == fields["topic"] && record.keys().any(|found| found == key))
    };
    let mut found: Vec<&Record> = answer.iter().filter(meant).collect();
    found.dedup();
    found == *expected
}

/// Asks every queue which offset belongs to the times around its first, middle and last message: the first
/// that is not earlier. Not for RocketMQ 4.9, which answers with one that is somewhere near.
pub fn compare_times(connection: &mut Connection, ledger: &Ledger) -> Result<()> {
    for ((topic, queue), records) in &ledger.seen {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { continue };
        let middle = &records[records.len() / 2];
        let around = [first, middle, last].map(|record| [record.store_ms - 1, record.store_ms, record.store_ms + 1]);
        for time in around.into_iter().flatten() {
            let mut fields = queue_fields(topic, *queue);
            fields["timestamp"] = time.to_string().into();
            let reply = connection.call(SEARCH_OFFSET_BY_TIMESTAMP, &fields, &[])?;
            let found = reply.expect_success("searching by time")?.number("offset")?;
            let expected = records.partition_point(|record| record.store_ms < time) as i64;
            ensure!(
                found == expected,
                "{topic} {queue} at {time}: {found} instead of {expected} of {}, {} to {}",
                records.len(),
                first.store_ms,
                last.store_ms
            );
        }
    }
    Ok(())
}

/// Asks every queue for the messages with some tags: the broker must sort out exactly those.
pub fn compare_tags(connection: &mut Connection, ledger: &Ledger) -> Result<()> {
    for ((topic, queue), records) in &ledger.seen {
        for tag in ["Tag0", "Größe✓", "nobody's"] {
            let found = asking::read_tagged(connection, topic, *queue, records.len() as i64, tag)?;
            let has_tag =
                |record: &&Record| record.properties.iter().any(|(name, value)| name == "TAGS" && value == tag);
            let expected: Vec<&Record> = records.iter().filter(has_tag).collect();
            ensure!(
                found.iter().eq(expected.iter().copied()),
                "{topic} {queue} gives {} messages for {tag} instead of {}",
                found.len(),
                expected.len()
            );
        }
    }
    Ok(())
}

/// What a broker keeps in its `config` folder.
#[derive(Debug, Default, PartialEq)]
pub struct Kept {
    offsets: BTreeMap<(&'static str, &'static str, i32), Option<i64>>,
    topics: Vec<Value>,
    groups: Vec<Value>,
}

impl Kept {
    /// What it tells of this test's topics and groups.
    pub fn ask(connection: &mut Connection, address: &str) -> Result<Self> {
        let mut offsets = BTreeMap::new();
        for group in GROUPS {
            for (topic, queue) in all_queues() {
                offsets.insert((group, topic, queue), wire::stored_offset(address, group, topic, queue)?);
            }
        }
        let topics = table(connection, GET_ALL_TOPIC_CONFIG, "topicConfigTable")?;
        let groups = table(connection, GET_ALL_SUBSCRIPTIONGROUP_CONFIG, "subscriptionGroupTable")?;
        let topics = TOPICS.iter().map(|(topic, _)| some_fields(&topics[*topic], &TOPIC_FIELDS)).collect();
        let groups = GROUPS.iter().map(|group| some_fields(&groups[*group], &GROUP_FIELDS)).collect();
        Ok(Self { offsets, topics, groups })
    }
}

fn table(connection: &mut Connection, code: i32, name: &str) -> Result<Value> {
    let reply = connection.call(code, &json!({}), &[])?.expect_success("asking for a table")?;
    Ok(serde_json::from_slice::<Value>(&reply.body)?[name].take())
}

fn some_fields(all: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| (name.to_string(), all[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Makes topics and groups, or changes them a little, and moves the groups' offsets, differently for each `turn`.
pub fn change_kept(connection: &mut Connection, ledger: &Ledger, turn: usize) -> Result<()> {
    for (place, (topic, queues)) in TOPICS.iter().enumerate() {
        let more = i32::try_from((turn + place) % 3)?;
        let fields = json!({
            "topic": topic, "defaultTopic": "TBW102", "readQueueNums": (queues + more).to_string(),
            "writeQueueNums": queues.to_string(), "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0",
            "order": (!turn.is_multiple_of(2)).to_string(),
        });
        connection.call(UPDATE_AND_CREATE_TOPIC, &fields, &[])?.expect_success("changing a topic")?;
    }
    for (place, group) in GROUPS.iter().enumerate() {
        let body = json!({
            "groupName": group, "consumeEnable": true, "consumeFromMinEnable": place == 0,
            "consumeBroadcastEnable": turn.is_multiple_of(2), "retryQueueNums": 1, "retryMaxTimes": 3 + turn, "brokerId": 0,
            "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": true,
        });
        let request = UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
        connection.call(request, &json!({}), body.to_string().as_bytes())?.expect_success("changing a group")?;
        for ((topic, queue), records) in &ledger.seen {
            let mut fields = queue_fields(topic, *queue);
            fields["consumerGroup"] = (*group).into();
            fields["commitOffset"] = (records.len() / (place + 2)).to_string().into();
            connection.call(UPDATE_CONSUMER_OFFSET, &fields, &[])?.expect_success("moving an offset")?;
        }
    }
    Ok(())
}
