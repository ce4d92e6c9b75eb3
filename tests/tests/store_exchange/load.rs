//! The messages of this test and how they are sent. Everything about a message follows from its number, so that any
//! broker's copy can be compared with what was sent. Keys are words that few messages share: a query returns 64 at most.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::asking::{self, Request, SEND_BATCH_MESSAGE, SEND_MESSAGE};
use crate::record::Record;

/// Topics and how many queues they have.
pub const TOPICS: [(&str, i32); 4] = [
    ("Orders", 4),
    ("Single", 1),
    ("%RETRY%exchange-group", 1),
    // As long as Java's broker allows.
    (
        "A-topic-of-127-characters------------------------------------------------------------------------------------------------------",
        2,
    ),
];
/// So many neighbours share a word of their KEYS.
const NEIGHBOURS: u64 = 20;
/// In a batch.
const BATCH: usize = 10;

/// A message as it was sent.
#[derive(Clone)]
pub struct Sent {
    pub topic: &'static str,
    pub queue: i32,
    flag: i32,
    reconsume_times: i32,
    born_ms: i64,
    body: Vec<u8>,
    properties: Vec<(String, String)>,
}

/// Where an acknowledgement said that a message is.
#[derive(Clone)]
pub struct Acknowledged {
    pub sent: Sent,
    pub queue_offset: i64,
    pub physical_offset: i64,
}

/// What became of some sends.
#[derive(Default)]
pub struct Outcome {
    pub acknowledged: Vec<Acknowledged>,
    /// Sent, but the connection ended before the answer: stored or not.
    pub in_doubt: Vec<Sent>,
}

/// Gives every message its number.
#[derive(Debug, Default)]
pub struct Numbers(AtomicU64);

impl Numbers {
    /// The next message.
    pub fn message(&self) -> Sent {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let scattered = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let (topic, queues) = TOPICS[(scattered % 7 % 4) as usize];
        let body_bytes = match number % 100 {
            0 => 1,
            1 => 200 * 1024,
            2..=5 => 20_000 + scattered % 20_000,
            _ => 1 + scattered % 2_000,
        };
        let mut properties = vec![
            ("UNIQ_KEY".to_owned(), format!("{number:032X}")),
            ("KEYS".to_owned(), format!("key-{number} neighbours-{}", number / NEIGHBOURS)),
            ("number".to_owned(), number.to_string()),
        ];
        match number % 3 {
            0 => properties.push(("TAGS".to_owned(), format!("Tag{}", number % 5))),
            1 => properties.extend([("TAGS", "Größe✓"), ("naïve name", "日本語 😀")].map(owned)),
            _ => properties[1].1 = format!("schlüssel-ß{number}"),
        }
        let queue = (scattered >> 8) as i32 & 0xFF;
        Sent::new(topic, queue % queues, number, body(number, body_bytes), properties)
    }

    /// A message of which all have the same length, to that queue of the first topic.
    pub fn even_message(&self, queue: i32) -> Sent {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let properties = [("UNIQ_KEY", format!("{number:032X}")), ("number", format!("{number:08}"))];
        let properties = properties.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Sent::new(TOPICS[0].0, queue, number, body(number, 300), properties)
    }

