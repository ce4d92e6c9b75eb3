//! The connection's task over a scripted link: however a stream is cut into reads, and however little each write takes,
//! the handler sees the same commands and the other side gets the same answers.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use proptest::prelude::*;
use waspmq_protocol::command::Flags;
use waspmq_protocol::{HeaderKind, RequestCode, frame};

use super::*;
use crate::replies::ReplyTo;

/// Brings the given reads, takes at most `write_max` bytes a write, and is not ready every second time.
struct Script {
    reads: VecDeque<Vec<u8>>,
    written: Arc<Mutex<Vec<u8>>>,
    write_max: usize,
    ready: bool,
}

impl Script {
    fn not_ready(&mut self, context: &mut Context<'_>) -> bool {
        self.ready = !self.ready;
        if !self.ready {
            context.waker().wake_by_ref();
        }
        !self.ready
    }
}

impl Link for Script {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.not_ready(context) {
            return Poll::Pending;
        }
        let Some(next) = self.reads.front_mut() else { return Poll::Ready(Ok(0)) };
        let bytes = next.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&next[..bytes]);
        next.drain(..bytes);
        if next.is_empty() {
            self.reads.pop_front();
        }
        Poll::Ready(Ok(bytes))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.not_ready(context) {
            return Poll::Pending;
        }
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(self.write_max).collect();
        self.written.lock().unwrap().extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn settle_here(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Notes every request and answers it with its own body; gives way after some.
#[derive(Default)]
struct Echo {
    seen: Mutex<Vec<RemotingCommand>>,
    closed: Mutex<u32>,
}

impl Handler for Echo {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        while let Some(request) = requests.next_request() {
            if let Some(time) = gives_way(request.opaque) {
                connection.give_way(time);
            }
            let request_owned = request.to_owned();
            let body = request_owned.body.clone();
            replies.push(ReplyTo::of(request), RemotingCommand::response(ResponseCode::SUCCESS).with_body(body));
            self.seen.lock().unwrap().push(request_owned);
        }
    }

    fn closed(&self, _: &Arc<Connection>) {
        *self.closed.lock().unwrap() += 1;
    }
}

