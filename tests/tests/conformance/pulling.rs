//! P11, P12: consumers that pull for themselves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use waspmq_tests::broker::BrokerUnderTest;
use waspmq_tests::driver::Received;
use waspmq_tests::scene::{Member, Scene, texts};

/// What a pull brought.
#[derive(Debug, Deserialize)]
struct Pulled {
    status: String,
    next: i64,
    min: i64,
    max: i64,
    messages: Vec<Received>,
}

impl Pulled {
    fn bodies(&self) -> Vec<String> {
        self.messages.iter().map(Received::text).collect()
    }

    fn check(&self, status: &str, next: i64, bodies: &[&str]) -> Result<()> {
        ensure!(self.status == status && self.next == next, "wanted {status} and next {next}: {self:?}");
        ensure!(self.bodies() == bodies, "wanted {bodies:?}: {:?}", self.bodies());
        Ok(())
    }
}

struct Puller<'a> {
    member: &'a Member,
    topic: &'a str,
}

impl Puller<'_> {
    fn pull(&self, queue: i32, expression: &str, offset: i64, most: i32) -> Result<Pulled> {
        self.ask(queue, json!({ "expression": expression, "offset": offset, "most": most }))
    }

    fn ask(&self, queue: i32, mut request: Value) -> Result<Pulled> {
        request["topic"] = self.topic.into();
        request["queue"] = queue.into();
        request["broker"] = "broker-a".into();
        Ok(serde_json::from_value(self.member.ask("pull", request)?)?)
    }
}

/// Five messages in queue 0, tags a and b in turn; none in queue 1.
fn five_messages(scene: &Scene) -> Result<String> {
    let topic = scene.topic("topic", 2)?;
    for (number, tag) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        scene.put(&topic, 0, tag, &format!("m{number}"))?;
    }
    Ok(topic)
}

/// P11: each status where it belongs, with the offset to go on from.
pub(crate) fn by_hand(scene: &Scene) -> Result<()> {
    let topic = five_messages(scene)?;
    let member = scene.start("pull.start", json!({ "group": scene.unique("group") }))?;
    let queues = member.ask("pull.queues", json!({ "topic": topic }))?;
    ensure!(queues == json!([0, 1]), "fetchSubscribeMessageQueues: {queues}");
    let puller = Puller { member: &member, topic: &topic };

    let first = puller.pull(0, "*", 0, 2)?;
    first.check("FOUND", 2, &["m0", "m1"])?;
    ensure!((first.min, first.max) == (0, 5), "min and max: {first:?}");
    puller.pull(0, "*", 2, 32)?.check("FOUND", 5, &["m2", "m3", "m4"])?;
    puller.pull(0, "b", 0, 32)?.check("FOUND", 5, &["m1", "m3"])?;
    puller.pull(0, "b || a", 3, 32)?.check("FOUND", 5, &["m3", "m4"])?;
    puller.pull(0, "none-has-this", 0, 32)?.check("NO_MATCHED_MSG", 5, &[])?;
    puller.pull(0, "*", 5, 32)?.check("NO_NEW_MSG", 5, &[])?;
    puller.pull(1, "*", 0, 32)?.check("NO_NEW_MSG", 0, &[])?;
    let beyond = puller.pull(0, "*", 100, 32)?;
    ensure!(beyond.status == "OFFSET_ILLEGAL" && beyond.max == 5, "far beyond the end: {beyond:?}");
    ensure!((0..=5).contains(&beyond.next), "sent on to an offset outside the queue: {beyond:?}");
    puller.pull(1, "*", 7, 32)?.check("OFFSET_ILLEGAL", 0, &[])?;

    // pullBlockIfNotFound: a message that comes while it waits ends the wait; without one the wait ends by itself.
    let waiting = json!({ "expression": "*", "offset": 5, "most": 32, "wait": true });
    std::thread::scope(|threads| {
        let pull = threads.spawn(|| puller.ask(0, waiting.clone()));
        std::thread::sleep(Duration::from_millis(700));
        let put = Instant::now();
        scene.put(&topic, 0, "a", "m5")?;
        let pulled = pull.join().map_err(|_| anyhow::anyhow!("the pull panicked"))??;
        pulled.check("FOUND", 6, &["m5"])?;
        ensure!(put.elapsed() < Duration::from_millis(900), "woken {:?} after the message was there", put.elapsed());
        anyhow::Ok(())
    })?;
    let begun = Instant::now();
    let nothing = puller.ask(0, json!({ "expression": "*", "offset": 6, "most": 32, "wait": true }))?;
    nothing.check("NO_NEW_MSG", 6, &[])?;
    // The driver asks to be held for 3 s; brokers look at held pulls each 5 s at most.
    let held = begun.elapsed();
    ensure!(held > Duration::from_millis(2900) && held < Duration::from_secs(9), "held for {held:?}");
    member.stop()
}

