//! Stored records: from a disk that may hold anything, and from a pull's body. A record that parses has to encode to
//! the same bytes it was read from, where it is of today's form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::message::record::{self, LogEntry, RecordView};

fuzz_target!(|data: &[u8]| {
    for check_crc in [false, true] {
        let Ok(view) = RecordView::parse(data, check_crc) else { continue };
        assert!(view.len() <= data.len() && view.bytes().len() == view.len());
        let _ = view.property("TAGS");
        let fields = view.fields();
        if fields.check().is_ok() {
            let mut out = vec![0; record::encoded_len(&fields)];
            record::encode_into(&fields, &mut out);
            let again = RecordView::parse(&out, true).expect("what was encoded parses");
            assert_eq!(
                (again.topic(), again.body(), again.properties()),
                (view.topic(), view.body(), view.properties())
            );
            assert_eq!((again.queue_offset(), again.born_host()), (view.queue_offset(), view.born_host()));
        }
    }
    match record::next_entry(data) {
        Ok(LogEntry::Record(view)) => assert!(view.len() <= data.len()),
        Ok(LogEntry::Blank { len }) => assert!(len > 0),
        Err(_) => {}
    }
    assert!(record::records(data).take(data.len() + 2).count() <= data.len() + 1);
});
