//! Connections that speak RocketMQ's remoting protocol, on tokio sockets: a server, a client, and what both share.
//! Knows frames, opaque numbers, byte budgets and deadlines; knows nothing of what a request means and never touches a disk.
//! One task owns one connection: it reads up to 128 KiB at once, hands every complete frame of that read to the
//! [`Handler`] in one call, and writes all answers with one vectored write.

mod batch;
mod budget;
mod client;
mod connection;
mod driver;
mod handler;
mod intake;
mod limits;
mod metrics;
mod net;
mod replies;
mod responder;
mod server;

pub use batch::Batch;
pub use client::{Client, ClientConfig};
pub use connection::{Connection, RequestError};
pub use handler::{Handler, RefuseAll};
pub use limits::Limits;
pub use metrics::{CloseReason, Metrics};
pub use replies::{Replies, ReplyTo};
pub use responder::{LateAnswers, Responder};
pub use server::{BindError, DrainReport, Server, ServerConfig};