/// P11 in Go: `PullFrom` a queue and an offset.
pub(crate) fn from_offset(scene: &Scene) -> Result<()> {
    let topic = five_messages(scene)?;
    let group = scene.unique("group");
    let member = scene.start("pull.start", json!({ "group": group, "topic": topic, "expression": "*" }))?;
    let puller = Puller { member: &member, topic: &topic };
    puller.pull(0, "*", 0, 2)?.check("FOUND", 2, &["m0", "m1"])?;
    puller.pull(0, "*", 2, 32)?.check("FOUND", 5, &["m2", "m3", "m4"])?;
    member.stop()?;
    let request = json!({ "group": scene.unique("other"), "topic": topic, "expression": "b" });
    let filtering = scene.start("pull.start", request)?;
    let puller = Puller { member: &filtering, topic: &topic };
    puller.pull(0, "b", 0, 32)?.check("FOUND", 5, &["m1", "m3"])?;
    filtering.stop()
}

/// P11 in Python: its pull consumer's own loop over the queues brings everything, and ends.
pub(crate) fn all(scene: &Scene) -> Result<()> {
    let topic = five_messages(scene)?;
    let member = scene.start("pull.start", json!({ "group": scene.unique("group") }))?;
    let messages: Vec<Received> =
        serde_json::from_value(member.ask("pull.all", json!({ "topic": topic, "expression": "*" }))?)?;
    ensure!(texts(&messages) == ["m0", "m1", "m2", "m3", "m4"], "pulled: {:?}", texts(&messages));
    member.stop()
}

/// P12: the scheduled pull moves its offset on, and goes on from there when broker and client have been restarted.
pub(crate) fn scheduled(scene: &Scene, broker: &mut BrokerUnderTest) -> Result<()> {
    goes_on(scene, broker, "schedule.start")
}

/// P12 with the lite pull consumer, which commits by hand.
pub(crate) fn lite(scene: &Scene, broker: &mut BrokerUnderTest) -> Result<()> {
    goes_on(scene, broker, "lite.start")
}

fn goes_on(scene: &Scene, broker: &mut BrokerUnderTest, verb: &str) -> Result<()> {
    let topic = scene.topic("topic", 2)?;
    let group = scene.unique("group");
    for number in 0..6 {
        scene.put(&topic, number % 2, "a", &format!("m{number}"))?;
    }
    let request = json!({ "group": group, "topic": topic });
    let before = scene.start(verb, request.clone())?;
    before.wait_for(6)?;
    // Before it stops: not all pull consumers send their offsets then, but all do so every second.
    scene.wait_for_offsets(&group, &topic, &[3, 3])?;
    before.stop()?;
    broker.stop_broker()?;
    broker.start_broker()?;
    let stored = scene.stored_offsets(&group, &topic, 2)?;
    ensure!(stored == [Some(3), Some(3)], "the restarted broker keeps {stored:?}");
    let after = scene.start(verb, request)?;
    scene.put(&topic, 0, "a", "m6")?;
    scene.put(&topic, 1, "a", "m7")?;
    scene.fence(&[&after], &topic, 2, &[])?;
    ensure!(texts(&after.received()) == ["m6", "m7"], "after the restart: {:?}", texts(&after.received()));
    after.stop()
}
