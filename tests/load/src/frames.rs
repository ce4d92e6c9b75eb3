//! Send requests built once and patched in place for every send: number, birth time, queue, keys, bodies.
//! Where a value lies is found by encoding the same command with two values and looking where the bytes differ, so both
//! header encodings are served alike and nothing is assumed of how they are written.

use std::ops::Range;

use waspmq_protocol::message::batch::{BatchItem, push_item};
use waspmq_protocol::message::properties::PropertiesWriter;
use waspmq_protocol::{HeaderKind, RemotingCommand, RequestCode, header::NoHeader};

/// Request numbers start here, so that all of them have ten digits.
pub const FIRST_OPAQUE: i32 = 1_000_000_000;

/// Hexadecimal digits of a message's unique key that count up; the sixteen before them name the run.
const COUNTER_DIGITS: usize = 16;

/// What a send request looks like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Topic.
    pub topic: String,
    /// Producer group.
    pub group: String,
    /// Header encoding.
    pub kind: HeaderKind,
    /// Body bytes of a message.
    pub body_bytes: usize,
    /// Messages of one request.
    pub batch: usize,
    /// The highest queue id.
    pub queue_max: i32,
    /// Tags the messages carry in turn.
    pub tags: Vec<String>,
    /// Properties the messages carry: name, and how many values in turn.
    pub properties: Vec<(String, u32)>,
    /// Names the run in unique keys and bodies.
    pub run: u64,
}

/// The values a frame is patched with.
#[derive(Clone, Copy)]
struct Values {
    opaque: i32,
    born: i64,
    queue: char,
    counter: char,
}

const ONE: Values = Values { opaque: 1_111_111_111, born: 1_111_111_111_111, queue: '1', counter: '1' };

/// One request, ready to be patched and sent.
#[derive(Clone, Debug)]
pub struct SendFrame {
    bytes: Vec<u8>,
    kind: HeaderKind,
    opaque: Range<usize>,
    born: Range<usize>,
    queue: Range<usize>,
    counters: Vec<Range<usize>>,
    bodies: Vec<Range<usize>>,
}

impl Shape {
    /// A frame; `variation` chooses tags and properties.
    pub fn frame(&self, variation: usize) -> SendFrame {
        let one = self.encode(variation, ONE, b'a');
        let differing = |two: Vec<u8>| runs(&one, &two);
        let first = |two: Values| differing(self.encode(variation, two, b'a')).swap_remove(0);
        let counters = differing(self.encode(variation, Values { counter: '2', ..ONE }, b'a'));
        SendFrame {
            kind: self.kind,
            opaque: first(Values { opaque: 2_000_000_000, ..ONE }),
            born: first(Values { born: 2_222_222_222_222, ..ONE }),
            queue: first(Values { queue: '2', ..ONE }),
            bodies: if self.body_bytes == 0 { Vec::new() } else { differing(self.encode(variation, ONE, b'b')) },
            counters,
            bytes: one,
        }
    }

    fn encode(&self, variation: usize, values: Values, filler: u8) -> Vec<u8> {
        let code = if self.batch > 1 { RequestCode::SEND_BATCH_MESSAGE } else { RequestCode::SEND_MESSAGE_V2 };
        let width = self.queue_max.to_string().len();
        let mut command = RemotingCommand::request(code, &NoHeader {})
            .with_ext("a", &self.group)
            .with_ext("b", &self.topic)
            .with_ext("c", "TBW102")
            .with_ext("d", "4")
            .with_ext("e", values.queue.to_string().repeat(width))
            .with_ext("f", "0")
            .with_ext("g", values.born.to_string())
            .with_ext("h", "0");
        let body = vec![filler; self.body_bytes];
        if self.batch > 1 {
            let mut items = Vec::new();
            for index in 0..self.batch {
                let properties = self.properties(variation * self.batch + index, values.counter).finish();
                push_item(&BatchItem { flag: 0, body: &body, properties: &properties }, &mut items);
            }
            let properties = PropertiesWriter::new().put("WAIT", "true").finish();
            command = command.with_ext("i", String::from_utf8_lossy(&properties)).with_body(items);
        } else {
            let properties = self.properties(variation, values.counter).put("WAIT", "true").finish();
            command = command.with_ext("i", String::from_utf8_lossy(&properties)).with_body(body);
        }
        command = command.with_ext("j", "0").with_ext("k", "false").with_ext("m", (self.batch > 1).to_string());
        command.opaque = values.opaque;
        command.kind = self.kind;
        command.encode().to_vec()
    }

    fn properties(&self, variation: usize, counter: char) -> PropertiesWriter {
        let key = format!("{:016X}{}", self.run, counter.to_string().repeat(COUNTER_DIGITS));
        let mut block = PropertiesWriter::new().put("UNIQ_KEY", &key);
        if !self.tags.is_empty() {
            block = block.put("TAGS", &self.tags[variation % self.tags.len()]);
        }
        for (name, count) in &self.properties {
            block = block.put(name, &(variation % *count as usize).to_string());
        }
        block
    }
}

