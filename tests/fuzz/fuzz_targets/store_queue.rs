//! A file of a consume queue: opened, corrected, read, cut. What must hold stands in `waspmq_store::parsers`.
#![no_main]

mod within_memory;

libfuzzer_sys::fuzz_target!(|data: &[u8]| within_memory::check(data, waspmq_store::parsers::queue));
