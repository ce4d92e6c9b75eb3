//! Advances the engine's epoch every 5 ms while instances are in use, so that endless guests can be stopped. Parked when
//! none is: an idle broker must use no CPU. Instances enter and leave through their lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

use wasmtime::Engine;

use crate::limits::TICK;

/// Ticks without any instance in use before the thread parks: waking it costs more than a few idle ticks.
const IDLE_TICKS: u32 = 20;

/// The epoch of one engine.
pub(crate) struct Ticker {
    state: Arc<State>,
    thread: JoinHandle<()>,
}

struct State {
    in_use: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let state = Arc::new(State {
            in_use: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("plugin-tick".into()).spawn(move || shared.run(&engine))?;
        Ok(Self { state, thread })
    }

    /// An instance is taken into use.
    #[inline]
    pub(crate) fn enter(&self) {
        // Sequentially consistent on both sides: either the thread sees the count, or this sees it parked.
        self.state.in_use.fetch_add(1, SeqCst);
        if self.state.parked.load(SeqCst) {
            self.thread.thread().unpark();
        }
    }

    /// An instance is given back.
    #[inline]
    pub(crate) fn leave(&self) {
        self.state.in_use.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // Not joined: the thread ends by itself within a tick, and this may run on a thread that serves messages.
        self.state.stop.store(true, SeqCst);
        self.thread.thread().unpark();
    }
}

impl State {
    fn run(&self, engine: &Engine) {
        let mut idle = 0;
        while !self.stop.load(SeqCst) {
            if self.in_use.load(SeqCst) > 0 {
                idle = 0;
            } else if idle < IDLE_TICKS {
                idle += 1;
            } else {
                self.parked.store(true, SeqCst);
                while self.in_use.load(SeqCst) == 0 && !self.stop.load(SeqCst) {
                    std::thread::park();
                }
                self.parked.store(false, SeqCst);
                idle = 0;
            }
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    }
}
