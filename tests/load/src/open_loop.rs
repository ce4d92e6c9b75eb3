//! Sends at a fixed rate whether or not answers come. Every latency counts from the moment a send was due, so a stall of
//! the broker, or of this tool, is charged to every message it delayed and none is left out of the figures.
//! Two threads a connection: one sends by the clock, one takes answers.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::answers::AnswerReader;
use crate::args::TimeArgs;
use crate::error::LoadError;
use crate::frames::{SendFrame, Shape, index_of};
use crate::produce::Sender;
use crate::report::{self, Signals, Summary};
use crate::tally::{LOST_CONNECTION, SharedTally, nanos};
use crate::target::{self, Place};
use crate::window::connect;

/// Requests that may be without an answer on one connection. Beyond, sending waits and falls behind.
const IN_FLIGHT_MAX: usize = 1 << 16;

/// Requests written at once when sending has fallen behind.
const BURST_MAX: usize = 64;

/// How long answers are waited for when sending has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What to send, and how often.
#[derive(Clone, Copy, Debug)]
pub struct OpenLoop<'a> {
    /// The topic's queues.
    pub places: &'a [Place],
    /// The frames.
    pub shape: &'a Shape,
    /// Messages a second, all connections together.
    pub rate: f64,
    /// Connections.
    pub connections: usize,
    /// The moment bodies count their send times from, when a receiver wants them.
    pub start: Option<Instant>,
}

/// The moments at which the sends of one connection are due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    first: Instant,
    seconds_apart: f64,
}

impl Schedule {
    fn due(&self, index: u64) -> Instant {
        self.first + Duration::from_secs_f64(index as f64 * self.seconds_apart)
    }
}

/// One connection as its two threads see it.
struct Lane<'a> {
    schedule: Schedule,
    tally: &'a SharedTally,
    signals: &'a Signals,
    /// Requests sent and answered so far.
    sent: AtomicU64,
    answered: AtomicU64,
    messages: u64,
    body_bytes: u64,
    /// By request number modulo the bound: which send it was, plus one; 0 when it is answered.
    in_flight: Vec<AtomicU64>,
}

/// The starting point of a receipt clock in a body: which run, and when the send was due.
pub const BODY_HEAD_BYTES: usize = 16;

/// Sends for the given time and returns the figures.
///
/// # Errors
/// A connection cannot be made, or a rate that is no rate.
pub fn run(name: &'static str, work: &OpenLoop<'_>, time: &TimeArgs) -> Result<Summary, LoadError> {
    let tallies: Vec<_> = (0..work.connections).map(|_| SharedTally::default()).collect();
    let signals = Signals::default();
    with_senders(work, &tallies, &signals, || report::watch(name, time, &tallies, &signals, || false))
}

/// Runs the senders while `measure` runs, which tells them to stop.
///
/// # Errors
/// A connection cannot be made, or a rate that is no rate.
pub fn with_senders<T>(
    work: &OpenLoop<'_>,
    tallies: &[SharedTally],
    signals: &Signals,
    measure: impl FnOnce() -> T,
) -> Result<T, LoadError> {
    let per_connection = work.rate / (work.connections * work.shape.batch) as f64;
    if !(per_connection.is_finite() && per_connection > 0.0) {
        return Err(LoadError::Arguments("the rate must be above 0".to_owned()));
    }
    let brokers = target::by_broker(work.places);
    let mut streams = Vec::new();
    for index in 0..work.connections {
        let (address, _) = &brokers[index % brokers.len()];
        let failed = |source| LoadError::Socket { address: (*address).to_owned(), source };
        streams.push(connect(address).map_err(failed)?);
    }
    let first = Instant::now() + Duration::from_millis(20);
    Ok(std::thread::scope(|scope| {
        for ((index, stream), tally) in streams.iter().enumerate().zip(tallies) {
            let frame = work.shape.frame(index);
            // Connections take turns within the interval.
            let offset = Duration::from_secs_f64(index as f64 / (per_connection * work.connections as f64));
            let schedule = Schedule { first: first + offset, seconds_apart: 1.0 / per_connection };
            let lane = Lane {
                schedule,
                tally,
                signals,
                sent: AtomicU64::new(0),
                answered: AtomicU64::new(0),
                messages: frame.messages() as u64,
                body_bytes: frame.body_bytes() as u64,
                in_flight: (0..IN_FLIGHT_MAX).map(|_| AtomicU64::new(0)).collect(),
            };
            let sender = Sender::new(index, brokers[index % brokers.len()].1.clone());
            let start = work.start.map(|start| (start, work.shape.run));
            scope.spawn(move || lane.run(stream, frame, sender, start));
        }
        measure()
    }))
}

