//! The declaration of a table of settings, and what comes from it.

use crate::nearest::nearest;
use crate::properties::Properties;

/// One declared setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in files, RocketMQ's where it has one.
    pub name: &'static str,
    /// Other spellings that mean the same.
    pub aliases: &'static [&'static str],
    /// What it does, one or a few sentences.
    pub doc: &'static [&'static str],
    /// Its default as text.
    pub default: fn() -> String,
    /// What a value must be.
    pub expected: fn() -> String,
    /// False for names that RocketMQ's files carry and that mean nothing here: taken without a warning.
    pub has_effect: bool,
}

/// A name and value somebody gave, and where: a file, an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// As written.
    pub name: String,
    /// As written.
    pub value: String,
}

/// A value that the setting does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value} cannot be used: {expected} is expected")]
pub struct ValueError {
    /// The setting, as it was written.
    pub name: String,
    /// The value given.
    pub value: String,
    /// What it should be.
    pub expected: String,
}

/// Something that deserves a word but stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// No setting has this name.
    Unknown {
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Unknown { name, meant } = self;
        write!(f, "unknown setting {name}, ignored")?;
        meant.map_or(Ok(()), |meant| write!(f, "; did you mean {meant}?"))
    }
}

/// Values with what was odd about what was given.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The typed values.
    pub values: T,
    /// Names that mean nothing.
    pub warnings: Vec<Warning>,
}

/// A struct declared by [`settings!`](crate::settings).
pub trait Settings: Sized {
    /// Its declarations, in order.
    const TABLE: &'static [Setting];

    /// The values given, defaults for the rest.
    ///
    /// # Errors
    /// The first value that its setting does not take.
    fn from_given(given: &[Given]) -> Result<Self, ValueError>;

    /// Name and value of each setting, as text.
    fn to_properties(&self) -> Properties;

    /// Reads values and notes unknown names.
    ///
    /// # Errors
    /// As [`Self::from_given`].
    fn load(given: &[Given]) -> Result<Loaded<Self>, ValueError> {
        Ok(Loaded { values: Self::from_given(given)?, warnings: unknown_names(Self::TABLE, given) })
    }
}

impl Properties {
    /// The entries as given values.
    pub fn into_given(self) -> Vec<Given> {
        self.entries.into_iter().map(|(name, value)| Given { name, value }).collect()
    }
}

/// The setting of this name or alias.
pub fn find<'t>(table: &'t [Setting], name: &str) -> Option<&'t Setting> {
    table.iter().find(|setting| setting.name == name || setting.aliases.contains(&name))
}

/// A warning for each name that no setting has.
pub fn unknown_names(table: &'static [Setting], given: &[Given]) -> Vec<Warning> {
    let unknown = given.iter().filter(|given| find(table, &given.name).is_none());
    unknown
        .map(|given| Warning::Unknown {
            name: given.name.clone(),
            meant: nearest(&given.name, table.iter().map(|setting| setting.name)),
        })
        .collect()
}

/// The value given for a setting, if any; of several the last counts.
///
/// # Errors
/// When the text is no value of the type.
pub fn read<T: crate::SettingValue>(name: &str, aliases: &[&str], given: &[Given]) -> Result<Option<T>, ValueError> {
    let mine = |given: &&Given| given.name == name || aliases.contains(&given.name.as_str());
    let Some(given) = given.iter().rev().find(mine) else { return Ok(None) };
    let value = T::parse(given.value.trim()).ok_or_else(|| ValueError {
        name: given.name.clone(),
        value: given.value.clone(),
        expected: T::expected(),
    })?;
    Ok(Some(value))
}

/// All values as a file that reads back, each with what it does above it.
pub fn dump<T: Settings>(values: &T) -> String {
    let mut text = String::new();
    for (name, value) in values.to_properties().entries {
        let setting = find(T::TABLE, &name);
        for line in setting.map(|setting| setting.doc).unwrap_or_default() {
            text.push_str(&format!("#{line}\n"));
        }
        text.push_str(&format!("{name}={value}\n\n"));
    }
    text
}

