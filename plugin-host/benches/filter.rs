//! Nanoseconds per message of the standard filters, as a broker asks them: session, batch of 32, verdicts. The guests are
//! built first. `cargo bench -p waspmq-plugin-host --bench filter [-- WORD]`. Also: how long start and load take, and memory.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waspmq_plugin_host::{
    Decision, EntryRef, FilterHandle, HostConfig, HostLimits, PluginHost, RecordRef, StandardPlugin, SubscriptionText,
    build_standard, precompile,
};

/// One slice of measuring; the best and the median of many are shown, as the machine does other things, too.
const SLICE: Duration = Duration::from_millis(4);
const SLICES: usize = 201;

fn main() {
    let standard: &'static [StandardPlugin] = vec![built("tag-filter"), built("sql92-filter")].leak();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = |name: &str| {
        let anonymous = anonymous_kib();
        let began = Instant::now();
        let config = HostConfig {
            folder: None,
            cache_folder: folder.path().to_path_buf(),
            standard,
            workers: 2,
            limits: HostLimits::default(),
        };
        let host = PluginHost::start(config, Arc::new(())).expect("the host starts");
        println!("{name}: {:.1?}, RssAnon +{} KiB", began.elapsed(), anonymous_kib() - anonymous);
        host
    };
    drop(start("first start, code embedded, cache empty"));
    let host = start("second start, code cached");

    let all: Vec<EntryRef> = (0..32).map(|n| entry(n, tag_code("TagA"))).collect();
    let mixed: Vec<EntryRef> = (0..32).map(|n| entry(n, tag_code(if n % 2 == 0 { "TagA" } else { "TagZ" }))).collect();
    let tag = subscribe(&host, "TAG", "TagA");
    measure("session alone", 1, || drop(black_box(tag.session())));
    measure("tag, all kept, one session per 32 entries", 32, || entries(&tag, &all));
    measure("tag, half kept, one session per 32 entries", 32, || entries(&tag, &mixed));
    let mut session = tag.session();
    let mut verdicts = [Decision::CannotSay; 32];
    measure("tag, all kept, session open", 32, || session.by_entries(black_box(&all), &mut verdicts));
    drop(session);
    let three = subscribe(&host, "TAG", "TagB || TagC || TagA");
    measure("tag, three tags, one session per 32 entries", 32, || entries(&three, &all));

    let blocks: Vec<Vec<u8>> = (0..32).map(block).collect();
    let records: Vec<RecordRef<'_>> = blocks.iter().enumerate().map(|(n, block)| record(n as i64, block)).collect();
    println!("property blocks of {} bytes, 8 properties", blocks[0].len());
    for text in ["a > 5", "a > 5 AND region = 'hz'", "a BETWEEN 3 AND 7 OR region IN ('bj', 'sh')"] {
        let sql = subscribe(&host, "SQL92", text);
        measure(&format!("sql, {text}, one session per 32 records"), 32, || by_records(&sql, &records));
    }
}

fn built(name: &'static str) -> StandardPlugin {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let package = format!("waspmq-{name}");
    let folder = build_standard(&workspace, &target, &[&package]).expect("the guest builds");
    let file = folder.join(format!("{}.wasm", package.replace('-', "_")));
    let wasm: &'static [u8] = std::fs::read(file).expect("the guest is there").leak();
    let began = Instant::now();
    let compiled: &'static [u8] = precompile(wasm).expect("the guest compiles").leak();
    println!("{name}: {} bytes, compiled {} bytes in {:.0?}", wasm.len(), compiled.len(), began.elapsed());
    StandardPlugin { name, wasm, compiled: Some(compiled) }
}

fn subscribe(host: &PluginHost, expression_type: &str, expression: &str) -> FilterHandle {
    let text = SubscriptionText {
        topic: "TopicTest".into(),
        group: "group".into(),
        expression_type: expression_type.into(),
        expression: expression.into(),
    };
    host.prepare(text).expect("the subscription is accepted")
}

fn entry(n: i64, tags_code: i64) -> EntryRef {
    EntryRef { queue_offset: n, physical_offset: n * 300, tags_code }
}

/// Java's `String.hashCode`.
fn tag_code(tag: &str) -> i64 {
    i64::from(tag.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte))))
}

fn block(n: i64) -> Vec<u8> {
    let region = ["hz", "bj", "sh"][n as usize % 3];
    let unique = format!("7F000001{n:08X}4E25154F0C8A0000");
    let pairs = [
        ("UNIQ_KEY", unique.as_str()),
        ("CLUSTER", "DefaultCluster"),
        ("TAGS", "TagA"),
        ("KEYS", "order-118832"),
        ("WAIT", "true"),
        ("region", region),
        ("trace", "0af7651916cd43dd"),
        ("a", ["3", "7", "12", "5"][n as usize % 4]),
    ];
    pairs.iter().flat_map(|(name, value)| format!("{name}\x01{value}\x02").into_bytes()).collect()
}

fn record(n: i64, properties: &[u8]) -> RecordRef<'_> {
    RecordRef {
        queue_offset: n,
        physical_offset: n * 300,
        born_ms: 1,
        store_ms: 2,
        tags_code: tag_code("TagA"),
        sys_flag: 0,
        queue_id: 0,
        reconsume: 0,
        flag: 0,
        properties,
        body: &[0; 64],
    }
}

fn entries(handle: &FilterHandle, entries: &[EntryRef]) {
    let mut verdicts = [Decision::CannotSay; 32];
    handle.session().by_entries(black_box(entries), &mut verdicts);
    assert!(!black_box(verdicts).contains(&Decision::CannotSay));
}

fn by_records(handle: &FilterHandle, records: &[RecordRef<'_>]) {
    let mut verdicts = [Decision::CannotSay; 32];
    handle.session().by_records(black_box(records), &mut verdicts);
    assert!(!black_box(verdicts).contains(&Decision::CannotSay));
}

fn measure(name: &str, messages: u32, mut run: impl FnMut()) {
    // As `cargo bench -- WORD…`: only what contains all words.
    if !std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).all(|word| name.contains(&word)) {
        return;
    }
    let mut slices: Vec<f64> = (0..SLICES)
        .map(|_| {
            let (began, mut rounds) = (Instant::now(), 0u32);
            while began.elapsed() < SLICE {
                (0..16).for_each(|_| run());
                rounds += 16;
            }
            began.elapsed().as_nanos() as f64 / f64::from(rounds * messages)
        })
        .collect();
    slices.sort_by(f64::total_cmp);
    println!("{name}: {:.1} ns (best {:.1})", slices[SLICES / 2], slices[0]);
}

fn anonymous_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
