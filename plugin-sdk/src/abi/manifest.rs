//! The manifest: what a plugin says about itself before one of its instructions runs. A MessagePack map in the custom
//! section `wq.manifest`. Written at compile time by the `plugin!` macro, read by the host's loader and `inspect`.

use serde::{Deserialize, Serialize};

/// A manifest section longer than this is refused.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// Identity and needs of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name that bindings and `wasm:NAME(…)` use: letters, digits, `-`, `_`; 1 to 64 of them.
    pub name: String,
    /// Version of the plugin, by its author.
    pub version: String,
    /// Must equal the broker's (or be one it still speaks).
    pub abi_major: u16,
    /// Least minor the plugin needs; above the broker's it is refused.
    pub abi_minor: u16,
    /// For people: which SDK built it.
    #[serde(default)]
    pub sdk_version: String,
    /// `filter` is the only hook of this version; a hook the broker does not know is refused.
    pub hooks: Vec<String>,
    /// How many bytes of the body it wants to see; 0: none (the body is then never copied).
    #[serde(default)]
    pub body_bytes_max: u32,
    /// Linear memory it asks for, in bytes; 0: the broker's default. The operator's ceiling wins.
    #[serde(default)]
    pub memory_bytes_max: u64,
}

/// The manifest is not one.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The section is too long.
    #[error("the manifest has {0} bytes; at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not MessagePack, or a field is missing or of the wrong type.
    #[error("the manifest cannot be read: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// The name has characters that do not work in a file name or in `wasm:NAME(…)`.
    #[error("the plugin name `{0}` must be 1 to 64 letters, digits, `-` or `_`")]
    BadName(String),
}

impl Manifest {
    /// Reads the content of the custom section. Fields from later versions are passed over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong(bytes.len()));
        }
        let manifest: Self = rmp_serde::from_slice(bytes)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if manifest.name.is_empty() || manifest.name.len() > 64 || !manifest.name.chars().all(plain) {
            return Err(ManifestError::BadName(manifest.name));
        }
        Ok(manifest)
    }
}

/// Writes a manifest of this SDK at compile time, where neither serde nor allocation exist. Called twice by `plugin!`:
/// with `N` = 0 for the length, then with that length for the bytes.
pub const fn encode_manifest<const N: usize>(
    name: &str,
    version: &str,
    body_bytes_max: u32,
    memory_bytes_max: u64,
) -> ([u8; N], usize) {
    let mut out = ConstWriter { bytes: [0; N], len: 0 }.byte(0x88);
    out = out.text("name").text(name).text("version").text(version);
    out = out.text("abi_major").integer(super::ABI_MAJOR as u64).text("abi_minor").integer(super::ABI_MINOR as u64);
    out = out.text("sdk_version").text(env!("CARGO_PKG_VERSION"));
    out = out.text("hooks").byte(0x91).text("filter");
    out = out.text("body_bytes_max").integer(body_bytes_max as u64);
    out = out.text("memory_bytes_max").integer(memory_bytes_max);
    (out.bytes, out.len)
}

/// Counts every byte, keeps those that fit.
struct ConstWriter<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> ConstWriter<N> {
    const fn byte(mut self, byte: u8) -> Self {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
        self
    }

    /// MessagePack `str 8`: names and versions stay below 256 bytes.
    const fn text(mut self, text: &str) -> Self {
        assert!(text.len() < 256, "a manifest text has more than 255 bytes");
        self = self.byte(0xd9).byte(text.len() as u8);
        let mut at = 0;
        while at < text.len() {
            self = self.byte(text.as_bytes()[at]);
            at += 1;
        }
        self
    }

    /// MessagePack `uint 64`, which is big endian.
    const fn integer(mut self, value: u64) -> Self {
        self = self.byte(0xcf);
        let mut shift = 64;
        while shift > 0 {
            shift -= 8;
            self = self.byte((value >> shift) as u8);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = encode_manifest::<0>("x-1", "0.2.3", 7, 1 << 40).1;
    const BYTES: [u8; LEN] = encode_manifest::<LEN>("x-1", "0.2.3", 7, 1 << 40).0;

    #[test]
    fn compile_time_bytes_are_a_manifest() {
        let manifest = Manifest::from_bytes(&BYTES).unwrap();
        let expected = Manifest {
            name: "x-1".into(),
            version: "0.2.3".into(),
            abi_major: 1,
            abi_minor: 0,
            sdk_version: env!("CARGO_PKG_VERSION").into(),
            hooks: vec!["filter".into()],
            body_bytes_max: 7,
            memory_bytes_max: 1 << 40,
        };
        assert_eq!(manifest, expected);
    }

    #[test]
    fn what_is_not_a_manifest_is_refused() {
        assert!(matches!(Manifest::from_bytes(&BYTES[..LEN - 1]), Err(ManifestError::Malformed(_))));
        assert!(matches!(Manifest::from_bytes(&vec![0; MANIFEST_BYTES_MAX + 1]), Err(ManifestError::TooLong(_))));
        let (bytes, len) = encode_manifest::<256>("../x", "1", 0, 0);
        assert!(matches!(Manifest::from_bytes(&bytes[..len]), Err(ManifestError::BadName(_))));
    }
}
