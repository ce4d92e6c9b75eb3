//! One pull's filter: pins the plugin set, takes an instance when the first call needs one, writes batches into its
//! arena, reads verdicts. Called by the broker through `FilterHandle::session`. A fault is never "no match".

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waspmq_plugin_sdk::abi::{BATCH_RECORDS, BatchError, BatchHead, BatchWriter, Decides, Hook, Record, TokenBytes};

use crate::binding::OnFault;
use crate::breaker::Admission;
use crate::generation::{Generation, Lease, LeaseError};
use crate::instance::{Bits, CALL_RECORDS_MAX, CallFault};
use crate::metrics::{Poison, SessionCounts};
use crate::shared::PluginSet;
use crate::subscription::Subscription;
use crate::tokens::tokenise;

const _: () = assert!(BATCH_RECORDS <= CALL_RECORDS_MAX);

/// What is to happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Deliver it.
    Keep,
    /// Pass it over: the plugin said so.
    Drop,
    /// The consume-queue entry is not enough: ask again with the record.
    NeedRecord,
    /// No verdict: the pull ends before it, and the consumer's offset stays there.
    CannotSay,
}

/// A consume-queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef {
    /// Place in its queue.
    pub queue_offset: i64,
    /// Place in the commit log.
    pub physical_offset: i64,
    /// Java hash of its tag, 0 without tag.
    pub tags_code: i64,
}

/// A stored message.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Place in its queue.
    pub queue_offset: i64,
    /// Place in the commit log.
    pub physical_offset: i64,
    /// When the producer made it, ms since 1970.
    pub born_ms: i64,
    /// When it was stored, ms since 1970.
    pub store_ms: i64,
    /// Java hash of its tag, 0 without tag.
    pub tags_code: i64,
    /// RocketMQ's system flag.
    pub sys_flag: i32,
    /// Queue within the topic.
    pub queue_id: i32,
    /// Times consumed before.
    pub reconsume: i32,
    /// The producer's own flag.
    pub flag: i32,
    /// The property block as stored.
    pub properties: &'a [u8],
    /// The body as stored; shown to plugins only as far as they ask.
    pub body: &'a [u8],
}

/// One pull's filter. Dropped soon: while it lives, an instance of the plugin is taken.
pub struct FilterSession {
    subscription: Arc<Subscription>,
    /// Keeps all plugins of this pull at one version.
    set: Arc<PluginSet>,
    /// `None`: no plugin serves this subscription now, or it has not prepared it.
    plugin: Option<(Arc<Generation>, Decides)>,
    on_fault: OnFault,
    admission: Admission,
    lease: Option<Lease>,
    /// No instance could be had: not tried again in this session.
    stuck: bool,
    now_ms: u64,
    counts: SessionCounts,
}

/// What is asked about.
#[derive(Clone, Copy)]
enum Batch<'a> {
    Entries(&'a [EntryRef]),
    Records(&'a [RecordRef<'a>]),
}

/// Why a batch has no answer.
enum Unanswered {
    /// The first message does not fit the plugin's arena, even alone.
    TooBig(String),
    NoInstance,
    Fault(CallFault),
}

impl FilterSession {
    pub(crate) fn new(subscription: Arc<Subscription>) -> Self {
        let set = subscription.shared.set.load_full();
        let text = &subscription.text;
        let generation = set.slots.get(&subscription.plugin).and_then(|slot| slot.resolve(&text.topic, &text.group));
        let plugin = generation
            .and_then(|generation| Some((Arc::clone(generation), generation.decides(subscription.handle())?)));
        let admission = match &plugin {
            // Keeping everything needs no call, so a failing plugin cannot stop it.
            Some((_, Decides::All)) => Admission::Serve,
            Some((generation, _)) => generation.breaker.admit(),
            None => Admission::Refuse,
        };
        // Without a plugin there is no policy either, and a missing filter must not match everything.
        let on_fault = plugin.as_ref().map_or(OnFault::Hold, |(generation, _)| generation.identity.entry.on_fault);
        Self {
            subscription,
            set,
            plugin,
            on_fault,
            admission,
            lease: None,
            stuck: false,
            now_ms: 0,
            counts: SessionCounts::default(),
        }
    }

    /// Whether every message is kept: then there is no need to ask.
    pub fn keeps_all(&self) -> bool {
        matches!(self.plugin, Some((_, Decides::All)))
    }

