//! The answer to a stored send: where the message lies. Written straight into the connection's buffer.

use waspmq_protocol::command::HeadWriter;

/// The ext fields that stand in every answer to a send.
pub struct ReplyMarks {
    /// `MSG_REGION`.
    pub region: String,
    /// `TRACE_ON`.
    pub trace_on: &'static str,
}

/// The answer to a stored send.
pub struct SentReply<'a> {
    /// Offset message ids, joined by commas for a batch.
    pub message_ids: &'a str,
    /// The queue that took the message.
    pub queue_id: i32,
    /// Queue offset of the (first) message.
    pub queue_offset: i64,
    /// The message's unique key; of a batch, the one that the client gave the whole of it, if it did.
    pub transaction_id: Option<&'a str>,
    /// Region and trace switch.
    pub marks: &'a ReplyMarks,
}

impl SentReply<'_> {
    /// Completes a head with the fields of this answer.
    pub fn write(&self, head: HeadWriter<'_>) {
        let mut head = head
            .ext_str("msgId", self.message_ids)
            .ext_i64("queueId", i64::from(self.queue_id))
            .ext_i64("queueOffset", self.queue_offset);
        if let Some(id) = self.transaction_id {
            head = head.ext_str("transactionId", id);
        }
        head.ext_str("MSG_REGION", &self.marks.region).ext_str("TRACE_ON", self.marks.trace_on).finish(0);
    }
}
