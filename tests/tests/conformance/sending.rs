//! Sending: the quickstart, asynchronous and one-way sends, batches, ordered sends, topics made by hand.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waspmq_tests::broker::BrokerUnderTest;
use waspmq_tests::client::{Client, JavaVersion};
use waspmq_tests::scene::{How, Message, Plan, Scene, Sent, texts};

/// A topic that the client makes by its first send, with the four queues clients ask for. The Node client gives up
/// where the nameserver knows no route, so it gets one that is there.
pub(crate) fn topic_made_by_sending(scene: &Scene) -> Result<String> {
    match scene.client {
        Client::Node => scene.topic("topic", 4),
        _ => Ok(scene.unique("topic")),
    }
}

fn ids(sent: &[Sent]) -> Result<BTreeSet<String>> {
    sent.iter().map(|result| result.msg_id.clone().context("a result without message id")).collect()
}

/// P1, P2: ten messages sent, all ten consumed once, offsets on the broker, none again for the same group.
pub(crate) fn quickstart(scene: &Scene) -> Result<()> {
    let topic = topic_made_by_sending(scene)?;
    let producer = scene.producer()?;
    let messages: Vec<Message> =
        (0..10).map(|i| Message::new(&topic, format!("mymq{i}")).tag("mytag11").keys(&format!("key{i}"))).collect();
    let sent = producer.send(How::Sync, &messages)?;
    producer.stop()?;
    ensure!(ids(&sent)?.len() == 10, "ten messages need ten ids: {sent:?}");

    let group = scene.unique("group");
    let plan = Plan::new(&group).tags(&topic, "*").with("from", "last");
    let consumer = scene.consumer(&plan)?;
    let received = consumer.wait_for(10)?;
    for message in &received {
        let number = message.text().replace("mymq", "");
        ensure!(message.tags == "mytag11" && message.keys == format!("key{number}"), "tag or key differs: {message:?}");
        ensure!(message.topic == topic && message.reconsume == 0, "topic or reconsume times differ: {message:?}");
    }
    let received_ids: BTreeSet<String> = received.iter().filter_map(|message| message.msg_id.clone()).collect();
    ensure!(received_ids == ids(&sent)?, "consumed under other ids than sent");
    scene.fence(&[&consumer], &topic, 4, &[])?;
    ensure!(texts(&consumer.received()) == expected(10), "not each once: {:?}", texts(&consumer.received()));
    consumer.stop()?;

    let mut in_queues = vec![1; 4]; // The fences.
    for message in &received {
        in_queues[usize::try_from(message.queue)?] += 1;
    }
    scene.wait_for_offsets(&group, &topic, &in_queues)?;
    let again = scene.consumer(&plan)?;
    scene.fence(&[&again], &topic, 4, &[])?;
    ensure!(again.received().is_empty(), "consumed again after a restart: {:?}", texts(&again.received()));
    again.stop()
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("mymq{i}")).collect()
}

/// P3: every callback comes, with success.
pub(crate) fn asynchronous(scene: &Scene) -> Result<()> {
    let topic = topic_made_by_sending(scene)?;
    let producer = scene.producer()?;
    // One awaited send first: a topic that is only being made refuses nobody, but it may get fewer routes than sends.
    producer.send(How::Sync, &[Message::new(&topic, "mymq0").tag("a")])?;
    let messages: Vec<Message> = (1..30).map(|i| Message::new(&topic, format!("mymq{i}")).tag("a")).collect();
    let sent = producer.send(How::Async, &messages)?;
    ensure!(ids(&sent)?.len() == 29, "29 messages need 29 ids: {sent:?}");
    consume_exactly(scene, &topic, 30)
}

/// P4: one-way sends arrive, though nobody answers them.
pub(crate) fn one_way(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let producer = scene.producer()?;
    let messages: Vec<Message> = (0..10).map(|i| Message::new(&topic, format!("mymq{i}")).tag("a")).collect();
    producer.send(How::Oneway, &messages)?;
    consume_exactly(scene, &topic, 10)
}

fn consume_exactly(scene: &Scene, topic: &str, count: usize) -> Result<()> {
    let consumer = scene.consumer(&Plan::new(&scene.unique("group")).tags(topic, "*"))?;
    consumer.wait_for(count)?;
    scene.fence(&[&consumer], topic, 4, &[])?;
    let mut wanted = expected(count);
    wanted.sort();
    ensure!(texts(&consumer.received()) == wanted, "not each once: {:?}", texts(&consumer.received()));
    consumer.stop()
}

