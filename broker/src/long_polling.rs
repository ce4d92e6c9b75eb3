//! Pulls that found nothing and wait for a message. The dispatcher tells what arrives; a pull that may want it goes
//! to the waker's channel and is run again. A sweep answers what waited long enough.
//! Must hold: a held pull is in exactly one place (the table, the channel, or being run) and is answered once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use waspmq_remoting::Responder;
use waspmq_store::{
    Arrival, ArrivalListener, FilterRecord, MessageFilter, PhysicalOffset, Queue, QueueEntry, QueueOffset, Verdict,
};

use crate::filter::{PluginFilter, PreparedFilter};
use crate::topic::Topic;

/// Woken pulls wait for the waker in groups; so many groups at most, the rest stays for the next sweep.
const WOKEN_GROUPS_MAX: usize = 1_024;

/// A message stream that never matches still moves its consumer on this often (RocketMQ's hold service).
const ADVANCE_EVERY_MS: i64 = 5_000;

/// A pull whose filter could not decide is tried again this often.
const UNDECIDED_EVERY_MS: i64 = 1_000;

/// A pull as it is run: everything looked up, nothing borrowed.
pub struct Pull {
    /// The consumer group.
    pub group: String,
    /// The topic pulled from.
    pub topic: Arc<Topic>,
    /// Its queue.
    pub queue: Arc<Queue>,
    /// The offset wanted next.
    pub offset: QueueOffset,
    /// How many messages at most.
    pub count_max: usize,
    /// What is wanted.
    pub filter: PreparedFilter,
    /// Flags of the group, as the answer repeats them.
    pub group_sys_flag: i32,
}

/// A pull that waits.
pub struct HeldPull {
    /// The pull to run again.
    pub pull: Pull,
    /// Where the answer goes.
    pub responder: Responder,
    /// When it must be answered, in milliseconds since the epoch.
    pub deadline_ms: i64,
    /// When it is run again although nothing arrived that it wants.
    pub again_ms: i64,
    /// Its filter could not decide about the next message.
    pub undecided: bool,
}

/// The held pulls of all queues.
pub struct LongPolling {
    held: Mutex<HashMap<usize, Vec<HeldPull>>>,
    /// How many are held: arrivals look at nothing else while it is zero.
    count: AtomicUsize,
    woken: mpsc::Sender<Vec<HeldPull>>,
}