    /// Epoch of the plugin set that decides here; rises with every swap.
    pub fn plugin_epoch(&self) -> u64 {
        self.set.epoch
    }

    /// Decides by consume-queue entries. Both slices have the same length; every verdict is written.
    pub fn by_entries(&mut self, entries: &[EntryRef], verdicts: &mut [Decision]) {
        match self.plugin {
            Some((_, Decides::Tokens)) => verdicts.fill(Decision::NeedRecord),
            _ => self.decide(Batch::Entries(entries), verdicts),
        }
    }

    /// Decides by records. Both slices have the same length; every verdict is written, none is `NeedRecord`.
    pub fn by_records(&mut self, records: &[RecordRef<'_>], verdicts: &mut [Decision]) {
        self.decide(Batch::Records(records), verdicts);
    }

    fn decide(&mut self, batch: Batch<'_>, verdicts: &mut [Decision]) {
        let count = batch.len().min(verdicts.len());
        verdicts[count..].fill(Decision::CannotSay);
        self.counts.messages += count as u64;
        match &self.plugin {
            None => self.policy(0..count, verdicts),
            Some((_, Decides::All)) => {
                self.counts.kept += count as u64;
                verdicts[..count].fill(Decision::Keep);
            }
            Some(_) => {
                // Moved out for the call rather than counted up and down: threads share the counter.
                let plugin = self.plugin.take();
                if let Some((generation, decides)) = &plugin {
                    self.ask_all(generation, *decides, batch, verdicts);
                }
                self.plugin = plugin;
            }
        }
    }

    fn ask_all(&mut self, generation: &Arc<Generation>, decides: Decides, batch: Batch<'_>, verdicts: &mut [Decision]) {
        // By the entry alone, also when the caller has the record in hand.
        let hook = match (batch, decides) {
            (Batch::Entries(_), _) | (_, Decides::Entries) => Hook::Entries,
            _ => Hook::Records,
        };
        let count = batch.len().min(verdicts.len());
        let mut at = 0;
        while at < count {
            let end = (at + BATCH_RECORDS).min(count);
            if self.admission == Admission::Refuse || self.stuck {
                return self.policy(at..count, verdicts);
            }
            let end = match self.next_set_aside(generation, batch, at..end) {
                Some(aside) if aside == at => {
                    self.policy(at..at + 1, verdicts);
                    at += 1;
                    continue;
                }
                aside => aside.unwrap_or(end),
            };
            at = match self.ask(generation, hook, batch, at..end) {
                Ok((answered, bits)) => self.read(bits, hook, decides, &mut verdicts[at..at + answered]) + at,
                Err(unanswered) => self.recover(generation, (hook, decides), (batch, at..end), verdicts, unanswered),
            };
        }
    }

    /// The first message in `range` that is known to kill instances.
    fn next_set_aside(&self, generation: &Generation, batch: Batch<'_>, range: Range<usize>) -> Option<usize> {
        if generation.set_aside.is_empty() {
            return None;
        }
        let offsets = range.clone().map(|index| batch.physical_offset(index));
        let found = generation.set_aside.first_of(self.subscription.handle(), offsets, Instant::now());
        found.map(|nth| range.start + nth)
    }

    /// One call about as much of `range` as fits: how many it was, and the verdicts.
    fn ask(
        &mut self,
        generation: &Arc<Generation>,
        hook: Hook,
        batch: Batch<'_>,
        range: Range<usize>,
    ) -> Result<(usize, Bits), Unanswered> {
        if self.lease.is_none() {
            self.take_instance(generation)?;
        }
        let Some(instance) = self.lease.as_mut().and_then(Lease::instance) else { return Err(Unanswered::NoInstance) };
        let head = BatchHead {
            hook,
            handle: self.subscription.request.handle,
            plugin_epoch: self.set.epoch,
            now_ms: self.now_ms,
            topic: &self.subscription.text.topic,
            body_bytes_max: generation.identity.body_bytes_max,
        };
        let too_big = |error| Unanswered::TooBig(format!("it cannot be shown to the plugin: {error}"));
        let wanted = instance.records_max(range.len());
        let mut tokens = std::mem::take(&mut instance.tokens);
        let mut writer = BatchWriter::new(instance.input(), head, wanted).map_err(too_big)?;
        let full = match hook {
            Hook::Entries => write_entries(&mut writer, batch, range.clone()),
            Hook::Records => write_records(&mut writer, batch, range.clone(), &mut tokens),
        };
        let count = writer.count();
        match full {
            // The table for one message alone is shorter, and may leave the room it needs.
            Err(_) if count == 0 && wanted > 1 => {
                return self.ask(generation, hook, batch, range.start..range.start + 1);
            }
            Err(error) if count == 0 => return Err(too_big(error)),
            _ => {}
        }
        let total = writer.finish();
        instance.tokens = tokens;
        self.counts.calls += 1;
        let bits = instance.filter(total, count, generation.batch_limit).map_err(Unanswered::Fault)?;
        Ok((count, bits))
    }

    #[cold]
    fn take_instance(&mut self, generation: &Arc<Generation>) -> Result<(), Unanswered> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut lease = match generation.lease(generation.around.limits.instance_wait) {
            Ok(lease) => lease,
            Err(error) => return Err(self.no_instance(error)),
        };
        if let Err(error) = lease.ready(&self.subscription.request) {
            lease.discard();
            return Err(self.no_instance(error));
        }
        self.lease = Some(lease);
        Ok(())
    }

