//! Nanoseconds per append, with the whole store running: pages are populated, queues and index are built behind.
//! `cargo bench -p waspmq-store --bench append [-- FILTER]`; the folder is made under TMPDIR and needs 4 GiB.

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use waspmq_store::{Append, Item, Items, MessageStore, NoListener, StoreConfig, clock::SystemClock};

/// Bytes of bodies a run stores.
const RUN_BYTES: usize = 768 << 20;

#[derive(Clone, Copy)]
struct Case {
    body_bytes: usize,
    /// Messages per call, all of one socket read.
    per_call: usize,
    /// Whether those are one client batch.
    batch: bool,
    threads: usize,
    /// Whether to wait until pages ahead are there, as under a load below saturation.
    paced: bool,
}

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    for body_bytes in [128, 1024] {
        for (per_call, batch) in [(1, false), (32, false), (32, true)] {
            for (threads, paced) in [(1, true), (1, false), (2, false)] {
                let case = Case { body_bytes, per_call, batch, threads, paced };
                let name = format!(
                    "{body_bytes} B, {per_call} a call{}, {threads} thread{}{}",
                    if batch { " as a batch" } else { "" },
                    if threads == 1 { "" } else { "s" },
                    if paced { ", paced" } else { "" },
                );
                if filter.iter().all(|word| name.contains(word)) {
                    let Figures { wall, cpu, behind_ms } = run(case);
                    println!(
                        "{name:<44} {wall:>6.0} ns a message, {cpu:>5.0} ns of its thread's CPU   \
                         (dispatched {behind_ms:.0} ms later)"
                    );
                }
            }
        }
    }
}

/// What a case costs.
struct Figures {
    /// Nanoseconds per message, all threads together.
    wall: f64,
    /// Nanoseconds of CPU an appending thread spends per message; steadier than `wall` on a busy machine.
    cpu: f64,
    /// How much later than the last append the dispatcher was done.
    behind_ms: f64,
}

fn run(case: Case) -> Figures {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = MessageStore::open(StoreConfig::new(dir.path()), Arc::new(NoListener), Arc::new(SystemClock::new()))
        .expect("a new store");
    let messages = (RUN_BYTES / case.body_bytes).min(2_000_000) / case.threads / case.per_call * case.per_call;
    let barrier = Barrier::new(case.threads);
    let busy: Vec<(Duration, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..case.threads)
            .map(|thread| {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    append(store, case, thread, messages)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an appending thread")).collect()
    });
    let appended = Instant::now();
    while store.stats().dispatch_behind_bytes > 0 {
        std::thread::sleep(Duration::from_micros(100));
    }
    let behind = appended.elapsed();
    store.shutdown();
    let (longest, _) = busy.iter().max().expect("one thread at least");
    let cpu: u64 = busy.iter().map(|(_, cpu)| cpu).sum();
    let all = messages as f64 * case.threads as f64;
    Figures { wall: longest.as_nanos() as f64 / all, cpu: cpu as f64 / all, behind_ms: behind.as_secs_f64() * 1e3 }
}

/// Nanoseconds of CPU this thread has used.
fn thread_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// Appends from one thread and returns how long it spent in `append`, and its CPU time.
fn append(store: &MessageStore, case: Case, thread: usize, messages: usize) -> (Duration, u64) {
    let queues: Vec<_> = (0..8).map(|id| store.queue("Benchmark", id)).collect();
    let body = vec![b'x'; case.body_bytes];
    let properties: Vec<Vec<u8>> = (0..case.per_call)
        .map(|at| format!("UNIQ_KEY\x01AC11000100002A9F0000000000{thread:02}{at:04}\x02WAIT\x01true\x02").into_bytes())
        .collect();
    let born_host = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 40_000));
    let items: Vec<_> = properties.iter().map(|properties| Item { flag: 0, body: &body, properties }).collect();
    let mut out = Vec::with_capacity(case.per_call);
    let mut busy = Duration::ZERO;
    let (started, cpu) = (Instant::now(), thread_cpu_ns());
    for call in 0..messages / case.per_call {
        let one = |queue, items| Append {
            queue: &queues[queue % 8],
            born_host,
            items,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            wait_durable: false,
        };
        let now = if case.paced { Some(Instant::now()) } else { None };
        if case.batch {
            store.append(&[one(call, Items::Batch(&items))], &mut out);
        } else if case.per_call == 1 {
            store.append(&[one(call, Items::One(items[0]))], &mut out);
        } else {
            let calls: [Append<'_>; 32] = std::array::from_fn(|at| one(call + at, Items::One(items[at])));
            store.append(&calls, &mut out);
        }
        if let Some(now) = now {
            busy += now.elapsed();
            pace(call * case.per_call, case.body_bytes);
        }
        assert!(out.iter().all(Result::is_ok), "{:?}", out.iter().find(|result| result.is_err()));
        black_box(&out);
        out.clear();
    }
    (if case.paced { busy } else { started.elapsed() }, thread_cpu_ns() - cpu)
}

/// Sleeps now and then, so that the load stays near 200 MB/s.
fn pace(message: usize, body_bytes: usize) {
    if message.is_multiple_of((1 << 20) / body_bytes) {
        std::thread::sleep(Duration::from_millis(5));
    }
}
