//! How long the hot path's headers take: decoding a send and a pull request, encoding a send's answer, in both header
//! kinds. `cargo bench -p waspmq-protocol`; prints the best of several rounds, nanoseconds per command.

use bytes::BytesMut;
use std::hint::black_box;
use std::time::Instant;
use waspmq_protocol::header::{PullMessageHeader, SendMessageHeader};
use waspmq_protocol::{
    Command, FRAME_BYTES_MAX, HeadWriter, HeaderKind, RemotingCommand, RequestCode, ResponseCode, frame,
};

const PROPERTIES: &str = "UNIQ_KEY\u{1}7F0000010001070DEA4E000000010000\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}";

const SEND: &str = r#"{"code":310,"extFields":{"a":"PG","b":"TopicTest","c":"TBW102","d":"4","e":"1","f":"0","g":"1700000000000","h":"0","i":"UNIQ_KEY\u00017F0000010001070DEA4E000000010000\u0002WAIT\u0001true\u0002TAGS\u0001TagA\u0002","j":"0","k":"false","m":"false","n":"broker-a"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":479}"#;

const PULL: &str = r#"{"code":11,"extFields":{"consumerGroup":"CG","topic":"TopicTest","queueId":"1","queueOffset":"123456","maxMsgNums":"32","sysFlag":"2","commitOffset":"0","suspendTimeoutMillis":"15000","subVersion":"1700000000000","expressionType":"TAG"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":479}"#;

fn json_frame(header: &str) -> Vec<u8> {
    let mut frame = (4 + header.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    frame
}

fn binary_frame(json: &[u8]) -> Vec<u8> {
    let mut command = RemotingCommand::decode(json).expect("a frame of ours");
    command.kind = HeaderKind::RocketMq;
    command.encode().to_vec()
}

fn measure(name: &str, mut work: impl FnMut()) {
    const ROUNDS: u32 = 9;
    const PER_ROUND: u32 = 200_000;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..PER_ROUND {
            work();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(PER_ROUND));
    }
    println!("{name:<46} {best:>7.1} ns");
}

fn decode_send(frame: &[u8]) {
    let bounds = frame::split(black_box(frame), FRAME_BYTES_MAX).expect("whole").expect("a frame");
    let command = Command::decode(frame, &bounds).expect("a command");
    black_box(SendMessageHeader::decode(command.request_code(), &command.ext).expect("a send header"));
}

fn main() {
    let send = json_frame(SEND);
    let pull = json_frame(PULL);
    let binary = binary_frame(&send);
    for (name, frame) in [("send request, JSON", &send), ("send request, ROCKETMQ", &binary)] {
        let bounds = frame::split(frame, FRAME_BYTES_MAX).expect("whole").expect("a frame");
        measure(&format!("{name} ({} bytes): decode", frame.len()), || {
            black_box(Command::decode(black_box(frame), &bounds).expect("a command"));
        });
        measure(&format!("{name}: split, decode, typed header"), || decode_send(frame));
    }
    measure("pull request, JSON: split, decode, typed header", || {
        let bounds = frame::split(black_box(&pull), FRAME_BYTES_MAX).expect("whole").expect("a frame");
        let command = Command::decode(&pull, &bounds).expect("a command");
        black_box(PullMessageHeader::decode(&command.ext).expect("a pull header"));
    });
    let mut out = BytesMut::with_capacity(4096);
    for kind in [HeaderKind::Json, HeaderKind::RocketMq] {
        measure(&format!("send answer, {}: encode", kind.name()), || {
            out.clear();
            HeadWriter::response(&mut out, kind, ResponseCode::SUCCESS, black_box(77))
                .ext_str("msgId", black_box("7F00000100002A9F0000000000001000"))
                .ext_i64("queueId", black_box(1))
                .ext_i64("queueOffset", black_box(123_456))
                .ext_str("transactionId", "7F0000010001070DEA4E000000010000")
                .ext_str("MSG_REGION", "DefaultRegion")
                .ext_str("TRACE_ON", "true")
                .finish(0);
            black_box(&out);
        });
    }
    let owned = RemotingCommand::decode(&send).expect("a command");
    assert_eq!(owned.request_code(), RequestCode::SEND_MESSAGE_V2);
    assert_eq!(owned.ext_value("i"), Some(PROPERTIES));
    measure("send request: owned copy", || {
        black_box(RemotingCommand::decode(black_box(&send)).expect("a command"));
    });
}
