//! The language a client is written in, as its header says. Used for connection lists and for the one reply whose
//! shape depends on it (offset reset bodies for C++ clients).

use std::fmt;

/// A language by RocketMQ's ordinal. Numbers without a name survive in binary headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Language(pub u8);

/// Names in the order of their ordinals.
const NAMES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST",
    "NODE_JS",
];

#[expect(missing_docs, reason = "the names say it")]
impl Language {
    pub const JAVA: Self = Self(0);
    pub const CPP: Self = Self(1);
    pub const DOTNET: Self = Self(2);
    pub const PYTHON: Self = Self(3);
    pub const DELPHI: Self = Self(4);
    pub const ERLANG: Self = Self(5);
    pub const RUBY: Self = Self(6);
    pub const OTHER: Self = Self(7);
    pub const HTTP: Self = Self(8);
    pub const GO: Self = Self(9);
    pub const PHP: Self = Self(10);
    pub const OMS: Self = Self(11);
    pub const RUST: Self = Self(12);
    pub const NODE_JS: Self = Self(13);
}

impl Language {
    /// RocketMQ's name; `OTHER` for a number without one.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("OTHER")
    }

    /// The language of that name; [`Language::OTHER`] for a name nobody knows.
    pub fn from_name(name: &str) -> Self {
        let known = NAMES.iter().zip(0_u8..).find(|(candidate, _)| **candidate == name);
        known.map_or(Self::OTHER, |(_, ordinal)| Self(ordinal))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
