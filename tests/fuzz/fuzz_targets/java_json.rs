//! Java's JSON made standard. Standard JSON stays as it is in meaning, and what was made standard once is standard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::java_json;

fuzz_target!(|data: &[u8]| {
    let Ok(standard) = java_json::normalise(data) else { return };
    let again = java_json::normalise(&standard).expect("what was made standard is read again");
    assert_eq!(again, standard);
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        let same: serde_json::Value = serde_json::from_slice(&standard).expect("standard JSON stays standard");
        assert_eq!(same, value);
    }
});
