//! The stored record: one message in the commit log, which is also one message of a pull reply's body.
//!
//! Written by the store's append under its lock, read by dispatch, recovery, pulls and clients.
//! Two versions differ in the width of the topic length alone. All numbers are big-endian.
//! Must hold: [`RecordView::parse`] takes any bytes without panic; what it returns is consistent, so that
//! accessors need no check; encoding writes every byte of the slice it is given.

mod view;

pub use view::{LogEntry, RecordError, RecordView, Records, next_entry, records};

use super::{flags, properties};
use std::net::{IpAddr, SocketAddr};

/// Magic of a record whose topic length is one byte.
pub const MAGIC_V1: i32 = 0xDAA3_20A7_u32 as i32;
/// Magic of a record whose topic length is two bytes; written for topics above 127 bytes.
pub const MAGIC_V2: i32 = 0xDAA3_20AB_u32 as i32;
/// Magic of the filler behind the last record of a commit log file.
pub const MAGIC_BLANK: i32 = 0xCBD4_3194_u32 as i32;

/// Where the magic stands.
pub const MAGIC_AT: usize = 4;
/// Where the body's checksum stands.
pub const BODY_CRC_AT: usize = 8;
/// Where the queue id stands.
pub const QUEUE_ID_AT: usize = 12;
/// Where the user's flag stands.
pub const FLAG_AT: usize = 16;
/// Where the offset in the queue stands.
pub const QUEUE_OFFSET_AT: usize = 20;
/// Where the offset in the commit log stands.
pub const PHYSICAL_OFFSET_AT: usize = 28;
/// Where the system flag stands.
pub const SYS_FLAG_AT: usize = 36;
/// Where the producer's time stands.
pub const BORN_TIMESTAMP_AT: usize = 40;
/// Where the producer's address stands; the fields behind it move with the address families.
pub const BORN_HOST_AT: usize = 48;
/// Size of a V1 record with IPv4 hosts and neither body, topic nor properties.
pub const FIXED_BYTES: usize = 91;
/// Size of the filler's head: its length and its magic.
pub const BLANK_BYTES_MIN: usize = 8;
/// Longest topic a record can hold.
pub const TOPIC_BYTES_MAX: usize = i16::MAX as usize;

const V6_EXTRA_BYTES: usize = 12;
const TOPIC_BYTES_V1_MAX: usize = i8::MAX as usize;

/// Everything a record says. Address-family bits of `sys_flag` need not be set: encoding sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFields<'a> {
    /// Queue within the topic.
    pub queue_id: i32,
    /// The user's flag, not interpreted.
    pub flag: i32,
    /// Offset in the queue.
    pub queue_offset: i64,
    /// Offset of the record itself in the commit log, bytes.
    pub physical_offset: i64,
    /// Bits of [`flags`].
    pub sys_flag: i32,
    /// Producer's clock, ms.
    pub born_timestamp: i64,
    /// Producer's address as the broker saw it.
    pub born_host: SocketAddr,
    /// Broker's clock at the append, ms.
    pub store_timestamp: i64,
    /// Address at which clients reach the broker.
    pub store_host: SocketAddr,
    /// Times this message was consumed without success.
    pub reconsume_times: i32,
    /// Physical offset of the half record a committed message came from; else 0.
    pub prepared_transaction_offset: i64,
    /// Body, possibly compressed.
    pub body: &'a [u8],
    /// Topic.
    pub topic: &'a str,
    /// Property block.
    pub properties: &'a [u8],
}

/// A part that is longer than the record's length field for it can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {part} of {length} bytes does not fit a record, the limit is {length_max}; send a shorter {part}")]
pub struct TooLong {
    /// `topic`, `properties` or `body`.
    pub part: &'static str,
    /// Its length, bytes.
    pub length: usize,
    /// The limit, bytes.
    pub length_max: usize,
}

