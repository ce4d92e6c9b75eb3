//! The body of a batch send (and of an inner-batch record): items one behind the other.
//!
//! Each item: size, magic, crc (three words that readers ignore, as the Java broker does), flag, body with
//! an i32 length, properties with an i16 length. All big-endian. Must hold: no length is trusted.

use super::properties;

/// Bytes of an item besides its body and properties.
pub const ITEM_FIXED_BYTES: usize = 22;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchItem<'a> {
    /// The user's flag, not interpreted.
    pub flag: i32,
    /// Body.
    pub body: &'a [u8],
    /// Property block of this message alone.
    pub properties: &'a [u8],
}

/// What is wrong with a batch body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end inside an item.
    #[error(
        "batch item {item} at byte {at} needs {needed} more bytes, only {have} are left; the client's batch encoding is cut off"
    )]
    Truncated {
        /// Number of the item, from 0.
        item: usize,
        /// Where the item starts.
        at: usize,
        /// Bytes asked for by the part that did not fit.
        needed: usize,
        /// Bytes left.
        have: usize,
    },
    /// A length below zero.
    #[error("batch item {item} at byte {at} states a {part} length of {length}; lengths must not be negative")]
    NegativeLength {
        /// Number of the item, from 0.
        item: usize,
        /// Where the item starts.
        at: usize,
        /// `body` or `properties`.
        part: &'static str,
        /// The stated length.
        length: i32,
    },
}

/// Iterates over a batch body. After an error it ends.
pub fn items(body: &[u8]) -> BatchItems<'_> {
    BatchItems { bytes: body, at: 0, item: 0 }
}

/// Iterator of [`items`].
#[derive(Clone, Debug)]
pub struct BatchItems<'a> {
    bytes: &'a [u8],
    at: usize,
    item: usize,
}

impl<'a> Iterator for BatchItems<'a> {
    type Item = Result<BatchItem<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let result = self.read();
        if result.is_err() {
            self.at = self.bytes.len();
        }
        Some(result)
    }
}

impl<'a> BatchItems<'a> {
    fn read(&mut self) -> Result<BatchItem<'a>, BatchError> {
        let start = self.at;
        self.take(12, start)?;
        let flag = self.take_i32(start)?;
        let body_len = self.take_i32(start)?;
        let body_len = self.checked(body_len, "body", start)?;
        let body = self.take(body_len, start)?;
        let properties_len = self.take_i16(start)?;
        let properties_len = self.checked(i32::from(properties_len), "properties", start)?;
        let properties = self.take(properties_len, start)?;
        self.item += 1;
        Ok(BatchItem { flag, body, properties })
    }

    fn checked(&self, length: i32, part: &'static str, start: usize) -> Result<usize, BatchError> {
        usize::try_from(length).map_err(|_| BatchError::NegativeLength { item: self.item, at: start, part, length })
    }

    fn take(&mut self, needed: usize, start: usize) -> Result<&'a [u8], BatchError> {
        let rest = &self.bytes[self.at..];
        match rest.get(..needed) {
            Some(part) => {
                self.at += needed;
                Ok(part)
            }
            None => Err(BatchError::Truncated { item: self.item, at: start, needed, have: rest.len() }),
        }
    }

    fn take_i32(&mut self, start: usize) -> Result<i32, BatchError> {
        let mut word = [0; 4];
        word.copy_from_slice(self.take(4, start)?);
        Ok(i32::from_be_bytes(word))
    }

    fn take_i16(&mut self, start: usize) -> Result<i16, BatchError> {
        let mut word = [0; 2];
        word.copy_from_slice(self.take(2, start)?);
        Ok(i16::from_be_bytes(word))
    }
}

/// Appends one item to a batch body.
///
/// # Panics
/// If the body or the properties are longer than their length fields can say (2^31 − 1, 32 767 bytes).
pub fn push_item(item: &BatchItem<'_>, out: &mut Vec<u8>) {
    assert!(item.properties.len() <= properties::BLOCK_BYTES_MAX, "properties of {} bytes", item.properties.len());
    let size = ITEM_FIXED_BYTES + item.body.len() + item.properties.len();
    assert!(i32::try_from(size).is_ok(), "a batch item of {size} bytes");
    out.reserve(size);
    out.extend_from_slice(&(size as i32).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&item.flag.to_be_bytes());
    out.extend_from_slice(&(item.body.len() as i32).to_be_bytes());
    out.extend_from_slice(item.body);
    out.extend_from_slice(&(item.properties.len() as i16).to_be_bytes());
    out.extend_from_slice(item.properties);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V7: &str = "00000024000000000000000000000000000000026d31000c554e49515f4b4559014b31020000001f0000000000000000\
        00000000000000026d32000754414753014102";

    #[test]
    fn golden_batch_of_two() {
        let golden = hex::decode(V7).unwrap();
        let first = BatchItem { flag: 0, body: b"m1", properties: b"UNIQ_KEY\x01K1\x02" };
        let second = BatchItem { flag: 0, body: b"m2", properties: b"TAGS\x01A\x02" };
        let read: Vec<_> = items(&golden).map(Result::unwrap).collect();
        assert_eq!(read, [first, second]);
        let mut written = Vec::new();
        push_item(&first, &mut written);
        push_item(&second, &mut written);
        assert_eq!(written, golden);
    }

    #[test]
    fn an_error_ends_the_iteration() {
        let golden = hex::decode(V7).unwrap();
        let results: Vec<_> = items(&golden[..66]).collect();
        assert!(results[0].is_ok());
        assert_eq!(results[1], Err(BatchError::Truncated { item: 1, at: 36, needed: 7, have: 6 }));
        assert_eq!(results.len(), 2);
        let mut negative = golden;
        negative[16] = 0xFF;
        let results: Vec<_> = items(&negative).collect();
        assert!(matches!(results[..], [Err(BatchError::NegativeLength { item: 0, part: "body", .. })]), "{results:?}");
    }

    proptest! {
        #[test]
        fn round_trips(parts in prop::collection::vec(
            (any::<i32>(), prop::collection::vec(any::<u8>(), 0..50), prop::collection::vec(any::<u8>(), 0..50)), 0..10)) {
            let mut body = Vec::new();
            let wanted: Vec<_> = parts.iter().map(|(flag, body, properties)| BatchItem { flag: *flag, body, properties }).collect();
            for item in &wanted {
                push_item(item, &mut body);
            }
            prop_assert_eq!(items(&body).collect::<Result<Vec<_>, _>>().unwrap(), wanted);
        }

        #[test]
        fn reading_never_panics_and_always_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(items(&bytes).count() <= bytes.len() / ITEM_FIXED_BYTES + 1);
        }
    }
}