/// The reference of a table: name, default, meaning, and other spellings, one setting a paragraph.
pub fn describe(table: &[Setting]) -> String {
    let mut text = String::new();
    for setting in table.iter().filter(|setting| setting.has_effect) {
        text.push_str(&format!("{} (default: {})\n", setting.name, (setting.default)()));
        for line in setting.doc {
            text.push_str(&format!("   {line}\n"));
        }
        if !setting.aliases.is_empty() {
            text.push_str(&format!("    also: {}\n", setting.aliases.join(", ")));
        }
        text.push('\n');
    }
    let ignored: Vec<_> = table.iter().filter(|setting| !setting.has_effect).map(|setting| setting.name).collect();
    if !ignored.is_empty() {
        text.push_str(&format!("Taken from RocketMQ's files without effect: {}\n", ignored.join(", ")));
    }
    text
}

/// Declares a struct of settings: `/// meaning` `field: Type = "name" or default;`, with `also ["alias"]` after the
/// name for other spellings. Names in `without effect` are taken from RocketMQ's files and ignored.
#[macro_export]
macro_rules! settings {
    (
        $(#[$about:meta])*
        $vis:vis struct $table:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal $(also [$($alias:literal),+])? or $default:expr; )+
        }
        without effect { $($ignored:literal),* $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $table { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        impl $crate::Settings for $table {
            const TABLE: &'static [$crate::Setting] = &[
                $( $crate::Setting {
                    name: $name,
                    aliases: &[$($($alias),+)?],
                    doc: &[$($doc),+],
                    default: || <$type as $crate::SettingValue>::show(&$default),
                    expected: <$type as $crate::SettingValue>::expected,
                    has_effect: true,
                }, )+
                $( $crate::Setting {
                    name: $ignored,
                    aliases: &[],
                    doc: &[],
                    default: String::new,
                    expected: String::new,
                    has_effect: false,
                }, )*
            ];

            fn from_given(given: &[$crate::Given]) -> Result<Self, $crate::ValueError> {
                Ok(Self { $( $field: $crate::read($name, &[$($($alias),+)?], given)?.unwrap_or_else(|| $default), )+ })
            }

            fn to_properties(&self) -> $crate::Properties {
                $crate::Properties {
                    entries: vec![ $( ($name.to_owned(), $crate::SettingValue::show(&self.$field)), )+ ],
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::settings! {
        /// For the tests.
        struct Sample {
            /// Where to listen.
            port: u16 = "listenPort" or 10911;
            /// How large files are.
            size: u64 = "mappedFileSizeCommitLog" also ["mapedFileSizeCommitLog"] or 1 << 30;
            /// Nothing by default.
            address: Option<std::net::IpAddr> = "brokerIP1" or None;
        }
        without effect { "abortFile" }
    }

    fn given(text: &str) -> Vec<Given> {
        Properties::parse(text).unwrap().into_given()
    }

    #[test]
    fn values_aliases_and_defaults() {
        let loaded =
            Sample::load(&given("mapedFileSizeCommitLog = 4096 \nabortFile=/x\nlistenPort=1\nlistenPort=2")).unwrap();
        assert_eq!(loaded.values, Sample { port: 2, size: 4096, address: None });
        assert_eq!(loaded.warnings, []);
    }

    #[test]
    fn an_unknown_name_is_a_warning_with_the_nearest() {
        let loaded = Sample::load(&given("listenPrt=5")).unwrap();
        assert_eq!(loaded.values.port, 10911);
        assert_eq!(loaded.warnings[0].to_string(), "unknown setting listenPrt, ignored; did you mean listenPort?");
    }

    #[test]
    fn a_bad_value_says_what_is_expected() {
        let error = Sample::load(&given("listenPort=90000")).unwrap_err();
        assert_eq!(error.to_string(), "listenPort=90000 cannot be used: a whole number from 0 to 65535 is expected");
    }

    #[test]
    fn a_dump_reads_back() {
        let values = Sample { port: 7, size: 9, address: Some("10.0.0.1".parse().unwrap()) };
        let text = dump(&values);
        assert!(text.contains("# How large files are.\nmappedFileSizeCommitLog=9\n"), "{text}");
        assert_eq!(Sample::load(&given(&text)).unwrap().values, values);
        assert!(describe(Sample::TABLE).contains("also: mapedFileSizeCommitLog"));
    }
}
