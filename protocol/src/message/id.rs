//! Message ids: the offset id that the broker answers, and the unique id that clients (or the broker for
//! them) put on a message.
//!
//! Both are hexadecimal texts of fixed layouts. No clock and no counter live here; callers own those.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where a record is: the address clients reach its broker at, and its place in the commit log.
///
/// As text: upper-case hex of the 4 or 16 address bytes, the port (4 bytes) and the offset (8 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetMessageId {
    /// Address of the broker that stored the record.
    pub store_host: SocketAddr,
    /// Offset of the record in that broker's commit log, bytes.
    pub physical_offset: i64,
}

/// A text that is no offset message id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no offset message id: 32 (IPv4) or 56 (IPv6) hexadecimal digits are expected")]
pub struct MessageIdError {
    /// The first characters of what was given.
    pub text: String,
}

impl OffsetMessageId {
    /// Appends the id's text: what `to_string` gives, without the formatter's detours.
    pub fn push_to(&self, text: &mut String) {
        let mut digits = [0u8; 56];
        text.push_str(self.digits(&mut digits));
    }

    fn digits<'o>(&self, digits: &'o mut [u8; 56]) -> &'o str {
        let mut bytes = [0u8; 28];
        let address_len = write_ip(self.store_host.ip(), &mut bytes);
        let len = address_len + 12;
        bytes[address_len..address_len + 4].copy_from_slice(&i32::from(self.store_host.port()).to_be_bytes());
        bytes[address_len + 4..len].copy_from_slice(&self.physical_offset.to_be_bytes());
        upper_hex(&bytes[..len], digits)
    }
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits(&mut [0; 56]))
    }
}

impl FromStr for OffsetMessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        parse(text).ok_or_else(|| MessageIdError { text: text.chars().take(64).collect() })
    }
}

fn parse(text: &str) -> Option<OffsetMessageId> {
    let address_len = match text.len() {
        32 => 4,
        56 => 16,
        _ => return None,
    };
    let mut bytes = [0u8; 28];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    let ip = if address_len == 4 {
        IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?))
    };
    let port = i32::from_be_bytes(*bytes[address_len..].first_chunk()?);
    let physical_offset = i64::from_be_bytes(*bytes[address_len + 4..].first_chunk()?);
    Some(OffsetMessageId { store_host: SocketAddr::new(ip, u16::try_from(port).ok()?), physical_offset })
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Writes the 4 or 16 address bytes and returns how many. A mapped IPv4 address is written as IPv4.
fn write_ip(ip: IpAddr, out: &mut [u8]) -> usize {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            out[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            out[..16].copy_from_slice(&ip.octets());
            16
        }
    }
}

fn upper_hex<'o>(bytes: &[u8], out: &'o mut [u8]) -> &'o str {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for (at, byte) in bytes.iter().enumerate() {
        out[at * 2] = DIGITS[usize::from(byte >> 4)];
        out[at * 2 + 1] = DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(&out[..bytes.len() * 2]).unwrap_or_default()
}

/// A unique message id as Java clients make it: address, process id (16 bits), class loader hash,
/// milliseconds since the first of the month in local time, and a counter. 32 or 56 upper-case hex digits.
///
/// The caller keeps the counter, so that two calls in one millisecond differ.
pub fn unique_id(ip: IpAddr, pid: u16, loader: i32, millis: i32, counter: u16) -> String {
    let mut bytes = [0u8; 28];
    let at = write_ip(ip, &mut bytes);
    bytes[at..at + 2].copy_from_slice(&pid.to_be_bytes());
    bytes[at + 2..at + 6].copy_from_slice(&loader.to_be_bytes());
    bytes[at + 6..at + 10].copy_from_slice(&millis.to_be_bytes());
    bytes[at + 10..at + 12].copy_from_slice(&counter.to_be_bytes());
    let mut digits = [0u8; 56];
    upper_hex(&bytes[..at + 12], &mut digits).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_ids() {
        let id = OffsetMessageId { store_host: "127.0.0.1:10911".parse().unwrap(), physical_offset: 4096 };
        assert_eq!(id.to_string(), "7F00000100002A9F0000000000001000");
        assert_eq!("7f00000100002a9f0000000000001000".parse(), Ok(id));
        let unique = unique_id(Ipv4Addr::LOCALHOST.into(), 1, 0x070D_EA4E, 1, 0);
        assert_eq!(unique, "7F0000010001070DEA4E000000010000");
        assert_eq!(unique_id(Ipv6Addr::LOCALHOST.into(), 1, 2, 3, 4).len(), 56);
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in
            ["", "7F", "zF00000100002A9F0000000000001000", "7F000001FFFFFFFF0000000000001000", "ééééééééééééééé€"]
        {
            assert!(text.parse::<OffsetMessageId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(), port in any::<u16>(), offset in any::<i64>()) {
            for ip in [IpAddr::from(v4), IpAddr::from(v6).to_canonical()] {
                let id = OffsetMessageId { store_host: SocketAddr::new(ip, port), physical_offset: offset };
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<OffsetMessageId>();
        }
    }
}
