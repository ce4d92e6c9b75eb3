//! SEND_MESSAGE (10), SEND_MESSAGE_V2 (310) and SEND_BATCH_MESSAGE (320): the checks of a send in RocketMQ's order,
//! then one append for everything that one socket read brought, then the answers.
//! Called by the router on the connection's task; nothing here waits.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::Command;
use waspmq_protocol::header::SendMessageHeader;
use waspmq_protocol::message::batch;
use waspmq_protocol::message::id::OffsetMessageId;
use waspmq_remoting::{Connection, Replies, ReplyTo};
use waspmq_store::clock::Clock;
use waspmq_store::{Append, AppendError, Appended, FlushMode, Item, Items, MessageStore};

use super::durability::AwaitedSends;
use super::refusal::Refusal;
use super::send_properties::{BrokerEntries, SendProperties};
use super::send_reply::{ReplyMarks, SentReply};
use super::send_target::{SendTargets, Target};
use crate::unique_id::UniqueIds;

/// Characters of an offset message id of an IPv6 broker, with the comma that may follow.
const OFFSET_ID_CHARS: usize = 57;

/// Appends what producers send.
pub struct SendMessages {
    /// Where messages go.
    pub store: Arc<MessageStore>,
    /// Which queue a send may go to.
    pub targets: SendTargets,
    /// What is added to every message.
    pub entries: BrokerEntries,
    /// Ids for messages that come without one.
    pub unique_ids: UniqueIds,
    /// What every answer says of the region and of tracing.
    pub reply_marks: Arc<ReplyMarks>,
    /// For deadlines.
    pub clock: Arc<dyn Clock>,
    /// How long an answer waits for the disk with SYNC_FLUSH.
    pub sync_flush_timeout: Duration,
}

/// The sends of one socket read: checked, not yet appended.
#[derive(Default)]
pub struct SendBatch<'a> {
    pending: Vec<Pending<'a>>,
    /// Property blocks, back to back.
    arena: Vec<u8>,
    /// Items of client batches, back to back: body and where the item's properties are.
    items: Vec<BatchItem<'a>>,
}

/// One checked send: what the append and the answer need, no more, since these are moved about.
struct Pending<'a> {
    to: ReplyTo,
    body: &'a [u8],
    target: Target,
    properties: SendProperties,
    /// Range in `SendBatch::items`; empty for a single message.
    items: Range<usize>,
    flag: i32,
    sys_flag: i32,
    born_timestamp: i64,
    reconsume_times: i32,
}

struct BatchItem<'a> {
    flag: i32,
    body: &'a [u8],
    properties: Range<usize>,
}

