//! One client connection in a producer or consumer group, as its heartbeats describe it.

use std::sync::Arc;

use waspmq_remoting::Connection;

/// A member that sent no heartbeat for this long is forgotten (clients beat every 30 s; RocketMQ's
/// `channelExpiredTimeout`).
pub const MEMBER_SILENCE_MS_MAX: i64 = 120_000;

/// One client connection in one group.
#[derive(Clone)]
pub struct Member {
    /// The client's own name for itself, `ip@instance`.
    pub client_id: String,
    /// When its last heartbeat came, in milliseconds since the epoch.
    pub last_beat_ms: i64,
    /// Where requests to this client go.
    pub connection: Arc<Connection>,
}
