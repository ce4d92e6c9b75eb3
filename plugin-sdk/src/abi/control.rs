//! Control messages: what the host asks outside the hot path, and what the plugin answers.
//! MessagePack maps with field names, so that both sides may add fields; read by the SDK's runtime and by the host.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// First argument of `control`. 5, 6 and 7 are reserved for transaction check, snapshot and restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Op {
    /// Request empty; answer [`Description`].
    Describe = 1,
    /// Request: the plugin's configuration as one MessagePack map, or empty for the defaults; answer [`Done`].
    /// Before anything else but `describe`, and once per instance.
    Configure = 2,
    /// Request [`PrepareRequest`]; answer [`Prepared`].
    Prepare = 3,
    /// Request [`ReleaseRequest`]; answer [`Done`], also for a handle that is not prepared.
    Release = 4,
    /// Request empty; answer [`Tested`].
    SelfTest = 8,
}

impl Op {
    /// Number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The operation of a `control` call.
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::Describe, Self::Configure, Self::Prepare, Self::Release, Self::SelfTest]
            .into_iter()
            .find(|op| op.number() == number)
    }
}

/// Every answer: `{ok: T}` or `{error: Refuse}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer<T> {
    /// It is done.
    #[serde(rename = "ok")]
    Ok(T),
    /// It is refused; nothing changed.
    #[serde(rename = "error")]
    Error(Refuse),
}

impl<T> From<Answer<T>> for Result<T, Refuse> {
    fn from(answer: Answer<T>) -> Self {
        match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Error(refuse) => Err(refuse),
        }
    }
}

impl<T> From<Result<T, Refuse>> for Answer<T> {
    fn from(result: Result<T, Refuse>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err(refuse) => Self::Error(refuse),
        }
    }
}

/// Why a plugin does not take a configuration or a subscription; the text reaches the consumer's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}", place(.position))]
pub struct Refuse {
    /// What is wrong and what to write instead.
    pub message: String,
    /// Where in the subscription text: the column, counted in characters from 1.
    #[serde(default)]
    pub position: Option<u32>,
}

fn place(position: &Option<u32>) -> String {
    position.map(|column| format!(" (column {column})")).unwrap_or_default()
}

impl Refuse {
    /// A refusal of the whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), position: None }
    }

    /// A refusal of one place in the text; `column` counts characters from 1.
    pub fn at(column: u32, message: impl Into<String>) -> Self {
        Self { message: message.into(), position: Some(column) }
    }
}

/// Answer of [`Op::Describe`]: what runs, as the instance itself says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Same as in the manifest.
    pub name: String,
    /// Same as in the manifest.
    pub version: String,
    /// Subscriptions prepared in this instance.
    pub prepared: u32,
    /// Whether `configure` has succeeded.
    pub configured: bool,
}

/// Request of [`Op::Prepare`]: make a subscription ready under a handle the host has chosen.
/// A handle in use is replaced if the new text is accepted, kept if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareRequest {
    /// Later `binding_id` of batches.
    pub handle: u32,
    /// Topic of the subscription.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// `TAG`, `SQL92` or `WASM`.
    pub expression_type: String,
    /// The subscription text. For `WASM`, only what stands between the parentheses of `wasm:NAME(…)`, blanks at both
    /// ends removed; see [`split_wasm_expression`].
    pub expression: String,
}

/// Answer of [`Op::Prepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// What the host has to show.
    pub decides: Decides,
}

/// How far a prepared subscription must look to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decides {
    /// Keeps everything: no calls needed.
    All,
    /// The consume-queue entry is always enough: only batches of [`super::Hook::Entries`].
    Entries,
    /// Entries say nothing: only batches of [`super::Hook::Records`].
    Tokens,
    /// Entries first; those with an error bit are asked again as records.
    EntriesThenTokens,
}

impl Decides {
    /// As it stands in the answer.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Entries => "entries",
            Self::Tokens => "tokens",
            Self::EntriesThenTokens => "entries_then_tokens",
        }
    }
}

