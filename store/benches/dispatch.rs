//! What is derived from the log, and reading it: nanoseconds of processor time per message.
//! `cargo bench -p waspmq-store --bench dispatch [-- dispatch|get|queues]`; the folder is made under TMPDIR and needs 3 GiB.
//! Processor time of the working thread, so that a busy machine changes the figures little.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use waspmq_store::{
    Append, FilterRecord, GetRequest, GetStatus, Item, Items, MessageFilter, MessageStore, NoListener, Queue,
    QueueEntry, QueueOffset, StoreConfig, Verdict, clock::SystemClock,
};

const BODY_BYTES: usize = 1024;
const MESSAGES: usize = 1_000_000;
const QUEUES: usize = 32;
const MANY_QUEUES: usize = 80_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    if asked("dispatch") || asked("get") {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fill(dir.path());
        if asked("dispatch") {
            dispatch(dir.path());
        }
        if asked("get") {
            get(dir.path());
        }
    }
    if asked("queues") {
        many_queues();
    }
}

fn open(dir: &Path, index_enable: bool) -> Arc<MessageStore> {
    let config = StoreConfig { index_enable, ..StoreConfig::new(dir) };
    MessageStore::open(config, Arc::new(NoListener), Arc::new(SystemClock::new())).expect("the store opens")
}

/// Time this thread has spent on a processor.
fn processor_time() -> Duration {
    processor_time_of(Path::new("/proc/thread-self/schedstat"))
}

fn processor_time_of(schedstat: &Path) -> Duration {
    let line = fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(line.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn append(store: &MessageStore, messages: &[(&Arc<Queue>, &[u8], &[u8])]) {
    let message = |(queue, body, properties)| Append {
        queue,
        born_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 4000)),
        items: Items::One(Item { flag: 0, body, properties }),
        sys_flag: 0,
        born_timestamp: 0,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        wait_durable: false,
    };
    let messages: Vec<_> = messages.iter().copied().map(message).collect();
    let mut out = Vec::with_capacity(messages.len());
    store.append(&messages, &mut out);
    assert!(out.iter().all(Result::is_ok), "an append failed");
}

/// Stores messages as clients send them: a unique key, tags and a few more properties, spread over queues.
fn fill(dir: &Path) {
    let store = open(dir, true);
    let queues: Vec<_> = (0..QUEUES).map(|at| store.queue(&format!("bench-topic-{}", at / 8), at as i32 % 8)).collect();
    let body = vec![b'x'; BODY_BYTES];
    for call in 0..MESSAGES / QUEUES {
        let properties: Vec<_> = (0..QUEUES)
            .map(|at| {
                format!(
                    "UNIQ_KEY\x017F0000010B6B2A139A55{:012X}\x02WAIT\x01true\x02TAGS\x01TagA\x02",
                    call * QUEUES + at
                )
            })
            .collect();
        let messages: Vec<_> = (0..QUEUES).map(|at| (&queues[at], &*body, properties[at].as_bytes())).collect();
        append(&store, &messages);
    }
    while store.stats().dispatch_behind_bytes > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("dispatch, behind the appends     {:>5} ns a message", per(dispatcher_time()));
    assert!(store.shutdown().clean);
}

/// Time the dispatcher's thread has spent on a processor.
fn dispatcher_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|thread| thread.path());
    let named = |thread: &std::path::PathBuf| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "dispatch")
    };
    threads.filter(named).map(|thread| processor_time_of(&thread.join("schedstat"))).sum()
}

/// Takes queues, index and sums away; opening the store builds them again, which is dispatch and nothing else.
fn dispatch(dir: &Path) {
    for (index, name) in [(false, "queues alone"), (true, "queues and index"), (true, "queues and index")] {
        let _ = fs::remove_dir_all(dir.join("consumequeue"));
        let _ = fs::remove_dir_all(dir.join("index"));
        let _ = fs::remove_dir_all(dir.join("waspmq"));
        let (wall, processor) = (Instant::now(), processor_time());
        let store = open(dir, index);
        let (wall, processor) = (wall.elapsed(), processor_time() - processor);
        assert_eq!(store.stats().messages, MESSAGES as u64);
        println!("dispatch, {name:<18} {:>5} ns a message   ({} ns of wall time)", per(processor), per(wall));
        assert!(store.shutdown().clean);
    }
}

