//! P10: one, two and again one member of a group share the queues, and nothing is lost on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use waspmq_tests::client::Client;
use waspmq_tests::scene::{Plan, Scene, texts};

/// Every member is told of joins and leaves, so nobody waits for the 20 s rebalance of the Java and Go clients. The
/// first balancing after a change may meet a list that is not complete yet and is then repeated, so this allows some.
const AT_ONCE: Duration = Duration::from_secs(8);
/// A Java client beats 1 s after its start. A heartbeat that a rebalance wants to send at that very moment it leaves out
/// ("lock heartBeat, but failed"), and then every broker refuses its pulls as newer than its subscription, for 30 s. On a
/// slow machine the moment cannot be avoided for certain, so the change of members is tried twice.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(2);

pub(crate) fn averagely(scene: &Scene) -> Result<()> {
    shared(scene, "average", &[0, 0, 1, 1])
}

pub(crate) fn by_circle(scene: &Scene) -> Result<()> {
    shared(scene, "circle", &[0, 1, 0, 1])
}

fn shared(scene: &Scene, strategy: &str, both: &[usize]) -> Result<()> {
    let (joined, left) = join_and_leave(scene, ("topic", strategy), both)?;
    // The Node and Python clients are not told, or do not listen.
    if matches!(scene.client, Client::Node | Client::Python) || joined.max(left) < AT_ONCE {
        return Ok(());
    }
    let (joined, left) = join_and_leave(scene, ("again", strategy), both)?;
    ensure!(joined < AT_ONCE, "the second member waited {joined:?} for its queues, and long before that too");
    ensure!(left < AT_ONCE, "the other member's queues waited {left:?} to be taken over, and long before that too");
    Ok(())
}

/// How long the second member waited for its queues, and the first one for them when the second had left.
fn join_and_leave(scene: &Scene, (topic, strategy): (&str, &str), both: &[usize]) -> Result<(Duration, Duration)> {
    let topic = scene.topic(topic, 4)?;
    let plan = Plan::new(&scene.unique("group")).tags(&topic, "*").with("strategy", strategy);
    let first = scene.consumer(&plan)?;
    scene.wait_for_owners(&[&first], &topic, &[0, 0, 0, 0])?;

    put(scene, &topic, 0..20)?;
    std::thread::sleep(FIRST_HEARTBEAT);
    let second = scene.consumer(&plan)?;
    put(scene, &topic, 20..40)?;
    let joined = scene.wait_for_owners(&[&first, &second], &topic, both)?;
    put(scene, &topic, 40..60)?;
    scene.fence(&[&first, &second], &topic, 4, &[])?;

    // Stable now: each message exactly once, from the member that has the queue.
    let (in_first, in_second) = (first.received(), second.received());
    let stable: Vec<_> = in_first.iter().chain(&in_second).filter(|m| m.text().as_str() >= "m40").cloned().collect();
    ensure!(texts(&stable) == names(40..60), "with two members not each once: {:?}", texts(&stable));

    let seen_by_second: BTreeSet<String> = texts(&in_second).into_iter().collect();
    second.stop()?;
    let left = scene.wait_for_owners(&[&first], &topic, &[0, 0, 0, 0])?;
    put(scene, &topic, 60..80)?;
    scene.fence(&[&first], &topic, 4, &[])?;
    let last: Vec<_> = first.received().into_iter().filter(|m| m.text().as_str() >= "m60").collect();
    ensure!(texts(&last) == names(60..80), "with one member left not each once: {:?}", texts(&last));

    let mut all: BTreeSet<String> = texts(&first.received()).into_iter().collect();
    all.extend(seen_by_second);
    ensure!(all == names(0..80).into_iter().collect(), "lost on the way: {:?}", missing(&all));
    first.stop()?;
    Ok((joined, left))
}

fn put(scene: &Scene, topic: &str, numbers: std::ops::Range<i32>) -> Result<()> {
    for number in numbers {
        scene.put(topic, number % 4, "a", &format!("m{number:02}"))?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn names(numbers: std::ops::Range<i32>) -> Vec<String> {
    numbers.map(|number| format!("m{number:02}")).collect()
}

fn missing(all: &BTreeSet<String>) -> Vec<String> {
    names(0..80).into_iter().filter(|name| !all.contains(name)).collect()
}