/// Request of [`Op::Release`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The handle to forget.
    pub handle: u32,
}

/// An answer without content: an empty map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// Answer of [`Op::SelfTest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// Checks the plugin made; 0 when it brings none.
    pub checks: u32,
}

/// A control message could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The message is longer than the arena.
    #[error("the control message does not fit into {0} bytes")]
    TooLong(usize),
    /// Not MessagePack, or not this message.
    #[error("the control message cannot be read: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
}

/// Writes `message` to the start of `out`; its length.
pub fn encode<T: Serialize>(message: &T, out: &mut [u8]) -> Result<usize, ControlError> {
    let capacity = out.len();
    let mut rest = &mut *out;
    let mut serializer = rmp_serde::Serializer::new(&mut rest).with_struct_map();
    message.serialize(&mut serializer).map_err(|_| ControlError::TooLong(capacity))?;
    Ok(capacity - rest.len())
}

/// Reads a control message. Fields this version does not know are passed over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ControlError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

/// Splits `wasm:NAME(args)` or `wasm:NAME`, with blanks around any part, into name and arguments.
/// `None` if the text does not begin with `wasm:` or does not end with its closing parenthesis: then it is SQL.
pub fn split_wasm_expression(expression: &str) -> Option<(&str, &str)> {
    let call = expression.trim().strip_prefix("wasm:")?.trim();
    let (name, arguments) = match call.split_once('(') {
        Some((name, rest)) => (name.trim_end(), rest.strip_suffix(')')?.trim()),
        None => (call, ""),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!name.is_empty() && name.chars().all(plain)).then_some((name, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_maps_with_names() {
        let mut out = [0; 128];
        let len = encode(&Answer::Ok(Prepared { decides: Decides::EntriesThenTokens }), &mut out).unwrap();
        let mut expected = b"\x81\xa2ok\x81\xa7decides\xb3entries_then_tokens".to_vec();
        assert_eq!(&out[..len], expected);
        // A field from the future is passed over.
        expected[4] = 0x82;
        expected.extend_from_slice(b"\xa3new\x01");
        assert_eq!(
            decode::<Answer<Prepared>>(&expected).unwrap(),
            Answer::Ok(Prepared { decides: Decides::EntriesThenTokens })
        );

        let refused: Answer<Done> = Err(Refuse::at(3, "no")).into();
        let len = encode(&refused, &mut out).unwrap();
        assert_eq!(decode::<Answer<Done>>(&out[..len]).unwrap(), refused);
        assert_eq!(Refuse::at(3, "no").to_string(), "no (column 3)");
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error() {
        let mut out = [0; 4];
        assert!(matches!(encode(&Done {}, &mut out), Ok(1)));
        assert!(matches!(encode(&Refuse::new("long"), &mut out), Err(ControlError::TooLong(4))));
        assert!(matches!(decode::<ReleaseRequest>(&[0xc1]), Err(ControlError::Malformed(_))));
    }

    #[test]
    fn wasm_expressions() {
        assert_eq!(split_wasm_expression("wasm:region-filter(hz)"), Some(("region-filter", "hz")));
        assert_eq!(split_wasm_expression("  wasm:f ( a, (b) ) "), Some(("f", "a, (b)")));
        assert_eq!(split_wasm_expression("wasm:f"), Some(("f", "")));
        assert_eq!(split_wasm_expression("wasm:f()"), Some(("f", "")));
        assert_eq!(split_wasm_expression("wasm:f(a"), None);
        assert_eq!(split_wasm_expression("wasm:(a)"), None);
        assert_eq!(split_wasm_expression("wasm:a b(c)"), None);
        assert_eq!(split_wasm_expression("a > 5"), None);
    }

    #[test]
    fn ops_have_stable_numbers() {
        let numbers = [Op::Describe, Op::Configure, Op::Prepare, Op::Release, Op::SelfTest].map(Op::number);
        assert_eq!(numbers, [1, 2, 3, 4, 8]);
        assert_eq!(Op::from_number(8), Some(Op::SelfTest));
        assert_eq!(Op::from_number(5), None);
    }
}
