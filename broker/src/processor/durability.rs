//! Answers that wait for the disk: with SYNC_FLUSH a send is answered when its end of the log is durable, or with
//! FLUSH_DISK_TIMEOUT when that took too long. The store tells; nothing waits here.

use std::time::Duration;

use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::RemotingCommand;
use waspmq_remoting::Responder;
use waspmq_store::{Durability, MessageStore, PhysicalOffset};

use super::refusal::Refusal;

/// An answer held back until the message is durable.
pub struct AwaitedReply {
    /// Where it goes.
    pub responder: Responder,
    /// What it says if all is well.
    pub reply: RemotingCommand,
}

/// Sends the answer once everything before `end` is on disk.
pub fn answer_when_durable(store: &MessageStore, end: PhysicalOffset, deadline: Duration, awaited: AwaitedReply) {
    let AwaitedReply { responder, mut reply } = awaited;
    store.when_durable(
        end,
        deadline,
        Box::new(move |durability| match durability {
            Durability::Durable => responder.send(reply),
            Durability::TimedOut => {
                // Stored, but not known to be on disk: the client reports FLUSH_DISK_TIMEOUT with the same fields.
                reply.code = ResponseCode::FLUSH_DISK_TIMEOUT.0;
                responder.send(reply);
            }
            Durability::Failed { reason } => {
                let remark = format!("the message could not be put on the disk: {reason}");
                responder.send(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, remark).into_response());
            }
        }),
    );
}
