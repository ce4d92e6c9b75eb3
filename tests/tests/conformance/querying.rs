//! P16: messages found by key, by unique id, by offset id; offsets by time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waspmq_tests::driver::Received;
use waspmq_tests::scene::{How, Member, Message, Scene, texts};

fn found(producer: &Member, topic: &str, key: &str, begin: i64, end: i64) -> Result<Vec<Received>> {
    let request = json!({ "topic": topic, "key": key, "most": 32, "begin": begin, "end": end });
    // "No message" is an exception in this client.
    let answer = producer.try_ask("query.key", request)?.unwrap_or(Value::Array(Vec::new()));
    Ok(serde_json::from_value(answer)?)
}

/// `queryMessage` and `viewMessage`.
pub(crate) fn by_key_and_id(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let other = scene.topic("other", 1)?;
    let producer = scene.producer()?;
    let key = |number: i32| if number % 2 == 0 { "even common".to_owned() } else { format!("odd-{number} common") };
    let messages: Vec<Message> =
        (0..6).map(|i| Message::new(&topic, format!("m{i}")).tag("vip").keys(&key(i)).property("number", i)).collect();
    let sent = producer.send(How::Sync, &messages)?;
    producer.send(How::Sync, &[Message::new(&other, "elsewhere").tag("vip").keys("even common")])?;

    // The index follows the log: a moment behind it.
    let deadline = Instant::now() + Duration::from_secs(10);
    while found(&producer, &topic, "common", 0, i64::MAX)?.len() < 6 {
        ensure!(
            Instant::now() < deadline,
            "not six messages with a common key: {:?}",
            found(&producer, &topic, "common", 0, i64::MAX)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    for (key, wanted) in [("even", vec!["m0", "m2", "m4"]), ("odd-3", vec!["m3"]), ("nobody", vec![])] {
        let messages = found(&producer, &topic, key, 0, i64::MAX)?;
        ensure!(texts(&messages) == wanted, "key {key}: {:?}", texts(&messages));
    }
    let first = found(&producer, &topic, "odd-1", 0, i64::MAX)?;
    let stored = first.first().context("odd-1 is gone")?.store_timestamp;
    ensure!(
        found(&producer, &topic, "odd-1", stored + 60_000, i64::MAX)?.is_empty(),
        "found in a time it was not stored in"
    );
    ensure!(
        found(&producer, &topic, "odd-1", stored - 60_000, stored + 60_000)?.len() == 1,
        "not found in its own time"
    );

    for (number, result) in sent.iter().enumerate() {
        for id in [result.msg_id.clone(), result.offset_msg_id.clone()] {
            let id = id.context("a send result without id")?;
            let viewed: Received =
                serde_json::from_value(producer.ask("view", json!({ "topic": topic, "msgId": id }))?)?;
            ensure!(viewed.text() == format!("m{number}") && viewed.topic == topic, "{id} shows {viewed:?}");
            ensure!(viewed.property("number") == Some(number.to_string()), "properties: {viewed:?}");
            ensure!(
                Some(viewed.queue) == result.queue && Some(viewed.offset) == result.offset,
                "{viewed:?}, {result:?}"
            );
        }
    }
    ensure!(
        producer.try_ask("view", json!({ "topic": topic, "msgId": "00000000000000000000000000000000" }))?.is_err(),
        "an id that nobody gave shows a message"
    );
    Ok(())
}

/// `minOffset`, `maxOffset`, `earliestMsgStoreTime`, `searchOffset`.
pub(crate) fn offsets_and_time(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 2)?;
    let producer = scene.producer()?;
    let begun = now();
    let mut between = 0;
    for number in 0..6 {
        if number == 3 {
            std::thread::sleep(Duration::from_millis(300));
            between = now();
            std::thread::sleep(Duration::from_millis(300));
        }
        producer.send(How::Sync, &[Message::new(&topic, format!("m{number}")).tag("a").queue(0)])?;
    }
    let at = |time: i64| producer.ask("offset.at", json!({ "topic": topic, "queue": 0, "time": time }));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let offsets = producer.ask("offsets", json!({ "topic": topic, "queue": 0 }))?;
        if offsets["max"] == 6 {
            ensure!(offsets["min"] == 0, "{offsets}");
            let earliest = offsets["earliest"].as_i64().context("no earliest time")?;
            ensure!((begun - 1000..between).contains(&earliest), "earliest store time {earliest}, sent after {begun}");
            break;
        }
        ensure!(Instant::now() < deadline, "{offsets}");
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(at(begun - 60_000)? == 0, "a minute before the first: {}", at(begun - 60_000)?);
    ensure!(at(between)? == 3, "between the third and the fourth: {}", at(between)?);
    let after = at(now() + 60_000)?;
    ensure!(after == 6 || after == 5, "a minute after the last: {after}"); // 4.x brokers name the last, 5.x the end.
    let empty = producer.ask("offsets", json!({ "topic": topic, "queue": 1 }))?;
    ensure!(empty["min"] == 0 && empty["max"] == 0, "of an empty queue: {empty}");
    Ok(())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