/// After which requests the connection gives way, and how long: for less than it takes to move, or for more.
fn gives_way(opaque: i32) -> Option<Duration> {
    [None, None, Some(Duration::ZERO), Some(Duration::from_millis(3))][(opaque & 3) as usize]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn shared(limits: Limits, background: Option<Handle>) -> Arc<Shared> {
    let budget = Budget::new(limits.total_bytes_max);
    Arc::new(Shared { limits, budget, metrics: Arc::default(), background })
}

fn frames(bytes: &[u8]) -> Vec<RemotingCommand> {
    let (mut at, mut all) = (0, Vec::new());
    while let Some(bounds) = frame::split(&bytes[at..], usize::MAX).unwrap() {
        all.push(RemotingCommand::decode(&bytes[at..at + bounds.total]).unwrap());
        at += bounds.total;
    }
    assert_eq!(at, bytes.len(), "the answers end with half a frame");
    all
}

struct Ran {
    seen: Vec<RemotingCommand>,
    written: Vec<u8>,
    moves: usize,
}

/// Runs one connection over `reads` to its end.
fn run(reads: VecDeque<Vec<u8>>, write_max: usize, shared: &Arc<Shared>) -> Ran {
    let written = Arc::new(Mutex::default());
    let echo = Arc::new(Echo::default());
    let link = Script { reads, written: Arc::clone(&written), write_max, ready: false };
    let address = "127.0.0.1:1".parse().unwrap();
    let connection =
        Connection::new(1, address, address, shared.limits.connection_bytes_max, Arc::clone(&shared.metrics));
    let runtime = runtime();
    let inside = runtime.enter();
    let mut driver = Some(Driver::new(link, Arc::new(connection), Arc::<Echo>::clone(&echo), Arc::clone(shared)));
    drop(inside);
    let mut moves = 0;
    while let Some(running) = driver.take() {
        driver = runtime.block_on(running.run());
        if let Some(moving) = &mut driver {
            let _inside = runtime.enter();
            moving.settle_here();
            moves += 1;
        }
    }
    assert_eq!(*echo.closed.lock().unwrap(), 1);
    let seen = std::mem::take(&mut *echo.seen.lock().unwrap());
    let written = written.lock().unwrap().clone();
    Ran { seen, written, moves }
}

fn command() -> impl Strategy<Value = RemotingCommand> {
    let bodies = prop_oneof![8 => 0_usize..2000, 2 => 100_000_usize..300_000, 1 => 500_000_usize..900_000];
    (any::<i32>(), bodies, any::<bool>(), prop_oneof![4 => Just(0), 1 => Just(2), 1 => Just(1)]).prop_map(
        |(opaque, body, binary, flags)| {
            let mut command = RemotingCommand::response(ResponseCode(RequestCode::SEND_MESSAGE_V2.0));
            command.flags = Flags(flags);
            command.opaque = opaque;
            command.version = 317;
            command.kind = if binary { HeaderKind::RocketMq } else { HeaderKind::Json };
            let body: Vec<u8> = (0..body).map(|index| (index % 251) as u8).collect();
            command.with_ext("b", "T").with_body(body)
        },
    )
}

fn cut(stream: &[u8], cuts: &[usize]) -> VecDeque<Vec<u8>> {
    let (mut reads, mut rest, mut cuts) = (VecDeque::new(), stream, cuts.iter().cycle());
    while !rest.is_empty() {
        let (read, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
        reads.push_back(read.to_vec());
        rest = after;
    }
    reads
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_split_into_reads_and_any_move_yields_the_same_commands_and_answers(
        commands in prop::collection::vec(command(), 1..24),
        cuts in prop::collection::vec(prop_oneof![1_usize..40, 500_usize..5000, 60_000_usize..400_000], 1..20),
        write_max in prop_oneof![200_usize..3000, 100_000_usize..1_000_000],
        connection_bytes_max in prop_oneof![Just(1), Just(100_000), Just(10_000_000)],
        may_move: bool,
    ) {
        let stream: Vec<u8> = commands.iter().flat_map(|command| command.encode().to_vec()).collect();
        // Very short reads of a very long stream only take time.
        let cuts: Vec<_> = cuts.into_iter().map(|cut| cut.max(stream.len() / 5000 + 1)).collect();
        let background = runtime();
        let background = may_move.then(|| background.handle().clone());
        let shared = shared(Limits { connection_bytes_max, ..Limits::default() }, background);
        let Ran { seen, written, moves } = run(cut(&stream, &cuts), write_max.max(stream.len() / 5000), &shared);
        let requests: Vec<_> = commands.into_iter().filter(|command| !command.flags.is_response()).collect();
        prop_assert!(seen == requests);
        let has_to_move = requests.iter().any(|request| gives_way(request.opaque).is_some_and(|time| !time.is_zero()));
        prop_assert!(moves > 0 || !(may_move && has_to_move));
        prop_assert!(moves == 0 || may_move);
        let expected: Vec<_> = requests.into_iter().filter(|request| !request.flags.is_oneway()).collect();
        let answers = frames(&written);
        prop_assert_eq!(answers.len(), expected.len());
        for (answer, request) in answers.iter().zip(&expected) {
            prop_assert!(answer.flags == Flags::RESPONSE && answer.opaque == request.opaque);
            prop_assert!(answer.kind == request.kind && answer.body == request.body);
        }
        prop_assert!(shared.budget.try_charge(2, &Context::from_waker(std::task::Waker::noop()), shared.limits.total_bytes_max));
        prop_assert_eq!(shared.metrics.closed(CloseReason::PeerClosed), 1);
    }
}

#[test]
fn answers_to_whole_frames_leave_before_the_fault_behind_them_closes() {
    let mut request =
        RemotingCommand::response(ResponseCode(RequestCode::HEART_BEAT.0)).with_body(Bytes::from_static(b"x"));
    request.flags = Flags(0);
    request.version = 317;
    let mut stream = request.encode().to_vec();
    stream.extend_from_slice(&[0xff; 8]);
    let shared = shared(Limits::default(), None);
    let Ran { seen, written, .. } = run(VecDeque::from([stream]), usize::MAX, &shared);
    assert_eq!(seen.len(), 1);
    assert_eq!(frames(&written).len(), 1);
    assert_eq!(shared.metrics.closed(CloseReason::BadFrame), 1);
}
