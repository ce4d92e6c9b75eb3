//! All clients on one topic, and the programs of `examples/` as a reader would run them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use waspmq_tests::broker::BrokerUnderTest;
use waspmq_tests::cache::Unready;
use waspmq_tests::client::{Client, Header};
use waspmq_tests::scene::{How, Message, PATIENCE, Plan, Scene, texts};
use waspmq_tests::wire;

use crate::World;

/// Every client sends, and every client, in a group of its own, gets what all have sent.
pub(crate) fn everyone(world: &World) -> Result<(), Unready> {
    let broker = world.broker()?;
    let mut scenes = Vec::new();
    for client in Client::ALL {
        scenes.push(Scene::new(client, world.driver(client)?, "everyone", broker.namesrv(), broker.address()));
    }
    Ok(read_one_another(&scenes)?)
}

fn read_one_another(scenes: &[Scene]) -> Result<()> {
    let topic = scenes[0].topic("topic", 4)?;
    let mut wanted = Vec::new();
    for scene in scenes {
        let producer = scene.producer()?;
        let names: Vec<String> = (0..4).map(|number| format!("{} {number}", scene.client.name())).collect();
        let messages: Vec<Message> = names
            .iter()
            .map(|name| {
                Message::new(&topic, format!("{name} {}", "long enough to be compressed ".repeat(200)))
                    .tag("vip")
                    .keys(name)
            })
            .collect();
        producer.send(How::Sync, &messages)?;
        wanted.extend(names);
        producer.stop()?;
    }
    wanted.sort();
    for scene in scenes {
        let consumer = scene.consumer(&Plan::new(&scene.unique("group")).tags(&topic, "vip"))?;
        let mut keys: Vec<String> = consumer.wait_for(wanted.len())?.iter().map(|m| m.keys.clone()).collect();
        keys.sort();
        let firsts: Vec<String> =
            texts(&consumer.received()).iter().map(|text| text.chars().take(40).collect()).collect();
        ensure!(keys == wanted, "{} read {keys:?}, bodies {firsts:?}", scene.client.name());
        consumer.stop()?;
    }
    Ok(())
}

/// The quickstart pair: the producer sends ten and ends, the consumer prints ten.
pub(crate) fn example(world: &World, client: Client) -> Result<(), Unready> {
    let home = world.client_home(&format!("example-{}", client.name()))?;
    let producer = client.example(&program("Producer", client), &home)?;
    let consumer = client.example(&program("Consumer", client), &home)?;
    debug_assert!(!matches!(client, Client::Java(_, Header::Binary)));
    // The examples all use one topic, as readers of all of them would find it, so each gets a broker of its own.
    let broker = BrokerUnderTest::start_embedded("example")?;
    if client == Client::Node {
        wire::create_topic(&broker.address(), &broker.namesrv(), "quickstart", 4)?; // See its README.
    }
    play(producer, consumer, &broker.namesrv())?;
    Ok(broker.finish()?)
}

fn program(name: &str, client: Client) -> String {
    if client.is_java() { name.to_owned() } else { name.to_lowercase() }
}

fn play(mut producer: Command, consumer: Command, namesrv: &str) -> Result<()> {
    // A second try only for a slow machine: the examples keep their clients' 3 s limit for a send.
    let mut output = producer.env("NAMESRV_ADDR", namesrv).output().context("cannot run the producer")?;
    if !output.status.success() {
        output = producer.output().context("cannot run the producer")?;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the producer failed: {said}{}", String::from_utf8_lossy(&output.stderr));
    let sent = said.lines().filter(|line| line.starts_with("sent ")).count();
    ensure!(sent == 10, "the producer said: {said}");

    let (mut child, lines) = start(consumer, namesrv)?;
    let (mut received, mut said) = (BTreeSet::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while received.len() < 10 {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if line.starts_with("received ") {
                    received.insert(line.split_whitespace().last().unwrap_or_default().to_owned());
                }
                said.push(line);
            }
            Err(error) => {
                child.kill()?;
                return Err(anyhow!("{} of 10 ({error}); the consumer printed {said:#?}", received.len()));
            }
        }
    }
    child.kill()?;
    child.wait()?;
    let wanted: BTreeSet<String> = (0..10).map(|number| format!("hello-{number}")).collect();
    ensure!(received == wanted, "the consumer printed {received:?}");
    Ok(())
}

fn start(mut consumer: Command, namesrv: &str) -> Result<(Child, Receiver<String>)> {
    consumer.env("NAMESRV_ADDR", namesrv).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = consumer.spawn().context("cannot start the consumer")?;
    let stdout = child.stdout.take().context("the consumer has no output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Ok((child, lines))
}
