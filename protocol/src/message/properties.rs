//! The property block: `name U+0001 value U+0002` for each entry, in a record, a batch item and a send header.
//!
//! Called for every message on send and filter, so all functions work on the bytes as they stand.
//! As Java reads it: a missing last separator is tolerated, an entry with an empty name or value does not
//! exist, a value may contain U+0001, and of two entries of one name the later one counts.

use memchr::{memchr, memrchr};

/// Ends an entry's name.
pub const NAME_END: u8 = 1;
/// Ends an entry.
pub const ENTRY_END: u8 = 2;
/// Longest block a record can hold: its length is an i16.
pub const BLOCK_BYTES_MAX: usize = i16::MAX as usize;

/// The value of a property, or `None` if it is absent, empty or not UTF-8.
pub fn find<'a>(block: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(find_bytes(block, name)?).ok()
}

/// The value of a property as bytes. Looks from the end, because the later of two equal names counts.
pub fn find_bytes<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if name.is_empty() {
        return None;
    }
    let mut rest = block;
    loop {
        let (entry, before) = match memrchr(ENTRY_END, rest) {
            Some(at) => (&rest[at + 1..], Some(&rest[..at])),
            None => (rest, None),
        };
        if let Some(value) = value_if_named(entry, name) {
            return Some(value);
        }
        rest = before?;
    }
}

fn value_if_named<'a>(entry: &'a [u8], name: &str) -> Option<&'a [u8]> {
    match entry.strip_prefix(name.as_bytes())?.split_first()? {
        (&NAME_END, value) if !value.is_empty() => Some(value),
        _ => None,
    }
}

/// All entries in the order of the block. Entries that are not UTF-8 are passed over.
pub fn iter(block: &[u8]) -> Entries<'_> {
    Entries { rest: block }
}

/// Iterator of [`iter`]: name and value.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (entry, after) = split_entry(self.rest);
            self.rest = after;
            let Some(at) = memchr(NAME_END, entry) else { continue };
            let (name, value) = (&entry[..at], &entry[at + 1..]);
            if name.is_empty() || value.is_empty() {
                continue;
            }
            if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
                return Some((name, value));
            }
        }
        None
    }
}

/// The first entry without its separator, and what follows it.
fn split_entry(block: &[u8]) -> (&[u8], &[u8]) {
    match memchr(ENTRY_END, block) {
        Some(at) => (&block[..at], &block[at + 1..]),
        None => (block, &[]),
    }
}

/// Sets a property: earlier entries of that name go, the new one is appended. An empty value removes.
///
/// Returns false and leaves the block alone if the name is empty or either text contains a separator that
/// would make it something else when read back.
pub fn set(block: &mut Vec<u8>, name: &str, value: &str) -> bool {
    let name_ok = !name.is_empty() && !name.bytes().any(|byte| byte == NAME_END || byte == ENTRY_END);
    if !name_ok || value.bytes().any(|byte| byte == ENTRY_END) {
        return false;
    }
    remove(block, name);
    if !value.is_empty() {
        push(block, name, value);
    }
    true
}

/// Removes all entries of that name, in place. Returns whether there was one.
pub fn remove(block: &mut Vec<u8>, name: &str) -> bool {
    if find_named_entry(block, name).is_none() {
        return false;
    }
    while let Some((start, end)) = find_named_entry(block, name) {
        block.drain(start..end);
    }
    true
}

/// Bounds, separator included, of the last entry of that name, empty values too.
fn find_named_entry(block: &[u8], name: &str) -> Option<(usize, usize)> {
    let mut end = block.len();
    loop {
        let separator = memrchr(ENTRY_END, &block[..end]);
        let start = separator.map_or(0, |at| at + 1);
        let entry = &block[start..end];
        if entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&NAME_END)) {
            return Some((start, block.len().min(end + 1)));
        }
        end = separator?;
    }
}

fn push(block: &mut Vec<u8>, name: &str, value: &str) {
    if block.last().is_some_and(|&last| last != ENTRY_END) {
        block.push(ENTRY_END);
    }
    block.extend_from_slice(name.as_bytes());
    block.push(NAME_END);
    block.extend_from_slice(value.as_bytes());
    block.push(ENTRY_END);
}

/// Builds a block from nothing; for names that are set once each.
#[derive(Clone, Debug, Default)]
pub struct PropertiesWriter {
    block: Vec<u8>,
}

