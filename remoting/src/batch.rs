//! The complete requests of one read, decoded one by one where they lie. Answers among them go to the calls that wait for
//! them and are not seen by the handler. Stops for good at the first byte that is no frame, and for now when the
//! connection holds as much unanswered or unsent as it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use waspmq_protocol::{Command, frame};

use crate::connection::Connection;
use crate::limits::Limits;
use crate::metrics::CloseReason;
use crate::replies::{Replies, ReplyTo};

/// Clients newer than this (V5_3_1) understand GO_AWAY: they reconnect elsewhere and send that request once more.
const GO_AWAY_ABOVE_VERSION: i32 = 475;

/// An iterator over the requests of one read. Its items borrow from the read buffer, not from the batch.
#[derive(Debug)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    consumed: usize,
    connection: &'a Connection,
    limits: &'a Limits,
    body_bytes: Arc<AtomicUsize>,
    end: Option<End>,
    frames: u64,
    /// The request at hand, decoded in place.
    command: Command<'a>,
    /// Requests that came while the server drains, from clients that understand GO_AWAY.
    refused: Vec<ReplyTo>,
}

/// Why a batch hands out nothing more.
#[derive(Debug)]
pub(crate) enum End {
    /// Only a part of a frame is left, or nothing.
    MoreBytesNeeded,
    /// The connection has reached one of its bounds; whole frames may be left.
    Paused,
    /// The next bytes are no frame: the connection has to be closed.
    Fault(CloseReason, String),
}

impl<'a> Batch<'a> {
    pub(crate) fn new(bytes: &'a [u8], connection: &'a Connection, limits: &'a Limits, replies: &Replies) -> Self {
        let body_bytes = replies.body_gauge();
        Self {
            bytes,
            consumed: 0,
            connection,
            limits,
            body_bytes,
            end: None,
            frames: 0,
            command: Command::default(),
            refused: Vec::new(),
        }
    }

    /// Bytes of the frames handed out or dealt with so far.
    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    /// Frames handed out or dealt with so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Whom to answer GO_AWAY.
    pub(crate) fn take_refused(&mut self) -> Vec<ReplyTo> {
        std::mem::take(&mut self.refused)
    }

    /// Whether nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Why nothing more comes; `None` while the handler could go on.
    pub(crate) fn end(self) -> Option<End> {
        self.end
    }

    fn bound_reached(&self) -> bool {
        self.body_bytes.load(Ordering::Relaxed) > self.limits.connection_bytes_max
            || self.connection.held() >= self.limits.held_requests_max
    }

    /// The next frame, whatever it is.
    #[inline]
    fn next_frame(&mut self) -> Result<(), End> {
        if self.bound_reached() {
            return Err(End::Paused);
        }
        let bytes = &self.bytes[self.consumed..];
        let bounds = match frame::split(bytes, self.limits.frame_bytes_max) {
            Ok(Some(bounds)) => bounds,
            Ok(None) => return Err(End::MoreBytesNeeded),
            Err(error) => return Err(End::Fault(CloseReason::BadFrame, error.to_string())),
        };
        if let Err(error) = self.command.decode_into(&bytes[..bounds.total], &bounds) {
            return Err(End::Fault(CloseReason::BadHeader, error.to_string()));
        }
        self.consumed += bounds.total;
        self.frames += 1;
        Ok(())
    }

    /// The next request, until the next call.
    #[inline]
    pub fn next_request(&mut self) -> Option<&Command<'a>> {
        while self.end.is_none() {
            if let Err(end) = self.next_frame() {
                self.end = Some(end);
                break;
            }
            let command = &self.command;
            if command.flags.is_response() {
                self.connection.complete_call(command);
                continue;
            }
            self.connection.note_kind(command.kind);
            if command.version > GO_AWAY_ABOVE_VERSION && self.connection.is_draining() {
                self.refused.push(ReplyTo::of(command));
                continue;
            }
            return Some(&self.command);
        }
        None
    }
}