impl RecordFields<'_> {
    /// Whether all parts fit their length fields. To be asked before [`encode_into`].
    ///
    /// # Errors
    /// The first part that is too long.
    pub fn check(&self) -> Result<(), TooLong> {
        let body_bytes_max = i32::MAX as usize - FIXED_BYTES - 2 * V6_EXTRA_BYTES - 1 - 2 * i16::MAX as usize;
        for (part, length, length_max) in [
            ("topic", self.topic.len(), TOPIC_BYTES_MAX),
            ("properties", self.properties.len(), properties::BLOCK_BYTES_MAX),
            ("body", self.body.len(), body_bytes_max),
        ] {
            if length > length_max {
                return Err(TooLong { part, length, length_max });
            }
        }
        Ok(())
    }

    /// The system flag as it will be stored: with the bits of both address families.
    #[inline]
    pub fn stored_sys_flag(&self) -> i32 {
        flags::with_hosts(self.sys_flag, self.born_host, self.store_host)
    }
}

/// Where the store timestamp stands, by the system flag as stored.
pub const fn store_timestamp_at(sys_flag: i32) -> usize {
    if sys_flag & flags::BORN_HOST_V6 == 0 { 56 } else { 56 + V6_EXTRA_BYTES }
}

/// Where the store host stands, by the system flag as stored.
pub const fn store_host_at(sys_flag: i32) -> usize {
    store_timestamp_at(sys_flag) + 8
}

/// Where the count of deliveries stands; behind it are the transaction offset (8 bytes) and the body's length.
pub const fn reconsume_times_at(sys_flag: i32) -> usize {
    store_host_at(sys_flag) + if sys_flag & flags::STORE_HOST_V6 == 0 { 8 } else { 8 + V6_EXTRA_BYTES }
}

/// The checksum a record carries for a body: CRC-32 (IEEE) without its highest bit.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

/// Size of the record these fields make, bytes.
#[inline]
pub fn encoded_len(fields: &RecordFields<'_>) -> usize {
    let topic_length_bytes = if fields.topic.len() > TOPIC_BYTES_V1_MAX { 2 } else { 1 };
    reconsume_times_at(fields.stored_sys_flag())
        + 16
        + fields.body.len()
        + topic_length_bytes
        + fields.topic.len()
        + 2
        + fields.properties.len()
}

/// Writes the record. The body's checksum is computed here.
///
/// # Panics
/// As [`encode_with_crc`].
pub fn encode_into(fields: &RecordFields<'_>, out: &mut [u8]) {
    encode_with_crc(fields, body_crc(fields.body), out);
}

/// Writes the record with a checksum computed beforehand (by [`body_crc`], outside the append lock).
///
/// # Panics
/// If `out` is not exactly [`encoded_len`] long or [`RecordFields::check`] would refuse the fields.
pub fn encode_with_crc(fields: &RecordFields<'_>, crc: u32, out: &mut [u8]) {
    assert_eq!(out.len(), encoded_len(fields), "a record must be encoded into a slice of its exact length");
    assert!(fields.check().is_ok(), "a part of the record is too long: {:?}", fields.check());
    let sys_flag = fields.stored_sys_flag();
    let v2 = fields.topic.len() > TOPIC_BYTES_V1_MAX;
    let mut out = Writer { total: out.len(), rest: out };
    out.i32(out.total as i32);
    out.i32(if v2 { MAGIC_V2 } else { MAGIC_V1 });
    out.i32(crc as i32);
    out.i32(fields.queue_id);
    out.i32(fields.flag);
    out.i64(fields.queue_offset);
    out.i64(fields.physical_offset);
    out.i32(sys_flag);
    out.i64(fields.born_timestamp);
    out.host(fields.born_host);
    out.i64(fields.store_timestamp);
    out.host(fields.store_host);
    out.i32(fields.reconsume_times);
    out.i64(fields.prepared_transaction_offset);
    out.i32(fields.body.len() as i32);
    out.put(fields.body);
    if v2 {
        out.put(&(fields.topic.len() as i16).to_be_bytes());
    } else {
        out.put(&[fields.topic.len() as u8]);
    }
    out.put(fields.topic.as_bytes());
    out.put(&(fields.properties.len() as i16).to_be_bytes());
    out.put(fields.properties);
}

