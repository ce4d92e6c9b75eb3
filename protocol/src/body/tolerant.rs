//! What clients write differently from Java: numbers as strings (C++, Go) and enums as ordinals (C++).
//!
//! Used by the bodies' fields; what is written back is always Java's form.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A number that may stand in a string.
pub(super) fn number<'de, T: TryFrom<i64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Number(PhantomData))
}

/// A list of numbers each of which may stand in a string.
pub(super) fn numbers<'de, T: TryFrom<i64>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Element<T>(T);
    impl<'de, T: TryFrom<i64>> serde::Deserialize<'de> for Element<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            number(deserializer).map(Element)
        }
    }
    let list = <Vec<Element<T>> as serde::Deserialize>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|element| element.0).collect())
}

struct Number<T>(PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for Number<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, plain or in a string")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        let signed = i64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
        self.visit_i64(signed)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        let signed = value.trim().parse().map_err(|_| E::invalid_value(Unexpected::Str(value), &self))?;
        self.visit_i64(signed)
    }
}

/// An enum that Java prints by name and other clients by ordinal.
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// By its name on the wire.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }

            /// By its ordinal, as clients in C++ send it.
            pub const fn from_ordinal(ordinal: i64) -> Option<Self> {
                match ordinal { $($number => Some(Self::$variant),)+ _ => None }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::body::tolerant::named(deserializer, &[$($text),+], Self::from_name, Self::from_ordinal)
            }
        }
    };
}

/// Reads an enum by name or ordinal.
pub(super) fn named<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    names: &'static [&'static str],
    from_name: fn(&str) -> Option<T>,
    from_ordinal: fn(i64) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Named { names, from_name, from_ordinal })
}

struct Named<T> {
    names: &'static [&'static str],
    from_name: fn(&str) -> Option<T>,
    from_ordinal: fn(i64) -> Option<T>,
}

impl<T> Visitor<'_> for Named<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {:?} or its ordinal", self.names)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        (self.from_ordinal)(value).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        i64::try_from(value)
            .ok()
            .and_then(self.from_ordinal)
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        (self.from_name)(value).ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
    }
}
