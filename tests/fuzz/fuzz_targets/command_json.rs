//! Frames as they come from a socket, and JSON headers put into a right frame. What decodes has to encode and decode to
//! the same, borrowed and owned forms have to agree, and a strict JSON reader has to find the same values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::{Command, FRAME_BYTES_MAX, HeaderKind, RemotingCommand, frame};

fn frame_around(header: &[u8]) -> Vec<u8> {
    let mut frame = (4 + header.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
    frame.extend_from_slice(header);
    frame
}

fn check(bytes: &[u8]) -> Option<RemotingCommand> {
    let bounds = frame::split(bytes, FRAME_BYTES_MAX).ok()??;
    assert!(bounds.total <= bytes.len() && bounds.header.end == bounds.body.start && bounds.body.end == bounds.total);
    let borrowed = Command::decode(bytes, &bounds).ok()?;
    let owned = borrowed.to_owned();
    for (name, _) in borrowed.ext.iter() {
        let name = name.to_cow();
        assert_eq!(borrowed.ext.get(&name).map(|value| value.to_cow()).as_deref(), owned.ext_value(&name));
    }
    Some(owned)
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let Some(command) = check(&frame_around(data)) else { return };
    assert_eq!(command.kind, HeaderKind::Json);
    let again = check(&command.encode()).expect("what was encoded decodes");
    // Languages without a name are written as OTHER; all else stays.
    let command = RemotingCommand { language: again.language, ..command };
    assert_eq!(again, command);
    if let Ok(strict) = serde_json::from_slice::<serde_json::Value>(data)
        && let Some(code) = strict["code"].as_i64()
    {
        assert_eq!(i64::from(command.code), code);
    }
});