    /// Messages to one queue, to go in one batch; a retry topic takes none.
    fn batch(&self) -> Vec<Sent> {
        let first = self.message();
        let (topic, queue, born_ms) = (TOPICS[0].0, first.queue % TOPICS[0].1, first.born_ms);
        let more = (1..BATCH).map(|_| self.message());
        let all = std::iter::once(first).chain(more);
        all.map(|sent| Sent { topic, queue, born_ms, reconsume_times: 0, ..sent }).collect()
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn body(number: u64, bytes: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x2545_F491_4F6C_DD1D) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

impl Sent {
    fn new(topic: &'static str, queue: i32, number: u64, body: Vec<u8>, properties: Vec<(String, String)>) -> Self {
        let low = number as i32;
        let (flag, reconsume_times) = (low % 11, low % 3);
        let born_ms = 1_700_000_000_000 + i64::from(low);
        Self { topic, queue, flag, reconsume_times, born_ms, body, properties }
    }

    fn properties(&self) -> String {
        self.properties.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{2}")).collect()
    }

    fn fields(&self) -> Value {
        json!({
            "producerGroup": "exchange", "topic": self.topic, "defaultTopic": "TBW102", "defaultTopicQueueNums": "4",
            "queueId": self.queue.to_string(), "sysFlag": "0", "bornTimestamp": self.born_ms.to_string(),
            "flag": self.flag.to_string(), "properties": self.properties(), "unitMode": "false", "batch": "false",
            "reconsumeTimes": self.reconsume_times.to_string(),
        })
    }

    /// Of a batch with this message at its head: batches have the short names only.
    fn batch_fields(&self) -> Value {
        json!({
            "a": "exchange", "b": self.topic, "c": "TBW102", "d": "4", "e": self.queue.to_string(), "f": "0",
            "g": self.born_ms.to_string(), "h": "0", "i": "WAIT\u{1}true\u{2}", "j": "0", "k": "false", "m": "true",
        })
    }

    /// What differs between this message and a broker's copy of it.
    pub fn difference(&self, record: &Record) -> Option<String> {
        let sent = (self.topic, self.queue, self.flag, self.reconsume_times, self.born_ms);
        let stored = (&*record.topic, record.queue, record.flag, record.reconsume_times, record.born_ms);
        if sent != stored {
            return Some(format!("sent as {sent:?}, stored as {stored:?}"));
        }
        if self.body != record.body {
            return Some(format!("another body, of {} bytes instead of {}", record.body.len(), self.body.len()));
        }
        // Brokers add some of their own.
        let lost = self.properties.iter().find(|property| !record.properties.contains(property));
        lost.map(|property| format!("{property:?} is missing in {:?}", record.properties))
    }

    /// Its number, which a broker's copy has too.
    pub fn number(&self) -> &str {
        number_of(&self.properties)
    }
}

/// The number in these properties.
pub fn number_of(properties: &[(String, String)]) -> &str {
    properties.iter().find(|(name, _)| name == "number").map_or("", |(_, value)| value)
}

/// One send: a message, or several to one queue as a batch.
fn request(messages: &[Sent]) -> Request {
    let first = &messages[0];
    if messages.len() == 1 {
        return (SEND_MESSAGE, first.fields(), first.body.clone());
    }
    let mut body = Vec::new();
    for message in messages {
        let properties = message.properties();
        let total = 22 + message.body.len() + properties.len();
        body.extend((total as u32).to_be_bytes());
        body.extend([0; 8]); // Magic and checksum: nobody reads them.
        body.extend(message.flag.to_be_bytes());
        body.extend((message.body.len() as u32).to_be_bytes());
        body.extend(&message.body);
        body.extend((properties.len() as u16).to_be_bytes());
        body.extend(properties.as_bytes());
    }
    (SEND_BATCH_MESSAGE, first.batch_fields(), body)
}

/// `count` messages as they come, some of them in batches.
pub fn mixed(numbers: &Numbers, count: usize) -> Vec<Vec<Sent>> {
    let mut sends = Vec::new();
    let mut made = 0;
    while made < count {
        let send = if sends.len() % 25 == 24 { numbers.batch() } else { vec![numbers.message()] };
        made += send.len();
        sends.push(send);
    }
    sends
}

/// Sends everything. When the connection ends, what was not answered is in doubt; a refusal is an error.
pub fn send(address: &str, sends: Vec<Vec<Sent>>, outcome: &mut Outcome) -> Result<()> {
    let requests: Vec<Request> = sends.iter().map(|messages| request(messages)).collect();
    let mut sends: Vec<Option<Vec<Sent>>> = sends.into_iter().map(Some).collect();
    let mut connection = asking::connect(address)?;
    let mut refused = None;
    let ended = asking::ask_all(&mut connection, &requests, |number, reply| {
        let reply = reply.expect_success("sending").inspect_err(|error| refused = Some(format!("{error:#}")))?;
        let offset = reply.number("queueOffset")?;
        let ids = reply.fields["msgId"].as_str().context("no message id")?;
        let messages = sends[number].take().context("answered twice")?;
        for ((place, sent), id) in messages.into_iter().enumerate().zip(ids.split(',')) {
            let physical_offset = i64::from_str_radix(&id[16..], 16)?;
            outcome.acknowledged.push(Acknowledged { sent, queue_offset: offset + place as i64, physical_offset });
        }
        Ok(())
    });
    if let Some(refused) = refused {
        anyhow::bail!(refused);
    }
    // A send that never left cannot be stored either; it is in doubt all the same.
    outcome.in_doubt.extend(sends.into_iter().flatten().flatten());
    ended
}
