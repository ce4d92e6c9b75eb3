//! The sum over what RocketMQ's body checksum leaves out of a record: header, topic, properties. Called once for every
//! record that is dispatched, and for those that are checked. Its values lie on disk: it must never change.
//! Not a CRC: those that are at hand take twice as long, and tables of 16 KiB out of the processor's cache with them.

use waspmq_protocol::message::record::RecordView;

/// Taken in at a time: two lanes of two words.
const STEP_BYTES: usize = 32;
/// Random words: a product is 0, and so forgets, only where a record has one of them, or what it makes with those before.
const KEYS: [u64; 4] = [0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB, 0x8EBC_6AF0_9C88_C6E3, 0x5899_65CC_7537_4CC3];

/// The sum of everything in the record but its body. The body's own checksum is part of it.
#[inline]
pub(crate) fn sum_of(record: &RecordView<'_>) -> u32 {
    let (head, tail) = record.around_body();
    let sum = mix(fold(KEYS[1], head), fold(KEYS[2], tail));
    (sum ^ (sum >> 32)) as u32
}

/// The two halves of the product: each bit of it hangs on all bits of both words.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// All bytes as one word.
#[inline]
fn fold(seed: u64, bytes: &[u8]) -> u64 {
    let mut lanes = (seed, seed ^ KEYS[3]);
    let mut rest = bytes;
    while let Some((step, after)) = rest.split_first_chunk::<STEP_BYTES>()
        && !after.is_empty()
    {
        lanes = take(lanes, step);
        rest = after;
    }
    // The last step is a whole one too: what it has in common with the one before does no harm.
    let last = match bytes.last_chunk::<STEP_BYTES>() {
        Some(last) => take(lanes, last),
        None => {
            let mut padded = [0; STEP_BYTES];
            padded[..bytes.len()].copy_from_slice(bytes);
            take(lanes, &padded)
        }
    };
    mix(last.0 ^ bytes.len() as u64, last.1 ^ KEYS[2])
}

#[inline]
fn take((first, second): (u64, u64), step: &[u8; STEP_BYTES]) -> (u64, u64) {
    let [a, b, c, d] = words(step);
    (mix(a ^ first, b ^ KEYS[0]), mix(c ^ second, d ^ KEYS[3]))
}

#[inline]
fn words(step: &[u8; STEP_BYTES]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(step.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// What RocketMQ's broker made of a message.
    const RECORD: &str = "000000bedaa320a73610a686000000010000000000000000000000070000000000001000000000000000018bcfe56800\
        0a0000010000c3500000018bcfe5687b7f00000100002a9f0000000000000000000000000000000568656c6c6f09546f\
        706963546573740055554e49515f4b455901374630303030303130303031303730444541344530303030303030313030\
        3030025741495401747275650254414753015461674102434c55535445520144656661756c74436c757374657202";

    #[test]
    fn values_lie_on_disk_and_never_change() {
        let bytes: Vec<u8> = (0..100).collect();
        let expected = [
            (0, 0x2c57_4783_bfb6_db13),
            (1, 0x3350_5fef_77bf_7bb9),
            (31, 0xc66d_b8a0_6858_49f2),
            (32, 0x69a0_d31a_34f8_b00f),
            (33, 0x3ccd_5dd3_6f4d_9dad),
            (64, 0x781c_3f30_e1df_0af6),
            (100, 0xcf1a_ac65_12e5_0f40),
        ];
        for (length, expected) in expected {
            assert_eq!(fold(KEYS[1], &bytes[..length]), expected, "{length}");
        }
        let record = hex::decode(RECORD).unwrap();
        assert_eq!(sum_of(&RecordView::parse(&record, true).unwrap()), 0x8db1_2897);
    }

    #[test]
    fn each_bit_of_any_length_counts() {
        for length in 0..140 {
            let mut bytes: Vec<u8> = (0..length).map(|at| (at * 37) as u8).collect();
            let mut seen = HashSet::from([fold(KEYS[1], &bytes) as u32]);
            for bit in 0..length * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(fold(KEYS[1], &bytes) as u32), "bit {bit} of {length} bytes");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
