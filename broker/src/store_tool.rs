//! `broker store check|repair|dump PATH`: looking at the data folder of a broker that is not running, and making anew
//! what can be made anew. Called by `main`; the work is the store's, here are words and a progress bar.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use waspmq_protocol::message::properties;
use waspmq_protocol::message::record::RecordView;
use waspmq_store::inspect::{self, StoreCheck};
use waspmq_store::{PhysicalOffset, StoreConfig, Watch};

/// Which records a dump shows.
#[derive(Debug, clap::Args)]
pub struct DumpOptions {
    /// Only from this offset of the log on
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    pub from: i64,
    /// Only messages of this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Only messages of this queue
    #[arg(long, value_name = "ID")]
    pub queue: Option<i32>,
    /// End after so many
    #[arg(long)]
    pub count: Option<u64>,
    /// Show bodies too: as text where they are UTF-8, else as hexadecimal digits
    #[arg(long)]
    pub bodies: bool,
}

/// Says what the folder holds. False if something is damaged.
///
/// # Errors
/// The reason why it cannot be looked at.
pub fn check(folder: &Path) -> Result<bool, String> {
    let bar = Bar::new();
    let found = inspect::check(&config_of(folder)?, &bar.watch()).map_err(|error| error.to_string())?;
    bar.finish();
    print(&describe(folder, &found))?;
    Ok(found.log_is_whole() && found.derived_is_whole())
}

/// Makes consume queues, index and sums anew and says what the folder holds now. False if something is damaged that cannot
/// be made anew: messages.
///
/// # Errors
/// The reason why it cannot be done.
pub fn repair(folder: &Path) -> Result<bool, String> {
    let config = config_of(folder)?;
    let bar = Bar::new();
    let report = inspect::rebuild(&config, bar.watch()).map_err(|error| error.to_string())?;
    bar.finish();
    let cut = report.truncated_bytes;
    print(&format!(
        "made anew: {} messages in consume queues, index and sums, {cut} bytes cut off\n\n",
        report.messages
    ))?;
    check(folder)
}

/// Prints records, a JSON object a line.
///
/// # Errors
/// The reason why they cannot be read.
pub fn dump(folder: &Path, options: &DumpOptions) -> Result<(), String> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut left = options.count.unwrap_or(u64::MAX);
    let mut each = |record: &RecordView<'_>| {
        let wanted = options.topic.as_deref().is_none_or(|topic| topic == record.topic())
            && options.queue.is_none_or(|queue| queue == record.queue_id());
        if left == 0 {
            return ControlFlow::Break(());
        }
        if wanted {
            left -= 1;
            // Whoever closes the output has seen enough.
            if writeln!(out, "{}", as_json(record, options.bodies)).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    inspect::dump(&config_of(folder)?, PhysicalOffset(options.from), &mut each).map_err(|error| error.to_string())?;
    let _ = out.flush();
    Ok(())
}

/// The store's settings as its files show them: sizes differ where a broker was told so.
fn config_of(folder: &Path) -> Result<StoreConfig, String> {
    let mut config = StoreConfig::new(folder);
    let storage = config.storage.clone();
    let first_file = |dir: &Path| {
        let listed = storage.list(dir).map_err(|error| format!("{} cannot be read: {error}", dir.display()));
        listed.map(|entries| entries.into_iter().find(|entry| entry.name.len() == 20 && entry.bytes > 0))
    };
    let log = config.commit_log_dir();
    let Some(file) = first_file(&log)? else {
        let path = folder.display();
        return Err(format!("{path} holds no messages: there is no file in commitlog/; is it a broker's data folder?"));
    };
    config.commit_log_file_bytes = file.bytes;
    let queues = folder.join("consumequeue");
    let topics = storage.list(&queues).map_err(|error| format!("{} cannot be read: {error}", queues.display()))?;
    for topic in topics.into_iter().filter(|entry| entry.is_dir) {
        let topic = queues.join(topic.name);
        let ids = storage.list(&topic).map_err(|error| format!("{} cannot be read: {error}", topic.display()))?;
        for id in ids.into_iter().filter(|entry| entry.is_dir) {
            if let Some(file) = first_file(&topic.join(id.name))? {
                config.consume_queue_file_bytes = file.bytes;
                return Ok(config);
            }
        }
    }
    Ok(config)
}

