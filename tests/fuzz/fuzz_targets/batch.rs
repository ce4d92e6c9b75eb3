//! Bodies of batch sends. What reads without an error has to be written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::message::batch;

fuzz_target!(|data: &[u8]| {
    let items: Result<Vec<_>, _> = batch::items(data).collect();
    let Ok(items) = items else { return };
    let mut again = Vec::new();
    for item in &items {
        batch::push_item(item, &mut again);
    }
    let read: Vec<_> = batch::items(&again).map(|item| item.expect("what was written reads")).collect();
    assert_eq!(read, items);
});
