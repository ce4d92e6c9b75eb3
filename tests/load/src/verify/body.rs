//! The body of a message that can be verified: magic word, run, producer, sequence number, filler that differs from message
//! to message, and a checksum over all of it.

/// The smallest body.
pub const BODY_BYTES_MIN: usize = 64;

const MAGIC: [u8; 8] = *b"MQVERIFY";

/// Bytes before the filler.
const HEAD_BYTES: usize = 28;

/// Who sent a message, and as which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The run.
    pub run: u64,
    /// The producer.
    pub producer: u32,
    /// The producer's count.
    pub sequence: u64,
}

/// What a stored body turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// As it was sent; its checksum.
    Whole(Origin, u32),
    /// One of ours, but changed.
    Damaged(Origin),
    /// Not written by [`write`].
    Foreign,
}

/// Writes the whole body and returns its checksum.
pub fn write(body: &mut [u8], origin: Origin) -> u32 {
    body[..8].copy_from_slice(&MAGIC);
    body[8..16].copy_from_slice(&origin.run.to_be_bytes());
    body[16..20].copy_from_slice(&origin.producer.to_be_bytes());
    body[20..28].copy_from_slice(&origin.sequence.to_be_bytes());
    let end = body.len() - 4;
    let mut state = (origin.sequence << 20 | u64::from(origin.producer)) ^ origin.run | 1;
    for chunk in body[HEAD_BYTES..end].chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_be_bytes()[..chunk.len()]);
    }
    let crc = crc32fast::hash(&body[..end]);
    body[end..].copy_from_slice(&crc.to_be_bytes());
    crc
}

/// Reads a stored body.
pub fn read(body: &[u8]) -> BodyKind {
    let Some((content, crc)) = body.split_last_chunk::<4>().filter(|_| body.len() >= BODY_BYTES_MIN) else {
        return BodyKind::Foreign;
    };
    if content[..8] != MAGIC {
        return BodyKind::Foreign;
    }
    let word = |at: usize| content[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let origin = Origin { run: word(8), producer: (word(16) >> 32) as u32, sequence: word(20) };
    let crc = u32::from_be_bytes(*crc);
    if crc32fast::hash(content) == crc { BodyKind::Whole(origin, crc) } else { BodyKind::Damaged(origin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_behind_the_magic_word_is_noticed() {
        let origin = Origin { run: 0xFEED, producer: 3, sequence: 1 << 33 };
        let mut body = [0; 75];
        let crc = write(&mut body, origin);
        assert_eq!(read(&body), BodyKind::Whole(origin, crc));
        for bit in 64..body.len() * 8 {
            let mut changed = body;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&changed), BodyKind::Damaged(_)), "bit {bit}");
        }
        assert_eq!(read(&body[..63]), BodyKind::Foreign);
        assert_eq!(read(&[0; 100]), BodyKind::Foreign);
    }
}
