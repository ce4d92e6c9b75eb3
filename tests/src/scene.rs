//! What a scenario is written in: topics of its own, producers and consumers of the client under test, and waiting.
//! Every name carries the scenario's and the client's, so scenarios share one broker without seeing one another.
//! A *fence* is a message the suite itself puts into every queue: when all fences have come out, whatever was before
//! them has come out as well, so "and nothing else" needs no guessing at how long to wait.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;
use crate::driver::{Driver, Mailbox, Problem, Received};
use crate::wire;

/// Longer than clients take to hand a locked queue over: a 20 s rebalance and the 60 s life of a lock.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// What a fence's body begins with.
const FENCE: &str = "fence ";

/// One message to send.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    topic: String,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<i32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_number: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_key: Option<String>,
}

impl Message {
    /// A message with nothing but a body.
    pub fn new(topic: &str, body: impl AsRef<[u8]>) -> Self {
        Self { topic: topic.to_owned(), body: hex::encode(body), ..Self::default() }
    }

    /// With a tag.
    pub fn tag(mut self, tag: &str) -> Self {
        self.tags = Some(tag.to_owned());
        self
    }

    /// With a key, or several with blanks between.
    pub fn keys(mut self, keys: &str) -> Self {
        self.keys = Some(keys.to_owned());
        self
    }

    /// With the user's flag.
    pub fn flag(mut self, flag: i32) -> Self {
        self.flag = Some(flag);
        self
    }

    /// With a property.
    pub fn property(mut self, name: &str, value: impl ToString) -> Self {
        self.properties.insert(name.to_owned(), value.to_string());
        self
    }

    /// To this queue.
    pub fn queue(mut self, queue: i32) -> Self {
        self.queue = Some(queue);
        self
    }

    /// To the queue that the client's selector makes of a number.
    pub fn order_number(mut self, number: i64) -> Self {
        self.order_number = Some(number);
        self
    }

    /// To the queue that the client's selector makes of a text.
    pub fn order_key(mut self, key: &str) -> Self {
        self.order_key = Some(key.to_owned());
        self
    }
}

/// What a send brought.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// `SEND_OK`; nothing for one-way sends.
    pub status: Option<String>,
    /// The id the client shows.
    pub msg_id: Option<String>,
    /// The id made of host and physical offset.
    pub offset_msg_id: Option<String>,
    /// Queue id, where the client tells.
    pub queue: Option<i32>,
    /// Queue offset.
    pub offset: Option<i64>,
    /// What went wrong instead.
    pub error: Option<Problem>,
}

/// How to send.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// One after the other, each awaited.
    Sync,
    /// All at once, with callbacks.
    Async,
    /// Without reply.
    Oneway,
}

/// How a push consumer is made.
#[derive(Clone, Debug)]
pub struct Plan {
    group: String,
    request: Value,
}

impl Plan {
    /// A clustering consumer of `group` that starts at the first offset.
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned(), request: json!({ "group": group, "from": "first", "subscriptions": [] }) }
    }

    /// Subscribes by tags.
    pub fn tags(self, topic: &str, expression: &str) -> Self {
        self.subscribe(json!({ "topic": topic, "expression": expression, "type": "TAG" }))
    }

    /// Subscribes by SQL92.
    pub fn sql(self, topic: &str, expression: &str) -> Self {
        self.subscribe(json!({ "topic": topic, "expression": expression, "type": "SQL92" }))
    }

    fn subscribe(mut self, subscription: Value) -> Self {
        if let Some(all) = self.request["subscriptions"].as_array_mut() {
            all.push(subscription);
        }
        self
    }

    /// Sets one of the driver's options: `from`, `broadcast`, `orderly`, `strategy`, `slowMs`, `refuse`.
    pub fn with(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.request[option] = value.into();
        self
    }
}

/// One scenario's view of the broker and of the client that runs it.
pub struct Scene {
    /// The client under test.
    pub client: Client,
    driver: Arc<Driver>,
    namesrv: String,
    broker: String,
    name: String,
    members: Cell<u32>,
    fences: Cell<u32>,
}

impl Scene {
    /// A scenario called `name`, with `driver` speaking for `client`.
    pub fn new(client: Client, driver: Arc<Driver>, name: &str, namesrv: String, broker: String) -> Self {
        let name = format!("{name}-{}", client.name());
        Self { client, driver, namesrv, broker, name, members: Cell::new(0), fences: Cell::new(0) }
    }

