//! A record of the log as the broker sends it, taken apart by this test's own hand: the broker's codec is not asked.
//! Used by everything here that looks at messages.

use anyhow::{Context, Result, ensure};

/// One record and where its fields are.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// All of it, as stored.
    pub bytes: Vec<u8>,
    pub queue: i32,
    pub flag: i32,
    pub queue_offset: i64,
    pub physical_offset: i64,
    pub born_ms: i64,
    pub store_ms: i64,
    pub reconsume_times: i32,
    pub body: Vec<u8>,
    pub topic: String,
    pub properties: Vec<(String, String)>,
}

impl Record {
    /// Takes the first record off `bytes`. Hosts are IPv4 and the topic short enough for the first layout.
    pub fn take(bytes: &mut &[u8]) -> Result<Self> {
        let size = usize::try_from(number(bytes, 0, 4)?)?;
        let record = bytes.get(..size).context("a record longer than the answer")?;
        *bytes = &bytes[size..];
        let int = |at: usize| anyhow::Ok(number(record, at, 4)? as i32);
        ensure!(number(record, 4, 4)? == 0xDAA3_20A7, "a record of another kind");
        let body_bytes = usize::try_from(number(record, 84, 4)?)?;
        let body = record.get(88..88 + body_bytes).context("a body longer than its record")?;
        let rest = &record[88 + body_bytes..];
        let topic_bytes = usize::try_from(number(rest, 0, 1)?)?;
        let topic = rest.get(1..=topic_bytes).context("a topic longer than its record")?;
        let properties = rest.get(topic_bytes + 3..).context("a record without properties")?;
        Ok(Self {
            queue: int(12)?,
            flag: int(16)?,
            queue_offset: number(record, 20, 8)?,
            physical_offset: number(record, 28, 8)?,
            born_ms: number(record, 40, 8)?,
            store_ms: number(record, 56, 8)?,
            reconsume_times: int(72)?,
            body: body.to_vec(),
            topic: std::str::from_utf8(topic)?.to_owned(),
            properties: pairs(std::str::from_utf8(properties)?),
            bytes: record.to_vec(),
        })
    }

    /// All records in `bytes`.
    pub fn all(mut bytes: &[u8]) -> Result<Vec<Self>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            records.push(Self::take(&mut bytes)?);
        }
        Ok(records)
    }

    /// What a client may find it by.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let named = |name: &'static str| self.properties.iter().filter(move |(found, _)| found == name);
        let words = named("KEYS").flat_map(|(_, value)| value.split(' ').filter(|word| !word.is_empty()));
        named("UNIQ_KEY").map(|(_, value)| value.as_str()).chain(words)
    }

    /// For messages about it.
    pub fn place(&self) -> String {
        format!("{} {} {} (at {})", self.topic, self.queue, self.queue_offset, self.physical_offset)
    }
}

fn number(bytes: &[u8], at: usize, width: usize) -> Result<i64> {
    let bytes = bytes.get(at..at + width).context("a record that ends too early")?;
    Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte)))
}

/// Name and value of each property.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('\u{2}').filter_map(|pair| pair.split_once('\u{1}'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
