//! The typed headers of commands, by RocketMQ's class names, one file per family. Their structs are declared once by
//! the macro here: a field's Rust type, its name on the wire and, after `or`, what its absence means.
//! Handlers get them from `Command::header`; the two hot requests have borrowed views of their own.

mod admin;
mod client;
mod namesrv;
mod offset;
mod pop;
mod pull;
mod query;
mod send;
mod transaction;

pub use admin::*;
pub use client::*;
pub use namesrv::*;
pub use offset::*;
pub use pop::*;
pub use pull::*;
pub use query::*;
pub use send::*;
pub use transaction::*;

/// Declares headers. `name: Type => "wire name"` is required unless the type is an `Option`;
/// `name: Type => "wire name" or value` takes the value when the field is absent.
macro_rules! headers {
    ($(
        $(#[$about:meta])*
        pub struct $header:ident {
            $($(#[$field_about:meta])* $field:ident: $type:ty => $wire:literal $(or $default:expr)?,)*
        }
    )+) => { $(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $header {
            $($(#[$field_about])* pub $field: $type,)*
        }

        impl $crate::command::CommandHeader for $header {
            fn decode(ext: &$crate::command::ExtFields<'_>) -> Result<Self, $crate::command::HeaderError> {
                let _ = ext;
                Ok(Self { $($field: $crate::header::headers!(@read ext, $wire $(, $default)?),)* })
            }

            fn encode(&self, put: &mut dyn FnMut(&'static str, std::borrow::Cow<'_, str>)) {
                let _ = &put;
                $(if let Some(value) = $crate::command::FieldValue::write(&self.$field) {
                    put($wire, value);
                })*
            }
        }
    )+ };
    (@read $ext:ident, $wire:literal) => { $crate::command::required($ext, $wire)? };
    (@read $ext:ident, $wire:literal, $default:expr) => {
        $crate::command::present($ext, $wire)?.unwrap_or_else(|| $default)
    };
}
use headers;

headers! {
    /// For commands without fields of their own.
    pub struct NoHeader {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::RequestCode;
    use crate::command::{CommandHeader, ExtFields, HeaderError, RemotingCommand};

    #[test]
    fn fields_go_out_and_come_back() {
        let header = QueryConsumerOffsetRequestHeader {
            consumer_group: "CG".into(),
            topic: "T".into(),
            queue_id: 3,
            set_zero_if_not_found: Some(false),
        };
        let command = RemotingCommand::request(RequestCode::QUERY_CONSUMER_OFFSET, &header);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            command.ext,
            [pair("consumerGroup", "CG"), pair("topic", "T"), pair("queueId", "3"), pair("setZeroIfNotFound", "false"),]
        );
        assert_eq!(command.header(), Ok(header));
        assert_eq!(RemotingCommand::request(RequestCode::HEART_BEAT, &NoHeader {}).ext, []);
    }

    #[test]
    fn absent_and_wrong_fields_are_named() {
        let decode = |pairs: &[(&str, &str)]| {
            let ext: ExtFields<'_> = pairs.iter().copied().collect();
            GetMaxOffsetRequestHeader::decode(&ext)
        };
        assert_eq!(decode(&[("topic", "T")]), Err(HeaderError::Missing { field: "queueId" }));
        assert_eq!(decode(&[("topic", "T"), ("queueId", "")]), Err(HeaderError::Missing { field: "queueId" }));
        let error = decode(&[("topic", "T"), ("queueId", "four")]).unwrap_err();
        assert_eq!(error.to_string(), "the field \"queueId\" has the value \"four\", which is not a 32-bit number");
        let header = decode(&[("topic", "T"), ("queueId", "4"), ("unknown", "x")]).unwrap();
        assert_eq!((header.queue_id, header.committed), (4, true));
    }
}
