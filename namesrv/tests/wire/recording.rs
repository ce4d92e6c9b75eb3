//! The recorded exchanges with Java's nameserver, `tests/traffic/namesrv.jsonl`, as frames.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use waspmq_protocol::RemotingCommand;

/// Lines of the full registration, and of the one of a single topic.
pub(crate) const FULL_REGISTRATION: usize = 5;
pub(crate) const ONE_TOPIC: usize = 4;

pub(crate) struct Exchange {
    pub(crate) number: usize,
    pub(crate) request: Vec<u8>,
    pub(crate) reply: RemotingCommand,
}

fn frame_of(side: &Value) -> Vec<u8> {
    let head = side["head"].as_str().unwrap();
    let (kind, head) = if side["header"] == "JSON" { (0, head.as_bytes().to_vec()) } else { (1, base64(head)) };
    let body = side["body"].as_str().unwrap_or_default().as_bytes();
    let mut frame = (4 + head.len() as u32 + body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(head.len() as u32 | kind << 24).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(body);
    frame
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_usize;
    let mut bytes = Vec::new();
    for (place, byte) in text.bytes().filter(|byte| *byte != b'=').enumerate() {
        bits = bits << 6 | DIGITS.iter().position(|digit| *digit == byte).unwrap();
        if place % 4 > 0 {
            bytes.push((bits >> (6 - 2 * (place % 4))) as u8);
        }
    }
    bytes
}

pub(crate) fn recorded() -> BTreeMap<usize, Exchange> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/traffic/namesrv.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let exchanges = text.lines().enumerate().map(|(at, line)| {
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(value["request"]["body64"].is_null() && value["reply"]["body64"].is_null());
        let reply = RemotingCommand::decode(&frame_of(&value["reply"])).unwrap();
        (at + 1, Exchange { number: at + 1, request: frame_of(&value["request"]), reply })
    });
    exchanges.collect()
}