/// Puts what only the append lock knows into a record that was encoded with placeholders.
///
/// # Panics
/// If `record` is not an encoded record.
pub fn assign(record: &mut [u8], queue_offset: i64, physical_offset: i64, store_timestamp: i64) {
    let store_timestamp_at = store_timestamp_at(i32_at(record, SYS_FLAG_AT));
    record[QUEUE_OFFSET_AT..QUEUE_OFFSET_AT + 8].copy_from_slice(&queue_offset.to_be_bytes());
    record[PHYSICAL_OFFSET_AT..PHYSICAL_OFFSET_AT + 8].copy_from_slice(&physical_offset.to_be_bytes());
    record[store_timestamp_at..store_timestamp_at + 8].copy_from_slice(&store_timestamp.to_be_bytes());
}

/// Writes the head of the filler for the rest of a file: its length and magic. The bytes behind stay.
///
/// # Panics
/// If `rest` is shorter than [`BLANK_BYTES_MIN`]; the append path always leaves that much.
pub fn encode_blank(rest: &mut [u8]) {
    let len = rest.len() as i32;
    rest[..4].copy_from_slice(&len.to_be_bytes());
    rest[4..8].copy_from_slice(&MAGIC_BLANK.to_be_bytes());
}

struct Writer<'o> {
    total: usize,
    rest: &'o mut [u8],
}

impl Writer<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let (head, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.rest = rest;
    }

    #[inline]
    fn i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn host(&mut self, host: SocketAddr) {
        match host.ip().to_canonical() {
            IpAddr::V4(ip) => self.put(&ip.octets()),
            IpAddr::V6(ip) => self.put(&ip.octets()),
        }
        self.i32(i32::from(host.port()));
    }
}
#[inline]
fn i32_at(bytes: &[u8], at: usize) -> i32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    i32::from_be_bytes(word)
}