impl Lane<'_> {
    fn run(self, stream: &TcpStream, frame: SendFrame, sender: Sender, start: Option<(Instant, u64)>) {
        std::thread::scope(|scope| {
            let answers = scope.spawn(|| self.complain(self.take_answers(stream)));
            if self.complain(self.send(stream, frame, sender, start)) {
                let waiting = Instant::now();
                while !answers.is_finished() && self.unanswered() > 0 && waiting.elapsed() < LAST_ANSWERS {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            // Wakes the thread that reads; an error means that the connection is gone already.
            let _ = stream.shutdown(Shutdown::Both);
        });
        self.tally.lock().failure(LOST_CONNECTION, self.unanswered());
    }

    /// Says why a connection did not last until the end; true when it did.
    fn complain(&self, ended: io::Result<()>) -> bool {
        let Err(error) = ended else { return true };
        if !self.signals.stopped() {
            eprintln!("a connection failed: {error}; its messages are not sent any more");
            self.tally.lock().failure(LOST_CONNECTION, 1);
        }
        false
    }

    fn unanswered(&self) -> u64 {
        self.sent.load(Ordering::Acquire).saturating_sub(self.answered.load(Ordering::Acquire))
    }

    fn send(
        &self,
        mut stream: &TcpStream,
        mut frame: SendFrame,
        mut sender: Sender,
        start: Option<(Instant, u64)>,
    ) -> io::Result<()> {
        sleep_precisely();
        let mut out = Vec::new();
        let mut index = 0;
        while !self.signals.stopped() {
            let now = Instant::now();
            out.clear();
            let mut burst = 0;
            while burst < BURST_MAX && self.schedule.due(index) <= now {
                let number = index as usize % IN_FLIGHT_MAX;
                if self.in_flight[number].load(Ordering::Acquire) != 0 {
                    break;
                }
                self.in_flight[number].store(index + 1, Ordering::Release);
                frame.set_index(number as u32);
                sender.patch(&mut frame);
                if let Some((start, run)) = start {
                    let due = nanos(self.schedule.due(index).saturating_duration_since(start));
                    frame.set_body_heads(&body_head(run, due));
                }
                out.extend_from_slice(frame.bytes());
                self.sent.fetch_add(1, Ordering::AcqRel);
                (index, burst) = (index + 1, burst + 1);
            }
            if burst > 0 {
                stream.write_all(&out)?;
            } else {
                let wait = self.schedule.due(index).saturating_duration_since(Instant::now());
                std::thread::sleep(wait.clamp(Duration::from_micros(1), Duration::from_millis(50)));
            }
        }
        Ok(())
    }

    fn take_answers(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = AnswerReader::new(stream.try_clone()?);
        loop {
            reader.fill()?;
            let now = Instant::now();
            let mut tally = self.tally.lock();
            while let Some(answer) = reader.next_answer()? {
                let place = index_of(answer.opaque).and_then(|number| self.in_flight.get(number));
                let index = place.map_or(0, |place| place.swap(0, Ordering::AcqRel));
                if index == 0 {
                    return Err(io::Error::other("an answer to a request that is not in flight"));
                }
                let waited = now.saturating_duration_since(self.schedule.due(index - 1));
                match answer.code {
                    0 => tally.success(self.messages, self.body_bytes, waited),
                    code => tally.failure(code, 1),
                }
                self.answered.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

/// What the head of a body says to the receiver.
pub fn body_head(run: u64, due_nanos: u64) -> [u8; BODY_HEAD_BYTES] {
    let mut head = [0; BODY_HEAD_BYTES];
    head[..8].copy_from_slice(&run.to_be_bytes());
    head[8..].copy_from_slice(&due_nanos.to_be_bytes());
    head
}

/// When the body's send was due, if this run sent it.
pub fn due_of(body: &[u8], run: u64) -> Option<Duration> {
    let (head, rest) = body.split_first_chunk::<8>()?;
    let due = u64::from_be_bytes(*rest.first_chunk()?);
    (u64::from_be_bytes(*head) == run).then(|| Duration::from_nanos(due))
}

/// Asks Linux to end this thread's sleeps on time instead of up to 50 µs late. Where it does not, figures are that much worse.
fn sleep_precisely() {
    let thread = rustix::thread::gettid();
    let _ = std::fs::write(format!("/proc/{}/timerslack_ns", thread.as_raw_nonzero()), "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_when_it_was_due_to_its_own_run_only() {
        let mut body = body_head(7, 123_456_789).to_vec();
        body.extend_from_slice(b"more");
        assert_eq!(due_of(&body, 7), Some(Duration::from_nanos(123_456_789)));
        assert_eq!(due_of(&body, 8), None);
        assert_eq!(due_of(&body[..15], 7), None);
    }

    #[test]
    fn the_schedule_does_not_drift() {
        let schedule = Schedule { first: Instant::now(), seconds_apart: 1.0 / 3000.0 };
        assert_eq!((schedule.due(3_000_000) - schedule.first).as_secs(), 1000);
    }
}
