//! The one place where the wasm engine is configured: what runs plugins and what compiles them ahead at build time must
//! agree, or compiled code is refused at load. Used by the loader, the self-check of files and `precompile`.

use std::hash::{DefaultHasher, Hash, Hasher};

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmFeatures};

use crate::limits::{MEMORY_BYTES_CEILING, TABLE_ELEMENTS_MAX};

/// Native stack that one call of a guest may use.
const GUEST_STACK_BYTES: usize = 256 * 1024;
/// Frames kept of a trap's backtrace: enough to name the function, cheap to collect.
const BACKTRACE_FRAMES: usize = 8;

/// Proposals that no plugin needs; every one that is off is code that cannot be attacked.
const FEATURES_OFF: WasmFeatures = WasmFeatures::THREADS
    .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
    .union(WasmFeatures::GC)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::STACK_SWITCHING)
    .union(WasmFeatures::WIDE_ARITHMETIC)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES);

/// Everything that shapes compiled code; the allocation strategy, which does not, is added by the caller. Compiling in
/// parallel is left out of the engine by its cargo features: a second compiling thread costs running batches milliseconds.
fn code_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .memory_init_cow(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES))
        .wasm_features(FEATURES_OFF, false)
        .wasm_bulk_memory(true)
        .wasm_simd(true)
        .wasm_multi_value(true);
    config
}

/// An engine that only validates and compiles: for build scripts and `broker plugin check`.
pub(crate) fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&code_config())
}

/// An engine that runs plugins in `slots` preallocated slots, or in fewer if the process may not have that much address
/// space (each slot reserves 4 GiB of it, and none of the memory). The second value is what it got.
pub(crate) fn running_engine(slots: u32) -> wasmtime::Result<(Engine, u32)> {
    let mut slots = slots.max(1);
    loop {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(slots)
            .total_memories(slots)
            .total_tables(slots)
            .max_memories_per_module(1)
            .max_tables_per_module(1)
            .table_elements(TABLE_ELEMENTS_MAX)
            .max_memory_size(MEMORY_BYTES_CEILING);
        let mut config = code_config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        match Engine::new(&config) {
            Ok(engine) => return Ok((engine, slots)),
            Err(error) if slots <= 4 => return Err(error),
            Err(_) => slots /= 2,
        }
    }
}

/// Names the code this engine can run: wasmtime's version, target, settings. Part of the key of cached code.
pub(crate) fn compatibility(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_compiled_ahead_fits_the_running_engine() {
        let (running, slots) = running_engine(8).unwrap();
        assert_eq!(slots, 8);
        assert_eq!(compatibility(&running), compatibility(&compiling_engine().unwrap()));
    }

    #[test]
    fn proposals_nobody_needs_are_off() {
        let engine = compiling_engine().unwrap();
        let check = |text: &str| wasmtime::Module::validate(&engine, &wat::parse_str(text).unwrap()).is_ok();
        assert!(check("(module (memory 1) (func (result i32 i32) i32.const 1 i32.const 2))"));
        assert!(check("(module (func (param v128) (result v128) local.get 0))"));
        assert!(!check("(module (memory i64 1))"), "memory64");
        assert!(!check("(module (memory 1) (memory 1))"), "multi-memory");
        assert!(!check("(module (memory 1 1 shared))"), "threads");
        assert!(!check("(module (func $f (return_call $f)))"), "tail calls");
        assert!(!check("(module (type (struct)))"), "gc");
    }
}
