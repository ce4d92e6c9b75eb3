//! Messages by key, unique id or place in the log: QUERY_MESSAGE (12) and VIEW_MESSAGE_BY_ID (33).

use std::sync::Arc;

use bytes::Bytes;
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{Command, CommandHeader, RemotingCommand};
use waspmq_protocol::header::{QueryMessageRequestHeader, ViewMessageRequestHeader};
use waspmq_remoting::{Replies, ReplyTo};
use waspmq_store::{KeyQuery, MessageStore, PhysicalOffset};

use super::refusal::Refusal;

/// A query for a unique id looks at so many messages whatever the client asks (`defaultQueryMaxNum`).
const UNIQUE_KEY_MESSAGES_MAX: usize = 32;

/// No query returns more messages (`maxMsgsNumBatch`).
const MESSAGES_MAX: usize = 64;

/// Finds messages.
pub struct QueryMessages {
    /// Where they are.
    pub store: Arc<MessageStore>,
}

impl QueryMessages {
    /// QUERY_MESSAGE. The index knows keys by their hash: the client compares the keys themselves.
    ///
    /// # Errors
    /// When the header is incomplete or the store cannot be read. That nothing is found is an answer like others: it says
    /// how far the index is.
    pub fn by_key(&self, command: &Command<'_>, replies: &mut Replies) -> Result<(), Refusal> {
        let header = QueryMessageRequestHeader::decode(&command.ext)?;
        let unique = command.ext.get("_UNIQUE_KEY_QUERY").is_some_and(|value| value.eq_str("true"));
        let wanted = usize::try_from(header.max_num).unwrap_or(0);
        let query = KeyQuery {
            topic: &header.topic,
            key: &header.key,
            count_max: if unique { UNIQUE_KEY_MESSAGES_MAX } else { wanted.min(MESSAGES_MAX) },
            begin_ms: header.begin_timestamp,
            end_ms: header.end_timestamp,
        };
        let found = self.store.query(&query)?;
        let nothing = found.records.is_empty();
        let code = if nothing { ResponseCode::QUERY_NOT_FOUND } else { ResponseCode::SUCCESS };
        let Some(head) = replies.reply(ReplyTo::of(command), code) else { return Ok(()) };
        let head = head
            .ext_i64("indexLastUpdateTimestamp", found.index_last_update_timestamp)
            .ext_i64("indexLastUpdatePhyoffset", found.index_last_update_physical_offset.0);
        let head = if nothing { head.remark("can not find message, maybe time range not correct") } else { head };
        head.finish(found.records.iter().map(Bytes::len).sum());
        for record in found.records {
            replies.push_body(record);
        }
        Ok(())
    }

    /// VIEW_MESSAGE_BY_ID.
    ///
    /// # Errors
    /// When no message starts at that offset.
    pub fn by_offset(&self, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
        let offset = ViewMessageRequestHeader::decode(&command.ext)?.offset;
        match self.store.record_at(PhysicalOffset(offset))? {
            Some(record) => Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(record)),
            None => {
                let remark = format!("can not find message by the offset, {offset}");
                Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark))
            }
        }
    }
}
