//! The bounds every connection keeps: bytes and time. The server and the client each hold one set for all their connections.

use std::time::Duration;

use waspmq_protocol::FRAME_BYTES_MAX;

/// Bounds of one connection and of all together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest frame accepted, its four length bytes included. RocketMQ: 16 MiB.
    pub frame_bytes_max: usize,
    /// Unsent bytes of one connection above which nothing more is read from it.
    pub connection_bytes_max: usize,
    /// Half-received frames and unsent answers of all connections together; at the bound nobody reads on until some are gone.
    pub total_bytes_max: usize,
    /// Requests of one connection that may wait for a late answer; at the bound nothing more is read from it.
    pub held_requests_max: usize,
    /// A connection without a byte in either direction for this long is closed. RocketMQ: 120 s.
    pub idle_timeout: Duration,
    /// A frame that has begun must be complete after this long.
    pub half_frame_timeout: Duration,
    /// A connection that takes no bytes, or stays above `connection_bytes_max`, for this long is closed.
    pub slow_reader_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            connection_bytes_max: 1024 * 1024,
            total_bytes_max: 512 * 1024 * 1024,
            held_requests_max: 65_536,
            idle_timeout: Duration::from_secs(120),
            half_frame_timeout: Duration::from_secs(30),
            slow_reader_timeout: Duration::from_secs(60),
        }
    }
}
