//! Finds the next byte that matters in a JSON string, eight bytes at a time. Header strings are short (half of them
//! under eight bytes), so a search that starts without any set-up beats a vectorised one here.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A word whose lowest set high bit marks the first byte of `word` that is zero; higher bits may be false.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// A mark at each byte equal to `byte`; the lowest mark is exact.
const fn equal_bytes(word: u64, byte: u8) -> u64 {
    zero_bytes(word ^ (ONES * byte as u64))
}

/// A mark at each byte below 0x20; the lowest mark is exact.
const fn control_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}

/// Position of the first `"` or `\` at or after `from`; the length when there is none.
#[inline]
pub(super) fn quote_or_backslash(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, |word| equal_bytes(word, b'"') | equal_bytes(word, b'\\'), |byte| matches!(byte, b'"' | b'\\'))
}

/// Position of the first byte at or after `from` that a JSON string has to escape; the length when there is none.
#[inline]
pub(super) fn must_escape(bytes: &[u8], from: usize) -> usize {
    find(
        bytes,
        from,
        |word| equal_bytes(word, b'"') | equal_bytes(word, b'\\') | control_bytes(word),
        |byte| matches!(byte, b'"' | b'\\' | 0..0x20),
    )
}

#[inline]
fn find(bytes: &[u8], from: usize, marks: impl Fn(u64) -> u64, matches: impl Fn(u8) -> bool) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = marks(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && !matches(bytes[at]) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_first_of_many_at_every_place() {
        for length in 0..40 {
            for place in 0..length {
                let mut bytes = vec![b'!'; length];
                bytes[place] = b'"';
                bytes[length - 1] = b'"';
                assert_eq!(quote_or_backslash(&bytes, 0), place);
                assert_eq!(must_escape(&bytes, 0), place);
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_search(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0_u8..0x22], 0..60), from in 0_usize..60) {
            let from = from.min(bytes.len());
            let plain = |test: fn(u8) -> bool| bytes[from..].iter().position(|byte| test(*byte)).map_or(bytes.len(), |at| from + at);
            prop_assert_eq!(quote_or_backslash(&bytes, from), plain(|byte| byte == b'"' || byte == b'\\'));
            prop_assert_eq!(must_escape(&bytes, from), plain(|byte| byte == b'"' || byte == b'\\' || byte < 0x20));
        }
    }
}
