//! What a plugin may use: sizes, times, counts. Defaults, the ceilings no configuration passes, and the two that the
//! engine asks back for (memory, time). Read by the loader, instances and the life cycle.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

/// Linear memory of an instance unless manifest or `plugins.toml` ask for more.
pub(crate) const MEMORY_BYTES: usize = 4 << 20;
/// Most linear memory anybody can ask for.
pub(crate) const MEMORY_BYTES_CEILING: usize = 64 << 20;
/// Largest `.wasm` unless `plugins.toml` says otherwise.
pub(crate) const MODULE_BYTES: usize = 4 << 20;
/// Largest `.wasm` anybody can ask for.
pub(crate) const MODULE_BYTES_CEILING: usize = 16 << 20;
/// Most functions in a module: bounds the time of a compile.
pub(crate) const FUNCTIONS_MAX: u32 = 20_000;
/// Elements of an instance's table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 10_000;
/// Thread CPU time of one batch.
pub(crate) const BATCH_CPU: Duration = Duration::from_millis(10);
/// Most CPU time of one batch anybody can ask for.
pub(crate) const BATCH_CPU_CEILING: Duration = Duration::from_millis(100);
/// Wall time of one batch: a thread that waits for the processor is not the plugin's fault, for a while.
pub(crate) const BATCH_WALL: Duration = Duration::from_secs(1);
/// CPU time of a control call.
pub(crate) const CONTROL_CPU: Duration = Duration::from_millis(50);
/// CPU time of `configure` and of start functions.
pub(crate) const CONFIGURE_CPU: Duration = Duration::from_secs(1);
/// Wall time of control calls.
pub(crate) const CONTROL_WALL: Duration = Duration::from_secs(5);
/// Period of the epoch ticker, and so the grain of all time limits.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Counts and periods of the host. The defaults are for production; tests shorten the periods.
#[derive(Clone, Debug)]
pub struct HostLimits {
    /// Most plugins served at once, standard ones included.
    pub plugins_max: usize,
    /// Most subscriptions one plugin holds.
    pub subscriptions_max: usize,
    /// How long a file must lie unchanged before it is read.
    pub settle: Duration,
    /// How often the folder is read again without an event.
    pub rescan: Duration,
    /// How long a new version is called "on probation".
    pub probation: Duration,
    /// First pause of a plugin that failed three times in [`HostLimits::fault_window`]; doubles up to `pause_max`.
    pub pause: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// Three faults within this time open the breaker.
    pub fault_window: Duration,
    /// How long a session waits for an instance before it holds its messages.
    pub instance_wait: Duration,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            plugins_max: 64,
            subscriptions_max: 10_000,
            settle: Duration::from_millis(250),
            rescan: Duration::from_secs(10),
            probation: Duration::from_secs(60),
            pause: Duration::from_secs(30),
            pause_max: Duration::from_secs(600),
            fault_window: Duration::from_secs(60),
            instance_wait: Duration::from_millis(5),
        }
    }
}

/// Caps the linear memory and the tables of one instance.
#[derive(Debug)]
pub(crate) struct MemoryCap {
    pub(crate) bytes_max: usize,
    /// A growth was denied: named when the guest traps next, as that is why.
    pub(crate) denied: bool,
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let granted = desired <= self.bytes_max;
        self.denied |= !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

/// Time one call may take. Measured from the first tick that falls into the call, so that a call shorter than a tick
/// (all of them, in practice) reads no clock.
#[derive(Debug)]
pub(crate) struct TimeBudget {
    cpu: Duration,
    wall: Duration,
    started: Option<(Duration, Instant)>,
    /// The call was stopped by this budget.
    pub(crate) spent: bool,
}

impl TimeBudget {
    /// A budget for what comes before the first call.
    pub(crate) fn new() -> Self {
        Self { cpu: CONFIGURE_CPU, wall: CONTROL_WALL, started: None, spent: false }
    }

    /// A new call begins.
    #[inline]
    pub(crate) fn begin(&mut self, cpu: Duration, wall: Duration) {
        *self = Self { cpu, wall, started: None, spent: false };
    }

    /// A tick fell into the call: may it go on?
    pub(crate) fn tick(&mut self) -> bool {
        let (cpu, wall) = (thread_cpu(), Instant::now());
        let (cpu_began, wall_began) = *self.started.get_or_insert((cpu, wall));
        // Ticks come a little early or late; without the slack a limit of two ticks would often last three.
        let slack = TICK / 5;
        self.spent = cpu.saturating_sub(cpu_began) + slack >= self.cpu || wall - wall_began + slack >= self.wall;
        !self.spent
    }
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_processor_is_not_charged() {
        let mut budget = TimeBudget::new();
        budget.begin(Duration::from_millis(10), Duration::from_secs(1));
        assert!(budget.tick());
        std::thread::sleep(Duration::from_millis(30));
        assert!(budget.tick(), "asleep for 30 ms, but no CPU used");
        let began = Instant::now();
        while thread_cpu().is_zero() || budget.tick() {
            assert!(began.elapsed() < Duration::from_secs(20), "the budget never ends");
            std::hint::spin_loop();
        }
        assert!(budget.spent);
    }

    #[test]
    fn wall_time_ends_too() {
        let mut budget = TimeBudget::new();
        budget.begin(Duration::from_secs(10), Duration::from_millis(20));
        assert!(budget.tick());
        std::thread::sleep(Duration::from_millis(25));
        assert!(!budget.tick());
    }

    #[test]
    fn memory_is_capped() {
        let mut cap = MemoryCap { bytes_max: 100, denied: false };
        assert!(cap.memory_growing(0, 100, None).unwrap());
        assert!(!cap.denied);
        assert!(!cap.memory_growing(0, 101, None).unwrap());
        assert!(cap.denied);
    }
}