impl SendMessages {
    /// Checks one send and puts it into the batch, or answers why not.
    pub fn admit<'a>(&self, command: &Command<'a>, batch: &mut SendBatch<'a>, replies: &mut Replies) {
        let (arena, items) = (batch.arena.len(), batch.items.len());
        match self.check(command, batch) {
            Ok(pending) => batch.pending.push(pending),
            Err(refusal) => {
                batch.arena.truncate(arena);
                batch.items.truncate(items);
                replies.push(ReplyTo::of(command), refusal.into_response());
            }
        }
    }

    fn check<'a>(&self, command: &Command<'a>, batch: &mut SendBatch<'a>) -> Result<Pending<'a>, Refusal> {
        let header = SendMessageHeader::decode(command.request_code(), &command.ext)?;
        if command.body.is_empty() {
            return Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, "the message has no body; send at least one byte"));
        }
        let start = batch.arena.len();
        if let Some(text) = &header.properties {
            text.unescape_into(&mut batch.arena);
        }
        let properties = self.entries.complete(&mut batch.arena, start, || self.unique_ids.next());
        let target = self.targets.find(&header, &properties, command.version)?;
        let first_item = batch.items.len();
        if header.batch {
            self.take_items(command.body, batch)?;
        }
        Ok(Pending {
            to: ReplyTo::of(command),
            body: command.body,
            target,
            properties,
            items: first_item..batch.items.len(),
            flag: header.flag,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            reconsume_times: header.reconsume_times,
        })
    }

    /// Unpacks a client batch: every message gets the broker's entries behind its own.
    fn take_items<'a>(&self, body: &'a [u8], batch: &mut SendBatch<'a>) -> Result<(), Refusal> {
        let first = batch.items.len();
        for item in batch::items(body) {
            let item = item.map_err(|error| Refusal::new(ResponseCode::MESSAGE_ILLEGAL, error.to_string()))?;
            let start = batch.arena.len();
            batch.arena.extend_from_slice(item.properties);
            let properties = self.entries.complete(&mut batch.arena, start, || self.unique_ids.next());
            batch.items.push(BatchItem { flag: item.flag, body: item.body, properties: properties.block });
        }
        if batch.items.len() == first {
            return Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, "the batch holds no message"));
        }
        Ok(())
    }

    /// Appends the batch under one lock and answers every send in it.
    pub fn complete(&self, connection: &Arc<Connection>, batch: &mut SendBatch<'_>, replies: &mut Replies) {
        if batch.pending.is_empty() {
            return;
        }
        let mut results: Vec<Result<Appended, AppendError>> = Vec::with_capacity(batch.pending.len());
        {
            let arena = &batch.arena;
            let items: Vec<Item<'_>> = batch.items.iter().map(|item| item.as_stored(arena)).collect();
            let appends: SmallVec<[Append<'_>; 64]> =
                batch.pending.iter().map(|pending| pending.as_append(connection, arena, &items)).collect();
            self.store.append(&appends, &mut results);
        }
        let mut ids = String::with_capacity(OFFSET_ID_CHARS);
        let mut awaited = None;
        for (pending, result) in batch.pending.iter().zip(&results) {
            match result {
                Ok(appended) => {
                    self.write_ids(appended, &mut ids);
                    self.answer(connection, (pending, batch), (appended, &ids), &mut awaited, replies);
                }
                Err(error) => replies.push(pending.to, Refusal::from(error).into_response()),
            }
        }
        if let Some(awaited) = awaited {
            let deadline = self.clock.monotonic() + self.sync_flush_timeout;
            awaited.answer_when_durable(&self.store, deadline, &self.reply_marks);
        }
        batch.pending.clear();
        batch.items.clear();
        batch.arena.clear();
    }

    /// The offset message ids of what was stored, joined by commas, in place of what was in `ids`.
    fn write_ids(&self, appended: &Appended, ids: &mut String) {
        ids.clear();
        let store_host = self.store.config().store_host;
        for offset in &appended.physical_offsets {
            if !ids.is_empty() {
                ids.push(',');
            }
            OffsetMessageId { store_host, physical_offset: offset.0 }.push_to(ids);
        }
    }

    fn answer(
        &self,
        connection: &Arc<Connection>,
        (pending, batch): (&Pending<'_>, &SendBatch<'_>),
        (appended, ids): (&Appended, &str),
        awaited: &mut Option<AwaitedSends>,
        replies: &mut Replies,
    ) {
        let unique_key = std::str::from_utf8(&batch.arena[pending.properties.unique_key.clone()]).ok();
        // A key that was made for a whole batch is on none of its messages.
        let transaction_id = unique_key.filter(|_| pending.items.is_empty() || !pending.properties.key_made);
        let sent = SentReply {
            message_ids: ids,
            queue_id: pending.target.queue_id,
            queue_offset: appended.first_queue_offset.0,
            transaction_id,
            marks: &self.reply_marks,
        };
        if self.store.config().flush == FlushMode::Sync && !pending.properties.no_wait {
            let awaited = awaited.get_or_insert_with(|| AwaitedSends::new(connection));
            awaited.push(pending.to, &sent, appended.end);
        } else if let Some(head) = replies.reply(pending.to, ResponseCode::SUCCESS) {
            sent.write(head);
        }
    }
}

impl BatchItem<'_> {
    fn as_stored<'s>(&'s self, arena: &'s [u8]) -> Item<'s> {
        Item { flag: self.flag, body: self.body, properties: &arena[self.properties.clone()] }
    }
}

impl Pending<'_> {
    fn as_append<'s>(&'s self, connection: &Connection, arena: &'s [u8], items: &'s [Item<'s>]) -> Append<'s> {
        let items = if self.items.is_empty() {
            let properties = &arena[self.properties.block.clone()];
            Items::One(Item { flag: self.flag, body: self.body, properties })
        } else {
            Items::Batch(&items[self.items.clone()])
        };
        Append {
            queue: &self.target.queue,
            born_host: connection.peer(),
            items,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            reconsume_times: self.reconsume_times,
            prepared_transaction_offset: 0,
            wait_durable: !self.properties.no_wait,
        }
    }
}
