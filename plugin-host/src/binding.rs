//! `plugins.toml`: which topics and groups a plugin serves, with which configuration, limits and fault policy. Read by
//! the life cycle; an entry and its wasm are one generation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{
    BATCH_CPU, BATCH_CPU_CEILING, MEMORY_BYTES, MEMORY_BYTES_CEILING, MODULE_BYTES, MODULE_BYTES_CEILING, TICK,
};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginsFile {
    #[serde(default)]
    pub(crate) plugin: BTreeMap<String, Entry>,
}

/// `[plugin.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Entry {
    pub(crate) enabled: bool,
    pub(crate) topics: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) on_fault: OnFault,
    pub(crate) limits: EntryLimits,
    pub(crate) config: toml::Table,
}

/// What happens to a message the plugin gives no verdict on. Never "no match": that would lose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFault {
    /// It waits: the pull stops before it.
    #[default]
    Hold,
    /// It is delivered, as if there were no filter.
    Deliver,
}

/// `[plugin.NAME.limits]`; absent: the default, or what the manifest asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EntryLimits {
    pub(crate) memory_mib: Option<u32>,
    pub(crate) module_mib: Option<u32>,
    pub(crate) batch_cpu_ms: Option<u32>,
}

impl Default for Entry {
    fn default() -> Self {
        let all = || vec!["*".to_string()];
        Self {
            enabled: true,
            topics: all(),
            groups: all(),
            on_fault: OnFault::Hold,
            limits: EntryLimits::default(),
            config: toml::Table::new(),
        }
    }
}

impl PluginsFile {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for (name, entry) in &file.plugin {
            entry.limits.check().map_err(|reason| format!("[plugin.{name}.limits]: {reason}"))?;
        }
        Ok(file)
    }

    /// The entry of a plugin; without one, everything is as the defaults say.
    pub(crate) fn entry(&self, name: &str) -> Entry {
        self.plugin.get(name).cloned().unwrap_or_default()
    }
}

impl Entry {
    pub(crate) fn binds(&self, topic: &str, group: &str) -> bool {
        let any = |globs: &[String], name: &str| globs.iter().any(|glob| glob == "*" || glob_matches(glob, name));
        any(&self.topics, topic) && any(&self.groups, group)
    }

    /// One line for the list of plugins.
    pub(crate) fn binding_text(&self) -> String {
        format!("topics={} groups={}", self.topics.join(","), self.groups.join(","))
    }

    /// The entry as bytes: equal entries give equal bytes, as tables are sorted.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).unwrap_or_default()
    }

    /// The `config` table as the plugin gets it; nothing if it is empty.
    pub(crate) fn config_bytes(&self) -> Result<Vec<u8>, String> {
        if self.config.is_empty() {
            return Ok(Vec::new());
        }
        rmp_serde::to_vec_named(&self.config).map_err(|error| error.to_string())
    }
}

impl EntryLimits {
    fn check(&self) -> Result<(), String> {
        let cpu_ceiling = BATCH_CPU_CEILING.as_millis() as u32;
        let rows = [
            ("memory_mib", self.memory_mib, 1, (MEMORY_BYTES_CEILING >> 20) as u32),
            ("module_mib", self.module_mib, 1, (MODULE_BYTES_CEILING >> 20) as u32),
            ("batch_cpu_ms", self.batch_cpu_ms, TICK.as_millis() as u32, cpu_ceiling),
        ];
        for (key, value, least, most) in rows {
            if value.is_some_and(|value| value < least || value > most) {
                return Err(format!("{key} must lie between {least} and {most}"));
            }
        }
        Ok(())
    }

    /// Linear memory: what the operator says, else what the manifest asks for, never above the ceiling.
    pub(crate) fn memory_bytes(&self, asked: u64) -> usize {
        let asked = if asked == 0 { MEMORY_BYTES } else { usize::try_from(asked).unwrap_or(usize::MAX) };
        self.memory_mib.map_or(asked, |mib| (mib as usize) << 20).min(MEMORY_BYTES_CEILING)
    }

    pub(crate) fn module_bytes(&self) -> usize {
        self.module_mib.map_or(MODULE_BYTES, |mib| (mib as usize) << 20)
    }

    pub(crate) fn batch_cpu(&self) -> std::time::Duration {
        self.batch_cpu_ms.map_or(BATCH_CPU, |ms| std::time::Duration::from_millis(u64::from(ms)))
    }
}

/// `*` stands for any characters, also none; `?` for one. In the time of pattern times text, whatever the pattern.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at_glob, mut at_text) = (0, 0);
    // Where to go on when the last `*` has to take one more byte.
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match glob.get(at_glob) {
            Some(b'*') => {
                star = Some((at_glob, at_text));
                at_glob += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[at_text] => {
                at_glob += 1;
                at_text += 1;
            }
            _ => {
                let Some((glob_star, taken)) = star else { return false };
                star = Some((glob_star, taken + 1));
                at_glob = glob_star + 1;
                at_text = taken + 1;
            }
        }
    }
    glob[at_glob..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("*", "orders", true),
            ("orders*", "orders-eu", true),
            ("orders*", "order", false),
            ("*-eu", "orders-eu", true),
            ("*-eu", "orders-eu-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("o?ders", "orders", true),
            ("", "", true),
            ("", "x", false),
            ("%RETRY%*", "%RETRY%g", true),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} on {text}");
        }
        assert!(!glob_matches(&"*a".repeat(50), &"a".repeat(40)), "and soon");
    }

    #[test]
    fn an_entry_is_read_and_the_rest_defaults() {
        let file = PluginsFile::parse(
            "[plugin.region-filter]\ntopics = ['orders*']\non_fault = 'deliver'\nlimits.memory_mib = 8\n[plugin.region-filter.config]\nregion = 'hz'\n",
        )
        .unwrap();
        let entry = file.entry("region-filter");
        assert!(entry.enabled && entry.binds("orders-eu", "any") && !entry.binds("bills", "any"));
        assert_eq!((entry.on_fault, entry.limits.memory_bytes(0)), (OnFault::Deliver, 8 << 20));
        assert_eq!(entry.config_bytes().unwrap(), b"\x81\xa6region\xa2hz");
        assert_eq!(file.entry("other"), Entry::default());
        assert_ne!(entry.bytes(), Entry::default().bytes());
        assert!(Entry::default().config_bytes().unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expected: &str| {
            let error = PluginsFile::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("[plugin.x]\ntopisc = []\n", "topisc");
        check("[plugin.x]\ntopisc = []\n", "topics");
        check("[plugins.x]\n", "plugins");
        check("[plugin.x]\non_fault = 'drop'\n", "deliver");
        check("[plugin.x.limits]\nmemory_mib = 65\n", "memory_mib must lie between 1 and 64");
        check("[plugin.x.limits]\nbatch_cpu_ms = 1\n", "between 5 and 100");
        check("[plugin.x\n", "");
    }

    #[test]
    fn the_ceiling_wins_over_the_manifest() {
        let limits = EntryLimits::default();
        assert_eq!(limits.memory_bytes(0), MEMORY_BYTES);
        assert_eq!(limits.memory_bytes(16 << 20), 16 << 20);
        assert_eq!(limits.memory_bytes(u64::MAX), MEMORY_BYTES_CEILING);
    }
}
