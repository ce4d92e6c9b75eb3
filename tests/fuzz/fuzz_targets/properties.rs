//! Property blocks: reading agrees with the list of entries, and setting and removing touch one entry only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::message::properties;

fuzz_target!(|data: &[u8]| {
    let _ = properties::iter(data).count();
    for name in ["TAGS", "KEYS", "", "UNIQ_KEY"] {
        let _ = properties::find(data, name);
        let _ = properties::find_bytes(data, name);
    }
    let mut block = data.to_vec();
    if properties::set(&mut block, "FUZZ", "value") {
        assert_eq!(properties::find(&block, "FUZZ"), Some("value"));
    }
    properties::remove(&mut block, "FUZZ");
    assert_eq!(properties::find(&block, "FUZZ"), None);
});
