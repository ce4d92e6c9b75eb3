//! From ext fields to typed headers and back: the trait every header implements, how each field type is read, and the
//! errors that say which field is wrong. The rules are those of the Java server, except that an absent or unreadable
//! field is reported by name instead of becoming a null pointer later.

use super::{ExtFields, Text};
use std::borrow::Cow;

/// A header that can be read from ext fields and written to them.
pub trait CommandHeader: Sized {
    /// Reads the header.
    ///
    /// # Errors
    /// The first required field that is absent, or the first field whose value is not of its type.
    fn decode(ext: &ExtFields<'_>) -> Result<Self, HeaderError>;

    /// Gives every field that has a value to `put`, in the order of declaration.
    fn encode(&self, put: &mut dyn FnMut(&'static str, Cow<'_, str>));
}

/// Why ext fields are not the header a request code asks for. Belongs into the remark of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A field that has to be there is not.
    #[error("the request has no field \"{field}\"")]
    Missing {
        /// The field's name on the wire.
        field: &'static str,
    },
    /// A value is not of the field's type.
    #[error("the field \"{field}\" has the value \"{value}\", which is not {expected}")]
    Unreadable {
        /// The field's name on the wire.
        field: &'static str,
        /// What was sent, at most 64 characters of it.
        value: String,
        /// What the field holds.
        expected: &'static str,
    },
}

impl HeaderError {
    pub(crate) fn unreadable(field: &'static str, value: &Text<'_>, expected: &'static str) -> Self {
        Self::Unreadable { field, value: value.to_cow().chars().take(64).collect(), expected }
    }
}

/// A type a header field may have.
pub(crate) trait FieldValue: Sized {
    /// Reads a value that is there; `Ok(None)` when it counts as absent (an empty number).
    fn read(field: &'static str, value: &Text<'_>) -> Result<Option<Self>, HeaderError>;

    /// What to take for an absent field that has no default; the error for most types, `None` for options.
    fn absent(field: &'static str) -> Result<Self, HeaderError> {
        Err(HeaderError::Missing { field })
    }

    /// The text on the wire; `None`: the field is left out.
    fn write(&self) -> Option<Cow<'_, str>>;
}

/// Reads one field of a header.
pub(crate) fn required<T: FieldValue>(ext: &ExtFields<'_>, field: &'static str) -> Result<T, HeaderError> {
    match present(ext, field)? {
        Some(value) => Ok(value),
        None => T::absent(field),
    }
}

/// Reads one field of a header that may be absent.
pub(crate) fn present<T: FieldValue>(ext: &ExtFields<'_>, field: &'static str) -> Result<Option<T>, HeaderError> {
    match ext.get(field) {
        Some(value) => T::read(field, value),
        None => Ok(None),
    }
}

impl FieldValue for String {
    fn read(_field: &'static str, value: &Text<'_>) -> Result<Option<Self>, HeaderError> {
        Ok(Some(value.to_cow().into_owned()))
    }

    fn write(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl FieldValue for bool {
    fn read(_field: &'static str, value: &Text<'_>) -> Result<Option<Self>, HeaderError> {
        Ok((!value.is_empty()).then(|| value.parse_bool()))
    }

    fn write(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(if *self { "true" } else { "false" }))
    }
}

impl FieldValue for i32 {
    fn read(field: &'static str, value: &Text<'_>) -> Result<Option<Self>, HeaderError> {
        if value.is_empty() {
            return Ok(None);
        }
        let number = value.parse_i32();
        number.map(Some).ok_or_else(|| HeaderError::unreadable(field, value, "a 32-bit number"))
    }

    fn write(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

impl FieldValue for i64 {
    fn read(field: &'static str, value: &Text<'_>) -> Result<Option<Self>, HeaderError> {
        if value.is_empty() {
            return Ok(None);
        }
        let number = value.parse_i64();
        number.map(Some).ok_or_else(|| HeaderError::unreadable(field, value, "a 64-bit number"))
    }

    fn write(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn read(field: &'static str, value: &Text<'_>) -> Result<Option<Self>, HeaderError> {
        T::read(field, value).map(Some)
    }

    fn absent(_field: &'static str) -> Result<Self, HeaderError> {
        Ok(None)
    }

    fn write(&self) -> Option<Cow<'_, str>> {
        self.as_ref().and_then(FieldValue::write)
    }
}
