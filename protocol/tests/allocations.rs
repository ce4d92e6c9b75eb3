//! The hot path of headers allocates nothing: decoding ordinary requests in both kinds, reading the hot headers,
//! and writing an answer into a buffer with room. Counted by an allocator of this test binary.
#![expect(unsafe_code, reason = "a counting allocator has to implement the unsafe trait GlobalAlloc")]

use bytes::BytesMut;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use waspmq_protocol::header::{PullMessageHeader, SendMessageHeader};
use waspmq_protocol::{
    Command, FRAME_BYTES_MAX, HeadWriter, HeaderKind, RemotingCommand, RequestCode, ResponseCode, frame,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches only a thread-local number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps GlobalAlloc's contract, which is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps GlobalAlloc's contract, which is passed on as it is.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn request(code: RequestCode, fields: &[(&str, &str)], kind: HeaderKind) -> Vec<u8> {
    let mut command = RemotingCommand::request(code, &waspmq_protocol::header::NoHeader {});
    command.kind = kind;
    command.ext = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    command.encode().to_vec()
}

const KINDS: [HeaderKind; 2] = [HeaderKind::Json, HeaderKind::RocketMq];

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1_u8)))), 1);
}

#[test]
fn decoding_a_send_request() {
    let fields = [
        ("a", "PG"),
        ("b", "TopicTest"),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", "1"),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "0"),
        ("i", "TAGS\u{1}TagA\u{2}WAIT\u{1}true\u{2}"),
        ("j", "0"),
        ("k", "false"),
        ("l", "16"),
        ("m", "false"),
        ("n", "broker-a"),
        ("ns", ""),
        ("nsd", "false"),
        ("AccessKey", "x"),
        ("Signature", "y"),
        ("ReqT", "0"),
        ("z", "z"),
    ];
    for kind in KINDS {
        let frame = request(RequestCode::SEND_MESSAGE_V2, &fields, kind);
        let count = allocations(|| {
            let bounds = frame::split(&frame, FRAME_BYTES_MAX).unwrap().unwrap();
            let command = Command::decode(&frame, &bounds).unwrap();
            let header = SendMessageHeader::decode(command.request_code(), &command.ext).unwrap();
            assert!(header.topic.eq_str("TopicTest") && command.ext.len() == 20);
        });
        assert_eq!(count, 0, "{kind:?}");
    }
}

#[test]
fn decoding_a_pull_request() {
    let fields = [
        ("consumerGroup", "CG"),
        ("topic", "T"),
        ("queueId", "1"),
        ("queueOffset", "2"),
        ("maxMsgNums", "32"),
        ("sysFlag", "7"),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "15000"),
        ("subscription", "a = \"b\""),
        ("subVersion", "0"),
        ("expressionType", "SQL92"),
    ];
    for kind in KINDS {
        let frame = request(RequestCode::PULL_MESSAGE, &fields, kind);
        let count = allocations(|| {
            let bounds = frame::split(&frame, FRAME_BYTES_MAX).unwrap().unwrap();
            let command = Command::decode(&frame, &bounds).unwrap();
            assert_eq!(PullMessageHeader::decode(&command.ext).unwrap().max_msg_nums, 32);
        });
        assert_eq!(count, 0, "{kind:?}");
    }
}

#[test]
fn writing_an_answer_into_a_buffer_with_room() {
    for kind in KINDS {
        let mut out = BytesMut::with_capacity(4096);
        let count = allocations(|| {
            HeadWriter::response(&mut out, kind, ResponseCode::PULL_NOT_FOUND, 5)
                .ext_i64("nextBeginOffset", i64::MIN)
                .ext_str("MSG_REGION", "a\"b\u{1}c")
                .remark("OFFSET_OVERFLOW_ONE")
                .finish(0);
        });
        assert_eq!(count, 0, "{kind:?}");
        let answer = RemotingCommand::decode(&out).unwrap();
        assert_eq!(answer.ext_value("nextBeginOffset"), Some("-9223372036854775808"));
        assert_eq!(
            (answer.ext_value("MSG_REGION"), answer.remark.as_deref()),
            (Some("a\"b\u{1}c"), Some("OFFSET_OVERFLOW_ONE"))
        );
    }
}
