//! Numbers as Java reads them from text: `Integer.valueOf`, `Long.valueOf`, `Double.valueOf`. The one place where a
//! property value or a literal becomes a number. Deliberately absent: digits of other scripts and hexadecimal floats,
//! which Java takes too; they count as "not a number".

/// `Long.valueOf`: an optional sign and digits, nothing else, within 64 bits.
pub(crate) fn java_long(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // Summed below zero, where there is room for one more.
    let mut sum = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(sum) } else { sum.checked_neg() }
}

/// `Integer.valueOf`: the same within 32 bits.
#[inline]
pub(crate) fn java_integer(text: &[u8]) -> Option<i32> {
    // Up to nine digits cannot leave the 32 bits: the usual case without checks.
    if !text.is_empty() && text.len() <= 9 && text.iter().all(u8::is_ascii_digit) {
        return Some(text.iter().fold(0, |sum, byte| sum * 10 + i32::from(byte - b'0')));
    }
    i32::try_from(java_long(text)?).ok()
}

/// `Double.valueOf`: blanks around are cut; sign, digits with at most one point, exponent, and a type letter `d` or `f`;
/// or `NaN` or `Infinity` with a sign.
pub(crate) fn java_double(text: &[u8]) -> Option<f64> {
    let blank = |byte: &u8| *byte <= b' ';
    let start = text.iter().position(|byte| !blank(byte))?;
    let end = text.iter().rposition(|byte| !blank(byte))?;
    let text = str::from_utf8(&text[start..=end]).ok()?;
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match unsigned {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        number => {
            let number = number.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(number);
            // Rust's parser takes the same digits, points and exponents, but words as well.
            number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')).then_some(())?;
            number.starts_with(|c: char| c.is_ascii_digit() || c == '.').then_some(())?;
            number.parse().ok()?
        }
    };
    Some(if negative { -value } else { value })
}

/// A decimal literal's digits: an int if it fits, else a long, else no literal.
pub(crate) fn decimal_literal(digits: &str) -> Option<Literal> {
    let long = java_long(digits.as_bytes())?;
    Some(i32::try_from(long).map_or(Literal::Long(long), Literal::Integer))
}

/// A literal with a point or an exponent. RocketMQ refuses what is 0 or infinite.
pub(crate) fn float_literal(text: &str) -> Option<Literal> {
    let value = java_double(text.as_bytes())?;
    (value > 0.0 && value.is_finite()).then_some(Literal::Double(value))
}

/// A number as it stands in an expression, with Java's type: coercion depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Literal {
    Integer(i32),
    Long(i64),
    Double(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_java() {
        let good = [
            ("3", 3),
            ("+3", 3),
            ("-3", -3),
            ("03", 3),
            ("-0", 0),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
        ];
        for (text, value) in good {
            assert_eq!(java_integer(text.as_bytes()), Some(value), "{text:?}");
        }
        assert_eq!(java_integer(b"00000000000000000000000000003"), Some(3), "leading zeros do not count");
        for text in
            ["", "+", "-", "+-3", " 3", "3 ", "3.0", "1e2", "2147483648", "-2147483649", "3L", "0x3", "NaN", "1_0"]
        {
            assert_eq!(java_integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn longs_as_java() {
        for (text, value) in [("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN), ("+1", 1)] {
            assert_eq!(java_long(text.as_bytes()), Some(value), "{text:?}");
        }
        for text in ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "1L", "", " 1"] {
            assert_eq!(java_long(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_as_java() {
        let good = [
            ("3", 3.0),
            (" 3.0 ", 3.0),
            ("\t3\n", 3.0),
            ("+3", 3.0),
            ("-3.5", -3.5),
            ("3.", 3.0),
            (".5", 0.5),
            ("1e2", 100.0),
            ("1E+2", 100.0),
            ("1.5e-1", 0.15),
            ("3d", 3.0),
            ("3.5F", 3.5),
            ("05", 5.0),
            ("1e400", f64::INFINITY),
            ("1e-400", 0.0),
            ("-Infinity", f64::NEG_INFINITY),
        ];
        for (text, value) in good {
            assert_eq!(java_double(text.as_bytes()), Some(value), "{text:?}");
        }
        assert!(java_double(b"NaN").is_some_and(f64::is_nan));
        for text in [
            "", " ", ".", "e5", "1e", "inf", "infinity", "nan", "NAN", "--3", "+-3", "3 4", "1_0", "3L", "d", "3dd",
            "0x10",
        ] {
            assert_eq!(java_double(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn literals_have_java_s_types() {
        assert_eq!(decimal_literal("2147483647"), Some(Literal::Integer(i32::MAX)));
        assert_eq!(decimal_literal("2147483648"), Some(Literal::Long(2_147_483_648)));
        assert_eq!(decimal_literal("9223372036854775808"), None);
        assert_eq!(float_literal("5e-1"), Some(Literal::Double(0.5)));
        assert_eq!(float_literal("0.0"), None);
        assert_eq!(float_literal("1e400"), None);
    }
}
