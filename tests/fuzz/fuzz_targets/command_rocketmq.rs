//! Binary headers in a right frame. What decodes has to encode and decode to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waspmq_protocol::RemotingCommand;

fuzz_target!(|data: &[u8]| {
    let mut frame = (4 + data.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(data.len() as u32 | 1 << 24).to_be_bytes());
    frame.extend_from_slice(data);
    let Ok(command) = RemotingCommand::decode(&frame) else { return };
    assert_eq!(RemotingCommand::decode(&command.encode()).expect("what was encoded decodes"), command);
});
