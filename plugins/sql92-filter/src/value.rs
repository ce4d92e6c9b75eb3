//! Values at evaluation and how they compare: Java's types, RocketMQ's coercions, three-valued results.
//! Called by `program` for every comparison.

use std::cmp::Ordering;

use crate::number::{Literal, java_double, java_integer, java_long};

/// What an operand is worth for one message. Text is bytes: Java decodes them, equality and search come out the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// SQL's NULL; as a truth value: unknown.
    Null,
    Truth(bool),
    Number(Literal),
    Text(&'a [u8]),
}

/// RocketMQ throws here: the whole message does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incomparable;

/// Orders two values for `<`, `<=`, `>`, `>=`; `None`: unknown.
#[inline]
pub(crate) fn order(left: Value<'_>, right: Value<'_>) -> Result<Option<Ordering>, Incomparable> {
    let ordering = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        (Value::Text(left), Value::Number(right)) => order_numbers(coerce(left, right)?, right),
        (Value::Number(left), Value::Text(right)) => order_numbers(left, coerce(right, left)?),
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right),
        (Value::Text(left), Value::Text(right)) => {
            let number = |text| java_double(text).ok_or(Incomparable);
            order_doubles(number(left)?, number(right)?)
        }
        // The parser lets no truth value into an order.
        (Value::Truth(_), _) | (_, Value::Truth(_)) => return Err(Incomparable),
    };
    Ok(Some(ordering))
}

/// Compares two values for `=`; `None`: unknown.
#[inline]
pub(crate) fn equal(left: Value<'_>, right: Value<'_>) -> Result<Option<bool>, Incomparable> {
    Ok(Some(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) => return Ok(None),
        // Not unknown: RocketMQ is lopsided here.
        (_, Value::Null) => false,
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::Text(left), Value::Number(right)) => order_numbers(coerce(left, right)?, right).is_eq(),
        (Value::Number(left), Value::Text(right)) => order_numbers(left, coerce(right, left)?).is_eq(),
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right).is_eq(),
        (Value::Truth(left), Value::Truth(right)) => left == right,
        (Value::Text(left), Value::Truth(right)) => left.eq_ignore_ascii_case(b"true") == right,
        // A class cast that fails in RocketMQ.
        (Value::Truth(_), Value::Text(_)) => return Err(Incomparable),
        (Value::Truth(_), Value::Number(_)) | (Value::Number(_), Value::Truth(_)) => false,
    }))
}

/// Reads `text` as the type of the number it meets.
#[inline]
fn coerce(text: &[u8], like: Literal) -> Result<Literal, Incomparable> {
    match like {
        Literal::Integer(_) => java_integer(text).map(Literal::Integer),
        Literal::Long(_) => java_long(text).map(Literal::Long),
        Literal::Double(_) => java_double(text).map(Literal::Double),
    }
    .ok_or(Incomparable)
}

#[inline]
fn order_numbers(left: Literal, right: Literal) -> Ordering {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => order_doubles(widened(left), widened(right)),
    }
}

fn whole(number: Literal) -> Option<i64> {
    match number {
        Literal::Integer(value) => Some(value.into()),
        Literal::Long(value) => Some(value),
        Literal::Double(_) => None,
    }
}

fn widened(number: Literal) -> f64 {
    match number {
        Literal::Integer(value) => value.into(),
        Literal::Long(value) => value as f64,
        Literal::Double(value) => value,
    }
}

/// Java's `Double.compare`: NaN equals itself and is above all, -0.0 is below 0.0.
fn order_doubles(left: f64, right: f64) -> Ordering {
    let one_nan = |value: f64| if value.is_nan() { f64::NAN.abs() } else { value };
    one_nan(left).total_cmp(&one_nan(right))
}

/// Java's unary minus: wraps at the edge, and makes NULL of everything but a number.
pub(crate) fn negated<'a>(value: Value<'a>) -> Value<'a> {
    match value {
        Value::Number(Literal::Integer(value)) => Value::Number(Literal::Integer(value.wrapping_neg())),
        Value::Number(Literal::Long(value)) => Value::Number(Literal::Long(value.wrapping_neg())),
        Value::Number(Literal::Double(value)) => Value::Number(Literal::Double(-value)),
        Value::Null | Value::Truth(_) | Value::Text(_) => Value::Null,
    }
}

/// Compares a property with a number of an IN list: by value, whatever their types.
pub(crate) fn same_number(left: Literal, right: Literal) -> bool {
    order_numbers(left, right).is_eq()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.as_bytes())
    }

    const fn int(value: i32) -> Value<'static> {
        Value::Number(Literal::Integer(value))
    }

    #[test]
    fn null_is_lopsided() {
        assert_eq!(equal(Value::Null, int(1)), Ok(None));
        assert_eq!(equal(int(1), Value::Null), Ok(Some(false)));
        assert_eq!(equal(Value::Null, Value::Null), Ok(Some(true)));
        assert_eq!(order(int(1), Value::Null), Ok(None));
    }

    #[test]
    fn text_meets_numbers_as_their_type() {
        assert_eq!(equal(text("3"), int(3)), Ok(Some(true)));
        assert_eq!(equal(text("3.0"), int(3)), Err(Incomparable));
        assert_eq!(equal(text(" 3"), Value::Number(Literal::Double(3.0))), Ok(Some(true)));
        assert_eq!(order(text("4294967296"), Value::Number(Literal::Long(1 << 32))), Ok(Some(Ordering::Equal)));
        assert_eq!(order(text("4294967296"), int(1)), Err(Incomparable));
        assert_eq!(order(text("10"), text("9")), Ok(Some(Ordering::Greater)));
        assert_eq!(order(text("x"), text("y")), Err(Incomparable));
        assert_eq!(order(text("NaN"), Value::Number(Literal::Double(5.0))), Ok(Some(Ordering::Greater)));
        assert_eq!(equal(text("-0"), Value::Number(Literal::Double(0.0))), Ok(Some(false)), "Double.compare");
    }

    #[test]
    fn numbers_widen() {
        assert_eq!(equal(int(1), Value::Number(Literal::Long(1))), Ok(Some(true)));
        assert_eq!(equal(int(1), Value::Number(Literal::Double(1.0))), Ok(Some(true)));
        assert_eq!(negated(int(i32::MIN)), int(i32::MIN));
        assert_eq!(negated(text("1")), Value::Null);
    }
}
