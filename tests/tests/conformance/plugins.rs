//! The first filter of one's own, from its source to a consumer, and what becomes of the consumer while the file of the
//! plugin is broken, replaced, deleted and brought back: with the broker running all the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use waspmq_tests::broker::BrokerUnderTest;
use waspmq_tests::region_filter;
use waspmq_tests::scene::{Member, PATIENCE, Plan, Scene, texts};
use waspmq_tests::wire;

const SUBSCRIPTION_PARSE_FAILED: i64 = 23;
const QUEUES: i32 = 4;
/// Announced is "within a second"; a busy machine gets more.
const LIVE_WITHIN: Duration = Duration::from_secs(15);

/// The example's rule, and what its second version makes of it: the region may be written in any letters.
const RULE: (&str, &str) = (
    "(message.prop(\"region\") == Some(region)).into()",
    "message.prop(\"region\").is_some_and(|it| it.eq_ignore_ascii_case(region)).into()",
);

/// README's "A filter of your own", then every turn that the file of a plugin can take.
pub(crate) fn own_filter(scene: &Scene, broker: &mut BrokerUnderTest) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let second = [("version = \"0.1.0\"", "version = \"0.2.0\""), RULE];
    let builds = [
        region_filter::build(&folder.path().join("v1"), &[])?,
        region_filter::build(&folder.path().join("v2"), &second)?,
    ];
    let topic = scene.topic("topic", QUEUES)?;
    // A Java consumer whose start failed still takes its share of the group's queues: it gets a group of its own.
    let early = Plan::new(&scene.unique("early")).sql(&topic, "wasm:region-filter(hz)");
    let problem = match scene.try_consumer(&early)? {
        Err(problem) => problem,
        Ok(_) => anyhow::bail!("a consumer started although there is no plugin"),
    };
    ensure!(problem.code == Some(SUBSCRIPTION_PARSE_FAILED), "refused with another code: {problem:?}");
    ensure!(problem.message.contains("this broker has no filter plugin `region-filter`"), "{problem}");

    let plan = Plan::new(&scene.unique("group")).sql(&topic, "wasm:region-filter(hz)");
    let mut story = Story::new(scene, broker, topic, plan)?;
    story.copies_in_the_plugin(&builds[0])?;
    let consumer = scene.consumer(&story.plan)?;
    story.sends(&["hz", "HZ", "bj"], 3)?;
    story.consumer_has(&consumer, &["hz"])?;
    story.breaks_the_file(&consumer)?;
    story.takes_a_newer_version(&consumer, &builds[1])?;
    story.deletes_the_file(&consumer, &builds[1])?;
    consumer.stop()
}

/// A consumer whose subscription was refused when it connected gets its messages as soon as the plugin is there: it
/// outlived a restart of the broker, and the file comes after that.
pub(crate) fn plugin_comes_late(scene: &Scene, broker: &mut BrokerUnderTest) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let build = region_filter::build(&folder.path().join("v1"), &[])?;
    let topic = scene.topic("topic", QUEUES)?;
    let plan = Plan::new(&scene.unique("group")).sql(&topic, "wasm:region-filter(hz)");
    let mut story = Story::new(scene, broker, topic, plan)?;
    story.copies_in_the_plugin(&build)?;
    let consumer = scene.consumer(&story.plan)?;
    story.sends(&["hz", "bj"], 1)?;
    story.consumer_has(&consumer, &["hz"])?;
    story.broker.stop_broker()?;
    fs::remove_file(&story.file)?;
    story.broker.start_broker()?;
    story.sends(&["hz", "bj"], 1)?;
    // Its heartbeat of every 30 s, or the pull before it, meets a broker without the plugin.
    let group = scene.unique("group");
    let said = |story: &Story<'_>| wire::pull_remark(&story.broker.address(), &group, &story.topic);
    let deadline = Instant::now() + PATIENCE;
    while !said(&story)?.contains("no filter plugin") {
        ensure!(Instant::now() < deadline, "the consumer does not come back: {}", said(&story)?);
        std::thread::sleep(Duration::from_millis(200));
    }
    story.copies_in_the_plugin(&build)?;
    story.consumer_has(&consumer, &["hz"])?;
    consumer.stop()
}

/// A broker, a plugin's file, and what was sent so far.
struct Story<'a> {
    scene: &'a Scene,
    broker: &'a mut BrokerUnderTest,
    topic: String,
    plan: Plan,
    file: PathBuf,
    /// Region and body of each message.
    sent: Vec<(String, String)>,
}

impl<'a> Story<'a> {
    fn new(scene: &'a Scene, broker: &'a mut BrokerUnderTest, topic: String, plan: Plan) -> Result<Self> {
        let file = broker.plugins()?.join("region-filter.wasm");
        Ok(Self { scene, broker, topic, plan, file, sent: Vec::new() })
    }