    /// The broker's address, for [`wire`].
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// A name for a topic or group that no other scenario uses.
    pub fn unique(&self, label: &str) -> String {
        format!("{label}-{}", self.name)
    }

    /// A new topic with so many queues.
    pub fn topic(&self, label: &str, queues: i32) -> Result<String> {
        let topic = self.unique(label);
        wire::create_topic(&self.broker, &self.namesrv, &topic, queues)?;
        Ok(topic)
    }

    /// Stores a message in a queue, not by way of the client under test.
    pub fn put(&self, topic: &str, queue: i32, tag: &str, body: &str) -> Result<i64> {
        wire::send(&self.broker, topic, queue, &[("TAGS", tag), ("KEYS", body)], body.as_bytes())
    }

    /// The offsets the broker keeps for a group, queue by queue.
    pub fn stored_offsets(&self, group: &str, topic: &str, queues: i32) -> Result<Vec<Option<i64>>> {
        (0..queues).map(|queue| wire::stored_offset(&self.broker, group, topic, queue)).collect()
    }

    /// Waits until the broker keeps `wanted` as a group's offsets: clients send theirs one-way, so a consumer that has
    /// stopped may still have them on the way.
    pub fn wait_for_offsets(&self, group: &str, topic: &str, wanted: &[i64]) -> Result<()> {
        let wanted: Vec<Option<i64>> = wanted.iter().copied().map(Some).collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let stored = self.stored_offsets(group, topic, i32::try_from(wanted.len())?)?;
            if stored == wanted {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the broker keeps {stored:?} for group {group}, not {wanted:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a verb for a new member, named so that members sort in order of their start. The outer error is the
    /// suite's, the inner the client's.
    pub fn try_start(&self, verb: &str, mut request: Value) -> Result<Result<Member, Problem>> {
        let number = self.members.get() + 1;
        self.members.set(number);
        let name = format!("{}-m{number}", self.name);
        request["member"] = name.clone().into();
        request["namesrv"] = self.namesrv.clone().into();
        let mailbox = self.driver.mailbox(&name);
        let started = self.driver.call(verb, request)?;
        Ok(started.map(|_| Member { name, driver: Arc::clone(&self.driver), mailbox }))
    }

    /// As [`Scene::try_start`], where the client has to agree.
    pub fn start(&self, verb: &str, request: Value) -> Result<Member> {
        self.try_start(verb, request)?.with_context(|| format!("{verb} failed"))
    }

    /// A producer, of a group of its own.
    pub fn producer(&self) -> Result<Member> {
        self.start("producer.start", json!({ "group": self.unique("pg") }))
    }

    /// A push consumer.
    pub fn consumer(&self, plan: &Plan) -> Result<Member> {
        self.start("consumer.start", plan.request.clone()).with_context(|| format!("group {}", plan.group))
    }

    /// A push consumer whose start may well fail.
    pub fn try_consumer(&self, plan: &Plan) -> Result<Result<Member, Problem>> {
        self.try_start("consumer.start", plan.request.clone())
    }

    /// Puts a fence into every queue, with the properties given, and waits until the members together have seen all
    /// of them. What they were given before, they have reported by then.
    pub fn fence(&self, members: &[&Member], topic: &str, queues: i32, properties: &[(&str, &str)]) -> Result<()> {
        let number = self.fences.get() + 1;
        self.fences.set(number);
        let body = format!("{FENCE}{number}");
        for queue in 0..queues {
            wire::send(&self.broker, topic, queue, properties, body.as_bytes())?;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = |member: &&Member| member.mailbox.all().into_iter().filter(|m| m.text() == body);
            let mut passed: Vec<i32> = members.iter().flat_map(seen).map(|m| m.queue).collect();
            passed.sort_unstable();
            passed.dedup();
            if passed.len() == usize::try_from(queues)? {
                // Listeners run side by side: give one that was just before the fence the moment it needs.
                std::thread::sleep(Duration::from_millis(100));
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{body}: after {PATIENCE:?} only queues {passed:?} of {queues} are served"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Which member serves each queue now: one probe goes into every queue. `None`: nobody took it within a
    /// second, or several did.
    pub fn owners(&self, members: &[&Member], topic: &str, queues: i32) -> Result<Vec<Option<usize>>> {
        let number = self.fences.get() + 1;
        self.fences.set(number);
        let body = format!("{FENCE}{number}");
        for queue in 0..queues {
            wire::send(&self.broker, topic, queue, &[], body.as_bytes())?;
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let has = |member: &Member, queue| {
                member.mailbox.all().iter().any(|record| record.queue == queue && record.text() == body)
            };
            let taken = |queue| members.iter().any(|member| has(member, queue));
            let in_time = Instant::now() <= deadline;
            if !in_time || (0..queues).all(taken) {
                // While a queue changes hands both may serve it: give the slower one the moment it needs.
                std::thread::sleep(Duration::from_millis(200));
                let only = |queue| {
                    let mut owners = (0..members.len()).filter(|at| has(members[*at], queue));
                    owners.next().filter(|_| owners.next().is_none())
                };
                return Ok((0..queues).map(only).collect());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the members serve the queues as `wanted` says (by index), and returns how long that took.
    pub fn wait_for_owners(&self, members: &[&Member], topic: &str, wanted: &[usize]) -> Result<Duration> {
        let started = Instant::now();
        let wanted: Vec<Option<usize>> = wanted.iter().copied().map(Some).collect();
        loop {
            let owners = self.owners(members, topic, i32::try_from(wanted.len())?)?;
            if owners == wanted {
                return Ok(started.elapsed());
            }
            ensure!(started.elapsed() < PATIENCE, "queues are shared {owners:?} after {PATIENCE:?}, not {wanted:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A producer or consumer of the client under test. Dropping it stops it.
pub struct Member {
    name: String,
    driver: Arc<Driver>,
    mailbox: Arc<Mailbox>,
}

impl Member {
    /// Runs a verb of this member; the client has to succeed.
    pub fn ask(&self, verb: &str, request: Value) -> Result<Value> {
        self.try_ask(verb, request)?.map_err(|problem| anyhow!("{verb}: {problem}"))
    }

    /// As [`Member::ask`], with the client's failure as the inner error.
    pub fn try_ask(&self, verb: &str, mut request: Value) -> Result<Result<Value, Problem>> {
        request["member"] = self.name.clone().into();
        self.driver.call(verb, request)
    }

    /// Sends, and returns what each send brought, failures included.
    pub fn try_send(&self, how: How, messages: &[Message]) -> Result<Vec<Sent>> {
        let how = match how {
            How::Sync => "sync",
            How::Async => "async",
            How::Oneway => "oneway",
        };
        Ok(serde_json::from_value(self.ask("send", json!({ "how": how, "messages": messages }))?)?)
    }

    /// Sends, and every send has to be answered `SEND_OK` (one-way: to leave without error).
    pub fn send(&self, how: How, messages: &[Message]) -> Result<Vec<Sent>> {
        let sent = self.try_send(how, messages)?;
        ensure!(sent.len() == messages.len(), "{} results of {} sends", sent.len(), messages.len());
        for result in &sent {
            ensure!(result.error.is_none(), "a send failed: {result:?}");
            ensure!(
                matches!(how, How::Oneway) || result.status.as_deref() == Some("SEND_OK"),
                "not SEND_OK: {result:?}"
            );
        }
        Ok(sent)
    }

    /// Everything received so far but fences.
    pub fn received(&self) -> Vec<Received> {
        self.mailbox.all().into_iter().filter(|message| !message.text().starts_with(FENCE)).collect()
    }

    /// Waits for `count` messages, fences aside, and returns all there are.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Received>> {
        let real = |messages: &[Received]| messages.iter().filter(|m| !m.text().starts_with(FENCE)).count();
        let came = self.mailbox.wait(PATIENCE, |messages| real(messages) >= count);
        ensure!(
            came,
            "{} of {count} messages after {PATIENCE:?}: {:?}",
            self.received().len(),
            texts(&self.received())
        );
        Ok(self.received())
    }

    /// Stops the client as users do: its `shutdown`.
    pub fn stop(self) -> Result<()> {
        self.ask("stop", json!({})).map(|_| ())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.try_ask("stop", json!({})); // A second stop is answered and does nothing.
    }
}

/// The bodies as sorted texts: what most expectations are about.
pub fn texts(messages: &[Received]) -> Vec<String> {
    let mut texts: Vec<String> = messages.iter().map(Received::text).collect();
    texts.sort();
    texts
}