/// P3, the other half: with the broker stopped, sends end with an exception, and callbacks get it.
pub(crate) fn to_a_stopped_broker(scene: &Scene, broker: &mut BrokerUnderTest) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let producer = scene.producer()?;
    producer.send(How::Sync, &[Message::new(&topic, "while it runs").tag("a")])?;
    broker.stop_broker()?;
    let messages = [Message::new(&topic, "too late").tag("a"), Message::new(&topic, "too late as well").tag("a")];
    for how in [How::Async, How::Sync] {
        for result in producer.try_send(how, &messages)? {
            ensure!(result.error.is_some(), "{how:?} sending to a stopped broker succeeded: {result:?}");
        }
    }
    broker.start_broker()?;
    let mut last = None;
    for _ in 0..60 {
        last = producer.try_send(How::Sync, &messages[..1])?.pop();
        if last.as_ref().is_some_and(|result| result.error.is_none()) {
            return producer.stop();
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    anyhow::bail!("the producer did not find the broker again within 30 s: {last:?}")
}

/// P6: a batch lands in one queue, on consecutive offsets, and each message keeps its own properties.
pub(crate) fn batch(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let producer = scene.producer()?;
    let messages: Vec<Message> = (0..10)
        .map(|i| Message::new(&topic, format!("mymq{i}")).tag("a").keys(&format!("key{i}")).property("number", i))
        .collect();
    let sent: Sent = serde_json::from_value(producer.ask("send.batch", json!({ "messages": messages }))?)?;
    ensure!(sent.status.as_deref() == Some("SEND_OK"), "the batch was not taken: {sent:?}");

    let consumer = scene.consumer(&Plan::new(&scene.unique("group")).tags(&topic, "*"))?;
    consumer.wait_for(10)?;
    scene.fence(&[&consumer], &topic, 4, &[])?;
    let mut received = consumer.received();
    received.sort_by_key(|message| message.offset);
    ensure!(received.len() == 10, "{} messages of a batch of 10", received.len());
    for (i, message) in (0..).zip(&received) {
        ensure!(Some(message.queue) == sent.queue, "not in the queue the reply named: {message:?}, {sent:?}");
        ensure!(Some(message.offset - i) == sent.offset, "offsets do not follow from the reply: {message:?}, {sent:?}");
        ensure!(message.text() == format!("mymq{i}") && message.keys == format!("key{i}"), "out of order: {message:?}");
        ensure!(message.property("number") == Some(i.to_string()), "property lost: {message:?}");
    }
    let ids: BTreeSet<String> = received.iter().filter_map(|message| message.msg_id.clone()).collect();
    // Client 5 gives the batch as a whole an id too, and a broker that stores it with each message hides their own.
    let whole = matches!(scene.client, Client::Java(JavaVersion::V5, _));
    ensure!(ids.len() == 10 || (whole && ids.len() == 1), "ten messages with ids {ids:?}");
    consumer.stop()
}

/// P7: messages of one order go to one queue, in the order of sending.
pub(crate) fn ordered(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let producer = scene.producer()?;
    // The Node client sends keys that hash to its first queue anywhere; these do not.
    let keys = ["order-1", "order-2", "order-3", "order-5", "order-8", "order-9"];
    let mut messages = Vec::new();
    for step in 0..5 {
        for (number, key) in (0..).zip(keys) {
            let message = Message::new(&topic, format!("{key} step {step}")).tag("request").keys(key);
            let by_number = scene.client == Client::Python || (scene.client.is_java() && number % 2 == 0);
            messages.push(if by_number { message.order_number(number) } else { message.order_key(key) });
        }
    }
    producer.send(How::Sync, &messages)?;

    let consumer = scene.consumer(&Plan::new(&scene.unique("group")).tags(&topic, "*"))?;
    let received = consumer.wait_for(messages.len())?;
    let mut by_key: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for message in &received {
        by_key.entry(message.keys.clone()).or_default().push(message);
    }
    ensure!(by_key.len() == keys.len(), "orders seen: {:?}", by_key.keys());
    for (key, mut steps) in by_key {
        steps.sort_by_key(|message| message.offset);
        let queues: BTreeSet<i32> = steps.iter().map(|message| message.queue).collect();
        ensure!(queues.len() == 1, "{key} is spread over queues {queues:?}");
        let bodies: Vec<String> = steps.iter().map(|message| message.text()).collect();
        let wanted: Vec<String> = (0..5).map(|step| format!("{key} step {step}")).collect();
        ensure!(bodies == wanted, "stored as {bodies:?}");
    }
    let queues: BTreeSet<i32> = received.iter().map(|message| message.queue).collect();
    ensure!(queues.len() > 1, "six orders all in one queue");
    consumer.stop()
}

/// A producer that names the queue finds its message there.
pub(crate) fn explicit_queue(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 3)?;
    let producer = scene.producer()?;
    for queue in [2, 0, 2] {
        let sent = producer.send(How::Sync, &[Message::new(&topic, format!("to {queue}")).tag("a").queue(queue)])?;
        ensure!(sent[0].queue == Some(queue), "sent to queue {queue}: {sent:?}");
    }
    let consumer = scene.consumer(&Plan::new(&scene.unique("group")).tags(&topic, "*"))?;
    let received = consumer.wait_for(3)?;
    ensure!(received.iter().all(|message| message.text() == format!("to {}", message.queue)), "moved: {received:?}");
    consumer.stop()
}

/// `createTopic(key, topic, queues)`: the topic has that many queues, in the route and for sending.
pub(crate) fn create_topic(scene: &Scene) -> Result<()> {
    let topic = scene.unique("topic");
    let producer = scene.producer()?;
    let request = json!({ "key": "TBW102", "topic": topic, "queues": 3, "broker": scene.broker() });
    producer.ask("topic.create", request.clone())?;
    let asked = std::time::Instant::now();
    let queues = loop {
        // The nameserver hears of a new topic a moment after the broker has it.
        match producer.try_ask("topic.queues", json!({ "topic": topic }))? {
            Ok(queues) => break queues,
            Err(problem) => ensure!(asked.elapsed().as_secs() < 10, "no route of the new topic: {problem}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    ensure!(queues == json!([0, 1, 2]), "queues of the new topic: {queues}");
    producer.ask("topic.create", request)?; // Once more changes nothing and is no error.
    let messages: Vec<Message> = (0..9).map(|i| Message::new(&topic, format!("mymq{i}")).tag("a")).collect();
    let used: BTreeSet<i32> = producer.send(How::Sync, &messages)?.iter().filter_map(|sent| sent.queue).collect();
    ensure!(used == BTreeSet::from([0, 1, 2]), "nine sends used queues {used:?}");
    Ok(())
}
