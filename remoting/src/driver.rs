//! The task of one connection: reads, lets the handler answer, writes, keeps the bounds and the deadlines.
//! Everything happens in one poll function on one task; the read buffer and the queue of answers belong to the thread, so
//! that a connection which waits owns almost nothing. Started by `server` and `client`. Whatever ends the task, dropping
//! it fails the calls that wait, tells the handler, and gives its bytes back.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until};
use waspmq_protocol::{RemotingCommand, ResponseCode};

use crate::batch::{Batch, End};
use crate::budget::Budget;
use crate::connection::Connection;
use crate::handler::Handler;
use crate::intake::Intake;
use crate::limits::Limits;
use crate::metrics::{CloseReason, Metrics, add};
use crate::net::Link;
use crate::replies::Replies;

/// Bytes one read may bring.
pub(crate) const READ_BYTES: usize = 128 * 1024;

/// Bytes the emptied queue of a thread keeps for the next connection.
const REPLIES_BYTES_KEPT: usize = 1024 * 1024;

/// Reads of one connection before its task lets others run.
const TURNS_MAX: usize = 16;

/// Slices of one vectored write.
const SLICES_MAX: usize = 64;

/// A draining connection that has nothing left to answer stays open this long for requests already on their way.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// What all connections of one server or client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) budget: Budget,
    pub(crate) metrics: Arc<Metrics>,
    /// Where connections run that give way to others; without it they run among them.
    pub(crate) background: Option<Handle>,
}

/// What a thread lends to the connection it is running.
struct Workspace {
    read: Vec<u8>,
    replies: Replies,
}

thread_local! {
    static WORKSPACE: Cell<Option<Box<Workspace>>> = const { Cell::new(None) };
}

impl Workspace {
    fn borrow() -> Box<Self> {
        WORKSPACE.take().unwrap_or_else(|| Box::new(Self { read: vec![0; READ_BYTES], replies: Replies::default() }))
    }

    fn put_back(mut self: Box<Self>) {
        self.replies.shrink(REPLIES_BYTES_KEPT);
        WORKSPACE.set(Some(self));
    }
}

/// The task of one connection.
pub(crate) struct Driver<L: Link> {
    link: L,
    connection: Arc<Connection>,
    handler: Arc<dyn Handler>,
    shared: Arc<Shared>,
    intake: Intake,
    /// Whole frames may be in the intake: handle them before reading on.
    paused: bool,
    unsent: Replies,
    /// Nothing more is read; the connection ends for this reason once its answers are written.
    ending: Option<CloseReason>,
    /// Bytes taken from the budget.
    charged: usize,
    frames_seen: bool,
    in_background: bool,
    clock: Clock,
    reason: CloseReason,
}

