//! The hash under which a message's key stands in the index: Java's hash of `TOPIC#KEY`, made positive.
//! The dispatcher computes one per key of each message, so the topic's part is computed once per queue.

/// Java's hash of `TOPIC#`, from which the hash of every key of the topic follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicHash(u32);

const fn powers<const N: usize>() -> [u32; N] {
    let mut powers = [1u32; N];
    let mut at = N - 1;
    while at > 0 {
        powers[at - 1] = powers[at].wrapping_mul(31);
        at -= 1;
    }
    powers
}

/// 31 to the power of 7, 6, … 0: what each of 8 characters contributes to a hash.
const POWERS: [u32; 8] = powers();
/// 31 to the power of 8.
const POWER_8: u32 = POWERS[0].wrapping_mul(31);

impl TopicHash {
    /// For all keys of `topic`.
    pub(crate) fn new(topic: &str) -> Self {
        Self(extend(extend(0, topic.as_bytes()), b"#"))
    }

    /// The stored hash of `key`: the absolute value of Java's `hashCode`, and 0 for the one that has none. Bytes that
    /// are not UTF-8 count as U+FFFD, as they do in Java.
    #[inline]
    pub(crate) fn of(self, key: &[u8]) -> i32 {
        (extend(self.0, key) as i32).checked_abs().unwrap_or(0)
    }
}

/// Java's hash of a text whose beginning hashed to `hash`.
#[inline]
fn extend(hash: u32, text: &[u8]) -> u32 {
    if !text.is_ascii() {
        return extend_utf16(hash, text);
    }
    let (chunks, rest) = text.as_chunks::<8>();
    // Eight characters at once: the multiplications do not wait for each other.
    let hash = chunks.iter().fold(hash, |hash, chunk| {
        let mut sum = hash.wrapping_mul(POWER_8);
        for (byte, power) in chunk.iter().zip(POWERS) {
            sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(power));
        }
        sum
    });
    rest.iter().fold(hash, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

#[cold]
fn extend_utf16(hash: u32, text: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(text);
    text.encode_utf16().fold(hash, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waspmq_protocol::message::flags::java_string_hash;

    use super::*;

    #[test]
    fn golden_hashes() {
        let topic = TopicHash::new("TopicA");
        assert_eq!((topic.of(b"k1"), topic.of(b"k2")), (0x7171_25c9, 0x7171_25c8));
    }

    #[test]
    fn the_hash_without_an_absolute_value_becomes_zero() {
        // "polygenelubricants" hashes to i32::MIN. Split at any place, "a#b" style, it would need a '#': use the parts.
        assert_eq!(extend(0, b"polygenelubricants") as i32, i32::MIN);
        assert_eq!(TopicHash(0).of(b"polygenelubricants"), 0);
    }

    proptest! {
        #[test]
        fn equals_the_hash_of_the_whole_string(topic in "[%A-Za-z0-9_-]{0,40}", key in any::<String>()) {
            let expected = java_string_hash(&format!("{topic}#{key}")).checked_abs().unwrap_or(0);
            prop_assert_eq!(TopicHash::new(&topic).of(key.as_bytes()), expected);
        }
    }
}
