//! One guest: its memory, its typed exports, its arenas. Used by one thread at a time; made and pooled by its generation.
//! After any `CallFault` the instance must be dropped: what a trap leaves behind in the guest is undefined.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmtime::{InstancePre, Memory, PoolConcurrencyLimitError, Store, Trap, TypedFunc, UpdateDeadline};
use waspmq_plugin_sdk::abi::{
    ARENA_TABLE_BYTES, Answer, Arenas, Fault, Op, PANIC_BYTES, RECORD_BYTES, Refuse, TokenBytes, Verdicts, decode,
    encode, export, panic_text,
};

use crate::imports::LogGate;
use crate::limits::{CONTROL_WALL, MemoryCap, TimeBudget};

/// State of a guest that the engine and the imports reach.
pub(crate) struct Guest {
    pub(crate) cap: MemoryCap,
    pub(crate) budget: TimeBudget,
    pub(crate) log: Arc<LogGate>,
    /// Known once the instance exists: start functions cannot log.
    pub(crate) memory: Option<Memory>,
}

/// A call that gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallFault {
    #[error("{0}")]
    Trap(String),
    #[error("stopped after {0} ms of CPU time")]
    Timeout(u128),
    /// A fault number of the ABI, or one unknown here.
    #[error("the plugin says: {0}")]
    Declined(String),
    /// An answer that no honest plugin gives.
    #[error("its answer makes no sense: {0}")]
    Answer(String),
}

/// An instance could not be made.
pub(crate) enum InstantiateError {
    /// All slots of the engine are taken.
    NoSlot,
    Fault(CallFault),
}

impl From<CallFault> for InstantiateError {
    fn from(fault: CallFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<wasmtime::Error> for InstantiateError {
    fn from(error: wasmtime::Error) -> Self {
        if error.is::<PoolConcurrencyLimitError>() {
            Self::NoSlot
        } else {
            Self::Fault(CallFault::Trap(format!("{error:#}")))
        }
    }
}

/// Verdicts of one call, for up to 64 records: one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) keep: u64,
    pub(crate) error: u64,
}

/// Most records in one call: what fits one word of verdicts.
pub(crate) const CALL_RECORDS_MAX: usize = 64;

pub(crate) struct Instance {
    store: Store<Guest>,
    memory: Memory,
    arenas: Arenas,
    filter: TypedFunc<i32, i32>,
    control: TypedFunc<(i32, i32), i32>,
    panic: Option<TypedFunc<(), i32>>,
    /// Handles prepared in this instance.
    pub(crate) prepared: BTreeSet<u32>,
    /// How much of the generation's releases this instance has seen.
    pub(crate) releases_seen: u64,
    /// Scratch space of whoever fills the arena.
    pub(crate) tokens: Vec<TokenBytes>,
}

impl Instance {
    /// Instantiates, finds the exports, reads and checks the arena table. The plugin is not configured yet.
    pub(crate) fn new(
        pre: &InstancePre<Guest>,
        memory_max: usize,
        log: Arc<LogGate>,
    ) -> Result<Self, InstantiateError> {
        let cap = MemoryCap { bytes_max: memory_max, denied: false };
        let guest = Guest { cap, budget: TimeBudget::new(), log, memory: None };
        let mut store = Store::new(pre.module().engine(), guest);
        store.limiter(|guest| &mut guest.cap);
        store.epoch_deadline_callback(|mut context| {
            Ok(if context.data_mut().budget.tick() { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt })
        });
        store.set_epoch_deadline(1);
        let instance = pre.instantiate(&mut store)?;
        let memory = instance
            .get_memory(&mut store, export::MEMORY)
            .ok_or_else(|| CallFault::Answer("it exports no memory".into()))?;
        store.data_mut().memory = Some(memory);
        let filter = instance.get_typed_func(&mut store, export::FILTER)?;
        let control = instance.get_typed_func(&mut store, export::CONTROL)?;
        let arenas = instance.get_typed_func::<(), i32>(&mut store, export::ARENAS)?;
        let panic = instance.get_typed_func(&mut store, export::PANIC).ok();
        let at = arenas.call(&mut store, ())?;
        let arenas = read_arenas(memory.data(&store), at)?;
        let (prepared, tokens) = (BTreeSet::new(), Vec::new());
        Ok(Self { store, memory, arenas, filter, control, panic, prepared, releases_seen: 0, tokens })
    }

    /// Bytes of linear memory, which only grow.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// The IN arena, to be filled with a batch.
    #[inline]
    pub(crate) fn input(&mut self) -> &mut [u8] {
        let (at, len) = (self.arenas.in_ptr as usize, self.arenas.in_cap as usize);
        // The range was checked against the memory of the time, and memory never shrinks.
        &mut self.memory.data_mut(&mut self.store)[at..at + len]
    }

    /// Records to ask about in one batch: `wanted`, or fewer if the arena is so small that the table would leave no room
    /// for what the records point to.
    #[inline]
    pub(crate) fn records_max(&self, wanted: usize) -> usize {
        wanted.min(self.arenas.in_cap as usize / (4 * RECORD_BYTES)).max(1)
    }