fn describe(folder: &Path, found: &StoreCheck) -> String {
    let StoreCheck { closed, log, sums, queues, index } = found;
    let mut text = format!("{}\n", folder.display());
    let closed = if *closed { "closed properly" } else { "not closed properly; the next start puts that right" };
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<15}{value}");
    };
    line("state", closed.to_owned());
    line(
        "commit log",
        format!("{} files, {} messages, offsets {} to {}", log.files, log.records, log.begin.0, log.end.0),
    );
    if log.records > 0 {
        line("stored", format!("{} to {}", time(log.oldest_ms), time(log.newest_ms)));
    }
    for problem in &log.problems {
        line("  PROBLEM", problem.clone());
    }
    for damage in &log.damages {
        let (from, to, bytes) = (damage.from.0, damage.to.0, damage.to.0 - damage.from.0);
        line("  DAMAGED", format!("{from} to {to} ({bytes} bytes): {}", damage.reason));
    }
    if log.torn_bytes > 0 {
        line("  torn end", format!("{} bytes of a half-written message, to be cut off", log.torn_bytes));
    }
    line("sums", format!("{} messages are as they were stored, {} have none", sums.checked, sums.unchecked));
    for problem in &sums.problems {
        line("  PROBLEM", problem.clone());
    }
    line("consume queues", format!("{} queues, {} entries right", queues.queues, queues.entries));
    for (count, what) in [
        (queues.wrong, "entries that say something else than their message"),
        (queues.missing, "messages without an entry"),
        (queues.surplus, "queues that go on behind their last message"),
        (queues.behind, "messages at the log's end not dispatched yet"),
    ] {
        if count > 0 {
            line("", format!("{count} {what}"));
        }
    }
    for example in &queues.examples {
        line("", example.clone());
    }
    line("index", format!("{} files, {} keys", index.files, index.keys));
    for problem in &index.problems {
        line("  PROBLEM", problem.clone());
    }
    text.push_str(match (found.log_is_whole(), found.derived_is_whole()) {
        (true, true) => "nothing is damaged\n",
        (true, false) => "no message is damaged; `broker store repair` makes consume queues, index and sums anew\n",
        (false, true) => "messages are damaged; a broker passes them over and serves the rest\n",
        (false, false) => {
            "messages are damaged; a broker passes them over and serves the rest; `broker store repair` makes consume \
             queues, index and sums anew\n"
        }
    });
    text
}

fn time(ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

fn as_json(record: &RecordView<'_>, bodies: bool) -> Value {
    let named = properties::iter(record.properties())
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect::<Map<_, _>>();
    let mut shown = json!({
        "offset": record.physical_offset(),
        "bytes": record.len(),
        "topic": record.topic(),
        "queueId": record.queue_id(),
        "queueOffset": record.queue_offset(),
        "storeTimestamp": record.store_timestamp(),
        "bornTimestamp": record.born_timestamp(),
        "bornHost": record.born_host().to_string(),
        "storeHost": record.store_host().to_string(),
        "sysFlag": record.sys_flag(),
        "flag": record.flag(),
        "reconsumeTimes": record.reconsume_times(),
        "preparedTransactionOffset": record.prepared_transaction_offset(),
        "properties": named,
        "bodyBytes": record.body().len(),
    });
    if bodies {
        shown["body"] = match std::str::from_utf8(record.body()) {
            Ok(text) => Value::from(text),
            Err(_) => Value::from(record.body().iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        };
    }
    shown
}

fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("nothing can be printed: {error}"))
}

/// A progress bar on standard error; none where that is no terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn watch(&self) -> Watch {
        let bar = self.0.clone();
        Watch::new(move |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(format!("{} of {}", HumanBytes(done), HumanBytes(total)));
        })
    }

    fn finish(self) {
        self.0.finish_and_clear();
    }
}
