//! Frames on their way out: heads in one buffer, large bodies untouched beside it, written by one vectored write.
//! A handler fills it with the answers that are ready; late answers and requests of this side use the same type.
//! Frames leave in the order they were put in. Nothing is ever put in for a one-way request.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use waspmq_protocol::command::Flags;
use waspmq_protocol::{Command, HeadWriter, HeaderKind, RemotingCommand, ResponseCode};

/// Bodies up to this size are copied behind their head: cheaper than a slice of their own.
const COPIED_BODY_BYTES_MAX: usize = 512;

/// An empty queue keeps a buffer of this size, at most, for the next frame.
const KEPT_BYTES_MAX: usize = 4096;

/// Whom an answer is for: what has to be remembered of a request to answer it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The request's number, echoed in the answer.
    pub opaque: i32,
    /// How the request's header was written; the answer's is written the same way.
    pub kind: HeaderKind,
    /// The request wants no answer, and gets none.
    pub oneway: bool,
}

impl ReplyTo {
    /// What an answer to `request` needs.
    pub fn of(request: &Command<'_>) -> Self {
        Self { opaque: request.opaque, kind: request.kind, oneway: request.flags.is_oneway() }
    }
}

/// Frames to be written to one connection.
#[derive(Debug, Default)]
pub struct Replies {
    /// Heads, and bodies small enough to copy.
    heads: BytesMut,
    bodies: VecDeque<Body>,
    /// Bytes of `heads` that go before some body, those of all bodies together.
    heads_before_bodies: usize,
    /// Bytes in `bodies`; shared so that a batch sees when to hand out no more requests.
    body_bytes: Arc<AtomicUsize>,
    frames: u64,
}

#[derive(Debug)]
struct Body {
    /// Bytes of `heads` that go out first, counted from the body before.
    head_before: usize,
    bytes: Bytes,
}

impl Replies {
    /// The buffer for one more head, with [`HeadWriter`] or [`RemotingCommand::encode_head`]; a body follows by [`Self::push_body`].
    /// Call it once a frame, and never for a one-way request; [`Self::reply`] and [`Self::push`] see to that themselves.
    pub fn head(&mut self) -> &mut BytesMut {
        self.frames += 1;
        &mut self.heads
    }