/// The moments the deadlines count from.
struct Clock {
    now: Instant,
    active: Instant,
    half_frame: Option<Instant>,
    slow_reader: Option<Instant>,
    drain: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// What a step of the task leads to.
enum Step {
    Again,
    Wait,
}

/// How the turns of one poll end.
enum Turns {
    Wait,
    Move,
}

/// Why the task stops polling.
enum Outcome {
    Ended(CloseReason),
    Moves,
}

impl<L: Link> Driver<L> {
    pub(crate) fn new(link: L, connection: Arc<Connection>, handler: Arc<dyn Handler>, shared: Arc<Shared>) -> Self {
        add(&shared.metrics.accepted, 1);
        add(&shared.metrics.connections, 1);
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + shared.limits.idle_timeout));
        let clock = Clock { now, active: now, half_frame: None, slow_reader: None, drain: None, timer };
        Self {
            link,
            connection,
            handler,
            shared,
            intake: Intake::default(),
            paused: false,
            unsent: Replies::default(),
            ending: None,
            charged: 0,
            frames_seen: false,
            in_background: false,
            clock,
            reason: CloseReason::Requested,
        }
    }

    /// Runs until the connection ends, or until it has to run elsewhere: then it is returned, to be settled and run there.
    pub(crate) async fn run(mut self) -> Option<Self> {
        match poll_fn(|context| self.poll(context)).await {
            Outcome::Ended(reason) => {
                self.reason = reason;
                None
            }
            Outcome::Moves => Some(self),
        }
    }

    /// Whether it runs, or is to run, among those that give way.
    pub(crate) fn in_background(&self) -> bool {
        self.in_background
    }

    /// Binds what waits for the system to the runtime around this call.
    pub(crate) fn settle_here(&mut self) {
        if let Err(error) = self.link.settle_here() {
            // It is served all the same, woken from where it was before.
            tracing::debug!(peer = %self.connection.peer(), %error, "a connection is not woken by the threads that serve it");
        }
        self.clock.timer = Box::pin(sleep_until(self.clock.timer.deadline()));
    }

    /// Whether the task runs among those it should not run among.
    fn is_out_of_place(&self) -> bool {
        self.shared.background.is_some() && self.connection.gives_way(self.clock.now) != self.in_background
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut workspace = Workspace::borrow();
        let resumed = !self.unsent.is_empty();
        if resumed {
            std::mem::swap(&mut self.unsent, &mut workspace.replies);
        }
        self.clock.now = Instant::now();
        let ended = self.turns(context, &mut workspace);
        let unsent = workspace.replies.len();
        if resumed || unsent > 0 {
            std::mem::swap(&mut self.unsent, &mut workspace.replies);
            if unsent == 0 {
                self.unsent = Replies::default();
            }
        }
        workspace.put_back();
        self.settle(unsent);
        match ended {
            Err(reason) => Poll::Ready(Outcome::Ended(reason)),
            Ok(Turns::Move) => {
                self.in_background = !self.in_background;
                Poll::Ready(Outcome::Moves)
            }
            Ok(Turns::Wait) => self.poll_deadlines(context, unsent),
        }
    }

    /// Writes, reads and handles until there is nothing to do, or others should have their turn. Only then has it asked to
    /// be woken; not if it has to move.
    fn turns(&mut self, context: &mut Context<'_>, workspace: &mut Workspace) -> Result<Turns, CloseReason> {
        for _ in 0..TURNS_MAX {
            let asked_to_end = self.connection.take_queued(context, &mut workspace.replies);
            self.flush(context, &mut workspace.replies)?;
            let ended = self.ending.filter(|_| workspace.replies.is_empty());
            if let Some(reason) = asked_to_end.or(ended) {
                return Err(reason);
            }
            let step = self.take_in(context, workspace)?;
            if self.is_out_of_place() {
                return Ok(Turns::Move);
            }
            if let Step::Wait = step {
                return Ok(Turns::Wait);
            }
        }
        context.waker().wake_by_ref();
        Ok(Turns::Wait)
    }

    /// Offers the queue to the socket.
    fn flush(&mut self, context: &mut Context<'_>, replies: &mut Replies) -> Result<(), CloseReason> {
        let frames = replies.take_frames();
        if frames > 0 {
            add(&self.shared.metrics.frames_out, frames);
        }
        while !replies.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = replies.slices(&mut slices);
            match self.link.poll_write(context, &slices[..filled]) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    replies.advance(written);
                    add(&self.shared.metrics.bytes_out, written as u64);
                    self.clock.active = self.clock.now;
                    if replies.len() <= self.shared.limits.connection_bytes_max {
                        self.clock.slow_reader = None;
                    }
                }
                Poll::Ready(Ok(_)) => return Err(CloseReason::PeerClosed),
                Poll::Ready(Err(error)) => return Err(self.socket_error(&error)),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Reads once and handles what came.
    fn take_in(&mut self, context: &mut Context<'_>, workspace: &mut Workspace) -> Result<Step, CloseReason> {
        let limits = &self.shared.limits;
        if self.ending.is_some()
            || workspace.replies.len() > limits.connection_bytes_max
            || self.connection.held() >= limits.held_requests_max
        {
            return Ok(Step::Wait);
        }
        let Workspace { read, replies } = workspace;
        if std::mem::take(&mut self.paused) {
            self.handle_kept(replies)?;
            return Ok(Step::Again);
        }
        if !self.shared.budget.may_read(self.connection.id(), context, !self.intake.is_empty()) {
            return Ok(Step::Wait);
        }
        if let Some(total) = self.intake.frame_longer_than(READ_BYTES) {
            return self.take_in_large(context, total, replies);
        }
        let kept = self.intake.kept().len();
        let bytes = match self.link.poll_read(context, &mut read[kept..]) {
            Poll::Ready(result) => self.read_result(result)?,
            Poll::Pending => return Ok(Step::Wait),
        };
        read[..kept].copy_from_slice(self.intake.kept());
        let received = &read[..kept + bytes];
        let consumed = self.handle(received, replies)?;
        self.intake.keep(&received[consumed..]);
        Ok(Step::Again)
    }

    /// Reads more of a frame that has a buffer of its own; handles it when it is whole.
    fn take_in_large(
        &mut self,
        context: &mut Context<'_>,
        total: usize,
        replies: &mut Replies,
    ) -> Result<Step, CloseReason> {
        if let Some(size) = self.intake.next_size(total, READ_BYTES) {
            let more = size - self.intake.owned().min(size);
            if !self.shared.budget.try_charge(self.connection.id(), context, more) {
                return Ok(Step::Wait);
            }
            self.charged += more;
            self.intake.grow(size);
        }
        let bytes = match self.link.poll_read(context, self.intake.room(total)) {
            Poll::Ready(result) => self.read_result(result)?,
            Poll::Pending => return Ok(Step::Wait),
        };
        self.intake.fill(bytes);
        if self.intake.kept().len() == total {
            self.handle_kept(replies)?;
        }
        Ok(Step::Again)
    }

    fn read_result(&mut self, result: std::io::Result<usize>) -> Result<usize, CloseReason> {
        match result {
            // What it asked before it stopped sending is still answered.
            Ok(0) => {
                self.ending = Some(CloseReason::PeerClosed);
                Ok(0)
            }
            Ok(bytes) => {
                add(&self.shared.metrics.bytes_in, bytes as u64);
                self.clock.active = self.clock.now;
                Ok(bytes)
            }
            Err(error) => Err(self.socket_error(&error)),
        }
    }

    fn handle_kept(&mut self, replies: &mut Replies) -> Result<(), CloseReason> {
        let mut intake = std::mem::take(&mut self.intake);
        let consumed = self.handle(intake.kept(), replies)?;
        intake.consume(consumed);
        self.intake = intake;
        Ok(())
    }

    /// Hands the whole frames in `bytes` to the handler; returns how many bytes they had.
    fn handle(&mut self, bytes: &[u8], replies: &mut Replies) -> Result<usize, CloseReason> {
        let shared = Arc::clone(&self.shared);
        let connection = Arc::clone(&self.connection);
        let mut batch = Batch::new(bytes, &connection, &shared.limits, replies);
        loop {
            let before = batch.frames();
            let calm = catch_unwind(AssertUnwindSafe(|| self.handler.handle(&connection, &mut batch, replies)));
            if calm.is_err() {
                replies.clear();
                tracing::error!(peer = %connection.peer(), "the handler panicked over a request; closing its connection");
                return Err(CloseReason::HandlerPanicked);
            }
            for to in batch.take_refused() {
                replies.push(
                    to,
                    RemotingCommand::response(ResponseCode::GO_AWAY).with_remark("the server is shutting down"),
                );
            }
            if batch.is_over() {
                break;
            }
            if batch.frames() == before {
                tracing::error!(peer = %connection.peer(), "the handler takes no requests; closing the connection");
                return Err(CloseReason::HandlerPanicked);
            }
        }
        let (frames, consumed) = (batch.frames(), batch.consumed());
        add(&shared.metrics.frames_in, frames);
        self.frames_seen |= frames > 0;
        self.paused = match batch.end() {
            Some(End::Fault(reason, what)) => {
                self.ending = Some(self.fault(reason, &what, bytes));
                false
            }
            Some(End::Paused) => true,
            Some(End::MoreBytesNeeded) | None => false,
        };
        if consumed > 0 || self.clock.half_frame.is_none() {
            self.clock.half_frame = (consumed < bytes.len() && !self.paused).then_some(self.clock.now);
        }
        Ok(consumed)
    }

    /// Takes from the budget what this connection now owns, or gives back what it no longer does.
    fn settle(&mut self, unsent: usize) {
        let owned = unsent + self.intake.owned();
        if owned > self.charged {
            self.shared.budget.charge(owned - self.charged);
        } else if owned < self.charged {
            self.shared.budget.release(self.charged - owned);
        }
        if unsent > 0 || self.charged > 0 {
            self.connection.note_unsent(unsent);
        }
        self.charged = owned;
        if self.intake.is_empty() {
            self.shared.budget.end_overdraft(self.connection.id());
        }
    }

    /// Ends the connection when one of its deadlines has come, or has the task woken for the next.
    fn poll_deadlines(&mut self, context: &mut Context<'_>, unsent: usize) -> Poll<Outcome> {
        self.note_waits(unsent);
        loop {
            let (deadline, reason) = self.next_deadline();
            if deadline <= self.clock.now {
                return Poll::Ready(Outcome::Ended(reason));
            }
            if deadline < self.clock.timer.deadline() || self.clock.timer.is_elapsed() {
                self.clock.timer.as_mut().reset(deadline);
            }
            ready!(self.clock.timer.as_mut().poll(context));
            self.clock.now = Instant::now();
        }
    }

    /// Notes since when the other side keeps us waiting, and since when there is nothing left to drain.
    fn note_waits(&mut self, unsent: usize) {
        let now = self.clock.now;
        if unsent == 0 {
            self.clock.slow_reader = None;
        } else {
            self.clock.slow_reader.get_or_insert(now);
            // While we do not read, the frame that has begun cannot get on.
            if unsent > self.shared.limits.connection_bytes_max && self.clock.half_frame.is_some() {
                self.clock.half_frame = Some(now);
            }
        }
        let quiet =
            self.connection.is_draining() && unsent == 0 && self.connection.held() == 0 && self.intake.is_empty();
        self.clock.drain = if quiet { Some(self.clock.drain.unwrap_or(now)) } else { None };
    }

    fn next_deadline(&self) -> (Instant, CloseReason) {
        let (clock, limits) = (&self.clock, &self.shared.limits);
        let candidates = [
            Some((clock.active + limits.idle_timeout, CloseReason::Idle)),
            clock.half_frame.map(|since| (since + limits.half_frame_timeout, CloseReason::HalfFrame)),
            clock.slow_reader.map(|since| (since + limits.slow_reader_timeout, CloseReason::SlowReader)),
            clock.drain.map(|since| (since.max(clock.active) + DRAIN_GRACE, CloseReason::Drained)),
        ];
        let first = candidates.into_iter().flatten().min_by_key(|(deadline, _)| *deadline);
        first.unwrap_or((clock.active + limits.idle_timeout, CloseReason::Idle))
    }

    fn socket_error(&self, error: &std::io::Error) -> CloseReason {
        tracing::debug!(peer = %self.connection.peer(), %error, "the socket failed");
        CloseReason::SocketError
    }

    /// Says what was wrong with the bytes that ended the connection.
    fn fault(&self, reason: CloseReason, what: &str, bytes: &[u8]) -> CloseReason {
        let peer = self.connection.peer();
        let preface = if self.frames_seen { None } else { preface(bytes) };
        match preface {
            Some(CloseReason::TlsHandshake) => {
                tracing::warn!(%peer, "a TLS handshake on a plain port; closing (turn TLS off in this client)");
            }
            Some(_) => {
                tracing::warn!(%peer, "a PROXY protocol preface; closing (turn it off in the load balancer)");
            }
            None => tracing::warn!(%peer, %reason, what, "bytes that are no frame; closing"),
        }
        preface.unwrap_or(reason)
    }
}

/// Whether a connection that begins with `bytes` speaks another protocol we know by sight.
fn preface(bytes: &[u8]) -> Option<CloseReason> {
    if bytes.starts_with(&[0x16, 0x03]) {
        Some(CloseReason::TlsHandshake)
    } else if bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        Some(CloseReason::ProxyPreface)
    } else {
        None
    }
}

impl<L: Link> Drop for Driver<L> {
    fn drop(&mut self) {
        self.connection.end();
        self.shared.budget.release(self.charged);
        self.shared.budget.end_overdraft(self.connection.id());
        self.shared.metrics.count_closed(self.reason);
        tracing::debug!(peer = %self.connection.peer(), reason = %self.reason, "connection closed");
        if catch_unwind(AssertUnwindSafe(|| self.handler.closed(&self.connection))).is_err() {
            tracing::error!(peer = %self.connection.peer(), "the handler panicked over a closed connection");
        }
    }
}

#[cfg(test)]
mod tests;