    /// Waits until the broker's log has `text` so often.
    fn waits_for(&self, text: &str, times: usize) -> Result<Duration> {
        let began = Instant::now();
        while self.broker.said().matches(text).count() < times {
            ensure!(began.elapsed() < LIVE_WITHIN, "{text:?} is not in the log {times} times:\n{}", self.broker.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(began.elapsed())
    }

    fn copies_in_the_plugin(&self, build: &Path) -> Result<()> {
        let live = self.broker.said().matches("plugin is live plugin=\"region-filter\"").count();
        fs::copy(build, &self.file)?;
        let took = self.waits_for("plugin is live plugin=\"region-filter\"", live + 1)?;
        println!("{}: live {took:.2?} after the copy", self.topic);
        Ok(())
    }

    /// Sends so many messages of each region into every queue.
    fn sends(&mut self, regions: &[&str], each: usize) -> Result<()> {
        for _ in 0..each {
            for region in regions {
                for queue in 0..QUEUES {
                    let body = format!("{region} {}", self.sent.len());
                    wire::send(&self.broker.address(), &self.topic, queue, &[("region", region)], body.as_bytes())?;
                    self.sent.push(((*region).to_owned(), body));
                }
            }
        }
        Ok(())
    }

    /// The consumer has every message of these regions, once, and nothing else.
    fn consumer_has(&self, consumer: &Member, regions: &[&str]) -> Result<()> {
        let mut wanted: Vec<String> = Vec::new();
        wanted.extend(
            self.sent.iter().filter(|(region, _)| regions.contains(&region.as_str())).map(|(_, body)| body.clone()),
        );
        wanted.sort();
        consumer.wait_for(wanted.len())?;
        self.scene.fence(&[consumer], &self.topic, QUEUES, &[("region", "hz")])?;
        ensure!(texts(&consumer.received()) == wanted, "{:?}, not {wanted:?}", texts(&consumer.received()));
        Ok(())
    }

    fn breaks_the_file(&mut self, consumer: &Member) -> Result<()> {
        fs::write(&self.file, b"\0asm\x01\0\0\0 and then nothing that makes sense")?;
        self.waits_for("plugin refused, what served before goes on", 1)?;
        let said = self.broker.said();
        let reason = said.lines().find(|line| line.contains("plugin refused")).unwrap_or_default();
        ensure!(reason.contains("region-filter.wasm") && reason.contains("parse"), "no reason in: {reason}");
        self.sends(&["hz", "HZ", "bj"], 2)?;
        self.consumer_has(consumer, &["hz"])
    }

    /// While messages flow. Those that the new version alone wants come from some message on.
    fn takes_a_newer_version(&mut self, consumer: &Member, build: &Path) -> Result<()> {
        let old: Vec<String> = self.sent.iter().map(|(_, body)| body.clone()).collect();
        fs::copy(build, &self.file)?;
        let deadline = Instant::now() + LIVE_WITHIN;
        while !self.broker.said().contains("version=\"0.2.0\"") {
            ensure!(Instant::now() < deadline, "version 0.2.0 does not come:\n{}", self.broker.said());
            self.sends(&["hz", "HZ"], 1)?;
        }
        self.sends(&["hz", "HZ", "bj"], 2)?;
        self.scene.fence(&[consumer], &self.topic, QUEUES, &[("region", "hz")])?;
        let received = texts(&consumer.received());
        let count = |body: &String| received.iter().filter(|text| *text == body).count();
        for (region, body) in &self.sent {
            let right = match region.as_str() {
                "hz" => count(body) == 1,
                "HZ" if !old.contains(body) => count(body) <= 1,
                _ => count(body) == 0,
            };
            ensure!(right, "{body:?} came {} times of {received:?}", count(body));
        }
        // From here on the old messages, of which only some were wanted, count no more.
        let last: Vec<_> =
            self.sent.iter().rev().take(6 * QUEUES as usize).filter(|(region, _)| region == "HZ").collect();
        ensure!(last.iter().all(|(_, body)| count(body) == 1), "the new version decides by the old rule: {received:?}");
        self.sent.retain(|(_, body)| count(body) == 1);
        Ok(())
    }

    /// New subscribers are refused, this consumer waits; when the file is back it gets what it waited for.
    fn deletes_the_file(&mut self, consumer: &Member, build: &Path) -> Result<()> {
        fs::remove_file(&self.file)?;
        self.waits_for("plugin removed plugin=\"region-filter\"", 1)?;
        let before = consumer.received().len();
        self.sends(&["hz", "HZ", "bj"], 2)?;
        let plan = Plan::new(&self.scene.unique("latecomers")).sql(&self.topic, "wasm:region-filter(hz)");
        let latecomer = self.scene.try_consumer(&plan)?;
        ensure!(latecomer.is_err_and(|problem| problem.message.contains("no filter plugin")), "a latecomer started");
        // Longer than a held pull is left alone.
        std::thread::sleep(Duration::from_secs(2));
        ensure!(consumer.received().len() == before, "messages came through a plugin that is gone");
        self.copies_in_the_plugin(build)?;
        self.consumer_has(consumer, &["hz", "HZ"])
    }
}
