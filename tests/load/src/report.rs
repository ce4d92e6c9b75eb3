//! Runs the clock of a measurement: warm-up, a line of progress every second, the end, and the summary for people or as JSON.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use waspmq_protocol::ResponseCode;

use crate::args::TimeArgs;
use crate::tally::{LOST_CONNECTION, SharedTally, Tally};

/// How often the end of a run is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// What the threads of a run share with its clock.
#[derive(Debug, Default)]
pub struct Signals {
    /// Threads end when they see it.
    pub stop: AtomicBool,
    /// The warm-up is over.
    pub counting: AtomicBool,
}

impl Signals {
    /// Whether to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub struct Summary {
    tool: &'static str,
    run: &'static str,
    command_line: Vec<String>,
    machine: Machine,
    seconds: f64,
    messages: u64,
    messages_per_second: f64,
    requests_per_second: f64,
    mebibytes_per_second: f64,
    #[serde(skip_serializing_if = "is_zero")]
    scanned: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Quantiles>,
    errors: BTreeMap<String, u64>,
    /// Processor time of this tool for each message.
    tool_cpu_microseconds_per_message: f64,
    /// Messages of each whole second.
    by_second: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    memory_mebibytes: u64,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
struct Quantiles {
    count: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    p99_99: f64,
    max: f64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Watches a run to its end, which is when the time is over, the count is reached, or `finished` says so. Returns the
/// figures since the end of the warm-up; the threads have been told to stop by then.
pub fn watch(
    run: &'static str,
    time: &TimeArgs,
    tallies: &[SharedTally],
    signals: &Signals,
    finished: impl Fn() -> bool,
) -> Summary {
    wait(Duration::from_secs_f64(time.warmup.max(0.0)), &finished);
    if time.warmup > 0.0 {
        tallies.iter().for_each(SharedTally::reset);
    }
    signals.counting.store(true, Ordering::Relaxed);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let (mut by_second, mut counted) = (Vec::new(), 0);
    let total = Duration::from_secs_f64(time.duration.max(0.0));
    let reached =
        || time.count.is_some_and(|count| tallies.iter().map(|tally| tally.lock().messages).sum::<u64>() >= count);
    loop {
        let next = Duration::from_secs(by_second.len() as u64 + 1).min(total);
        wait(next.saturating_sub(start.elapsed()), &|| finished() || reached());
        if start.elapsed() < next {
            break;
        }
        let tally = sum(tallies);
        by_second.push(tally.messages - counted);
        counted = tally.messages;
        progress(start.elapsed(), by_second[by_second.len() - 1], &tally);
        if start.elapsed() >= total {
            break;
        }
    }
    let (tally, seconds) = (sum(tallies), start.elapsed().as_secs_f64());
    signals.stop.store(true, Ordering::Relaxed);
    let cpu = cpu_seconds() - cpu;
    Summary {
        tool: concat!("mqbench ", env!("CARGO_PKG_VERSION")),
        run,
        command_line: std::env::args().collect(),
        machine: Machine::this(),
        seconds,
        messages: tally.messages,
        messages_per_second: tally.messages as f64 / seconds,
        requests_per_second: tally.requests as f64 / seconds,
        mebibytes_per_second: tally.bytes as f64 / seconds / f64::from(1 << 20),
        scanned: tally.scanned,
        latency: Quantiles::of(&tally.latency),
        receipt: Quantiles::of(&tally.receipt),
        errors: tally.errors.iter().map(|(code, count)| (code_name(*code), *count)).collect(),
        tool_cpu_microseconds_per_message: cpu * 1e6 / tally.messages.max(1) as f64,
        by_second,
    }
}

/// Sums up what all connections have counted.
pub fn sum(tallies: &[SharedTally]) -> Tally {
    let mut total = Tally::default();
    tallies.iter().for_each(|tally| total.add(&tally.lock()));
    total
}

fn wait(duration: Duration, ended: &impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < duration && !ended() {
        std::thread::sleep(LOOK.min(duration.saturating_sub(start.elapsed())));
    }
}

fn progress(elapsed: Duration, messages: u64, tally: &Tally) {
    let quantile = |histogram: &Histogram<u64>, q| Duration::from_nanos(histogram.value_at_quantile(q));
    let mut line = format!("{:>5.0} s  {messages:>9} msg/s", elapsed.as_secs_f64());
    for (name, histogram) in [("", &tally.latency), ("receipt ", &tally.receipt)] {
        if !histogram.is_empty() {
            let (p50, p99) = (quantile(histogram, 0.5), quantile(histogram, 0.99));
            line += &format!("  {name}p50 {p50:.2?} p99 {p99:.2?}");
        }
    }
    for (code, count) in &tally.errors {
        line += &format!("  {}: {count}", code_name(*code));
    }
    eprintln!("{line}");
}

/// A response code as people know it.
pub fn code_name(code: i32) -> String {
    if code == LOST_CONNECTION { "connection lost".to_owned() } else { ResponseCode(code).to_string() }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let micros = |q| histogram.value_at_quantile(q) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean: (histogram.mean() / 10.0).round() / 100.0,
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p99_9: micros(0.999),
            p99_99: micros(0.9999),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: String, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = field(read("/proc/meminfo"), "MemTotal");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field(read("/proc/cpuinfo"), "model name"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mebibytes: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
        }
    }
}

impl Summary {
    /// Messages counted.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether every request succeeded.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Prints the figures: one JSON object, or lines for people.
    pub fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("figures are always written"));
            return;
        }
        let Self { run, messages, seconds, machine, .. } = self;
        println!("{run}: {messages} messages in {seconds:.2} s on {} cores, Linux {}", machine.cores, machine.kernel);
        let (rate, requests, mebibytes) =
            (self.messages_per_second, self.requests_per_second, self.mebibytes_per_second);
        println!("  rate      {rate:.0} msg/s, {requests:.0} requests/s, {mebibytes:.1} MiB/s");
        if self.scanned > 0 {
            println!("  scanned   {} entries, {:.0}/s", self.scanned, self.scanned as f64 / seconds);
        }
        for (name, quantiles) in [("latency", &self.latency), ("receipt", &self.receipt)] {
            if let Some(Quantiles { mean, p50, p90, p99, p99_9, p99_99, max, .. }) = quantiles {
                println!(
                    "  {name}   µs: mean {mean:.1}, p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p99_9:.1}, p99.99 {p99_99:.1}, max {max:.1}"
                );
            }
        }
        println!("  tool      {:.3} µs of processor time a message", self.tool_cpu_microseconds_per_message);
        for (code, count) in &self.errors {
            println!("  failed    {count} with {code}");
        }
    }
}
