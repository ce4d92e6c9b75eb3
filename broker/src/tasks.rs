//! The background jobs of the broker, each with its period. They end when the broker drops them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use waspmq_store::clock::Clock;

use crate::long_polling::{HeldPull, LongPolling};
use crate::offset::OffsetTable;
use crate::processor::client::Clients;
use crate::processor::pull_message::PullMessages;
use crate::register::Registrar;

/// How often deadlines of held pulls are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// How often silent clients are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

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
    /// Consumer offsets.
    pub offsets: Arc<OffsetTable>,
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
        let TaskParts { long_polling, mut woken, pull, clients, offsets, persist_offsets_every, registrar, clock } = parts;
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
            every(persist_offsets_every, move || {
                if let Err(error) = offsets.persist() {
                    tracing::error!(%error, "consumer offsets could not be persisted; tried again at the next turn");
                }
            }),
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
