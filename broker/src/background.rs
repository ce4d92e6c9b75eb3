//! Threads of their own for consumers that read far behind the end of the log: what they ask for is large and nobody waits
//! for it by the millisecond, so that it shall not stand before the requests of those who send and of those who follow.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of a runtime that wait for the disk: more make no disk faster.
pub const BLOCKING_THREADS_MAX: usize = 32;

/// Where processors are short, such a thread gets a third of what another one gets: no higher, so that who is behind keeps
/// a share beside producers that take all they can.
const NICE: i32 = 5;

/// The threads. Dropped, they end when what they do at this moment is done.
pub struct Background {
    runtime: Option<Runtime>,
}

impl Background {
    /// Starts the threads, one a core.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("background")
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .on_thread_start(give_way)
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Where to run what gives way.
    pub fn handle(&self) -> Option<Handle> {
        self.runtime.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "background threads run at normal priority");
    }
}
