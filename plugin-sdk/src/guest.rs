//! The guest's memory as the broker sees it: the two arenas, the panic buffer, the exports' bodies. The SDK's only
//! unsafe code; built for wasm32 alone. Called by what `plugin!` expands to, that is, by the broker.
//! Must hold: one thread (checked below), and the broker writes IN only between calls.
#![expect(
    unsafe_code,
    reason = "the broker reads and writes these statics from outside, which safe Rust cannot express"
)]

use std::cell::{RefCell, UnsafeCell};
use std::mem::ManuallyDrop;

use crate::abi::{ARENA_TABLE_BYTES, Arenas, Fault, IN_BYTES, LogLevel, OUT_BYTES, PANIC_BYTES, encode_manifest};
use crate::plugin::Plugin;
use crate::runtime::Runtime;

#[cfg(target_feature = "atomics")]
compile_error!("plugins are single-threaded: build without the `atomics` target feature");

/// Memory at a fixed address, zero at the start, so that it takes no room in the module.
#[repr(C, align(16))]
struct Fixed<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: wasm32 without atomics has one thread.
unsafe impl<const N: usize> Sync for Fixed<N> {}

impl<const N: usize> Fixed<N> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    fn address(&self) -> usize {
        self.0.get() as usize
    }
}

static IN: Fixed<IN_BYTES> = Fixed::new();
static OUT: Fixed<OUT_BYTES> = Fixed::new();
static TABLE: Fixed<ARENA_TABLE_BYTES> = Fixed::new();
static PANIC: Fixed<PANIC_BYTES> = Fixed::new();

#[link(wasm_import_module = "wq")]
unsafe extern "C" {
    fn log(level: i32, text: *const u8, len: usize);
}

/// See [`crate::log()`].
pub(crate) fn log_line(level: LogLevel, text: &str) {
    // SAFETY: the broker reads `len` bytes at `text` before it returns, and keeps no address.
    unsafe { log(level as i32, text.as_ptr(), text.len()) }
}

/// One plugin instance behind the exports. Never dropped: the broker drops the whole memory.
pub struct Instance<F: Plugin>(ManuallyDrop<RefCell<Runtime<F>>>);

impl<F: Plugin> Default for Instance<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Plugin> Instance<F> {
    /// A fresh one, not configured.
    pub const fn new() -> Self {
        Self(ManuallyDrop::new(RefCell::new(Runtime::new())))
    }

    /// Body of the export `control`.
    pub fn control(&self, op: i32, len: i32) -> i32 {
        // A trap leaves the cell borrowed: the instance then refuses all further calls.
        match self.0.try_borrow_mut() {
            Ok(mut runtime) => arena_slices(len)
                .map_or_else(|fault| -fault.number(), |(request, out)| runtime.control(op, request, out)),
            Err(_) => -Fault::Reentered.number(),
        }
    }

    /// Body of the export `filter`.
    pub fn filter(&self, len: i32) -> i32 {
        match self.0.try_borrow_mut() {
            Ok(runtime) => arena_slices(len).map_or_else(Fault::number, |(batch, out)| runtime.filter(batch, out)),
            Err(_) => Fault::Reentered.number(),
        }
    }
}

/// The first `len` bytes of IN, and OUT. Only called with the instance borrowed, so that no two pairs are alive at once.
fn arena_slices<'a>(len: i32) -> Result<(&'a [u8], &'a mut [u8]), Fault> {
    let len = usize::try_from(len).ok().filter(|len| *len <= IN_BYTES).ok_or(Fault::BadLength)?;
    // SAFETY: both statics live for ever and are apart; the caller holds the instance's only borrow, so these slices are
    // alone; the broker does not touch either while a call runs.
    unsafe { Ok((std::slice::from_raw_parts(IN.0.get().cast(), len), &mut *OUT.0.get())) }
}

/// Body of the export `wq_arenas`, the first call into an instance: also installs the panic hook.
pub fn arenas() -> usize {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("panic");
        match info.location() {
            Some(place) => note_panic(&[text, " at ", place.file(), ":", decimal(place.line(), &mut [0; 10])]),
            None => note_panic(&[text]),
        }
    }));
    let arenas = Arenas {
        in_ptr: IN.address() as u32,
        in_cap: IN_BYTES as u32,
        out_ptr: OUT.address() as u32,
        out_cap: OUT_BYTES as u32,
    };
    // SAFETY: nothing else in the guest refers to the table.
    unsafe { *TABLE.0.get() = arenas.to_bytes() };
    TABLE.address()
}

/// Body of the export `wq_panic`.
pub fn panic_buffer() -> usize {
    PANIC.address()
}

/// Writes the parts into the panic buffer, as many bytes as fit. No formatting machinery: it may be what panicked.
fn note_panic(parts: &[&str]) {
    // SAFETY: only the panic hook refers to the buffer, and a panic within it aborts.
    let buffer = unsafe { &mut *PANIC.0.get() };
    let (len, text) = buffer.split_at_mut(4);
    let mut used = 0;
    for part in parts {
        let take = part.len().min(text.len() - used);
        text[used..used + take].copy_from_slice(&part.as_bytes()[..take]);
        used += take;
    }
    len.copy_from_slice(&(used as u32).to_le_bytes());
}

fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return str::from_utf8(&digits[at..]).unwrap_or_default();
        }
    }
}

/// The manifest's bytes and their number; see [`encode_manifest`].
pub const fn manifest<F: Plugin, const N: usize>() -> ([u8; N], usize) {
    encode_manifest(F::NAME, F::VERSION, F::BODY_BYTES_MAX, F::MEMORY_BYTES_MAX)
}
