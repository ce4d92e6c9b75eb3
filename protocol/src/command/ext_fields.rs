//! The named values of a header (`extFields`), in the order of the frame. Looked through from the end, because where
//! a name comes twice the last one counts, as in Java's map. Up to 20 fields live on the stack.

use super::Text;
use smallvec::SmallVec;

/// More fields than this in one header is a decode error: real commands carry fewer than 30, and a look-up walks
/// the list.
pub const EXT_FIELDS_MAX: usize = 1024;

/// The ext fields of one decoded command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtFields<'a> {
    fields: SmallVec<[(Text<'a>, Text<'a>); 20]>,
}

impl<'a> ExtFields<'a> {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Text<'a>> {
        self.fields.iter().rev().find(|(key, _)| key.eq_str(name)).map(|(_, value)| value)
    }

    /// All names and values, in the order of the frame.
    pub fn iter(&self) -> impl Iterator<Item = &(Text<'a>, Text<'a>)> {
        self.fields.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Removes all.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.fields.clear();
    }

    /// Appends one; false when there are too many already.
    #[inline(always)]
    pub(crate) fn push(&mut self, name: Text<'a>, value: Text<'a>) -> bool {
        let room = self.fields.len() < EXT_FIELDS_MAX;
        if room {
            self.fields.push((name, value));
        }
        room
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for ExtFields<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let fields = pairs.into_iter().map(|(name, value)| (Text::plain(name), Text::plain(value))).collect();
        Self { fields }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_equal_names_counts() {
        let fields: ExtFields<'_> = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        assert_eq!(fields.get("a"), Some(&Text::plain("3")));
        assert_eq!(fields.get("c"), None);
        assert_eq!(fields.len(), 3);
    }
}
