//! Headers of transactions: the end of one (37), the broker's question about one (39), resuming checks (323), and
//! recalling a timer message (370).

use super::headers;

headers! {
    /// END_TRANSACTION (37).
    pub struct EndTransactionRequestHeader {
        /// The real topic; sent by 5.3 and later.
        topic: Option<String> => "topic",
        /// Producer group of the half message.
        producer_group: String => "producerGroup",
        /// Queue offset of the half message.
        tran_state_table_offset: i64 => "tranStateTableOffset",
        /// Physical offset of the half message.
        commit_log_offset: i64 => "commitLogOffset",
        /// 8 commit, 12 roll back, 0 not known yet.
        commit_or_rollback: i32 => "commitOrRollback",
        /// Whether this answers the broker's check.
        from_transaction_check: bool => "fromTransactionCheck" or false,
        /// Unique id of the message.
        msg_id: Option<String> => "msgId",
        /// Unique id of the message.
        transaction_id: Option<String> => "transactionId",
        /// Name of the broker that is meant.
        broker_name: Option<String> => "bname",
    }

    /// CHECK_TRANSACTION_STATE (39), broker to client.
    pub struct CheckTransactionStateRequestHeader {
        /// The real topic.
        topic: Option<String> => "topic",
        /// Queue offset of the half message.
        tran_state_table_offset: i64 => "tranStateTableOffset",
        /// Physical offset of the half message.
        commit_log_offset: i64 => "commitLogOffset",
        /// Unique id of the message.
        msg_id: Option<String> => "msgId",
        /// Unique id of the message.
        transaction_id: Option<String> => "transactionId",
        /// Offset message id of the half message.
        offset_msg_id: Option<String> => "offsetMsgId",
        /// Name of the asking broker.
        broker_name: Option<String> => "bname",
    }

    /// RESUME_CHECK_HALF_MESSAGE (323).
    pub struct ResumeCheckHalfMessageRequestHeader {
        /// The real topic.
        topic: Option<String> => "topic",
        /// Offset message id of the half message.
        msg_id: Option<String> => "msgId",
    }

    /// RECALL_MESSAGE (370).
    pub struct RecallMessageRequestHeader {
        /// Producer group.
        producer_group: Option<String> => "producerGroup",
        /// Topic.
        topic: String => "topic",
        /// The handle that the send's answer gave.
        recall_handle: String => "recallHandle",
    }

    /// Answer to RECALL_MESSAGE.
    pub struct RecallMessageResponseHeader {
        /// Unique id of the recalled message.
        msg_id: String => "msgId",
    }
}
