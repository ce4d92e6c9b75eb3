//! What others hold of a connection: its addresses, the queue of late answers and of requests to the other side, and the
//! table of calls that wait for an answer. The task in `driver` owns the socket and empties the queue.
//! The numbers of our calls are ours alone: the other side's requests have their own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use waspmq_protocol::command::Flags;
use waspmq_protocol::{Command, HeaderKind, RemotingCommand};

use crate::metrics::{CloseReason, Metrics, add};
use crate::replies::{Replies, ReplyTo};
use crate::responder::{LateAnswers, Responder};

/// Why a request to the other side has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}; is it running, and reachable from here?")]
    Connect {
        /// Whom we wanted to reach.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection ended before the answer came.
    #[error("the connection to {peer} closed before the answer came; the request may or may not have been carried out")]
    Closed {
        /// The other side.
        peer: String,
    },
    /// No answer in time.
    #[error("{peer} did not answer within {timeout:?}; the request may or may not have been carried out")]
    Timeout {
        /// The other side.
        peer: String,
        /// How long we waited.
        timeout: Duration,
    },
    /// The other side does not take what is already queued for it.
    #[error("{unsent} bytes wait to be sent to {peer}, which does not read; nothing more is queued until it does")]
    NotReading {
        /// The other side.
        peer: String,
        /// Bytes queued.
        unsent: usize,
    },
}

