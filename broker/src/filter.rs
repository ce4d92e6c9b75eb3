//! From a subscription to a filter: every expression is prepared by a plugin once and asked on every pull.
//! This is the seam between the store, which knows entries and records, and the plugins, which know neither.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;
use waspmq_plugin_host::{
    Decision, EntryRef, FilterHandle, FilterSession, PluginHost, PrepareError, RecordRef, SubscriptionText,
};
use waspmq_protocol::body::subscription_data::{ALL, SubscriptionData, TAG};
use waspmq_store::{FilterRecord, MessageFilter, QueueEntry, Verdict};

/// At most so many filters of pulls that carry their own subscription are kept ready.
const RECENT_MAX: usize = 1_024;

/// So much of a refused expression is repeated to its author.
const SHOWN_CHARS_MAX: usize = 200;

/// The store asks for verdicts on at most so many entries at once.
const BATCH_MAX: usize = 32;

/// What preparing a subscription gave.
#[derive(Clone)]
pub enum PreparedFilter {
    /// Every message is wanted.
    All,
    /// A plugin decides.
    Plugin(Arc<FilterHandle>),
    /// No filter could be made; the reason goes to whoever pulls.
    Refused(Arc<str>),
}

/// Makes filters and keeps those of recent pulls.
pub struct Filters {
    host: Arc<PluginHost>,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    by_text: HashMap<RecentKey, (u64, PreparedFilter)>,
    clock: u64,
}

#[derive(PartialEq, Eq, Hash)]
struct RecentKey {
    topic: String,
    expression_type: String,
    expression: String,
}

impl Filters {
    /// Filters decided by the plugins of this host.
    pub fn new(host: Arc<PluginHost>) -> Self {
        Self { host, recent: Mutex::default() }
    }

    /// Prepares what a heartbeat subscribes to.
    pub fn prepare(&self, group: &str, subscription: &SubscriptionData) -> PreparedFilter {
        let expression_type = if subscription.is_tag_filter() { TAG } else { &subscription.expression_type };
        self.prepare_text(group, &subscription.topic, expression_type, &subscription.sub_string)
    }

    /// Prepares what a pull brings along. The same text is prepared once, not on every pull.
    pub fn prepare_for_pull(
        &self,
        group: &str,
        topic: &str,
        expression_type: &str,
        expression: &str,
    ) -> PreparedFilter {
        let expression_type = if expression_type.is_empty() { TAG } else { expression_type };
        if is_everything(expression_type, expression) {
            return PreparedFilter::All;
        }
        let key = RecentKey {
            topic: topic.to_owned(),
            expression_type: expression_type.to_owned(),
            expression: expression.to_owned(),
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.clock += 1;
        let now = recent.clock;
        if let Some((used, filter)) = recent.by_text.get_mut(&key) {
            *used = now;
            return filter.clone();
        }
        drop(recent);
        let filter = self.prepare_text(group, topic, expression_type, expression);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.by_text.len() >= RECENT_MAX {
            let kept_after = now.saturating_sub(RECENT_MAX as u64 / 2);
            recent.by_text.retain(|_, (used, _)| *used > kept_after);
        }
        if !matches!(filter, PreparedFilter::Refused(_)) && recent.by_text.len() < RECENT_MAX {
            recent.by_text.insert(key, (now, filter.clone()));
        }
        filter
    }

    fn prepare_text(&self, group: &str, topic: &str, expression_type: &str, expression: &str) -> PreparedFilter {
        if is_everything(expression_type, expression) {
            return PreparedFilter::All;
        }
        let text = SubscriptionText {
            topic: topic.to_owned(),
            group: group.to_owned(),
            expression_type: expression_type.to_owned(),
            expression: expression.to_owned(),
        };
        match self.host.prepare(text) {
            Ok(handle) => PreparedFilter::Plugin(Arc::new(handle)),
            Err(error) => PreparedFilter::Refused(refusal_text(expression, &error).into()),
        }
    }
}

/// What a user reads of an expression that cannot be used: where it is wrong, why, and the expression itself.
fn refusal_text(expression: &str, error: &PrepareError) -> String {
    let shown: String = expression.chars().take(SHOWN_CHARS_MAX).collect();
    let cut = if shown.len() < expression.len() { "…" } else { "" };
    match error.position {
        Some(column) => format!("{} (column {column} of: {shown}{cut})", error.message),
        None => format!("{} (in: {shown}{cut})", error.message),
    }
}

/// A tag subscription to everything needs no filter: there is nothing to decide.
fn is_everything(expression_type: &str, expression: &str) -> bool {
    expression_type == TAG && matches!(expression.trim(), "" | ALL)
}

/// The filter of one pull: its plugin set is pinned until it is dropped.
pub struct PluginFilter {
    session: FilterSession,
    decisions: [Decision; BATCH_MAX],
}

impl PluginFilter {
    /// Pins the plugins for one pull. `None` when every message is wanted.
    pub fn begin(handle: &FilterHandle) -> Option<Self> {
        let session = handle.session();
        (!session.keeps_all()).then(|| Self { session, decisions: [Decision::CannotSay; BATCH_MAX] })
    }
}

impl MessageFilter for PluginFilter {
    fn by_entry(&mut self, entries: &[QueueEntry], verdicts: &mut [Verdict]) {
        for (entries, verdicts) in entries.chunks(BATCH_MAX).zip(verdicts.chunks_mut(BATCH_MAX)) {
            let batch: SmallVec<[EntryRef; BATCH_MAX]> = entries.iter().map(entry_ref).collect();
            let decisions = &mut self.decisions[..entries.len()];
            self.session.by_entries(&batch, decisions);
            copy_verdicts(decisions, verdicts);
        }
    }

    fn by_record(&mut self, records: &[FilterRecord<'_>], verdicts: &mut [Verdict]) {
        for (records, verdicts) in records.chunks(BATCH_MAX).zip(verdicts.chunks_mut(BATCH_MAX)) {
            let batch: SmallVec<[RecordRef<'_>; BATCH_MAX]> = records.iter().map(record_ref).collect();
            let decisions = &mut self.decisions[..records.len()];
            self.session.by_records(&batch, decisions);
            copy_verdicts(decisions, verdicts);
        }
    }
}

fn entry_ref(entry: &QueueEntry) -> EntryRef {
    EntryRef {
        queue_offset: entry.queue_offset.0,
        physical_offset: entry.physical_offset.0,
        tags_code: entry.tags_code,
    }
}

fn record_ref<'r>(FilterRecord { entry, record }: &FilterRecord<'r>) -> RecordRef<'r> {
    RecordRef {
        queue_offset: entry.queue_offset.0,
        physical_offset: entry.physical_offset.0,
        born_ms: record.born_timestamp(),
        store_ms: record.store_timestamp(),
        tags_code: entry.tags_code,
        sys_flag: record.sys_flag(),
        queue_id: record.queue_id(),
        reconsume: record.reconsume_times(),
        flag: record.flag(),
        properties: record.properties(),
        body: record.body(),
    }
}

fn copy_verdicts(decisions: &[Decision], verdicts: &mut [Verdict]) {
    for (verdict, decision) in verdicts.iter_mut().zip(decisions) {
        *verdict = match decision {
            Decision::Keep => Verdict::Keep,
            Decision::Drop => Verdict::Drop,
            Decision::NeedRecord => Verdict::NeedRecord,
            Decision::CannotSay => Verdict::CannotSay,
        };
    }
}
