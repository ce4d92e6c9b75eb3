//! Bits of a message's `sysFlag`, and Java's string hash, by which tags are filtered.
//!
//! The bits are part of the stored record and of send headers; the hash is what a consume queue entry carries.

use std::net::SocketAddr;

/// The body is compressed; the kind stands in [`COMPRESSION_MASK`].
pub const COMPRESSED: i32 = 0x1;
/// The topic's filter type is MULTI_TAG.
pub const MULTI_TAGS: i32 = 0x2;
/// The two bits of the transaction type.
pub const TRANSACTION_MASK: i32 = 0xC;
/// Not part of a transaction.
pub const TRANSACTION_NOT: i32 = 0;
/// A half message: not visible until committed.
pub const TRANSACTION_PREPARED: i32 = 0x4;
/// The message that a commit made visible; also the commit verdict of END_TRANSACTION.
pub const TRANSACTION_COMMIT: i32 = 0x8;
/// The rollback verdict of END_TRANSACTION.
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
/// The born host is stored with 16 address bytes.
pub const BORN_HOST_V6: i32 = 0x10;
/// The store host is stored with 16 address bytes.
pub const STORE_HOST_V6: i32 = 0x20;
/// The record is a batch container that a client must unwrap.
pub const NEED_UNWRAP: i32 = 0x40;
/// The body is a batch stored as one record.
pub const INNER_BATCH: i32 = 0x80;
/// The three bits of the compression kind: 0 zlib (older clients), and the values below.
pub const COMPRESSION_MASK: i32 = 0x700;
/// LZ4 frame.
pub const COMPRESSION_LZ4: i32 = 0x100;
/// Zstandard frame.
pub const COMPRESSION_ZSTD: i32 = 0x200;
/// zlib stream.
pub const COMPRESSION_ZLIB: i32 = 0x300;

/// The transaction bits alone, to be compared with the `TRANSACTION_…` values.
pub const fn transaction_type(sys_flag: i32) -> i32 {
    sys_flag & TRANSACTION_MASK
}

/// The flag with its transaction bits replaced.
pub const fn with_transaction_type(sys_flag: i32, transaction: i32) -> i32 {
    (sys_flag & !TRANSACTION_MASK) | (transaction & TRANSACTION_MASK)
}

/// Whether a message is in its queue: half messages and rolled back ones are in the commit log alone.
pub const fn is_queued(sys_flag: i32) -> bool {
    !matches!(transaction_type(sys_flag), TRANSACTION_PREPARED | TRANSACTION_ROLLBACK)
}

/// The flag with both address-family bits set from the addresses. An IPv6 address that only maps an
/// IPv4 one counts as IPv4, as it does in Java.
#[inline]
pub fn with_hosts(sys_flag: i32, born_host: SocketAddr, store_host: SocketAddr) -> i32 {
    let mut flag = sys_flag & !(BORN_HOST_V6 | STORE_HOST_V6);
    if born_host.ip().to_canonical().is_ipv6() {
        flag |= BORN_HOST_V6;
    }
    if store_host.ip().to_canonical().is_ipv6() {
        flag |= STORE_HOST_V6;
    }
    flag
}

/// Java's `String.hashCode`: `h = 31·h + unit` over UTF-16 code units, wrapping.
pub fn java_string_hash(text: &str) -> i32 {
    if text.is_ascii() {
        return text.bytes().fold(0i32, |hash, byte| step(hash, u16::from(byte)));
    }
    text.encode_utf16().fold(0i32, step)
}

fn step(hash: i32, unit: u16) -> i32 {
    hash.wrapping_mul(31).wrapping_add(i32::from(unit))
}

/// What a consume queue entry carries for a message with these TAGS: their hash, sign-extended; 0 for none.
pub fn tags_code(tags: &str) -> i64 {
    i64::from(java_string_hash(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_java_does() {
        for (text, hash) in [("TagA", 2_598_919), ("TagB", 2_598_920), ("*", 42), ("中文", 646_394), ("", 0)] {
            assert_eq!(java_string_hash(text), hash, "{text}");
        }
        // Above the basic plane a character is two units: U+1F600 is D83D DE00.
        assert_eq!(java_string_hash("\u{1F600}"), 0xD83D * 31 + 0xDE00);
        assert_eq!(tags_code("polygenelubricants"), i64::from(i32::MIN));
    }

    #[test]
    fn transaction_bits_are_replaced_alone() {
        assert_eq!(with_transaction_type(0x1F, TRANSACTION_COMMIT), 0x1B);
        assert_eq!(transaction_type(0x1B), TRANSACTION_COMMIT);
    }

    #[test]
    fn mapped_addresses_count_as_ipv4() {
        let v4: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:1".parse().unwrap();
        assert_eq!(with_hosts(BORN_HOST_V6 | STORE_HOST_V6 | COMPRESSED, v4, mapped), COMPRESSED);
        assert_eq!(with_hosts(0, v6, v4), BORN_HOST_V6);
        assert_eq!(with_hosts(0, v4, v6), STORE_HOST_V6);
    }
}