impl LongPolling {
    /// Nothing is held. Whoever owns the receiver runs the woken pulls again.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Vec<HeldPull>>) {
        let (woken, receiver) = mpsc::channel(WOKEN_GROUPS_MAX);
        (Arc::new(Self { held: Mutex::default(), count: AtomicUsize::new(0), woken }), receiver)
    }

    /// How many pulls are held now.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Holds a pull. If its message came in the meantime, it is woken at once.
    pub fn hold(&self, mut pull: HeldPull, now_ms: i64) {
        pull.again_ms = now_ms + if pull.undecided { UNDECIDED_EVERY_MS } else { ADVANCE_EVERY_MS };
        let (queue, offset, undecided) = (pull.pull.queue.clone(), pull.pull.offset, pull.undecided);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.lock().entry(key(&queue)).or_default().push(pull);
        // An arrival before the pull was in the table has looked past it.
        if !undecided && queue.max_offset() > offset {
            let ready = self.take(&queue, |held| held.pull.offset < queue.max_offset());
            self.wake(ready);
        }
    }

    /// Takes out what must run again now: deadlines reached, long unmatched, undecided. Forgets closed connections.
    pub fn sweep(&self, now_ms: i64) {
        if self.len() == 0 {
            return;
        }
        let mut ready = Vec::new();
        let mut gone = 0;
        self.lock().retain(|_, pulls| {
            let before = pulls.len();
            pulls.retain(|held| !held.responder.connection().is_closed());
            gone += before - pulls.len();
            ready.extend(pulls.extract_if(.., |held| is_due(held, now_ms)));
            !pulls.is_empty()
        });
        self.count.fetch_sub(gone + ready.len(), Ordering::SeqCst);
        self.wake_counted(ready);
    }

    /// Takes out everything: the broker stops, and whoever waits is answered.
    pub fn drain(&self) -> Vec<HeldPull> {
        let all: Vec<HeldPull> = self.lock().drain().flat_map(|(_, pulls)| pulls).collect();
        self.count.fetch_sub(all.len(), Ordering::SeqCst);
        all
    }

    fn take(&self, queue: &Arc<Queue>, is_ready: impl Fn(&HeldPull) -> bool) -> Vec<HeldPull> {
        let mut held = self.lock();
        let Some(pulls) = held.get_mut(&key(queue)) else { return Vec::new() };
        let ready: Vec<HeldPull> = pulls.extract_if(.., |held| is_ready(held)).collect();
        if pulls.is_empty() {
            held.remove(&key(queue));
        }
        ready
    }

    fn wake(&self, ready: Vec<HeldPull>) {
        self.count.fetch_sub(ready.len(), Ordering::SeqCst);
        self.wake_counted(ready);
    }

    fn wake_counted(&self, ready: Vec<HeldPull>) {
        if ready.is_empty() {
            return;
        }
        // A full channel means that the waker is far behind: these pulls wait for the next sweep.
        if let Err(mpsc::error::TrySendError::Full(back)) = self.woken.try_send(ready) {
            self.put_back(back);
        }
    }

    fn put_back(&self, pulls: Vec<HeldPull>) {
        self.count.fetch_add(pulls.len(), Ordering::SeqCst);
        let mut held = self.lock();
        for mut pull in pulls {
            pull.again_ms = 0;
            held.entry(key(&pull.pull.queue)).or_default().push(pull);
        }
    }

    /// Tests the arrivals of one queue against the pulls held on it.
    fn arrived_in(&self, queue: &Arc<Queue>, arrivals: &[&Arrival<'_>]) {
        let candidates = self.take(queue, |held| !held.undecided);
        if candidates.is_empty() {
            return;
        }
        let mut batch = ArrivalBatch::new(arrivals);
        let (ready, not_wanted): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|held| batch.may_want(held));
        if !not_wanted.is_empty() {
            self.lock().entry(key(queue)).or_default().extend(not_wanted);
        }
        self.wake(ready);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Vec<HeldPull>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArrivalListener for LongPolling {
    fn arrived(&self, arrivals: &[Arrival<'_>]) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut by_queue: Vec<(&Arc<Queue>, Vec<&Arrival<'_>>)> = Vec::new();
        {
            let held = self.lock();
            for arrival in arrivals.iter().filter(|arrival| held.contains_key(&key(arrival.queue))) {
                match by_queue.iter_mut().find(|(queue, _)| Arc::ptr_eq(queue, arrival.queue)) {
                    Some((_, arrivals)) => arrivals.push(arrival),
                    None => by_queue.push((arrival.queue, vec![arrival])),
                }
            }
        }
        for (queue, arrivals) in by_queue {
            self.arrived_in(queue, &arrivals);
        }
    }
}

/// The arrivals of one queue in the form that filters take.
struct ArrivalBatch<'a> {
    entries: Vec<QueueEntry>,
    records: Vec<FilterRecord<'a>>,
    verdicts: Vec<Verdict>,
}

impl<'a> ArrivalBatch<'a> {
    fn new(arrivals: &[&Arrival<'a>]) -> Self {
        let records: Vec<FilterRecord<'a>> = arrivals.iter().map(|arrival| filter_record(arrival)).collect();
        let entries = records.iter().map(|record| record.entry).collect();
        Self { verdicts: vec![Verdict::CannotSay; arrivals.len()], entries, records }
    }

    /// Whether the pull is worth running again. A filter that cannot say is a reason to run it.
    fn may_want(&mut self, held: &HeldPull) -> bool {
        let PreparedFilter::Plugin(handle) = &held.pull.filter else { return true };
        let Some(mut filter) = PluginFilter::begin(handle) else { return true };
        filter.by_entry(&self.entries, &mut self.verdicts);
        if self.verdicts.contains(&Verdict::NeedRecord) {
            filter.by_record(&self.records, &mut self.verdicts);
        }
        self.verdicts.iter().any(|verdict| *verdict != Verdict::Drop)
    }
}

fn filter_record<'a>(arrival: &Arrival<'a>) -> FilterRecord<'a> {
    let record = arrival.record;
    let entry = QueueEntry {
        queue_offset: arrival.queue_offset,
        physical_offset: PhysicalOffset(record.physical_offset()),
        size: i32::try_from(record.len()).unwrap_or(i32::MAX),
        tags_code: arrival.tags_code,
    };
    FilterRecord { entry, record }
}

fn is_due(held: &HeldPull, now_ms: i64) -> bool {
    let something_new = held.undecided || held.pull.queue.max_offset() > held.pull.offset;
    now_ms >= held.deadline_ms || (now_ms >= held.again_ms && something_new)
}

/// Queues are told apart by their address: a held pull keeps its queue alive.
fn key(queue: &Arc<Queue>) -> usize {
    Arc::as_ptr(queue) as usize
}
