//! What a filter plugin is: the trait its author writes, and the words it answers with.
//! Called by the runtime. A filter is pure: a fresh instance must give the same verdicts.

use serde::de::DeserializeOwned;

use crate::abi::{self, Decides, Refuse};
use crate::message::{Entry, Message};
use crate::msgpack::Unpacker;

/// A filter: configured once, prepared once for each subscription, asked once for each message.
pub trait Filter: Sized + 'static {
    /// Configuration from `plugins.toml`: a struct with serde's `Deserialize` and a `Default`, or [`NoConfig`].
    type Config: Config;
    /// A subscription made ready: whatever can be worked out before the first message.
    type Prepared: 'static;

    /// Takes the configuration. A refusal keeps the plugin from going live; an older version goes on serving.
    fn new(config: Self::Config) -> Result<Self, Refuse>;

    /// Makes a subscription ready. The refusal's text reaches the consumer, so let it say what to write instead.
    fn prepare(&self, subscription: &Subscription<'_>) -> Result<Self::Prepared, Refuse>;

    /// How far this subscription must look. Less is faster: entries alone spare reading the messages.
    fn decides(&self, _prepared: &Self::Prepared) -> Decides {
        Decides::Tokens
    }

    /// Decides by a consume-queue entry. Called if [`Filter::decides`] says entries.
    fn keep_entry(&self, _prepared: &Self::Prepared, _entry: &Entry<'_>) -> EntryVerdict {
        EntryVerdict::NeedRecord
    }

    /// Decides one message. Not called for what entries decided.
    fn keep(&self, prepared: &Self::Prepared, message: &Message<'_>) -> Verdict;

    /// Checks that the plugin brings itself, run before it goes live: how many passed, or what is wrong.
    fn self_test(&self) -> Result<u32, Refuse> {
        Ok(0)
    }
}

/// What a plugin can be configured by.
pub trait Config: Sized {
    /// Reads the MessagePack map that `plugins.toml` became; no bytes: nothing is configured.
    fn from_settings(settings: &[u8]) -> Result<Self, Refuse>;
}

impl<T: DeserializeOwned + Default> Config for T {
    fn from_settings(settings: &[u8]) -> Result<Self, Refuse> {
        if settings.is_empty() {
            return Ok(Self::default());
        }
        abi::decode(settings).map_err(|error| Refuse::new(format!("configuration: {error}")))
    }
}

/// For plugins without configuration: any key given in `plugins.toml` is refused by name.
/// Without serde on purpose, which would be most of a small plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoConfig {}

impl Config for NoConfig {
    fn from_settings(settings: &[u8]) -> Result<Self, Refuse> {
        let mut settings = Unpacker::new(settings);
        match settings.map() {
            None | Some(0) => Ok(Self {}),
            Some(_) => Err(Refuse::new(["this plugin has no setting `", settings.text().unwrap_or("?"), "`"].concat())),
        }
    }
}

/// What a consumer has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Topic it subscribes to.
    pub topic: &'a str,
    /// Its consumer group.
    pub group: &'a str,
    /// `TAG`, `SQL92` or `WASM`.
    pub expression_type: &'a str,
    /// The text; for `WASM`, what stands between the parentheses of `wasm:NAME(…)`.
    pub expression: &'a str,
}

/// The answer about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The consumer gets it.
    Keep,
    /// The consumer never gets it: its offset moves past.
    Drop,
    /// The filter cannot decide. The message is held, not lost; never use `Drop` for this.
    CannotSay,
}

impl From<bool> for Verdict {
    fn from(keep: bool) -> Self {
        if keep { Self::Keep } else { Self::Drop }
    }
}

/// The answer about a consume-queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryVerdict {
    /// The consumer gets the message.
    Keep,
    /// The consumer never gets it.
    Drop,
    /// Only the message itself can tell: [`Filter::keep`] is asked.
    NeedRecord,
}

impl From<bool> for EntryVerdict {
    fn from(keep: bool) -> Self {
        if keep { Self::Keep } else { Self::Drop }
    }
}
