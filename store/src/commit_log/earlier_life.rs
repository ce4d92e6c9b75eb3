//! Telling records of an earlier life from the log's own. RocketMQ's broker ends a damaged log before the damage and
//! leaves whole records behind; what it appends then may end exactly where one of them begins. Used by `recovery` on
//! folders that another broker wrote to last.
//! What must hold: a record that was stored last is never taken for one of an earlier life, even when the clock was set
//! back: a time that is too early is a suspicion, and only a place in its queue that is taken already proves it.

use std::collections::HashMap;

use waspmq_protocol::message::flags;
use waspmq_protocol::message::record::RecordView;

use super::recovery::Scanned;

/// What was seen of the log so far.
#[derive(Debug, Default)]
pub(crate) struct EarlierLife {
    /// The newest store time, ms.
    newest_ms: i64,
    /// One past the last offset of each queue.
    ends: HashMap<Box<str>, HashMap<i32, i64>>,
    /// How far the scan had come when times began to be too early.
    suspected: Option<Scanned>,
    proven: bool,
}

impl EarlierLife {
    /// The next record of the log; `scanned` is what comes before it.
    pub(crate) fn look_at(&mut self, record: &RecordView<'_>, scanned: &Scanned) {
        let ms = record.store_timestamp();
        if ms >= self.newest_ms {
            (self.newest_ms, self.suspected) = (ms, None);
        } else if self.suspected.is_none() {
            self.suspected = Some(scanned.clone());
        }
        if !flags::is_queued(record.sys_flag()) {
            // Its queue offset means nothing.
            return;
        }
        self.proven |= self.is_taken(record) && self.suspected.is_some();
    }

    /// Notes the record's place in its queue; answers whether that had been given out before.
    fn is_taken(&mut self, record: &RecordView<'_>) -> bool {
        let (queue, offset) = (record.queue_id(), record.queue_offset());
        let Some(queues) = self.ends.get_mut(record.topic()) else {
            self.ends.insert(record.topic().into(), HashMap::from([(queue, offset + 1)]));
            return false;
        };
        let end = queues.entry(queue).or_insert(0);
        let taken = offset < *end;
        *end = (*end).max(offset + 1);
        taken
    }

    /// What the log holds without the records of an earlier life, if there are any for certain.
    pub(crate) fn proven(&self) -> Option<&Scanned> {
        self.suspected.as_ref().filter(|_| self.proven)
    }
}
