//! The types that settings have, and how each reads and prints its text.

use std::net::IpAddr;
use std::path::PathBuf;

/// A type of setting.
pub trait SettingValue: Sized {
    /// What a value must be, for the error text: "a number from 0 to 65535".
    fn expected() -> String;

    /// Reads a value; `None` if the text is none.
    fn parse(text: &str) -> Option<Self>;

    /// The text that `parse` reads back.
    fn show(&self) -> String;
}

impl SettingValue for String {
    fn expected() -> String {
        "text".into()
    }

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl SettingValue for PathBuf {
    fn expected() -> String {
        "a path".into()
    }

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl SettingValue for bool {
    fn expected() -> String {
        "true or false".into()
    }

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for IpAddr {
    fn expected() -> String {
        "an IP address".into()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A setting that may be left out: empty text is none.
impl<T: SettingValue> SettingValue for Option<T> {
    fn expected() -> String {
        T::expected()
    }

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

macro_rules! numbers {
    ($($type:ty),+) => { $(
        impl SettingValue for $type {
            fn expected() -> String {
                format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX)
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}

numbers!(u8, u16, u32, u64, usize, i32, i64);
