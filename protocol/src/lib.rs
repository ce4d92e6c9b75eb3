//! RocketMQ's remoting protocol as pure functions over bytes: frames, commands, headers, bodies and the stored record.
//! Every other crate of the workspace reads and writes the wire through here. No I/O, no clock, no async, no unsafe:
//! what comes in is a byte slice, what goes out is a value or an error that names what is wrong.

pub mod body;
pub mod code;
mod codec;
pub mod command;
pub mod frame;
pub mod header;
pub mod java_json;
pub mod message;
pub mod name;

pub use code::{RequestCode, ResponseCode};
pub use command::{Command, HeadWriter, RemotingCommand, SERVER_VERSION};
pub use frame::{FRAME_BYTES_MAX, FrameBounds, HeaderKind};
