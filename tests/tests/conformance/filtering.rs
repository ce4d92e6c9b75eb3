//! P13, P14: exactly the messages that tags or SQL92 select, and a malformed expression is refused.

use anyhow::{Result, ensure};
use waspmq_tests::broker::{Maker, maker};
use waspmq_tests::scene::{How, Message, Plan, Scene, texts};

/// Java's hash of these two is the same, so only one who compares the tags themselves tells them apart.
const TWINS: [&str; 2] = ["AaAa", "BBBB"];

/// P13: `*`, one tag, several, blanks around them; also the two that hash alike.
pub(crate) fn tags(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let groups: [(&str, &[&str]); 6] = [
        ("*", &["tag1", "tag2", "tag11", "vip", "svip", TWINS[0], TWINS[1]]),
        ("tag1", &["tag1"]),
        ("tag1||tag2", &["tag1", "tag2"]),
        ("vip || svip", &["vip", "svip"]),
        ("vip", &["vip"]),
        (TWINS[0], &TWINS[..1]),
    ];
    let producer = scene.producer()?;
    let messages: Vec<Message> = (0..3)
        .flat_map(|round| groups[0].1.iter().map(move |tag| (round, tag)))
        .map(|(round, tag)| Message::new(&topic, format!("{tag} {round}")).tag(tag))
        .collect();
    producer.send(How::Sync, &messages)?;
    for (number, (expression, tags)) in groups.iter().enumerate() {
        let plan = Plan::new(&scene.unique(&format!("group{number}"))).tags(&topic, expression);
        let consumer = scene.consumer(&plan)?;
        let mut wanted: Vec<String> = (0..3).flat_map(|i| tags.iter().map(move |tag| format!("{tag} {i}"))).collect();
        wanted.sort();
        consumer.wait_for(wanted.len())?;
        scene.fence(&[&consumer], &topic, 4, &[("TAGS", tags[0])])?;
        ensure!(texts(&consumer.received()) == wanted, "{expression}: {:?}", texts(&consumer.received()));
        consumer.stop()?;
    }
    Ok(())
}

/// P14: `a` is the message's number; every third has also `b`.
pub(crate) fn sql(scene: &Scene) -> Result<()> {
    let topic = scene.topic("topic", 4)?;
    let producer = scene.producer()?;
    let messages: Vec<Message> = (0..10)
        .map(|a| {
            let message =
                Message::new(&topic, format!("a={a}")).tag(if a < 5 { "low" } else { "high" }).property("a", a);
            if a % 3 == 0 { message.property("b", "x") } else { message }
        })
        .collect();
    producer.send(How::Sync, &messages)?;
    let mut cases: Vec<(&str, &[i32])> = vec![
        ("a > 5", &[6, 7, 8, 9]),
        ("a BETWEEN 2 AND 4 OR b = 'x'", &[0, 2, 3, 4, 6, 9]),
        ("b IS NULL AND a < 3", &[1, 2]),
        ("TAGS IN ('high') AND NOT (a = 7)", &[5, 6, 8, 9]),
    ];
    if maker() == Maker::WaspMq {
        cases.push(("a in (1,3,7)", &[1, 3, 7])); // RocketMQ's grammar has strings only in a list.
    }
    for (number, (expression, numbers)) in cases.iter().enumerate() {
        let plan = Plan::new(&scene.unique(&format!("group{number}"))).sql(&topic, expression);
        let consumer = scene.consumer(&plan)?;
        consumer.wait_for(numbers.len())?;
        let like = numbers[0].to_string();
        let mut fence = vec![("a", like.as_str()), ("TAGS", if numbers[0] < 5 { "low" } else { "high" })];
        if numbers[0] % 3 == 0 {
            fence.push(("b", "x"));
        }
        scene.fence(&[&consumer], &topic, 4, &fence)?;
        let wanted: Vec<String> = numbers.iter().map(|a| format!("a={a}")).collect();
        ensure!(texts(&consumer.received()) == wanted, "{expression}: {:?}", texts(&consumer.received()));
        consumer.stop()?;
    }
    Ok(())
}

/// P14: the broker refuses what does not parse, the client's start fails and says so. (Only Java asks before it starts.)
pub(crate) fn sql_malformed(scene: &Scene) -> Result<()> {
    const SUBSCRIPTION_PARSE_FAILED: i64 = 23;
    let topic = scene.topic("topic", 1)?;
    for expression in ["a > ", "a >> 5", "(a = 1"] {
        let plan = Plan::new(&scene.unique("group")).sql(&topic, expression);
        let problem = match scene.try_consumer(&plan)? {
            Err(problem) => problem,
            Ok(_) => anyhow::bail!("a consumer started with {expression:?}"),
        };
        ensure!(problem.code == Some(SUBSCRIPTION_PARSE_FAILED), "refused with another code: {problem:?}");
        let said = &problem.message;
        let shown = said.contains(expression) || said.contains("column");
        ensure!(shown, "the refusal shows neither the expression nor where it is wrong: {problem}");
    }
    Ok(())
}
