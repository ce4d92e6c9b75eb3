//! The background jobs of the broker, each with its period. They end when the broker drops them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use waspmq_store::clock::Clock;
use waspmq_store::persist::PersistError;

use crate::long_polling::{HeldPull, LongPolling};
use crate::offset::OffsetTable;
use crate::processor::client::Clients;
use crate::processor::pull_message::PullMessages;
use crate::register::Registrar;
use crate::subscription::SubscriptionTable;
use crate::topic::TopicTable;

/// How often deadlines of held pulls are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// How often silent clients are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// How soon a created topic or group is on the disk.
const PERSIST_SETTINGS_EVERY: Duration = Duration::from_millis(200);

/// The tables that are files.
#[derive(Clone)]
pub struct Tables {
    /// Topics.
    pub topics: Arc<TopicTable>,
    /// Consumer groups.
    pub groups: Arc<SubscriptionTable>,
    /// Consumer offsets.
    pub offsets: Arc<OffsetTable>,
    /// Which of them could not be written at the last turn.
    pub failing: Arc<Failing>,
}

/// Per table, whether the last write failed.
#[derive(Debug, Default)]
pub struct Failing {
    topics: AtomicBool,
    groups: AtomicBool,
    offsets: AtomicBool,
}

impl Tables {
    /// Writes what changed.
    pub fn persist_all(&self) {
        self.persist_settings();
        self.persist_offsets();
    }

    fn persist_settings(&self) {
        tell("topics", &self.failing.topics, self.topics.persist());
        tell("consumer groups", &self.failing.groups, self.groups.persist());
    }

    fn persist_offsets(&self) {
        tell("consumer offsets", &self.failing.offsets, self.offsets.persist());
    }
}

/// A table that cannot be written, as on a full disk, is told of once, and once more when it can be again.
fn tell(table: &str, failing: &AtomicBool, outcome: Result<(), PersistError>) {
    let failed_before = failing.swap(outcome.is_err(), Ordering::Relaxed);
    match outcome {
        Err(error) if !failed_before => {
            tracing::error!(table, %error, "a table could not be persisted; tried again at every turn");
        }
        Ok(()) if failed_before => tracing::warn!(table, "the table is persisted again"),
        _ => {}
    }
}

/// What the jobs work on.
pub struct TaskParts {
    /// Held pulls.
    pub long_polling: Arc<LongPolling>,
    /// Pulls that were woken.
    pub woken: mpsc::Receiver<Vec<HeldPull>>,
    /// Who runs them again.
    pub pull: Arc<PullMessages>,
    /// Members of groups.
    pub clients: Arc<Clients>,
    /// What is persisted when it changed.
    pub tables: Tables,
    /// How often they are persisted.
    pub persist_offsets_every: Duration,
    /// Registration with the name servers.
    pub registrar: Arc<Registrar>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The running jobs. Dropped, they end.
pub struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    /// Starts all jobs.
    pub fn start(parts: TaskParts) -> Self {
        let TaskParts { long_polling, mut woken, pull, clients, tables, persist_offsets_every, registrar, clock } =
            parts;
        let settings = tables.clone();
        Self(vec![
            tokio::spawn(async move {
                while let Some(pulls) = woken.recv().await {
                    for held in pulls {
                        pull.run_again(held);
                    }
                }
            }),
            every(SWEEP_EVERY, move || long_polling.sweep(clock.now_ms())),
            every(EXPIRE_EVERY, move || clients.expire()),
            every_blocking(persist_offsets_every, move || tables.persist_offsets()),
            every_blocking(PERSIST_SETTINGS_EVERY, move || settings.persist_settings()),
            tokio::spawn(async move { registrar.run().await }),
        ])
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

fn every(period: Duration, mut job: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            job();
        }
    })
}

/// A job that may wait for the disk: it runs where it holds up no connection.
fn every_blocking(period: Duration, job: impl Fn() + Clone + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            if let Err(error) = tokio::task::spawn_blocking(job.clone()).await {
                tracing::error!(%error, "a background job ended early");
            }
        }
    })
}
