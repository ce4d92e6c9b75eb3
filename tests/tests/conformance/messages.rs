//! What is in a message arrives as it was sent: bodies of all sizes and kinds, keys and properties in any script.

use anyhow::{Context, Result, ensure};
use waspmq_tests::client::Client;
use waspmq_tests::scene::{How, Message, Plan, Scene};

/// "Compressed", and the three bits that say how. Clients since 5 keep only the latter once they have decompressed.
const COMPRESSED: i32 = 0x1 | 0x700;

/// One byte, text that compresses, bytes of every value, and 1 MiB that does not compress well.
pub(crate) fn bodies(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let mut bodies = vec![b"x".to_vec(), "WaspMQ compresses this well. ".repeat(3000).into_bytes(), noise(1 << 20)];
    if scene.client != Client::Python {
        bodies.push((0..=255).cycle().take(70_000).collect()); // The C++ binding ends bodies at a zero byte.
    }
    let producer = scene.producer()?;
    let messages: Vec<Message> = (0..)
        .zip(&bodies)
        .map(|(number, body)| Message::new(&topic, body).tag("a").keys(&format!("body{number}")))
        .collect();
    producer.send(How::Sync, &messages)?;
    let consumer = scene.consumer(&Plan::new(&scene.unique("group")).tags(&topic, "*"))?;
    let received = consumer.wait_for(bodies.len())?;
    for (number, body) in bodies.iter().enumerate() {
        let message =
            received.iter().find(|m| m.keys == format!("body{number}")).with_context(|| format!("no body{number}"))?;
        ensure!(&message.body == body, "body{number}: {} bytes became {} others", body.len(), message.body.len());
    }
    if let Some(flag) = received.iter().find(|m| m.keys == "body1").and_then(|m| m.sys_flag) {
        ensure!(flag & COMPRESSED != 0, "the client did not say that the body was compressed: {flag}");
    }
    consumer.stop()
}

/// Letters and digits without a pattern, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state: u32 = 12345;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(state >> 26) as usize]
    })
    .take(length)
    .collect()
}

/// Keys, tags, properties and bodies outside ASCII, quotes and backslashes (which JSON headers must escape).
pub(crate) fn unicode(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 1)?;
    let (tag, key) = ("标签", "订单-42");
    let properties = [("名字", "消息队列"), ("emoji", "🐝 und Wespe"), ("quoted", "\"a\\b\"\n\t/"), ("a", "7")];
    let body = "你好, Größe, 🐝";
    let mut message = Message::new(&topic, body).tag(tag).keys(key);
    for (name, value) in properties {
        message = message.property(name, value);
    }
    let with_flag = !matches!(scene.client, Client::Python); // Its binding has no flag.
    if with_flag {
        message = message.flag(17);
    }
    let producer = scene.producer()?;
    producer.send(How::Sync, &[message])?;
    let names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    // The Go client's hash of a tag outside ASCII is not Java's, so its filter lets such messages pass only with "*".
    let wanted = if scene.client == Client::Go { "*" } else { tag };
    let plan = Plan::new(&scene.unique("group")).tags(&topic, wanted).with("properties", names);
    let consumer = scene.consumer(&plan)?;
    let received = consumer.wait_for(1)?;
    let message = &received[0];
    ensure!(message.text() == body && message.tags == tag && message.keys == key, "changed on the way: {message:?}");
    ensure!(!with_flag || message.flag == 17, "flag: {message:?}");
    for (name, value) in properties {
        ensure!(message.property(name).as_deref() == Some(value), "property {name}: {:?}", message.property(name));
    }
    consumer.stop()
}