    #[inline]
    fn output(&mut self) -> &mut [u8] {
        let (at, len) = (self.arenas.out_ptr as usize, self.arenas.out_cap as usize);
        &mut self.memory.data_mut(&mut self.store)[at..at + len]
    }

    /// Asks for verdicts on the batch in IN: `count` records (at most [`CALL_RECORDS_MAX`]) in `total_len` bytes.
    #[inline]
    pub(crate) fn filter(&mut self, total_len: usize, count: usize, limit: Limit) -> Result<Bits, CallFault> {
        // Bits that no honest answer has: a guest that writes nothing is found out.
        self.output()[..16].fill(0xff);
        self.begin(limit);
        match self.filter.call(&mut self.store, arena_len(total_len)) {
            Ok(0) => {}
            Ok(number) => return Err(CallFault::Declined(fault_text(number))),
            Err(error) => return Err(self.call_fault(&error, limit)),
        }
        let out = self.output();
        Verdicts::read(out, count).map_err(|error| CallFault::Answer(error.to_string()))?;
        let word = |at: usize| out[at..].first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        Ok(Bits { keep: word(0), error: word(8) })
    }

    /// One control operation with a typed request. The outer error is a fault, the inner one the plugin's own refusal.
    pub(crate) fn control<T: DeserializeOwned>(
        &mut self,
        op: Op,
        request: &impl Serialize,
        cpu: Duration,
    ) -> Result<Result<T, Refuse>, CallFault> {
        let len = encode(request, self.input()).map_err(|error| CallFault::Answer(error.to_string()))?;
        self.control_raw(op, len, cpu)
    }

    /// One control operation whose request is `request`, MessagePack or nothing.
    pub(crate) fn control_bytes<T: DeserializeOwned>(
        &mut self,
        op: Op,
        request: &[u8],
        cpu: Duration,
    ) -> Result<Result<T, Refuse>, CallFault> {
        let input = self.input();
        let Some(place) = input.get_mut(..request.len()) else {
            let note = format!("{} bytes do not fit its arena of {}", request.len(), input.len());
            return Err(CallFault::Answer(note));
        };
        place.copy_from_slice(request);
        self.control_raw(op, request.len(), cpu)
    }

    fn control_raw<T: DeserializeOwned>(
        &mut self,
        op: Op,
        len: usize,
        cpu: Duration,
    ) -> Result<Result<T, Refuse>, CallFault> {
        let limit = Limit { cpu, wall: CONTROL_WALL };
        self.begin(limit);
        let answer = match self.control.call(&mut self.store, (op.number(), arena_len(len))) {
            Ok(answer) => answer,
            Err(error) => return Err(self.call_fault(&error, limit)),
        };
        let Ok(len) = usize::try_from(answer) else {
            return Err(CallFault::Declined(fault_text(answer.saturating_neg())));
        };
        let out = self.output();
        let bytes = out
            .get(..len)
            .ok_or_else(|| CallFault::Answer(format!("its answer has {len} bytes, its OUT arena {}", out.len())))?;
        let answer: Answer<T> = decode(bytes).map_err(|error| CallFault::Answer(error.to_string()))?;
        Ok(answer.into())
    }

    #[inline]
    fn begin(&mut self, limit: Limit) {
        self.store.data_mut().budget.begin(limit.cpu, limit.wall);
        self.store.set_epoch_deadline(1);
    }

    #[cold]
    fn call_fault(&mut self, error: &wasmtime::Error, limit: Limit) -> CallFault {
        if self.store.data().budget.spent {
            return CallFault::Timeout(limit.cpu.as_millis());
        }
        let mut text = self.panic_text().unwrap_or_else(|| match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.to_string(),
        });
        if self.store.data().cap.denied {
            text.push_str("; it had asked for more memory than it may have");
        }
        CallFault::Trap(text)
    }

    /// What the guest's panic hook wrote before the trap.
    fn panic_text(&mut self) -> Option<String> {
        let panic = self.panic.clone()?;
        self.begin(Limit { cpu: Duration::from_millis(5), wall: CONTROL_WALL });
        let at = panic.call(&mut self.store, ()).ok()?;
        let memory = self.memory.data(&self.store);
        panic_text(memory.get(at as u32 as usize..)?.get(..PANIC_BYTES)?)
    }
}

/// Time one call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

fn read_arenas(memory: &[u8], at: i32) -> Result<Arenas, CallFault> {
    let table = memory.get(at as u32 as usize..).and_then(|rest| rest.first_chunk::<ARENA_TABLE_BYTES>());
    let table = table.ok_or_else(|| CallFault::Answer("its arena table lies outside its memory".into()))?;
    let arenas = Arenas::from_bytes(table);
    if arenas.fits(memory.len()) {
        Ok(arenas)
    } else {
        Err(CallFault::Answer(format!("its arenas do not lie inside its {} bytes of memory: {arenas:?}", memory.len())))
    }
}

fn fault_text(number: i32) -> String {
    match Fault::from_number(number) {
        Some(fault) => fault.to_string(),
        None => format!("fault number {number}"),
    }
}

/// Lengths passed to a guest lie inside its arena, whose size is below 2 GiB as its memory is.
fn arena_len(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
