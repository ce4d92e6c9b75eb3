//! Answers that wait for the disk: with SYNC_FLUSH a send is answered when its end of the log is durable, or with
//! FLUSH_DISK_TIMEOUT when that took too long. The store tells; nothing waits here.
//! The sends of one read wait, and are answered, together: one by one, the connection would be woken for the first of them
//! and write it alone, and its client would send the next one alone.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use waspmq_protocol::code::ResponseCode;
use waspmq_remoting::{Connection, LateAnswers, Replies, ReplyTo};
use waspmq_store::{Durability, MessageStore, PhysicalOffset};

use super::refusal::Refusal;
use super::send_reply::{ReplyMarks, SentReply};

/// Sends of one read that are appended and not yet answered.
pub struct AwaitedSends {
    answers: LateAnswers<Sent>,
    /// Message ids and transaction ids, back to back.
    texts: String,
    /// Where the last of them ends in the log.
    end: PhysicalOffset,
}

/// What an answer needs; texts are ranges of `AwaitedSends::texts`.
struct Sent {
    message_ids: Range<usize>,
    queue_id: i32,
    queue_offset: i64,
    transaction_id: Option<Range<usize>>,
}

impl AwaitedSends {
    /// None yet.
    pub fn new(connection: &Arc<Connection>) -> Self {
        Self { answers: connection.late_answers(), texts: String::new(), end: PhysicalOffset(0) }
    }

    /// One more, whose last message ends at `end`.
    pub fn push(&mut self, to: ReplyTo, sent: &SentReply<'_>, end: PhysicalOffset) {
        let mut keep = |text: &str| {
            let start = self.texts.len();
            self.texts.push_str(text);
            start..self.texts.len()
        };
        let sent = Sent {
            message_ids: keep(sent.message_ids),
            queue_id: sent.queue_id,
            queue_offset: sent.queue_offset,
            transaction_id: sent.transaction_id.map(keep),
        };
        self.answers.push(to, sent);
        self.end = self.end.max(end);
    }

    /// Answers them once all are on the disk, at `deadline` at the latest.
    pub fn answer_when_durable(self, store: &MessageStore, deadline: Duration, marks: &Arc<ReplyMarks>) {
        let marks = Arc::clone(marks);
        store.when_durable(self.end, deadline, Box::new(move |durability| self.answer(&durability, &marks)));
    }

    fn answer(self, durability: &Durability, marks: &ReplyMarks) {
        let Self { answers, texts, .. } = self;
        let stored = |replies: &mut Replies, to, code, sent: Sent| {
            let Some(head) = replies.reply(to, code) else { return };
            let sent = SentReply {
                message_ids: &texts[sent.message_ids],
                queue_id: sent.queue_id,
                queue_offset: sent.queue_offset,
                transaction_id: sent.transaction_id.map(|range| &texts[range]),
                marks,
            };
            sent.write(head);
        };
        match durability {
            Durability::Durable => {
                answers.send(|replies, to, sent| stored(replies, to, ResponseCode::SUCCESS, sent));
            }
            // Stored, but not known to be on disk: the client reports FLUSH_DISK_TIMEOUT with the same fields.
            Durability::TimedOut => {
                answers.send(|replies, to, sent| stored(replies, to, ResponseCode::FLUSH_DISK_TIMEOUT, sent));
            }
            Durability::Failed { reason } => {
                let remark = format!("the message could not be put on the disk: {reason}");
                let refusal = Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, remark);
                answers.send(|replies, to, _| replies.push(to, refusal.clone().into_response()));
            }
        }
    }
}
