//! PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361): the checks of a pull in RocketMQ's order, the read, and the
//! answer with its four offsets. A pull that finds nothing is held when its client allows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use waspmq_protocol::code::{RequestCode, ResponseCode};
use waspmq_protocol::command::Command;
use waspmq_protocol::header::PullMessageHeader;
use waspmq_remoting::{Connection, Replies, ReplyTo, Responder};
use waspmq_store::clock::Clock;
use waspmq_store::{GetRequest, GetResult, GetStatus, MessageFilter, MessageStore, QueueOffset};

use super::pull_checks::{PullChecks, PullRefusal};
use super::refusal::Refusal;
use crate::filter::{PluginFilter, PreparedFilter};
use crate::long_polling::{HeldPull, LongPolling, Pull};
use crate::offset::OffsetTable;

/// Pulls that are read aside at a time: twice as many as there are threads for it.
pub const ASIDE_MAX: usize = 64;

/// Who reads so far from the end of the log or further gives way to others.
const BEHIND_BYTES: i64 = 64 << 20;

/// How long after such a read.
const GIVES_WAY: Duration = Duration::from_secs(1);

/// Bits of a pull's `sysFlag`.
pub mod pull_flag {
    /// `commitOffset` is to be stored.
    pub const COMMIT_OFFSET: i32 = 1;
    /// The broker may hold the pull.
    pub const SUSPEND: i32 = 2;
    /// The pull brings its own subscription.
    pub const SUBSCRIPTION: i32 = 4;
}

/// Limits of one answer, as RocketMQ's settings name them.
#[derive(Debug, Clone, Copy)]
pub struct PullLimits {
    /// `maxTransferBytesOnMessageInMemory`.
    pub bytes_max: usize,
    /// `longPollingEnable`; otherwise a pull is held for `short_polling_ms` only.
    pub long_polling: bool,
    /// `shortPollingTimeMills`.
    pub short_polling_ms: i64,
    /// `maxHeldPulls`: a held pull costs memory.
    pub held_max: usize,
}

/// Answers pulls.
pub struct PullMessages {
    /// Where messages are.
    pub store: Arc<MessageStore>,
    /// What a pull must pass before it is read.
    pub checks: PullChecks,
    /// For offsets that come along with a pull.
    pub offsets: Arc<OffsetTable>,
    /// Where pulls wait.
    pub long_polling: Arc<LongPolling>,
    /// For deadlines.
    pub clock: Arc<dyn Clock>,
    /// Sizes of answers.
    pub limits: PullLimits,
    /// One for each pull that may be read aside at a time; without one it is read at once, and its connection waits.
    pub aside: Arc<Semaphore>,
}

impl PullMessages {
    /// Answers a pull, or holds it.
    pub fn handle(self: &Arc<Self>, connection: &Arc<Connection>, command: &Command<'_>, replies: &mut Replies) {
        let lite = command.request_code() == RequestCode::LITE_PULL_MESSAGE;
        let header = match PullMessageHeader::decode(&command.ext) {
            Ok(header) => header,
            Err(error) => return replies.push(ReplyTo::of(command), PullRefusal::from(error).into_response()),
        };
        let pull = match self.checks.check(&header, lite) {
            Ok(pull) => pull,
            Err(refusal) => return replies.push(ReplyTo::of(command), refusal.into_response()),
        };
        let now_ms = self.clock.now_ms();
        if header.sys_flag & pull_flag::COMMIT_OFFSET != 0 {
            let (topic, queue_id) = (&pull.topic.config.topic_name, pull.queue.id());
            self.offsets.commit(&pull.group, topic, queue_id, header.commit_offset, now_ms);
        }
        if !command.flags.is_oneway()
            && self.store.may_wait(&pull.queue, &self.request(&pull))
            && let Ok(permit) = Arc::clone(&self.aside).try_acquire_owned()
        {
            return self.read_aside(pull, &header, connection.responder(command), (now_ms, permit));
        }
        let result = self.read(&pull);
        let waits = response_code(&result, pull.offset) == ResponseCode::PULL_NOT_FOUND;
        if waits && header.sys_flag & pull_flag::SUSPEND != 0 && !command.flags.is_oneway() {
            if self.long_polling.len() >= self.limits.held_max {
                return replies.push(ReplyTo::of(command), self.too_many_held().into_response());
            }
            let held = HeldPull {
                pull,
                responder: connection.responder(command),
                deadline_ms: self.deadline_ms(&header, now_ms),
                again_ms: 0,
                undecided: result.status == GetStatus::Undecided,
            };
            return self.long_polling.hold(held, now_ms);
        }
        give_way_if_behind(connection, &result);
        answer(&pull, result, ReplyTo::of(command), replies);
    }