impl PropertiesWriter {
    /// An empty block.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry without looking for an earlier one of that name. Empty values are left out, and so
    /// are texts that contain a separator.
    #[must_use]
    pub fn put(mut self, name: &str, value: &str) -> Self {
        let separators = |text: &str| text.bytes().any(|byte| byte == NAME_END || byte == ENTRY_END);
        if !name.is_empty() && !value.is_empty() && !separators(name) && !value.bytes().any(|b| b == ENTRY_END) {
            push(&mut self.block, name, value);
        }
        self
    }

    /// The block.
    pub fn finish(self) -> Vec<u8> {
        self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn entries(block: &[u8]) -> Vec<(&str, &str)> {
        iter(block).collect()
    }

    #[test]
    fn reads_as_java_does() {
        let block = b"KEYS\x01k1 k2\x02TAGS\x01TagA\x02x\x01\x02\x01y\x02junk\x02a\x01b\x01c\x02TAGS\x01TagB";
        assert_eq!(entries(block), [("KEYS", "k1 k2"), ("TAGS", "TagA"), ("a", "b\u{1}c"), ("TAGS", "TagB")]);
        assert_eq!(find(block, "TAGS"), Some("TagB"));
        assert_eq!(find(block, "KEYS"), Some("k1 k2"));
        assert_eq!(find(block, "a"), Some("b\u{1}c"));
        for absent in ["x", "", "junk", "KEY", "TAG", "EYS", "KEYSS"] {
            assert_eq!(find(block, absent), None, "{absent}");
        }
        assert_eq!(find(b"", "a"), None);
        assert_eq!(find(b"a\x01\xFF\x02", "a"), None);
        assert_eq!(find_bytes(b"a\x01\xFF\x02", "a"), Some(&b"\xFF"[..]));
    }

    #[test]
    fn changes_in_place() {
        let mut block = b"a\x011\x02b\x012\x02a\x013".to_vec();
        assert!(set(&mut block, "c", "4"));
        assert_eq!(block, b"a\x011\x02b\x012\x02a\x013\x02c\x014\x02");
        assert!(set(&mut block, "a", "9"));
        assert_eq!(entries(&block), [("b", "2"), ("c", "4"), ("a", "9")]);
        assert!(remove(&mut block, "c"));
        assert!(!remove(&mut block, "c"));
        assert!(set(&mut block, "b", ""));
        assert_eq!(block, b"a\x019\x02");
        for (name, value) in [("", "v"), ("n\u{1}", "v"), ("n\u{2}", "v"), ("n", "v\u{2}w")] {
            assert!(!set(&mut block, name, value), "{name:?} {value:?}");
        }
        assert_eq!(block, b"a\x019\x02");
    }

    #[test]
    fn writer_builds_a_block() {
        let block = PropertiesWriter::new().put("a", "1").put("b", "").put("c", "x\u{2}").put("d", "2").finish();
        assert_eq!(block, b"a\x011\x02d\x012\x02");
    }

    proptest! {
        #[test]
        fn finding_agrees_with_a_map_of_all_entries(block in "[ab\u{1}\u{2}]{0,40}", name in "[ab]{1,3}") {
            let map: HashMap<_, _> = iter(block.as_bytes()).collect();
            prop_assert_eq!(find(block.as_bytes(), &name), map.get(name.as_str()).copied());
        }

        #[test]
        fn setting_and_removing_leave_the_others(block in "[ab\u{1}\u{2}]{0,40}", name in "[ab]{1,2}", value in "[ab\u{1}]{1,3}") {
            let mut changed = block.clone().into_bytes();
            prop_assert!(set(&mut changed, &name, &value));
            let mut wanted: HashMap<_, _> = iter(block.as_bytes()).collect();
            wanted.insert(&name, &value);
            prop_assert_eq!(iter(&changed).collect::<HashMap<_, _>>(), wanted.clone());
            remove(&mut changed, &name);
            wanted.remove(name.as_str());
            prop_assert_eq!(iter(&changed).collect::<HashMap<_, _>>(), wanted);
        }

        #[test]
        fn bytes_of_any_kind_do_not_panic(mut block in prop::collection::vec(0u8..4, 0..40)) {
            let found = find(&block, "\u{3}").is_some();
            let removed = remove(&mut block, "\u{3}");
            prop_assert!(removed || !found);
            prop_assert_eq!(find(&block, "\u{3}"), None);
        }
    }
}