fn per(time: Duration) -> u128 {
    time.as_nanos() / MESSAGES as u128
}

/// Answers at once: what it costs to ask.
struct Fixed(Verdict);

impl MessageFilter for Fixed {
    fn by_entry(&mut self, entries: &[QueueEntry], verdicts: &mut [Verdict]) {
        for (entry, verdict) in entries.iter().zip(verdicts) {
            *verdict = if entry.tags_code == 0x27a807 { self.0 } else { Verdict::Drop };
        }
    }

    fn by_record(&mut self, records: &[FilterRecord<'_>], verdicts: &mut [Verdict]) {
        for (record, verdict) in records.iter().zip(verdicts) {
            *verdict = if record.record.properties().is_empty() { Verdict::Drop } else { Verdict::Keep };
        }
    }
}

fn get(dir: &Path) {
    let store = open(dir, false);
    for (name, verdict) in [
        ("no filter", None),
        ("no filter", None),
        ("kept by entry", Some(Verdict::Keep)),
        ("kept by record", Some(Verdict::NeedRecord)),
        ("dropped by entry", Some(Verdict::Drop)),
    ] {
        let (wall, processor) = (Instant::now(), processor_time());
        let mut found = 0;
        for queue in store.all_queues() {
            let mut filter = verdict.map(Fixed);
            let mut offset = QueueOffset(0);
            loop {
                let request = GetRequest { offset, count_max: 32, bytes_max: 256 << 10 };
                let filter = filter.as_mut().map(|filter| filter as &mut dyn MessageFilter);
                let result = store.get(&queue, &request, filter);
                found += result.count;
                offset = result.next_begin_offset;
                if result.status == GetStatus::OffsetOverflowOne {
                    break;
                }
            }
        }
        let (wall, processor) = (wall.elapsed(), processor_time() - processor);
        assert_eq!(found, if verdict == Some(Verdict::Drop) { 0 } else { MESSAGES });
        println!("get, {name:<23} {:>5} ns a message   ({} ns of wall time)", per(processor), per(wall));
    }
    assert!(store.shutdown().clean);
}

/// Opens a store of very many queues with one message each.
fn many_queues() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = open(dir.path(), true);
    let begun = Instant::now();
    for topic in 0..MANY_QUEUES / 8 {
        let queues: Vec<_> = (0..8).map(|id| store.queue(&format!("topic-{topic:05}"), id)).collect();
        let messages: Vec<_> = queues.iter().map(|queue| (queue, &b"one"[..], &b""[..])).collect();
        append(&store, &messages);
    }
    while store.stats().dispatch_behind_bytes > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let processor = all_processor_time();
    println!(
        "{MANY_QUEUES} queues, made with one message each: {processor:?} of processor time ({:?})",
        begun.elapsed()
    );
    let begun = Instant::now();
    assert!(store.shutdown().clean);
    println!("{MANY_QUEUES} queues, closed: {:?}", begun.elapsed());
    drop(store);
    for _ in 0..2 {
        let (before, processor) = (resident_kib(), all_processor_time());
        let begun = Instant::now();
        let store = open(dir.path(), true);
        let (opened, processor, after) = (begun.elapsed(), all_processor_time() - processor, resident_kib());
        let more = after.saturating_sub(before) / 1024;
        println!("{MANY_QUEUES} queues, opened: {processor:?} of processor time ({opened:?}), {more} MiB more");
        assert_eq!(store.stats().messages, MANY_QUEUES as u64);
        assert!(store.shutdown().clean);
    }
}

/// Time all threads of this process have spent on processors, in steps of 10 ms.
fn all_processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
