//! Settings by name, declared once: name, aliases, type, default, meaning. From one declaration come the typed
//! values, the warnings about unknown names, the printed configuration and the reference text. Pure: files are read
//! by the caller. Used by the broker and the name server, each with a table of its own.

mod declare;
mod nearest;
mod properties;
mod value;

pub use declare::{Given, Loaded, Setting, Settings, ValueError, Warning, describe, dump, find, read, unknown_names};
pub use properties::{Properties, PropertiesError};
pub use value::SettingValue;
