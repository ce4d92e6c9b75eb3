//! The little MessagePack that control messages need, guest side: requests read in place, answers written in place.
//! The host uses serde for the same bytes (tests hold both together); a guest with serde is three times as big.

/// Reads requests. `None` from any method: malformed.
pub(crate) struct Unpacker<'a> {
    rest: &'a [u8],
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Number of entries of a map, whose keys and values follow.
    pub(crate) fn map(&mut self) -> Option<u32> {
        match self.byte()? {
            marker @ 0x80..=0x8f => Some(u32::from(marker & 0x0f)),
            0xde => self.big_endian(2),
            0xdf => self.big_endian(4),
            _ => None,
        }
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let len = match self.byte()? {
            marker @ 0xa0..=0xbf => u32::from(marker & 0x1f),
            0xd9 => self.big_endian(1)?,
            0xda => self.big_endian(2)?,
            0xdb => self.big_endian(4)?,
            _ => return None,
        };
        str::from_utf8(self.take(len)?).ok()
    }

    /// A whole number of at most 32 bits, in whatever width it comes.
    pub(crate) fn number(&mut self) -> Option<u32> {
        match self.byte()? {
            marker @ 0..=0x7f => Some(u32::from(marker)),
            0xcc => self.big_endian(1),
            0xcd => self.big_endian(2),
            0xce => self.big_endian(4),
            0xcf => (self.big_endian(4)? == 0).then(|| self.big_endian(4))?,
            _ => None,
        }
    }

    /// Passes over one value of any kind, however deep, without recursion.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let mut values = 1u64;
        while values > 0 {
            values -= 1;
            let bytes = match self.byte()? {
                0..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0.. => 0,
                marker @ 0x80..=0x8f => {
                    values += 2 * u64::from(marker & 0x0f);
                    0
                }
                marker @ 0x90..=0x9f => {
                    values += u64::from(marker & 0x0f);
                    0
                }
                marker @ 0xa0..=0xbf => u32::from(marker & 0x1f),
                0xc1 => return None,
                0xcc | 0xd0 => 1,
                0xcd | 0xd1 => 2,
                0xca | 0xce | 0xd2 => 4,
                0xcb | 0xcf | 0xd3 => 8,
                marker @ 0xd4..=0xd8 => 1 + (1 << (marker - 0xd4)),
                0xc4 | 0xd9 => self.big_endian(1)?,
                0xc5 | 0xda => self.big_endian(2)?,
                0xc6 | 0xdb => self.big_endian(4)?,
                marker @ 0xc7..=0xc9 => self.big_endian(1 << (marker - 0xc7))?.checked_add(1)?,
                marker @ (0xdc | 0xdd) => {
                    values += u64::from(self.big_endian(2 * u32::from(marker - 0xdb))?);
                    0
                }
                marker @ (0xde | 0xdf) => {
                    values += 2 * u64::from(self.big_endian(2 * u32::from(marker - 0xdd))?);
                    0
                }
            };
            self.take(bytes)?;
        }
        Some(())
    }

    fn big_endian(&mut self, bytes: u32) -> Option<u32> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn take(&mut self, len: u32) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len as usize)?;
        self.rest = rest;
        Some(taken)
    }
}

/// Writes an answer. What does not fit is counted all the same, so that only the end needs a check.
pub(crate) struct Packer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// A map of up to 15 entries.
    pub(crate) fn map(&mut self, entries: u8) -> &mut Self {
        self.bytes(&[0x80 | entries & 0x0f])
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        match text.len() {
            len @ 0..=31 => self.bytes(&[0xa0 | len as u8]),
            len @ 32..=255 => self.bytes(&[0xd9, len as u8]),
            len => self.bytes(&[0xdb]).bytes(&(len as u32).to_be_bytes()),
        };
        self.bytes(text.as_bytes())
    }

    pub(crate) fn number(&mut self, number: u32) -> &mut Self {
        self.bytes(&[0xce]).bytes(&number.to_be_bytes())
    }

    pub(crate) fn truth(&mut self, truth: bool) -> &mut Self {
        self.bytes(&[0xc2 | u8::from(truth)])
    }

    pub(crate) fn nil(&mut self) -> &mut Self {
        self.bytes(&[0xc0])
    }

    /// Length of the answer; `None` if it does not fit.
    pub(crate) fn finish(&self) -> Option<usize> {
        (self.len <= self.out.len()).then_some(self.len)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(place) = self.out.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.len += bytes.len();
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn skip_passes_over_every_kind() {
        let values: [&[u8]; 22] = [
            b"\x05",
            b"\xff",
            b"\xc0",
            b"\xc3",
            b"\x82\x01\x02\xa1a\x90",
            b"\x92\x01\x91\xa3abc",
            b"\xc4\x01x",
            b"\xc5\0\x02xx",
            b"\xc6\0\0\0\x01x",
            b"\xc7\x02txx",
            b"\xc8\0\x01tx",
            b"\xc9\0\0\0\x01tx",
            b"\xca1234",
            b"\xcb12345678",
            b"\xcc1",
            b"\xd3********",
            b"\xd4tx",
            b"\xd8txxxxxxxxxxxxxxxx",
            b"\xd9\x01x",
            b"\xdc\0\x02\x01\x02",
            b"\xdd\0\0\0\x01\x01",
            b"\xde\0\x01\x01\x02",
        ];
        for value in values {
            let mut bytes = value.to_vec();
            bytes.push(7);
            let mut unpacker = Unpacker::new(&bytes);
            assert_eq!((unpacker.skip(), unpacker.number()), (Some(()), Some(7)), "{value:x?}");
            assert_eq!(Unpacker::new(&value[..value.len() - 1]).skip(), None, "{value:x?} cut");
        }
        assert_eq!(Unpacker::new(b"\xc1").skip(), None);
    }

    proptest! {
        #[test]
        fn reads_what_serde_writes(number: u32, text in ".{0,300}") {
            let bytes = rmp_serde::to_vec_named(&(number, &text, number)).unwrap();
            let mut unpacker = Unpacker::new(&bytes[1..]);
            prop_assert_eq!(unpacker.number(), Some(number));
            prop_assert_eq!(unpacker.text(), Some(text.as_str()));
            prop_assert_eq!(unpacker.skip(), Some(()));
            prop_assert_eq!(unpacker.skip(), None, "nothing is left");
        }

        #[test]
        fn serde_reads_what_is_written(number: u32, text in ".{0,300}", truth: bool) {
            let mut out = [0; 2048];
            let mut packer = Packer::new(&mut out);
            packer.map(2).text("a").number(number).text(&text).truth(truth);
            let len = packer.finish().unwrap();
            let map = rmp_serde::from_slice::<std::collections::BTreeMap<String, serde_any::Scalar>>(&out[..len]).unwrap();
            if text != "a" {
                prop_assert_eq!(&map["a"], &serde_any::Scalar::Number(number));
            }
            prop_assert_eq!(&map[&text], &serde_any::Scalar::Truth(truth));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Unpacker::new(&bytes).skip();
            let _ = (Unpacker::new(&bytes).text(), Unpacker::new(&bytes).number(), Unpacker::new(&bytes).map());
        }
    }

    mod serde_any {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(untagged)]
        pub(super) enum Scalar {
            Truth(bool),
            Number(u32),
        }
    }
}
