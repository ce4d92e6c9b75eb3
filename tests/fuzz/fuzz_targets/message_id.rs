//! Offset message ids: what parses prints as it came, in upper case.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::message::id::OffsetMessageId;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<OffsetMessageId>() {
        assert_eq!(id.to_string(), text.to_ascii_uppercase());
    }
});