/// One open (or closed) connection. Shared by its task, the handler, and whoever answers later.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    bytes_max: usize,
    metrics: Arc<Metrics>,
    outbox: Mutex<Outbox>,
    calls: Mutex<Calls>,
    held: AtomicUsize,
    /// Bytes the task has taken from the outbox and not yet written.
    unsent: AtomicUsize,
    kind: AtomicU8,
    created: Instant,
    /// Until so many milliseconds after it was made, the connection gives way to others.
    gives_way_until_ms: AtomicU64,
    draining: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Outbox {
    queue: Replies,
    close: Option<CloseReason>,
    /// The task has been woken and has not looked yet.
    notified: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Calls {
    last: i32,
    waiting: HashMap<i32, oneshot::Sender<RemotingCommand>>,
    closed: bool,
}

impl Connection {
    pub(crate) fn new(id: u64, peer: SocketAddr, local: SocketAddr, bytes_max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            id,
            peer,
            local,
            bytes_max,
            metrics,
            outbox: Mutex::default(),
            calls: Mutex::default(),
            held: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            kind: AtomicU8::new(HeaderKind::Json.wire()),
            created: Instant::now(),
            gives_way_until_ms: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// A number no other connection of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The other side's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side's address; its port tells which listener the connection came in by.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// How the other side writes its headers, by its last request; requests to it are written the same way.
    pub fn header_kind(&self) -> HeaderKind {
        HeaderKind::from_wire(self.kind.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// For so long from now others go first: the connection is served by the server's background threads, if it has any.
    /// For work that is large and that nobody waits for by the millisecond.
    pub fn give_way(&self, time: Duration) {
        let until_ms = self.created.elapsed().saturating_add(time).as_millis();
        self.gives_way_until_ms.fetch_max(u64::try_from(until_ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For the task: whether others go first at this moment.
    pub(crate) fn gives_way(&self, now: Instant) -> bool {
        let until_ms = self.gives_way_until_ms.load(Ordering::Relaxed);
        until_ms > 0 && now.duration_since(self.created).as_millis() < u128::from(until_ms)
    }

    /// Ends the connection once what is queued has been offered to the socket.
    pub fn close(&self) {
        self.close_for(CloseReason::Requested);
    }

    /// Takes on the duty to answer `request` later.
    pub fn responder(self: &Arc<Self>, request: &Command<'_>) -> Responder {
        self.responder_to(ReplyTo::of(request))
    }

    /// The way to answer later where only [`ReplyTo`] was kept of the request.
    pub fn responder_to(self: &Arc<Self>, to: ReplyTo) -> Responder {
        Responder::new(Arc::clone(self), to)
    }

    /// The way to answer several requests later, at once.
    pub fn late_answers<T>(self: &Arc<Self>) -> LateAnswers<T> {
        LateAnswers::new(Arc::clone(self))
    }

    /// Requests of this connection that wait for a late answer.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Sends a request that wants no answer.
    ///
    /// # Errors
    /// The connection is closed, or the other side reads too slowly to queue more.
    pub fn send_oneway(&self, mut command: RemotingCommand) -> Result<(), RequestError> {
        command.kind = self.header_kind();
        self.post(&mut command)
    }

    /// As [`Self::send_oneway`], with the header kind the command names.
    pub(crate) fn post(&self, command: &mut RemotingCommand) -> Result<(), RequestError> {
        command.opaque = self.lock_calls().next_opaque();
        command.flags = Flags::ONEWAY;
        self.enqueue(command)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection closed, the answer did not come in time, or the other side reads too slowly.
    pub async fn request(
        &self,
        mut command: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, RequestError> {
        command.kind = self.header_kind();
        self.call(&mut command, timeout).await
    }

    /// As [`Self::request`], with the header kind the command names.
    pub(crate) async fn call(
        &self,
        command: &mut RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, RequestError> {
        let (sender, answer) = oneshot::channel();
        let opaque = self.lock_calls().begin(sender).ok_or_else(|| self.closed_error())?;
        let _ends_with_this_call = CallGuard { connection: self, opaque };
        command.opaque = opaque;
        command.flags = Flags::REQUEST;
        self.enqueue(command)?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.closed_error()),
            Err(_) => Err(RequestError::Timeout { peer: self.peer.to_string(), timeout }),
        }
    }

    fn closed_error(&self) -> RequestError {
        RequestError::Closed { peer: self.peer.to_string() }
    }

    fn enqueue(&self, command: &RemotingCommand) -> Result<(), RequestError> {
        let mut outbox = self.lock_outbox();
        if self.is_closed() || outbox.close.is_some() {
            return Err(self.closed_error());
        }
        let unsent = self.unsent.load(Ordering::Relaxed) + outbox.queue.len();
        if unsent > self.bytes_max {
            return Err(RequestError::NotReading { peer: self.peer.to_string(), unsent });
        }
        outbox.queue.push_command(command);
        outbox.notify();
        Ok(())
    }

    /// One more request waits for a late answer.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// So many held requests get their answers, which `write` puts into the queue.
    pub(crate) fn release(&self, held: usize, write: impl FnOnce(&mut Replies)) {
        let mut outbox = self.lock_outbox();
        if !self.is_closed() {
            write(&mut outbox.queue);
        }
        self.held.fetch_sub(held, Ordering::Relaxed);
        outbox.notify();
    }

    /// Hands the answer to the call that waits for it.
    pub(crate) fn complete_call(&self, answer: &Command<'_>) {
        let waiting = self.lock_calls().waiting.remove(&answer.opaque);
        let delivered = waiting.is_some_and(|waiting| waiting.send(answer.to_owned()).is_ok());
        if !delivered {
            add(&self.metrics.unmatched_answers, 1);
            tracing::debug!(peer = %self.peer, opaque = answer.opaque, "an answer nobody waits for");
        }
    }

    /// Remembers how the other side writes its headers.
    pub(crate) fn note_kind(&self, kind: HeaderKind) {
        self.kind.store(kind.wire(), Ordering::Relaxed);
    }

    /// From now on requests are refused with GO_AWAY where the client understands it.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.lock_outbox().notify();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Asks the task to end; the first reason counts.
    pub(crate) fn close_for(&self, reason: CloseReason) {
        let mut outbox = self.lock_outbox();
        outbox.close.get_or_insert(reason);
        outbox.notify();
    }

    /// For the task: moves what is queued into `replies`, leaves its waker, and says whether it was asked to end.
    pub(crate) fn take_queued(&self, context: &Context<'_>, replies: &mut Replies) -> Option<CloseReason> {
        let mut outbox = self.lock_outbox();
        outbox.notified = false;
        if !outbox.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            outbox.waker = Some(context.waker().clone());
        }
        if !outbox.queue.is_empty() {
            replies.absorb(&mut outbox.queue);
        }
        outbox.close
    }

    /// For the task: bytes it could not write yet.
    pub(crate) fn note_unsent(&self, bytes: usize) {
        self.unsent.store(bytes, Ordering::Relaxed);
    }

    /// For the task, as its last act: calls fail, nothing is queued any more.
    pub(crate) fn end(&self) {
        let mut outbox = self.lock_outbox();
        self.closed.store(true, Ordering::Release);
        outbox.queue.clear();
        outbox.waker = None;
        drop(outbox);
        let mut calls = self.lock_calls();
        calls.closed = true;
        let waiting = std::mem::take(&mut calls.waiting);
        drop(calls);
        drop(waiting);
    }

    fn lock_outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    fn notify(&mut self) {
        if !self.notified {
            self.notified = true;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }
}

impl Calls {
    fn next_opaque(&mut self) -> i32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// Notes a call under a number no waiting call has; `None` when the connection has ended.
    fn begin(&mut self, sender: oneshot::Sender<RemotingCommand>) -> Option<i32> {
        if self.closed {
            return None;
        }
        let mut opaque = self.next_opaque();
        while self.waiting.contains_key(&opaque) {
            opaque = self.next_opaque();
        }
        self.waiting.insert(opaque, sender);
        Some(opaque)
    }
}

/// Takes a call out of the table when it is answered, timed out, or given up by its caller.
struct CallGuard<'a> {
    connection: &'a Connection,
    opaque: i32,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.connection.lock_calls().waiting.remove(&self.opaque);
    }
}
