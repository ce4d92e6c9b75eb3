//! One version of one plugin with its entry of `plugins.toml`: code, limits, a pool of instances, the subscriptions
//! prepared in it. Made by the loader, swapped as a whole, asked by sessions through a `Lease`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use wasmtime::InstancePre;
use waspmq_plugin_sdk::abi::{Decides, Done, Op, PrepareRequest, Prepared, Refuse, ReleaseRequest};

use crate::binding::Entry;
use crate::breaker::{Breaker, SetAside};
use crate::imports::LogGate;
use crate::instance::{CallFault, Guest, Instance, InstantiateError, Limit};
use crate::limits::{CONFIGURE_CPU, CONTROL_CPU, HostLimits};
use crate::lock::{locked, read, write};
use crate::metrics::Metrics;
use crate::refusal::Sha;
use crate::status::Origin;
use crate::ticker::Ticker;

/// What a generation is, apart from its code.
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) hooks: Vec<String>,
    /// Of the file.
    pub(crate) sha: Sha,
    /// Of file and entry together: equal keys are the same generation.
    pub(crate) key: Sha,
    pub(crate) origin: Origin,
    pub(crate) entry: Entry,
    pub(crate) body_bytes_max: u32,
}

/// What generations get from the host.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) limits: Arc<HostLimits>,
    /// Most instances of one generation at once.
    pub(crate) instances_max: usize,
}

pub(crate) struct Generation {
    pub(crate) identity: Identity,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) breaker: Breaker,
    pub(crate) set_aside: SetAside,
    pub(crate) batch_limit: Limit,
    pub(crate) around: Surroundings,
    /// When it began to serve.
    pub(crate) live_since: OnceLock<Instant>,
    pre: InstancePre<Guest>,
    log: Arc<LogGate>,
    config: Vec<u8>,
    memory_max: usize,
    pool: Mutex<Pool>,
    freed: Condvar,
    prepared: RwLock<BTreeMap<u32, Decides>>,
    releases: AtomicU64,
}

#[derive(Default)]
struct Pool {
    #[expect(clippy::vec_box, reason = "an instance moves in and out with every session: a pointer moves faster")]
    idle: Vec<Box<Instance>>,
    total: usize,
    /// Sessions that wait: waking nobody would still cost a system call.
    waiting: usize,
}

/// The parts of a generation that the loader has found.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) config: Vec<u8>,
    pub(crate) memory_max: usize,
    pub(crate) batch_limit: Limit,
    pub(crate) metrics: Arc<Metrics>,
}

/// No instance to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("all instances of the plugin are in use")]
    Busy,
    #[error("a new instance failed: {0}")]
    Fault(#[from] CallFault),
    #[error("the plugin refused its configuration: {0}")]
    Config(Refuse),
    #[error("the plugin refused the subscription in a second instance: {0}")]
    Subscription(Refuse),
}

/// Why a subscription is not prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrepareFault {
    #[error("{0}")]
    Refused(Refuse),
    #[error("{0}")]
    Unavailable(String),
}

