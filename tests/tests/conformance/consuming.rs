//! Consuming: in order, by everybody (broadcast), and by groups that do not see one another.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use waspmq_tests::driver::Received;
use waspmq_tests::scene::{Member, Plan, Scene, texts};

const QUEUES: i32 = 4;

/// P8: in order per queue, and one listener per queue at a time.
pub(crate) fn ordered(scene: &Scene) -> Result<()> {
    let topic = numbered_messages(scene, 20)?;
    let plan = Plan::new(&scene.unique("group")).tags(&topic, "*").with("orderly", true).with("slowMs", 5);
    let consumer = scene.consumer(&plan)?;
    scene.fence(&[&consumer], &topic, QUEUES, &[])?;
    in_order(consumer.received(), 20)?;
    consumer.stop()
}

/// P8: the same while a second consumer joins and half of the queues change hands. Not for Go: that client never
/// unlocks a queue it has lost, so its successor waits until the lock has died of age.
pub(crate) fn ordered_with_join(scene: &Scene) -> Result<()> {
    let topic = numbered_messages(scene, 40)?;
    let plan = Plan::new(&scene.unique("group")).tags(&topic, "*").with("orderly", true).with("slowMs", 50);
    let first = scene.consumer(&plan)?;
    first.wait_for(20)?;
    let second = scene.consumer(&plan)?;
    scene.wait_for_owners(&[&first, &second], &topic, &[0, 0, 1, 1])?;
    scene.fence(&[&first, &second], &topic, QUEUES, &[])?;
    ensure!(!second.received().is_empty(), "the second consumer got nothing");
    let mut all = first.received();
    all.extend(second.received());
    in_order(all, 40)?;
    second.stop()?;
    first.stop()
}

fn numbered_messages(scene: &Scene, each: i32) -> Result<String> {
    let topic = scene.topic("topic", QUEUES)?;
    for number in 0..each {
        for queue in 0..QUEUES {
            scene.put(&topic, queue, "a", &format!("{number}"))?;
        }
    }
    Ok(topic)
}

fn in_order(mut all: Vec<Received>, each: i64) -> Result<()> {
    all.sort_by_key(|message| message.at);
    let mut queues: BTreeMap<i32, Vec<&Received>> = BTreeMap::new();
    for message in &all {
        ensure!(message.alone, "two listeners at work on queue {} at once", message.queue);
        queues.entry(message.queue).or_default().push(message);
    }
    ensure!(queues.len() == 4, "queues served: {:?}", queues.keys());
    for (queue, messages) in queues {
        let mut next = 0;
        for message in messages {
            // At the moment of handing over, the one message in work may come again at the new owner.
            let offset = message.offset;
            ensure!(offset == next || offset == next - 1, "queue {queue}: {offset} came after {}", next - 1);
            next = offset + 1;
        }
        ensure!(next == each, "queue {queue} ended at {next} of {each}");
    }
    Ok(())
}

/// P8: a message that the listener refuses comes again each second, and nothing of its queue passes it.
pub(crate) fn ordered_refusal(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 2)?;
    for number in 0..6 {
        scene.put(&topic, 0, "a", &format!("k{number}"))?;
        scene.put(&topic, 1, "a", &format!("other{number}"))?;
    }
    let plan =
        Plan::new(&scene.unique("group")).tags(&topic, "*").with("orderly", true).with("refuse", json!({ "k3": 2 }));
    let consumer = scene.consumer(&plan)?;
    consumer.wait_for(14)?;
    let received = consumer.received();
    let blocked: Vec<&Received> = received.iter().filter(|message| message.queue == 0).collect();
    let order: Vec<String> = blocked.iter().map(|message| message.text()).collect();
    ensure!(order == ["k0", "k1", "k2", "k3", "k3", "k3", "k4", "k5"], "the refused message was passed: {order:?}");
    for pair in blocked[3..6].windows(2) {
        let pause = pair[1].at - pair[0].at;
        ensure!(pause > Duration::from_millis(900) && pause < Duration::from_secs(4), "came again after {pause:?}");
    }
    let free: Vec<&Received> = received.iter().filter(|message| message.queue == 1).collect();
    ensure!(free.last().is_some_and(|last| last.at < blocked[5].at), "the other queue was held up as well");
    consumer.stop()
}

/// P9: each of two members gets every message.
pub(crate) fn broadcast(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let plan = Plan::new(&scene.unique("group")).tags(&topic, "*").with("broadcast", true);
    let members = [scene.consumer(&plan)?, scene.consumer(&plan)?];
    for member in &members {
        wait_until_served(scene, member, &topic)?;
    }
    for number in 0..12 {
        scene.put(&topic, number % 4, "a", &format!("news {number:02}"))?;
    }
    for member in &members {
        member.wait_for(12)?;
        scene.fence(&[member], &topic, 4, &[])?;
        let wanted: Vec<String> = (0..12).map(|number| format!("news {number:02}")).collect();
        ensure!(texts(&member.received()) == wanted, "not each once: {:?}", texts(&member.received()));
    }
    let stored = scene.stored_offsets(&scene.unique("group"), &topic, 4)?;
    ensure!(stored.iter().flatten().all(|offset| *offset == 0), "the broker keeps offsets of a broadcast: {stored:?}");
    let [first, second] = members;
    first.stop()?;
    second.stop()
}

/// A consumer that can only start at the end has to be there before the message; this waits until it is.
fn wait_until_served(scene: &Scene, member: &Member, topic: &str) -> Result<()> {
    scene.wait_for_owners(&[member], topic, &[0, 0, 0, 0]).map(|_| ())
}

/// P9: a broadcast consumer that comes back goes on where it was, by its own file.
pub(crate) fn broadcast_restart(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let name = scene.unique("always-the-same");
    let plan =
        Plan::new(&scene.unique("group")).tags(&topic, "*").with("broadcast", true).with("instance", name.as_str());
    for number in 0..8 {
        scene.put(&topic, number % 4, "a", &format!("news {number}"))?;
    }
    let before = scene.consumer(&plan)?;
    before.wait_for(8)?;
    before.stop()?;
    let after = scene.consumer(&plan)?;
    scene.fence(&[&after], &topic, 4, &[])?;
    ensure!(after.received().is_empty(), "told again: {:?}", texts(&after.received()));
    after.stop()
}

/// Two groups each get everything, at their own pace.
pub(crate) fn two_groups(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    for number in 0..8 {
        scene.put(&topic, number % 4, "a", &format!("m{number}"))?;
    }
    let wanted: Vec<String> = (0..8).map(|number| format!("m{number}")).collect();
    let groups = [scene.unique("one"), scene.unique("two")];
    let first = scene.consumer(&Plan::new(&groups[0]).tags(&topic, "*"))?;
    let second = scene.consumer(&Plan::new(&groups[1]).tags(&topic, "*"))?;
    for member in [&first, &second] {
        member.wait_for(8)?;
        scene.fence(&[member], &topic, 4, &[])?;
        ensure!(texts(&member.received()) == wanted, "not each once: {:?}", texts(&member.received()));
    }
    first.stop()?;
    scene.put(&topic, 0, "a", "for the second only")?;
    second.wait_for(9)?;
    scene.fence(&[&second], &topic, 4, &[])?;
    second.stop()?;
    // Two messages and both members' fences in each queue; then only the second was there.
    scene.wait_for_offsets(&groups[0], &topic, &[4, 4, 4, 4])?;
    scene.wait_for_offsets(&groups[1], &topic, &[6, 5, 5, 5])?;
    Ok(())
}