    fn no_instance(&mut self, error: LeaseError) -> Unanswered {
        match error {
            LeaseError::Fault(fault) => Unanswered::Fault(fault),
            LeaseError::Busy => Unanswered::NoInstance,
            LeaseError::Config(_) | LeaseError::Subscription(_) => {
                Unanswered::Fault(CallFault::Answer(error.to_string()))
            }
        }
    }

    /// Turns bits into decisions; how many.
    #[inline]
    fn read(&mut self, bits: Bits, hook: Hook, decides: Decides, verdicts: &mut [Decision]) -> usize {
        let count = verdicts.len();
        let undecided = bits.error.count_ones() as u64;
        let kept = bits.keep.count_ones() as u64;
        self.counts.kept += kept;
        self.counts.dropped += count as u64 - kept - undecided;
        let undecided_as = match (hook, decides) {
            (Hook::Entries, Decides::EntriesThenTokens) => Decision::NeedRecord,
            _ if undecided == 0 => Decision::CannotSay,
            _ => {
                self.counts.errors += undecided;
                self.no_verdict(undecided)
            }
        };
        for (index, verdict) in verdicts.iter_mut().enumerate() {
            *verdict = match (bits.keep >> index & 1, bits.error >> index & 1) {
                (1, _) => Decision::Keep,
                (_, 1) => undecided_as,
                _ => Decision::Drop,
            };
        }
        count
    }

