//! What the connections of one server or client have done, as plain counters the broker reads for its metrics page.
//! Counted once a read or once a write, never once a frame.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the reasons, their names, and the list of all.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident = $name:literal,)+) => {
        /// Why a connection ended. Each has its own counter in [`Metrics`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseReason {
            $($(#[doc = $doc])+ $reason,)+
        }

        impl CloseReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)+];

            /// The reason as a metric label.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// The other side closed it.
    PeerClosed = "peer_closed",
    /// Reading or writing failed.
    SocketError = "socket_error",
    /// Neither side sent anything for the idle limit.
    Idle = "idle",
    /// A frame that had begun was not complete in time.
    HalfFrame = "half_frame",
    /// The other side did not take its answers in time.
    SlowReader = "slow_reader",
    /// Bytes that cannot be a frame: a wrong length or an unknown header encoding.
    BadFrame = "bad_frame",
    /// A frame whose header cannot be decoded.
    BadHeader = "bad_header",
    /// The first bytes were a TLS handshake, which this server does not speak.
    TlsHandshake = "tls_handshake",
    /// The first bytes were a PROXY protocol preface, which this server does not speak.
    ProxyPreface = "proxy_preface",
    /// The handler panicked over a request of this connection.
    HandlerPanicked = "handler_panicked",
    /// This side asked for it.
    Requested = "requested",
    /// The server was shutting down and nothing was left to answer.
    Drained = "drained",
    /// The server was shutting down and the deadline had come.
    DrainDeadline = "drain_deadline",
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Counters of all connections of one server or client. Read them at any time; they only grow, except `connections`.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections accepted (or made, by a client) so far.
    pub accepted: AtomicU64,
    /// Failed calls of `accept`, such as no file descriptor left.
    pub accept_failures: AtomicU64,
    /// Complete frames received.
    pub frames_in: AtomicU64,
    /// Frames put into a connection's queue of answers and requests.
    pub frames_out: AtomicU64,
    /// Bytes received.
    pub bytes_in: AtomicU64,
    /// Bytes the sockets took.
    pub bytes_out: AtomicU64,
    /// Answers nobody was waiting for (any more).
    pub unmatched_answers: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl Metrics {
    /// Connections closed for this reason so far.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_closed(&self, reason: CloseReason) {
        add(&self.closed[reason as usize], 1);
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds to a counter nobody orders anything by.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