    /// Starts the head of an answer; `None` for a one-way request. Finish it before anything else is put in.
    pub fn reply(&mut self, to: ReplyTo, code: ResponseCode) -> Option<HeadWriter<'_>> {
        (!to.oneway).then(|| HeadWriter::response(self.head(), to.kind, code, to.opaque))
    }

    /// Puts the body of the head written last behind it. Large bodies are not copied.
    pub fn push_body(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_BODY_BYTES_MAX {
            self.heads.extend_from_slice(&bytes);
            return;
        }
        let head_before = self.heads.len() - self.heads_before_bodies;
        self.heads_before_bodies += head_before;
        self.body_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        self.bodies.push_back(Body { head_before, bytes });
    }

    /// Answers a request; does nothing for a one-way one. Number, header kind and response flag are set here.
    pub fn push(&mut self, to: ReplyTo, mut reply: RemotingCommand) {
        if !to.oneway {
            reply.opaque = to.opaque;
            reply.kind = to.kind;
            reply.flags = Flags::RESPONSE;
            self.push_command(&reply);
        }
    }

    /// Puts in a command as it stands.
    pub(crate) fn push_command(&mut self, command: &RemotingCommand) {
        command.encode_head(self.head());
        self.push_body(command.body.clone());
    }

    /// Bytes not yet written.
    pub fn len(&self) -> usize {
        self.heads.len() + self.body_bytes.load(Ordering::Relaxed)
    }

    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.bodies.is_empty()
    }

    /// Bytes in uncopied bodies, readable while the handler fills the queue.
    pub(crate) fn body_gauge(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.body_bytes)
    }

    /// Frames put in since the last call.
    pub(crate) fn take_frames(&mut self) -> u64 {
        std::mem::take(&mut self.frames)
    }

    /// Moves everything out of `other` behind what is here.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        for Body { head_before, bytes } in other.bodies.drain(..) {
            self.heads.extend_from_slice(&other.heads[..head_before]);
            other.heads.advance(head_before);
            let head_before = self.heads.len() - self.heads_before_bodies;
            self.heads_before_bodies += head_before;
            self.body_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
            self.bodies.push_back(Body { head_before, bytes });
        }
        self.heads.extend_from_slice(&other.heads);
        self.frames += other.take_frames();
        other.clear();
    }

    /// Forgets everything unsent and keeps a small buffer at most.
    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.bodies.clear();
        self.heads_before_bodies = 0;
        self.body_bytes.store(0, Ordering::Relaxed);
        self.frames = 0;
        self.shrink(KEPT_BYTES_MAX);
    }

    /// Gives back the buffer of an empty queue if it has more than `bytes_max`.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        if self.heads.is_empty() && self.heads.capacity() > bytes_max {
            self.heads = BytesMut::new();
        }
    }

    /// The next bytes to write, in order; returns how many of `slices` were filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut heads = &self.heads[..];
        let mut put = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(slot) = slices.get_mut(filled) else { return false };
            *slot = IoSlice::new(bytes);
            filled += 1;
            true
        };
        for body in &self.bodies {
            let (before, rest) = heads.split_at(body.head_before);
            heads = rest;
            if !put(before) || !put(&body.bytes) {
                return filled;
            }
        }
        put(heads);
        filled
    }

    /// Drops `written` bytes from the front.
    pub(crate) fn advance(&mut self, mut written: usize) {
        while let Some(body) = self.bodies.front_mut() {
            let head = written.min(body.head_before);
            self.heads.advance(head);
            self.heads_before_bodies -= head;
            body.head_before -= head;
            written -= head;
            let bytes = written.min(body.bytes.len());
            body.bytes.advance(bytes);
            self.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
            written -= bytes;
            if body.head_before > 0 || !body.bytes.is_empty() {
                return;
            }
            self.bodies.pop_front();
        }
        if written == self.heads.len() {
            self.heads.clear();
        } else {
            self.heads.advance(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(queue: &mut Replies, step: usize, slices_max: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !queue.is_empty() {
            let before = queue.len();
            let mut slices = vec![IoSlice::new(&[]); slices_max];
            let filled = queue.slices(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            assert!(!bytes.is_empty());
            queue.advance(bytes.len());
            assert_eq!(queue.len(), before - bytes.len());
            out.extend(bytes);
        }
        out
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_came(
            frames in prop::collection::vec((1_usize..40, 0_usize..2000), 0..20),
            absorbed in 0_usize..20, step in 1_usize..3000, slices_max in 1_usize..6,
        ) {
            let mut expected = Vec::new();
            let (mut queue, mut later) = (Replies::default(), Replies::default());
            for (index, (head, body)) in frames.iter().enumerate() {
                let target = if index < absorbed { &mut queue } else { &mut later };
                let head = vec![index as u8; *head];
                let body = vec![100 + index as u8; *body];
                expected.extend_from_slice(&head);
                expected.extend_from_slice(&body);
                target.head().extend_from_slice(&head);
                target.push_body(Bytes::from(body));
            }
            queue.absorb(&mut later);
            prop_assert!(later.is_empty());
            prop_assert_eq!(later.len(), 0);
            prop_assert_eq!(queue.take_frames(), frames.len() as u64);
            prop_assert_eq!(queue.len(), expected.len());
            prop_assert_eq!(written(&mut queue, step, slices_max), expected);
            prop_assert_eq!(queue.len(), 0);
        }
    }

    #[test]
    fn a_one_way_request_gets_nothing() {
        let mut queue = Replies::default();
        let to = ReplyTo { opaque: 7, kind: HeaderKind::Json, oneway: true };
        queue.push(to, RemotingCommand::response(ResponseCode::SUCCESS));
        assert!(queue.reply(to, ResponseCode::SUCCESS).is_none());
        assert!(queue.is_empty());
        queue.push(ReplyTo { oneway: false, ..to }, RemotingCommand::response(ResponseCode::SUCCESS));
        assert!(!queue.is_empty());
    }
}
