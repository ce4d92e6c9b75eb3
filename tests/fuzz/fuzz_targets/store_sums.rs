//! A file of the records' sums. What must hold stands in `waspmq_store::parsers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waspmq_fuzz::within_memory(data, waspmq_store::parsers::sums));
