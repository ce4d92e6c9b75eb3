//! The right, and the duty, to answer requests later: a held pull, the sends of one read that wait for the disk.
//! Made by a `Connection`; may be moved to any thread. Exactly one answer to each leaves, whatever happens to it.

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
        self.connection.release(1, |replies| {
            if !to.oneway {
                write(replies, to);
            }
        });
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(|replies, to| replies.push(to, dropped()));
        }
    }
}

/// Answers several requests of one connection at once: its task is woken once for all of them, and writes them together.
/// `T` is what an answer will be made of. Those not answered when it is dropped get SYSTEM_ERROR.
#[derive(Debug)]
#[must_use = "dropping it answers SYSTEM_ERROR"]
pub struct LateAnswers<T> {
    connection: Arc<Connection>,
    waiting: Vec<(ReplyTo, T)>,
}

impl<T> LateAnswers<T> {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, waiting: Vec::new() }
    }

    /// One more request will be answered, by what is made of `part`.
    pub fn push(&mut self, to: ReplyTo, part: T) {
        self.connection.hold();
        self.waiting.push((to, part));
    }

    /// Lets `write` put each answer into the connection's queue, in the order of the requests. Not called for one-way ones.
    /// A connection that has gone meanwhile swallows them.
    pub fn send(mut self, write: impl FnMut(&mut Replies, ReplyTo, T)) {
        self.answer(write);
    }

    fn answer(&mut self, mut write: impl FnMut(&mut Replies, ReplyTo, T)) {
        let waiting = std::mem::take(&mut self.waiting);
        self.connection.release(waiting.len(), |replies| {
            for (to, part) in waiting.into_iter().filter(|(to, _)| !to.oneway) {
                write(replies, to, part);
            }
        });
    }
}

impl<T> Drop for LateAnswers<T> {
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            self.answer(|replies, to, _| replies.push(to, dropped()));
        }
    }
}

fn dropped() -> RemotingCommand {
    RemotingCommand::response(ResponseCode::SYSTEM_ERROR)
        .with_remark("the request was dropped without an answer; this is a defect of the broker")
}