    /// A batch failed. Asks about each message alone, in fresh instances, so that only the guilty ones go without a
    /// verdict. One by one rather than by halves: a call costs a hundred times less than a trap. Returns where to go on.
    #[cold]
    fn recover(
        &mut self,
        generation: &Arc<Generation>,
        (hook, decides): (Hook, Decides),
        (batch, range): (Batch<'_>, Range<usize>),
        verdicts: &mut [Decision],
        unanswered: Unanswered,
    ) -> usize {
        let (handle, end) = (self.subscription.handle(), range.end);
        match unanswered {
            Unanswered::NoInstance => {
                self.stuck = true;
                return range.start;
            }
            Unanswered::TooBig(reason) => {
                self.poison(generation, batch, range.start, reason);
                self.policy(range.start..range.start + 1, verdicts);
                return range.start + 1;
            }
            Unanswered::Fault(fault) => self.fault(generation, &fault),
        }
        for index in range {
            match self.ask(generation, hook, batch, index..index + 1) {
                Ok((_, bits)) => drop(self.read(bits, hook, decides, &mut verdicts[index..index + 1])),
                Err(Unanswered::TooBig(reason)) => {
                    self.poison(generation, batch, index, reason);
                    self.policy(index..index + 1, verdicts);
                }
                Err(Unanswered::NoInstance) => {
                    self.stuck = true;
                    return index;
                }
                Err(Unanswered::Fault(fault)) => {
                    self.drop_instance(generation, &fault);
                    self.poison(generation, batch, index, fault.to_string());
                    generation.set_aside.add(handle, batch.physical_offset(index), Instant::now());
                    self.policy(index..index + 1, verdicts);
                    if matches!(fault, CallFault::Timeout(_)) {
                        // Another one would block this thread for as long again; the pull ends here anyway.
                        self.stuck = true;
                        return index + 1;
                    }
                }
            }
        }
        end
    }

    /// Counts a failed batch against the plugin; its breaker may open.
    fn fault(&mut self, generation: &Arc<Generation>, fault: &CallFault) {
        self.drop_instance(generation, fault);
        let identity = &generation.identity;
        tracing::warn!(plugin = identity.name, sha256 = identity.sha.short(), topic = self.subscription.text.topic, %fault, "filter plugin failed");
        if generation.breaker.fault(Instant::now()) {
            self.admission = Admission::Refuse;
            self.subscription.shared.life.breaker_opened(generation, fault.to_string());
        } else if self.admission == Admission::Trial {
            self.admission = Admission::Refuse;
        }
    }

    fn drop_instance(&mut self, generation: &Generation, fault: &CallFault) {
        if let Some(mut lease) = self.lease.take() {
            lease.discard();
        }
        match fault {
            CallFault::Timeout(_) => generation.metrics.timeouts.fetch_add(1, Relaxed),
            CallFault::Trap(_) | CallFault::Answer(_) | CallFault::Declined(_) => {
                generation.metrics.traps.fetch_add(1, Relaxed)
            }
        };
    }

    fn poison(&self, generation: &Generation, batch: Batch<'_>, index: usize, reason: String) {
        generation.metrics.add_poison(Poison {
            topic: self.subscription.text.topic.clone(),
            queue_offset: batch.queue_offset(index),
            physical_offset: batch.physical_offset(index),
            reason,
        });
    }

    /// Verdicts for messages the plugin gives none on.
    fn policy(&mut self, range: Range<usize>, verdicts: &mut [Decision]) {
        let decision = self.no_verdict(range.len() as u64);
        verdicts[range].fill(decision);
    }

    fn no_verdict(&mut self, count: u64) -> Decision {
        // An instance that was not to be had is no fault of the plugin: the next pull finds one.
        if self.on_fault == OnFault::Deliver && !self.stuck {
            self.counts.delivered += count;
            Decision::Keep
        } else {
            self.counts.held += count;
            Decision::CannotSay
        }
    }
}

impl Drop for FilterSession {
    fn drop(&mut self) {
        let Some((generation, _)) = &self.plugin else { return };
        if self.admission == Admission::Trial && generation.breaker.trial_ended(self.counts.calls > 0) {
            self.subscription.shared.life.recovered(generation);
        }
        self.counts.flush(&generation.metrics);
    }
}

impl Batch<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Entries(entries) => entries.len(),
            Self::Records(records) => records.len(),
        }
    }

    fn physical_offset(&self, index: usize) -> i64 {
        match self {
            Self::Entries(entries) => entries[index].physical_offset,
            Self::Records(records) => records[index].physical_offset,
        }
    }

    fn queue_offset(&self, index: usize) -> i64 {
        match self {
            Self::Entries(entries) => entries[index].queue_offset,
            Self::Records(records) => records[index].queue_offset,
        }
    }
}

/// Writes as many as fit of what consume-queue entries tell.
#[inline]
fn write_entries(writer: &mut BatchWriter<'_>, batch: Batch<'_>, range: Range<usize>) -> Result<(), BatchError> {
    match batch {
        Batch::Entries(entries) => entries[range].iter().try_for_each(|entry| {
            writer.push_entry(entry.queue_offset as u64, entry.physical_offset as u64, entry.tags_code)
        }),
        Batch::Records(records) => records[range].iter().try_for_each(|record| {
            writer.push_entry(record.queue_offset as u64, record.physical_offset as u64, record.tags_code)
        }),
    }
}

/// Writes as many messages as fit, cutting their properties.
#[inline]
fn write_records(
    writer: &mut BatchWriter<'_>,
    batch: Batch<'_>,
    range: Range<usize>,
    tokens: &mut Vec<TokenBytes>,
) -> Result<(), BatchError> {
    let Batch::Records(records) = batch else { return Ok(()) };
    for record in &records[range] {
        tokens.clear();
        tokenise(record.properties, tokens);
        writer.push_record(&shown(record), tokens)?;
    }
    Ok(())
}

/// The record in the types of the ABI, where nothing is negative; bits stay as they are.
#[inline]
fn shown<'a>(record: &RecordRef<'a>) -> Record<'a> {
    Record {
        queue_offset: record.queue_offset as u64,
        physical_offset: record.physical_offset as u64,
        born_ms: record.born_ms as u64,
        store_ms: record.store_ms as u64,
        tags_code: record.tags_code,
        sys_flag: record.sys_flag as u32,
        queue_id: record.queue_id as u32,
        reconsume: record.reconsume as u32,
        flags: record.flag as u32,
        properties: record.properties,
        body: record.body,
    }
}