#[inline]
fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(word)
}
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V5: &str = "000000bedaa320a73610a686000000010000000000000000000000070000000000001000000000000000018bcfe56800\
        0a0000010000c3500000018bcfe5687b7f00000100002a9f0000000000000000000000000000000568656c6c6f09546f\
        706963546573740055554e49515f4b455901374630303030303130303031303730444541344530303030303030313030\
        3030025741495401747275650254414753015461674102434c55535445520144656661756c74436c757374657202";
    const V6: &str = "0000007edaa320ab77065916000000000000000000000000000000010000000000000100000000300000018bcfe56800\
        20010db80000000000000000000000010000c3500000018bcfe5687b0000000000000000000000000000000100002a9f\
        000000020000000000000000000000027636000154000754414753014102";

    fn v5_fields() -> RecordFields<'static> {
        RecordFields {
            queue_id: 1,
            flag: 0,
            queue_offset: 7,
            physical_offset: 4096,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            born_host: "10.0.0.1:50000".parse().unwrap(),
            store_timestamp: 1_700_000_000_123,
            store_host: "127.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"hello",
            topic: "TopicTest",
            properties:
                b"UNIQ_KEY\x017F0000010001070DEA4E000000010000\x02WAIT\x01true\x02TAGS\x01TagA\x02CLUSTER\x01DefaultCluster\x02",
        }
    }

    fn encode(fields: &RecordFields<'_>) -> Vec<u8> {
        let mut out = vec![0xEE; encoded_len(fields)];
        encode_into(fields, &mut out);
        out
    }

    #[test]
    fn golden_v1_record() {
        let golden = hex::decode(V5).unwrap();
        assert_eq!(encode(&v5_fields()), golden);
        let view = RecordView::parse(&golden, true).unwrap();
        assert_eq!(view.fields(), v5_fields());
        assert_eq!(view.property("TAGS"), Some("TagA"));
        assert_eq!(view.body_crc(), 907_060_870);
    }

    #[test]
    fn golden_v2_record_with_v6_hosts() {
        let golden = hex::decode(V6).unwrap();
        let view = RecordView::parse(&golden, true).unwrap();
        assert_eq!(view.magic(), MAGIC_V2);
        assert_eq!((view.topic(), view.body(), view.sys_flag(), view.reconsume_times()), ("T", &b"v6"[..], 0x30, 2));
        assert_eq!(view.born_host(), "[2001:db8::1]:50000".parse().unwrap());
        assert_eq!(view.store_host(), "[::1]:10911".parse().unwrap());
        assert_eq!(view.store_timestamp(), 1_700_000_000_123);
        assert_eq!((view.queue_offset(), view.physical_offset()), (1, 256));
        assert_eq!(view.property("TAGS"), Some("A"));
        let (head, tail) = view.around_body();
        assert_eq!([head, b"v6", tail].concat(), golden);
        // Ours writes V1 for so short a topic: one byte less, all else equal.
        let ours = encode(&view.fields());
        assert_eq!(ours.len(), golden.len() - 1);
        assert_eq!(RecordView::parse(&ours, true).unwrap().fields(), view.fields());
    }

    #[test]
    fn long_topics_are_v2() {
        for (len, magic) in [(127, MAGIC_V1), (128, MAGIC_V2), (255, MAGIC_V2)] {
            let topic = "t".repeat(len);
            let bytes = encode(&RecordFields { topic: &topic, ..v5_fields() });
            let view = RecordView::parse(&bytes, true).unwrap();
            assert_eq!((view.magic(), view.topic()), (magic, topic.as_str()));
        }
    }

    #[test]
    fn placeholders_are_assigned_later() {
        for born_host in ["10.0.0.1:50000", "[2001:db8::1]:50000"] {
            let wanted = RecordFields { born_host: born_host.parse().unwrap(), ..v5_fields() };
            let placeholders = RecordFields { queue_offset: 0, physical_offset: 0, store_timestamp: 0, ..wanted };
            let mut bytes = encode(&placeholders);
            assign(&mut bytes, 7, 4096, 1_700_000_000_123);
            assert_eq!(bytes, encode(&wanted));
        }
    }

    #[test]
    fn each_kind_of_damage_has_its_error() {
        let good = hex::decode(V5).unwrap();
        let damaged = |at: usize, bytes: &[u8]| {
            let mut copy = good.clone();
            copy[at..at + bytes.len()].copy_from_slice(bytes);
            RecordView::parse(&copy, true).map(|_| ()).unwrap_err()
        };
        assert_eq!(damaged(0, &191i32.to_be_bytes()), RecordError::Truncated { size: 191, have: 190 });
        assert_eq!(damaged(0, &(-1i32).to_be_bytes()), RecordError::SizeTooSmall { size: -1 });
        assert_eq!(damaged(0, &90i32.to_be_bytes()), RecordError::SizeTooSmall { size: 90 });
        assert_eq!(damaged(0, &189i32.to_be_bytes()), RecordError::SizeMismatch { size: 189, computed: 190 });
        assert_eq!(damaged(4, &[0; 4]), RecordError::UnknownMagic { magic: 0, size: 190 });
        assert_eq!(damaged(4, &MAGIC_BLANK.to_be_bytes()), RecordError::Blank { size: 190 });
        assert_eq!(damaged(84, &(-5i32).to_be_bytes()), RecordError::NegativeLength { part: "body", length: -5 });
        assert_eq!(damaged(84, &[0x7F; 4]), RecordError::SizeMismatch { size: 190, computed: 88 + 0x7F7F_7F7F });
        assert_eq!(damaged(93, &[0x80]), RecordError::NegativeLength { part: "topic", length: -128 });
        assert_eq!(damaged(94, &[0xFF]), RecordError::TopicNotUtf8);
        assert_eq!(damaged(103, &[0xFF]), RecordError::NegativeLength { part: "properties", length: -171 });
        assert!(matches!(damaged(88, b"j"), RecordError::BodyCrc { stored: 907_060_870, .. }));
        assert_eq!(RecordView::parse(&good[..7], true), Err(RecordError::TooShort { have: 7 }));
        assert_eq!(RecordView::parse(&good[..189], true), Err(RecordError::Truncated { size: 190, have: 189 }));
    }

    #[test]
    fn a_body_is_checked_only_when_asked_and_not_empty() {
        let mut bytes = hex::decode(V5).unwrap();
        bytes[8] ^= 1;
        assert!(RecordView::parse(&bytes, false).is_ok());
        let mut empty = encode(&RecordFields { body: b"", ..v5_fields() });
        empty[8] ^= 1;
        assert!(RecordView::parse(&empty, true).is_ok());
    }

    #[test]
    fn log_entries_are_records_and_fillers() {
        let mut file = hex::decode(V5).unwrap();
        file.extend_from_slice(&[0; 60]);
        encode_blank(&mut file[190..]);
        assert_eq!(file[190..198], [0, 0, 0, 60, 0xCB, 0xD4, 0x31, 0x94]);
        assert!(matches!(next_entry(&file), Ok(LogEntry::Record(record)) if record.len() == 190));
        assert_eq!(next_entry(&file[190..]), Ok(LogEntry::Blank { len: 60 }));
        assert_eq!(next_entry(&file[190..249]), Err(RecordError::Truncated { size: 60, have: 59 }));
        assert_eq!(next_entry(&[0; 32]), Err(RecordError::UnknownMagic { magic: 0, size: 0 }));
    }

    #[test]
    fn a_pull_body_is_records_in_a_row() {
        let mut body = hex::decode(V5).unwrap();
        body.extend(hex::decode(V6).unwrap());
        let topics: Vec<_> = records(&body).map(|record| record.unwrap().topic()).collect();
        assert_eq!(topics, ["TopicTest", "T"]);
        body.pop();
        let results: Vec<_> = records(&body).map(|record| record.is_ok()).collect();
        assert_eq!(results, [true, false]);
    }

    #[test]
    fn parts_over_their_limits_are_refused() {
        let long = "x".repeat(32_768);
        let check = |fields: RecordFields<'_>| fields.check().map_err(|error| (error.part, error.length_max));
        assert_eq!(check(v5_fields()), Ok(()));
        assert_eq!(check(RecordFields { topic: &long, ..v5_fields() }), Err(("topic", 32_767)));
        assert_eq!(check(RecordFields { properties: long.as_bytes(), ..v5_fields() }), Err(("properties", 32_767)));
    }

    fn hosts() -> impl Strategy<Value = SocketAddr> {
        (any::<bool>(), any::<[u8; 16]>(), any::<u16>()).prop_map(|(v4, octets, port)| {
            let v4_octets = [octets[0], octets[1], octets[2], octets[3]];
            let ip = if v4 { IpAddr::from(v4_octets) } else { IpAddr::from(octets) };
            SocketAddr::new(ip.to_canonical(), port)
        })
    }

    proptest! {
        #[test]
        fn round_trips(
            numbers in any::<(i32, i32, i64, i64, i32, i64, i64, i32, i64)>(),
            born_host in hosts(), store_host in hosts(),
            body in prop::collection::vec(any::<u8>(), 0..300),
            topic in "[a-z中|%]{1,150}",
            properties in prop::collection::vec(any::<u8>(), 0..300),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let fields = RecordFields {
                queue_id: numbers.0, flag: numbers.1, queue_offset: numbers.2, physical_offset: numbers.3,
                sys_flag: flags::with_hosts(numbers.4, born_host, store_host),
                born_timestamp: numbers.5, store_timestamp: numbers.6, reconsume_times: numbers.7,
                prepared_transaction_offset: numbers.8,
                born_host, store_host, body: &body, topic: &topic, properties: &properties,
            };
            let mut bytes = encode(&fields);
            let len = bytes.len();
            bytes.extend(tail);
            let view = RecordView::parse(&bytes, true).unwrap();
            prop_assert_eq!(view.len(), len);
            prop_assert_eq!(view.fields(), fields);
        }

        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = next_entry(&bytes);
        }

        #[test]
        fn damaged_records_never_panic_nor_yield_an_unchecked_body(at in 0usize..190, value in any::<u8>(), cut in 0usize..191) {
            let mut bytes = hex::decode(V5).unwrap();
            bytes[at] = value;
            bytes.truncate(cut);
            if let Ok(view) = RecordView::parse(&bytes, true) {
                let _ = (view.fields(), properties::iter(view.properties()).count());
                prop_assert_eq!(view.body_crc(), body_crc(view.body()));
            }
        }
    }
}
