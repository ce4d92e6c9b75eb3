//! Escapes in JSON strings, undone only where somebody asks for the text. The scanner has checked that each is one.

/// The value of each hexadecimal digit; 0xFF for every other byte.
const HEX_VALUES: [u8; 256] = {
    let mut values = [0xFF; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        values[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The four hexadecimal digits at `at`.
#[inline]
pub(super) fn hex4(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..)?.first_chunk::<4>()?;
    let [a, b, c, d] = digits.map(|digit| u16::from(HEX_VALUES[usize::from(digit)]));
    (a | b | c | d <= 15).then_some(a << 12 | b << 8 | c << 4 | d)
}

/// Undoes the escapes of a string that the scanner has passed.
pub(crate) fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(backslash) = rest.find('\\') {
        let (before, escape) = rest.split_at(backslash);
        text.push_str(before);
        let (character, length) = unescaped(escape.as_bytes());
        text.push(character);
        rest = &escape[length..];
    }
    text.push_str(rest);
    text
}

/// Appends what [`unescape`] gives, without the string between.
pub(crate) fn unescape_into(raw: &str, out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(backslash) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (before, escape) = rest.split_at(backslash);
        out.extend_from_slice(before.as_bytes());
        let (character, length) = unescaped(escape.as_bytes());
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &escape[length..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// The character an escape stands for, and the escape's length. A half of a surrogate pair without the other half
/// becomes U+FFFD, since UTF-8 cannot hold it.
fn unescaped(escape: &[u8]) -> (char, usize) {
    match escape.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => unescaped_unit(escape),
        Some(other) => (char::from(*other), 2),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

fn unescaped_unit(escape: &[u8]) -> (char, usize) {
    let first = hex4(escape, 2).unwrap_or(0xFFFD);
    if let Some(character) = char::from_u32(first.into()) {
        return (character, 6);
    }
    let second = if escape.get(6..8) == Some(b"\\u") { hex4(escape, 8) } else { None };
    match second.map(|second| char::decode_utf16([first, second]).next()) {
        Some(Some(Ok(character))) => (character, 12),
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}
