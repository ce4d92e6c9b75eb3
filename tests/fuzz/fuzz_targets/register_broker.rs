//! Bodies of registrations in all forms. The first byte says which: bit 0 compressed, bits 1-2 the sender's age.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::body::register_broker::RegisterBrokerBody;

fuzz_target!(|data: &[u8]| {
    let Some((form, body)) = data.split_first() else { return };
    let version = [36, 401, 413, 479][usize::from(form >> 1 & 3)];
    let Ok(read) = RegisterBrokerBody::decode(body, version, form & 1 == 1) else { return };
    let again = RegisterBrokerBody::decode(&read.encode(), 479, false).expect("what was written reads");
    if !body.is_empty() {
        assert_eq!(again, read);
    }
    // The compressed form separates by blanks and carries less; it must be written without harm all the same.
    let _ = read.encode_compressed(479);
});