impl SendFrame {
    /// The request as it goes out.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Messages in it.
    pub fn messages(&self) -> usize {
        self.counters.len()
    }

    /// Bytes of all bodies in it.
    pub fn body_bytes(&self) -> usize {
        self.bodies.iter().map(Range::len).sum()
    }

    /// Sets the request's number; `index` is below 10^9.
    pub fn set_index(&mut self, index: u32) {
        let opaque = FIRST_OPAQUE + index as i32;
        let place = &mut self.bytes[self.opaque.clone()];
        match self.kind {
            HeaderKind::Json => write_decimal(place, opaque as u64),
            HeaderKind::RocketMq => place.copy_from_slice(&opaque.to_be_bytes()),
        }
    }

    /// Sets the birth time, milliseconds since 1970.
    pub fn set_born(&mut self, millis: u64) {
        write_decimal(&mut self.bytes[self.born.clone()], millis);
    }

    /// Sets the queue.
    pub fn set_queue(&mut self, queue: i32) {
        write_decimal(&mut self.bytes[self.queue.clone()], queue as u64);
    }

    /// Sets the unique keys: `first` and those after it, one a message.
    pub fn set_keys(&mut self, first: u64) {
        for (index, place) in self.counters.iter().enumerate() {
            write_hex(&mut self.bytes[place.clone()], first + index as u64);
        }
    }

    /// The body of message `index`.
    pub fn body_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[self.bodies[index].clone()]
    }

    /// Writes `head` at the start of every body that is long enough.
    pub fn set_body_heads(&mut self, head: &[u8]) {
        for place in &self.bodies {
            if let Some(start) = self.bytes[place.clone()].get_mut(..head.len()) {
                start.copy_from_slice(head);
            }
        }
    }
}

/// The index a request number was made of, if it is one of ours.
pub fn index_of(opaque: i32) -> Option<usize> {
    usize::try_from(opaque.checked_sub(FIRST_OPAQUE)?).ok()
}

/// Where two frames of one length differ.
fn runs(one: &[u8], two: &[u8]) -> Vec<Range<usize>> {
    assert_eq!(one.len(), two.len(), "both values have one width");
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in one.iter().zip(two).enumerate().filter(|(_, (one, two))| one != two) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// Right-aligned, with leading zeroes, which every decoder of decimal numbers takes.
fn write_decimal(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn write_hex(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use waspmq_protocol::message::batch::items;
    use waspmq_protocol::message::properties::find;

    use super::*;

    fn shape(kind: HeaderKind, batch: usize) -> Shape {
        Shape {
            topic: "T1111".into(),
            group: "G".into(),
            kind,
            body_bytes: 100,
            batch,
            queue_max: 15,
            tags: vec!["red".into(), "blue".into()],
            properties: vec![("a".into(), 10)],
            run: 0xABCD,
        }
    }

    #[test]
    fn every_patched_value_is_what_a_broker_decodes() {
        for kind in [HeaderKind::Json, HeaderKind::RocketMq] {
            let mut frame = shape(kind, 1).frame(3);
            frame.set_index(77);
            frame.set_born(1_700_000_000_123);
            frame.set_queue(9);
            frame.set_keys(0xFACE);
            frame.body_mut(0).fill(b'z');
            frame.set_body_heads(b"head");
            let command = RemotingCommand::decode(frame.bytes()).unwrap();
            assert_eq!(index_of(command.opaque), Some(77));
            assert_eq!(command.kind, kind);
            assert_eq!(command.ext_value("g"), Some("1700000000123"));
            assert_eq!(command.ext_value("e").unwrap().parse::<i32>().unwrap(), 9);
            let properties = command.ext_value("i").unwrap().as_bytes();
            assert_eq!(find(properties, "UNIQ_KEY"), Some("000000000000ABCD000000000000FACE"));
            assert_eq!((find(properties, "TAGS"), find(properties, "a")), (Some("blue"), Some("3")));
            assert_eq!((&command.body[..4], &command.body[4..]), (&b"head"[..], &[b'z'; 96][..]));
        }
    }

    #[test]
    fn every_message_of_a_batch_has_its_own_key_and_body() {
        let mut frame = shape(HeaderKind::Json, 3).frame(1);
        frame.set_keys(5);
        (0..3).for_each(|index| frame.body_mut(index).fill(index as u8));
        assert_eq!(frame.messages(), 3);
        let command = RemotingCommand::decode(frame.bytes()).unwrap();
        assert_eq!((command.code, command.ext_value("m")), (320, Some("true")));
        for (index, item) in items(&command.body).enumerate() {
            let item = item.unwrap();
            assert_eq!(item.body, [index as u8; 100]);
            assert_eq!(find(item.properties, "UNIQ_KEY").unwrap(), format!("000000000000ABCD{:016X}", 5 + index));
            assert_eq!(find(item.properties, "TAGS"), Some(["red", "blue"][(3 + index) % 2]));
        }
    }
}
