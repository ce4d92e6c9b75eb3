//! The right, and the duty, to answer one request later: a held pull, a send that waits for the disk.
//! Made by `Connection::responder`; may be moved to any thread. Exactly one answer leaves, whatever happens to it.

use std::sync::Arc;

use waspmq_protocol::{RemotingCommand, ResponseCode};

use crate::connection::Connection;
use crate::replies::{Replies, ReplyTo};

/// Answers one request, once. Dropped without an answer, it answers SYSTEM_ERROR itself; for a one-way request it sends nothing.
#[derive(Debug)]
#[must_use = "dropping it answers SYSTEM_ERROR"]
pub struct Responder {
    connection: Arc<Connection>,
    to: ReplyTo,
    answered: bool,
}

impl Responder {
    pub(crate) fn new(connection: Arc<Connection>, to: ReplyTo) -> Self {
        connection.hold();
        Self { connection, to, answered: false }
    }

    /// The connection the request came in on.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// What the answer will be addressed to.
    pub fn to(&self) -> ReplyTo {
        self.to
    }

    /// Sends the answer. A connection that has gone meanwhile swallows it.
    pub fn send(mut self, reply: RemotingCommand) {
        self.answer(|replies, to| replies.push(to, reply));
    }

    /// Lets `write` put the one answer into the connection's queue, as a handler would: for answers whose bodies must
    /// not be copied, or that share code with immediate ones. Not called for a one-way request.
    pub fn write(mut self, write: impl FnOnce(&mut Replies, ReplyTo)) {
        self.answer(write);
    }

    fn answer(&mut self, write: impl FnOnce(&mut Replies, ReplyTo)) {
        self.answered = true;
        let to = self.to;
        self.connection.release(|replies| {
            if !to.oneway {
                write(replies, to);
            }
        });
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            let reply = RemotingCommand::response(ResponseCode::SYSTEM_ERROR)
                .with_remark("the request was dropped without an answer; this is a defect of the broker");
            self.answer(|replies, to| replies.push(to, reply));
        }
    }
}
