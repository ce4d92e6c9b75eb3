//! Commands: what a frame's header says, in two forms. [`Command`] borrows from the frame and allocates nothing for
//! ordinary requests (the broker's hot path); [`RemotingCommand`] owns its parts (clients, admin, cold paths).
//! [`HeadWriter`] writes a head straight into an output buffer. Fields and defaults are those of RocketMQ's
//! `RemotingCommand`; how they look as bytes is the business of `codec`.

mod borrowed;
mod ext_fields;
mod flags;
mod head_writer;
mod header;
mod language;
mod owned;
mod text;

pub use borrowed::{Command, DecodeError};
pub use ext_fields::{EXT_FIELDS_MAX, ExtFields};
pub use flags::Flags;
pub(crate) use head_writer::HeadStart;
pub use head_writer::HeadWriter;
pub use header::{CommandHeader, HeaderError};
pub(crate) use header::{FieldValue, present, required};
pub use language::Language;
pub use owned::RemotingCommand;
pub use text::Text;

/// The version this side gives in its frames: RocketMQ 5.3.3. Clients enable SQL92 subscriptions from 232 upward.
pub const SERVER_VERSION: i32 = 479;
