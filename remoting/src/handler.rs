//! What a connection asks of whoever gives requests their meaning: the broker, the nameserver, or a client's own side.

use std::sync::Arc;

use waspmq_protocol::{RemotingCommand, ResponseCode};

use crate::batch::Batch;
use crate::connection::Connection;
use crate::replies::{Replies, ReplyTo};

/// Gives requests their meaning.
pub trait Handler: Send + Sync + 'static {
    /// Handles the complete requests that one read brought, in the order they arrived; a batch may be empty.
    ///
    /// Called on the connection's own task, so it must not block. Answers that are ready go into `replies`, which is
    /// written when this returns; for a later answer take [`Connection::responder`]. Every request that is not one-way
    /// must get exactly one of the two. Requests left in the batch are handed over again. A panic closes this
    /// connection and no other.
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies);

    /// The connection is gone: forget what was kept for it. Called once for each connection, after its last `handle`.
    fn closed(&self, connection: &Arc<Connection>) {
        let _ = connection;
    }
}

/// A handler for sides that serve nothing: every request is answered as not supported.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefuseAll;

impl Handler for RefuseAll {
    fn handle(&self, _: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        while let Some(request) = requests.next_request() {
            // The leading space is what the clients' own broker answers.
            let remark = format!(" request type {} not supported", request.code);
            let reply = RemotingCommand::response(ResponseCode::REQUEST_CODE_NOT_SUPPORTED).with_remark(remark);
            replies.push(ReplyTo::of(request), reply);
        }
    }
}