    /// Reads what lies on the disk, on a thread of its own: whoever sends meanwhile does not wait for that.
    fn read_aside(
        self: &Arc<Self>,
        pull: Pull,
        header: &PullMessageHeader<'_>,
        responder: Responder,
        (now_ms, permit): (i64, OwnedSemaphorePermit),
    ) {
        let suspend = header.sys_flag & pull_flag::SUSPEND != 0 && self.long_polling.len() < self.limits.held_max;
        let deadline_ms = if suspend { self.deadline_ms(header, now_ms) } else { now_ms };
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            this.run_again(HeldPull { pull, responder, deadline_ms, again_ms: 0, undecided: false });
            drop(permit);
        });
    }

    fn deadline_ms(&self, header: &PullMessageHeader<'_>, now_ms: i64) -> i64 {
        let hold_ms =
            if self.limits.long_polling { header.suspend_timeout_millis } else { self.limits.short_polling_ms };
        now_ms.saturating_add(hold_ms)
    }

    /// Runs a pull again that was held. It is answered whatever is found: the client asks anew.
    pub fn run_again(&self, held: HeldPull) {
        if held.responder.connection().is_closed() {
            return;
        }
        let result = self.read(&held.pull);
        let now_ms = self.clock.now_ms();
        let still_waits = response_code(&result, held.pull.offset) == ResponseCode::PULL_NOT_FOUND;
        if still_waits && now_ms < held.deadline_ms {
            let undecided = result.status == GetStatus::Undecided;
            return self.long_polling.hold(HeldPull { undecided, ..held }, now_ms);
        }
        answer_held(held, result);
    }

    /// Answers a held pull with what there is: the broker stops.
    pub fn answer_now(&self, held: HeldPull) {
        let result = self.read(&held.pull);
        answer_held(held, result);
    }

    /// Answered as found nothing, the client would ask again at once; this makes it pause.
    fn too_many_held(&self) -> Refusal {
        let remark = format!("{} pulls wait already; maxHeldPulls sets how many may", self.limits.held_max);
        Refusal::new(ResponseCode::SYSTEM_BUSY, remark)
    }

    fn request(&self, pull: &Pull) -> GetRequest {
        GetRequest { offset: pull.offset, count_max: pull.count_max, bytes_max: self.limits.bytes_max }
    }

    fn read(&self, pull: &Pull) -> GetResult {
        let request = self.request(pull);
        let mut plugin = match &pull.filter {
            PreparedFilter::Plugin(handle) => PluginFilter::begin(handle),
            PreparedFilter::All | PreparedFilter::Refused(_) => None,
        };
        let filter = plugin.as_mut().map(|filter| filter as &mut dyn MessageFilter);
        self.store.get(&pull.queue, &request, filter)
    }
}

fn answer_held(held: HeldPull, result: GetResult) {
    let HeldPull { pull, responder, .. } = held;
    give_way_if_behind(responder.connection(), &result);
    responder.write(|replies, to| answer(&pull, result, to, replies));
}

/// Lets others go first when somebody reads what is far from the end of the log.
fn give_way_if_behind(connection: &Connection, result: &GetResult) {
    if result.behind_bytes > BEHIND_BYTES {
        connection.give_way(GIVES_WAY);
    }
}

/// Writes the answer: the four offsets that clients read without asking whether they are there, then the records as
/// they lie in the log.
fn answer(pull: &Pull, result: GetResult, to: ReplyTo, replies: &mut Replies) {
    let Some(head) = replies.reply(to, response_code(&result, pull.offset)) else { return };
    head.ext_i64("suggestWhichBrokerId", 0)
        .ext_i64("nextBeginOffset", result.next_begin_offset.0)
        .ext_i64("minOffset", result.min_offset.0)
        .ext_i64("maxOffset", result.max_offset.0)
        .ext_i64("topicSysFlag", i64::from(pull.topic.config.topic_sys_flag))
        .ext_i64("groupSysFlag", i64::from(pull.group_sys_flag))
        .remark(status_name(result.status))
        .finish(result.bytes);
    for records in result.records {
        replies.push_body(records);
    }
}

/// RocketMQ's name of a status, the remark of the answer.
fn status_name(status: GetStatus) -> &'static str {
    match status {
        GetStatus::Found => "FOUND",
        GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
        GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        GetStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
        GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
        GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
        GetStatus::Undecided => "FILTER_UNDECIDED",
    }
}

/// What a status means to the client (PullMessageProcessor's table).
fn response_code(result: &GetResult, requested: QueueOffset) -> ResponseCode {
    match result.status {
        GetStatus::Found => ResponseCode::SUCCESS,
        GetStatus::NoMatchedMessage | GetStatus::MessageWasRemoving => ResponseCode::PULL_RETRY_IMMEDIATELY,
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue if requested.0 != 0 => {
            ResponseCode::PULL_OFFSET_MOVED
        }
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue => ResponseCode::PULL_NOT_FOUND,
        // A filter that cannot say holds its message back: nothing is passed over, and the client asks again later.
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne | GetStatus::Undecided => {
            ResponseCode::PULL_NOT_FOUND
        }
        GetStatus::OffsetOverflowBadly | GetStatus::OffsetTooSmall => ResponseCode::PULL_OFFSET_MOVED,
    }
}
