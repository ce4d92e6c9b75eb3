//! One client process under remote control: requests out, answers and observations in, one JSON line each.
//! The protocol is written down in `tests/clients/README.md`. Many scenarios use one driver at the same time, so each
//! answer finds its request by number and each observation its member by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Longer than any single verb takes, clients' own retries included.
const VERB_TIMEOUT: Duration = Duration::from_secs(60);

/// A client's own account of what went wrong.
#[derive(Clone, Debug, Deserialize, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Problem {
    /// The exception's or error's type.
    pub kind: String,
    /// Its text.
    pub message: String,
    /// The response code in it, where the client keeps one.
    pub code: Option<i64>,
}

/// One message as a listener or a pull got it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// Topic as the client shows it.
    pub topic: String,
    /// Queue id.
    pub queue: i32,
    /// Queue offset.
    pub offset: i64,
    /// The id the client shows: mostly the unique id.
    pub msg_id: Option<String>,
    /// The id made of host and physical offset, where the client shows it.
    pub offset_msg_id: Option<String>,
    /// The body, decompressed.
    #[serde(deserialize_with = "from_hex")]
    pub body: Vec<u8>,
    /// Tag; empty without one.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub tags: String,
    /// Keys; empty without any.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub keys: String,
    /// The user's flag.
    #[serde(default)]
    pub flag: i32,
    /// All properties the client shows.
    #[serde(default)]
    pub properties: HashMap<String, Value>,
    /// How often it was delivered before and failed.
    #[serde(default)]
    pub reconsume: i32,
    /// Milliseconds since 1970 at the producer.
    #[serde(default)]
    pub born_timestamp: i64,
    /// Milliseconds since 1970 at the broker.
    #[serde(default)]
    pub store_timestamp: i64,
    /// The system flag, where the client shows it.
    pub sys_flag: Option<i32>,
    /// No other listener was at work on this queue for this group.
    #[serde(default)]
    pub alone: bool,
    /// The listener said it was consumed.
    #[serde(default)]
    pub taken: bool,
    /// When the suite read it.
    #[serde(skip, default = "Instant::now")]
    pub at: Instant,
}

impl Received {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A property as text; numbers as they print.
    pub fn property(&self, name: &str) -> Option<String> {
        self.properties.get(name).and_then(|value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
    }
}

fn from_hex<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    hex::decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// What one member has received so far, in order of arrival.
#[derive(Default)]
pub struct Mailbox {
    messages: Mutex<Vec<Received>>,
    arrived: Condvar,
}

impl Mailbox {
    /// A copy of everything so far.
    pub fn all(&self) -> Vec<Received> {
        lock(&self.messages).clone()
    }

    /// Waits until `enough` is true of what has arrived, at most `timeout`. Returns whether it became true.
    pub fn wait(&self, timeout: Duration, mut enough: impl FnMut(&[Received]) -> bool) -> bool {
        let guard = lock(&self.messages);
        let waited = self.arrived.wait_timeout_while(guard, timeout, |messages| !enough(messages));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn put(&self, message: Received) {
        lock(&self.messages).push(message);
        self.arrived.notify_all();
    }
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<u64, Sender<Result<Value, Problem>>>>,
    mailboxes: Mutex<HashMap<String, Arc<Mailbox>>>,
}

/// A running client process. Dropping it ends the process.
pub struct Driver {
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    next_id: AtomicU64,
    shared: Arc<Shared>,
}

impl Driver {
    /// Starts `command`; what it says on standard error goes to `log`.
    pub fn start(mut command: Command, log: File) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the driver has no output")?;
        let shared = Arc::new(Shared::default());
        let readers_share = Arc::clone(&shared);
        std::thread::spawn(move || read(stdout, &readers_share));
        Ok(Self { child: Mutex::new(child), stdin: Mutex::new(stdin), next_id: AtomicU64::new(1), shared })
    }

    /// Runs one verb and waits for its answer. The outer error is the harness's (the driver died, say), the inner one
    /// the client's.
    pub fn call(&self, verb: &str, mut request: Value) -> Result<Result<Value, Problem>> {
        let answer = self.begin(verb, &mut request)?;
        answer
            .recv_timeout(VERB_TIMEOUT)
            .with_context(|| format!("the client did not answer {verb}; its log says more"))
    }

    fn begin(&self, verb: &str, request: &mut Value) -> Result<Receiver<Result<Value, Problem>>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        request["id"] = id.into();
        request["verb"] = verb.into();
        let (sender, receiver) = channel();
        lock(&self.shared.answers).insert(id, sender);
        let mut line = request.to_string();
        line.push('\n');
        let mut stdin = lock(&self.stdin);
        let pipe = stdin.as_mut().context("the driver was stopped")?;
        pipe.write_all(line.as_bytes())
            .and_then(|()| pipe.flush())
            .context("the driver has ended; its log says why")?;
        Ok(receiver)
    }

    /// What `member` receives, from its start on.
    pub fn mailbox(&self, member: &str) -> Arc<Mailbox> {
        Arc::clone(lock(&self.shared.mailboxes).entry(member.to_owned()).or_default())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(lock(&self.stdin).take()); // End of input is how a driver is asked to go.
        let mut child = lock(&self.child);
        for _ in 0..50 {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn read(stdout: ChildStdout, shared: &Shared) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        if let Ok(value) = serde_json::from_str(&line)
            && let Err(problem) = take_in(value, shared)
        {
            eprintln!("not understood: {line}\n{problem:#}");
        }
    }
    lock(&shared.answers).clear(); // Whoever still waits learns that the driver has ended.
}

fn take_in(mut line: Value, shared: &Shared) -> Result<()> {
    if let Some(id) = line["id"].as_u64() {
        let waiting = lock(&shared.answers).remove(&id);
        let answer = match line.get_mut("error") {
            Some(error) => Err(serde_json::from_value(error.take())?),
            None => Ok(line["ok"].take()),
        };
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    } else if line["event"] == "received" {
        let message = serde_json::from_value(line["message"].take())?;
        let member = line["member"].as_str().context("no member")?;
        let mailbox = Arc::clone(lock(&shared.mailboxes).entry(member.to_owned()).or_default());
        mailbox.put(message);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