impl Generation {
    pub(crate) fn new(parts: Parts, around: Surroundings) -> Arc<Self> {
        let log = Arc::new(LogGate::new(&parts.identity.name, Arc::clone(&parts.metrics)));
        Arc::new(Self {
            breaker: Breaker::new(&around.limits),
            set_aside: SetAside::new(&around.limits),
            batch_limit: parts.batch_limit,
            live_since: OnceLock::new(),
            pre: parts.pre,
            log,
            config: parts.config,
            memory_max: parts.memory_max,
            pool: Mutex::default(),
            freed: Condvar::new(),
            prepared: RwLock::default(),
            releases: AtomicU64::new(0),
            identity: parts.identity,
            metrics: parts.metrics,
            around,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.identity.name
    }

    /// What a subscription needs here; `None` if it is not prepared.
    #[inline]
    pub(crate) fn decides(&self, handle: u32) -> Option<Decides> {
        read(&self.prepared).get(&handle).copied()
    }

    pub(crate) fn subscriptions(&self) -> usize {
        read(&self.prepared).len()
    }

    /// Takes an instance out of the pool, or makes one; waits for one if `wait` allows.
    pub(crate) fn lease(self: &Arc<Self>, wait: Duration) -> Result<Lease, LeaseError> {
        let mut pool = locked(&self.pool);
        let mut deadline = None;
        loop {
            if let Some(instance) = pool.idle.pop() {
                drop(pool);
                return Ok(Lease::new(self, instance));
            }
            if pool.total < self.around.instances_max {
                pool.total += 1;
                drop(pool);
                return self.make();
            }
            let now = Instant::now();
            let left = deadline.get_or_insert(now + wait).saturating_duration_since(now);
            if left.is_zero() {
                return Err(LeaseError::Busy);
            }
            pool.waiting += 1;
            pool = self.freed.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner).0;
            pool.waiting -= 1;
        }
    }

    /// A fresh, configured instance, already counted in the pool.
    fn make(self: &Arc<Self>) -> Result<Lease, LeaseError> {
        // Entered before the instance exists: its start function can loop, too.
        self.around.ticker.enter();
        let made = self.instantiate();
        self.around.ticker.leave();
        match made {
            Ok(instance) => Ok(Lease::new(self, Box::new(instance))),
            Err(error) => {
                self.forget_instance();
                Err(error)
            }
        }
    }

    fn instantiate(&self) -> Result<Instance, LeaseError> {
        let mut instance = match Instance::new(&self.pre, self.memory_max, Arc::clone(&self.log)) {
            Ok(instance) => instance,
            Err(InstantiateError::NoSlot) => return Err(LeaseError::Busy),
            Err(InstantiateError::Fault(fault)) => return Err(fault.into()),
        };
        instance.releases_seen = self.releases.load(Relaxed);
        let configured = instance.control_bytes::<Done>(Op::Configure, &self.config, CONFIGURE_CPU)?;
        configured.map_err(LeaseError::Config)?;
        Ok(instance)
    }

    fn forget_instance(&self) {
        let mut pool = locked(&self.pool);
        pool.total -= 1;
        self.wake_one(pool);
    }

    fn wake_one(&self, pool: MutexGuard<'_, Pool>) {
        let wanted = pool.waiting > 0;
        drop(pool);
        if wanted {
            self.freed.notify_one();
        }
    }

    fn take_back(&self, instance: Box<Instance>) {
        // Memory never shrinks: an instance that once saw a giant would keep its pages for ever.
        if instance.memory_bytes() > self.memory_max / 4 * 3 {
            drop(instance);
            return self.forget_instance();
        }
        let mut pool = locked(&self.pool);
        pool.idle.push(instance);
        self.wake_one(pool);
    }

    /// Prepares a subscription in one instance and notes what it needs. Other instances follow when they are asked.
    pub(crate) fn prepare(self: &Arc<Self>, request: &PrepareRequest) -> Result<Decides, PrepareFault> {
        if let Some(decides) = self.decides(request.handle) {
            return Ok(decides);
        }
        if self.subscriptions() >= self.around.limits.subscriptions_max {
            let most = self.around.limits.subscriptions_max;
            let note = format!("the plugin `{}` already has {most} subscriptions, the most it may have", self.name());
            return Err(PrepareFault::Unavailable(note));
        }
        let unavailable = |error: LeaseError| {
            PrepareFault::Unavailable(format!("the plugin `{}` cannot be asked: {error}", self.name()))
        };
        let mut lease = self.lease(CONTROL_CPU).map_err(unavailable)?;
        match lease.prepare(request) {
            Ok(decides) => {
                write(&self.prepared).insert(request.handle, decides);
                Ok(decides)
            }
            Err(LeaseError::Subscription(refuse)) => Err(PrepareFault::Refused(refuse)),
            Err(error) => {
                lease.discard();
                Err(unavailable(error))
            }
        }
    }

    /// Forgets all subscriptions but these: for a version that did not serve while others ended.
    pub(crate) fn retain(&self, live: &HashSet<u32>) {
        write(&self.prepared).retain(|handle, _| live.contains(handle));
        self.releases.fetch_add(1, Relaxed);
    }

    /// Nobody needs this subscription any more. Instances forget it the next time they are used.
    pub(crate) fn release(&self, handle: u32) {
        if write(&self.prepared).remove(&handle).is_some() {
            self.releases.fetch_add(1, Relaxed);
        }
    }
}

/// An instance of a generation, for one thread and one session. Goes back to the pool on drop.
pub(crate) struct Lease {
    generation: Arc<Generation>,
    instance: Option<Box<Instance>>,
}

impl Lease {
    fn new(generation: &Arc<Generation>, instance: Box<Instance>) -> Self {
        generation.around.ticker.enter();
        Self { generation: Arc::clone(generation), instance: Some(instance) }
    }

    /// The instance; gone after `discard`.
    #[inline]
    pub(crate) fn instance(&mut self) -> Option<&mut Instance> {
        self.instance.as_deref_mut()
    }

    /// Throws the instance away: after a fault nothing in it can be trusted.
    pub(crate) fn discard(&mut self) {
        if let Some(instance) = self.instance.take() {
            drop(instance);
            self.generation.forget_instance();
        }
    }

    /// Makes sure this instance knows the subscription, and has forgotten those that ended.
    pub(crate) fn ready(&mut self, request: &PrepareRequest) -> Result<(), LeaseError> {
        let releases = self.generation.releases.load(Relaxed);
        let Some(instance) = self.instance.as_deref_mut() else { return Err(LeaseError::Busy) };
        if instance.releases_seen != releases {
            instance.releases_seen = releases;
            let live = read(&self.generation.prepared);
            let ended: Vec<u32> =
                instance.prepared.iter().filter(|handle| !live.contains_key(handle)).copied().collect();
            drop(live);
            for handle in ended {
                instance.prepared.remove(&handle);
                // Only a fault matters: a plugin that declines to forget wastes its own memory.
                let _ = instance.control::<Done>(Op::Release, &ReleaseRequest { handle }, CONTROL_CPU)?;
            }
        }
        if instance.prepared.contains(&request.handle) { Ok(()) } else { self.prepare(request).map(|_| ()) }
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<Decides, LeaseError> {
        let Some(instance) = self.instance.as_deref_mut() else { return Err(LeaseError::Busy) };
        let prepared = instance.control::<Prepared>(Op::Prepare, request, CONTROL_CPU)?;
        let prepared = prepared.map_err(LeaseError::Subscription)?;
        instance.prepared.insert(request.handle);
        Ok(prepared.decides)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.generation.take_back(instance);
        }
        self.generation.around.ticker.leave();
    }
}
