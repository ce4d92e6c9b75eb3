//! Cuts a property block into tokens, once per message: the host's fast form of `abi::split_properties`, which says what
//! the result must be.

use waspmq_plugin_sdk::abi::{PROPERTIES_BYTES_MAX, Token, TokenBytes};

/// Appends the tokens of `block` to `tokens`.
pub(crate) fn tokenise(block: &[u8], tokens: &mut Vec<TokenBytes>) {
    if block.len() > PROPERTIES_BYTES_MAX {
        return;
    }
    let mut piece = Piece { start: 0, separator: 0, tokens };
    let (chunks, rest) = block.as_chunks::<CHUNK>();
    for (index, chunk) in chunks.iter().enumerate() {
        piece.chunk(index * CHUNK, chunk);
    }
    if !rest.is_empty() {
        let mut last = [0xff; CHUNK];
        last[..rest.len()].copy_from_slice(rest);
        piece.chunk(chunks.len() * CHUNK, &last);
    }
    piece.end(block.len());
}

/// Bytes looked at in one step: one bit of a word for each.
const CHUNK: usize = 64;

/// Which bytes are 0, 1 or 2: one bit each.
#[inline]
fn control_bytes(chunk: &[u8; CHUNK]) -> u64 {
    let (words, _) = chunk.as_chunks::<8>();
    words.iter().rev().fold(0, |bits, word| bits << 8 | below_three(u64::from_le_bytes(*word)))
}

/// One bit for each byte of the word. Exact: no carry leaves a byte.
#[inline]
fn below_three(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    /// Moves the top bits of all bytes, shifted down, side by side into the top byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let top_bits = !((word & LOW).wrapping_add(0x7d7d_7d7d_7d7d_7d7d) | word) & !LOW;
    (top_bits >> 7).wrapping_mul(GATHER) >> 56
}

struct Piece<'a> {
    start: usize,
    /// Place of the first 0x01 of this piece, plus one; 0 while there is none.
    separator: usize,
    tokens: &'a mut Vec<TokenBytes>,
}

impl Piece<'_> {
    #[inline]
    fn chunk(&mut self, start: usize, chunk: &[u8; CHUNK]) {
        let mut found = control_bytes(chunk);
        while found != 0 {
            let at = found.trailing_zeros() as usize;
            self.control_byte(start + at, chunk[at % CHUNK]);
            found &= found - 1;
        }
    }

    #[inline]
    fn control_byte(&mut self, at: usize, byte: u8) {
        match byte {
            1 if self.separator == 0 => self.separator = at + 1,
            2 => self.end(at),
            _ => {}
        }
    }

    #[inline]
    fn end(&mut self, at: usize) {
        // Offsets fit 16 bits: the block does.
        if self.separator > self.start + 1 && self.separator < at {
            let token = Token {
                name_off: self.start as u16,
                name_len: (self.separator - 1 - self.start) as u16,
                value_off: self.separator as u16,
                value_len: (at - self.separator) as u16,
            };
            self.tokens.push(token.to_bytes());
        }
        self.start = at + 1;
        self.separator = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waspmq_plugin_sdk::abi::split_properties;

    fn check(block: &[u8]) {
        let (mut fast, mut plain) = (Vec::new(), Vec::new());
        tokenise(block, &mut fast);
        split_properties(block, &mut plain);
        assert_eq!(fast, plain, "{block:?}");
    }

    #[test]
    fn same_as_the_plain_form_on_every_short_block() {
        let alphabet = [0, 1, 2, 3, b'a', 0x80, 0x81, 0xff];
        for len in 0..=4u32 {
            for number in 0..8usize.pow(len) {
                let block: Vec<u8> = (0..len).map(|digit| alphabet[number >> (3 * digit) & 7]).collect();
                check(&block);
                check(&[b"name\x01value\x02".as_slice(), &block, b"\x02x\x01y"].concat());
            }
        }
    }

    #[test]
    fn same_as_the_plain_form_on_long_ones() {
        let mut seed = 1u64;
        for len in [7, 8, 9, 15, 16, 63, 64, 65, 144, 1000, PROPERTIES_BYTES_MAX, PROPERTIES_BYTES_MAX + 1] {
            let block: Vec<u8> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    [1, 2, b'k', b'v', 0, 0xff, b'x', b'y'][(seed >> 60) as usize & 7]
                })
                .collect();
            check(&block);
        }
    }
}
