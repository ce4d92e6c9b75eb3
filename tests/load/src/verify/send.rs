//! `mqbench verify send`: producers that never send a message twice and note what became of each. They go on over lost
//! connections and restarts of the broker; what was in flight then is noted as unknown.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use waspmq_protocol::ResponseCode;

use super::body::{self, Origin};
use super::journal::{Ack, Fate, JournalWriter, physical_offset};
use crate::answers::Answer;
use crate::args::VerifySendArgs;
use crate::error::LoadError;
use crate::frames::{SendFrame, Shape};
use crate::produce::{Sender, new_run, now_millis};
use crate::report::{self, Signals, Summary};
use crate::tally::SharedTally;
use crate::target::{self, Place};
use crate::window::{Traffic, Window};

/// Sends and writes the journal; false when nothing was acknowledged.
///
/// # Errors
/// The run could not begin, or the journal cannot be written.
pub fn run(args: &VerifySendArgs, json: bool) -> Result<bool, LoadError> {
    let places = target::locate(&args.target)?;
    let (summary, _) = run_to(args, &places, Vec::new(), || false)?;
    summary.print(json);
    Ok(summary.messages() > 0)
}

/// Sends to these queues and writes the journal until the time is over or `finished` says so. The messages carry
/// `properties` in turn.
///
/// # Errors
/// The journal cannot be written.
pub fn run_to(
    args: &VerifySendArgs,
    places: &[Place],
    properties: Vec<(String, u32)>,
    finished: impl Fn() -> bool,
) -> Result<(Summary, SlowestAcks), LoadError> {
    let shape = Shape {
        topic: args.target.topic.clone(),
        group: "mqbench-verify".to_owned(),
        kind: args.header.into(),
        body_bytes: args.size as usize,
        batch: 1,
        queue_max: places.iter().map(|place| place.queue).max().unwrap_or(0),
        tags: Vec::new(),
        properties,
        run: new_run(),
    };
    let queues: Vec<_> = places.iter().map(|place| (place.broker.clone(), place.queue)).collect();
    let journal = Mutex::new(JournalWriter::create(&args.journal, shape.run, &shape.topic, &queues)?);
    let shared = Shared { journal, left: AtomicU64::new(args.time.count.unwrap_or(u64::MAX)), places, run: shape.run };
    let sent = send(args, &shape, &shared, finished);
    shared.journal.into_inner().unwrap_or_else(PoisonError::into_inner).flush()?;
    Ok(sent)
}

/// The longest wait for an acknowledgement in each [`SLOWEST_EVERY_MS`], by the time of its end in milliseconds since 1970.
pub type SlowestAcks = BTreeMap<u64, Duration>;

/// The grain of [`SlowestAcks`].
pub const SLOWEST_EVERY_MS: u64 = 10;

fn send(
    args: &VerifySendArgs,
    shape: &Shape,
    shared: &Shared<'_>,
    finished: impl Fn() -> bool,
) -> (Summary, SlowestAcks) {
    let signals = Signals::default();
    let tallies: Vec<_> = (0..args.connections).map(|_| SharedTally::default()).collect();
    let running = AtomicUsize::new(args.connections);
    let brokers = target::by_broker(shared.places);
    // The count ends the producers themselves, so that exactly as many are sent.
    let time = crate::args::TimeArgs { count: None, ..args.time.clone() };
    std::thread::scope(|scope| {
        let mut producers = Vec::new();
        for (index, tally) in tallies.iter().enumerate() {
            let (address, queues) = &brokers[index % brokers.len()];
            let variations = index * args.in_flight as usize..(index + 1) * args.in_flight as usize;
            let frames = variations.map(|variation| shape.frame(variation)).collect();
            let window = Window { address, frames, tally: tally.clone(), signals: &signals };
            let mut producer = Producer {
                shared,
                address,
                number: index as u32,
                sender: Sender::new(index, queues.clone()),
                sequence: 0,
                events: 0,
                in_flight: vec![None; args.in_flight as usize],
                slowest: SlowestAcks::new(),
            };
            let running = &running;
            producers.push(scope.spawn(move || {
                window.run(&mut producer);
                running.fetch_sub(1, Ordering::Release);
                producer.slowest
            }));
        }
        let ended = || running.load(Ordering::Acquire) == 0 || finished();
        let summary = report::watch("verify send", &time, &tallies, &signals, ended);
        let mut slowest = SlowestAcks::new();
        for (at, waited) in producers.into_iter().filter_map(|producer| producer.join().ok()).flatten() {
            let known = slowest.entry(at).or_default();
            *known = waited.max(*known);
        }
        (summary, slowest)
    })
}

/// What the producers share.
struct Shared<'a> {
    journal: Mutex<JournalWriter>,
    left: AtomicU64,
    places: &'a [Place],
    run: u64,
}

struct Producer<'a> {
    shared: &'a Shared<'a>,
    address: &'a str,
    number: u32,
    sender: Sender,
    sequence: u64,
    /// Sends and answers so far.
    events: u64,
    in_flight: Vec<Option<InFlight>>,
    slowest: SlowestAcks,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    at: Instant,
    sequence: u64,
    sent: u64,
    crc: u32,
}

impl Producer<'_> {
    fn note(&self, sequence: u64, fate: Fate) -> io::Result<()> {
        let mut journal = self.shared.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.note(self.number, sequence, fate).map_err(io::Error::other)
    }

    /// Where the broker says the message is.
    fn place(&self, answer: &Answer<'_>) -> io::Result<(u32, i64, i64)> {
        let command = answer.command()?;
        let number = |name| command.ext.get(name).and_then(waspmq_protocol::command::Text::parse_i64);
        let queue = number("queueId").and_then(|queue| {
            let here = |place: &Place| place.address == self.address && i64::from(place.queue) == queue;
            self.shared.places.iter().position(here)
        });
        let physical = command.ext.get("msgId").and_then(|id| physical_offset(&id.to_cow()));
        match (queue, number("queueOffset"), physical) {
            (Some(queue), Some(offset), Some(physical)) => Ok((queue as u32, offset, physical)),
            _ => Err(io::Error::other("an acknowledgement without a queue of the topic, an offset or a message id")),
        }
    }
}

impl Traffic for Producer<'_> {
    fn prepare(&mut self, slot: usize, frame: &mut SendFrame) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        if self.shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return false;
        }
        self.sender.patch(frame);
        let origin = Origin { run: self.shared.run, producer: self.number, sequence: self.sequence };
        let crc = body::write(frame.body_mut(0), origin);
        self.in_flight[slot] = Some(InFlight { at: Instant::now(), sequence: self.sequence, sent: self.events, crc });
        self.events += 1;
        self.sequence += 1;
        true
    }

    fn answered(&mut self, slot: usize, answer: &Answer<'_>) -> io::Result<()> {
        let Some(InFlight { at, sequence, sent, crc }) = self.in_flight[slot] else {
            return Err(io::Error::other("an answer to a message that was not sent"));
        };
        let slowest = self.slowest.entry(now_millis() / SLOWEST_EVERY_MS * SLOWEST_EVERY_MS).or_default();
        *slowest = at.elapsed().max(*slowest);
        let acked = self.events;
        self.events += 1;
        let fate = match ResponseCode(answer.code) {
            ResponseCode::SUCCESS => {
                let (queue, offset, physical) = self.place(answer)?;
                let acked_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
                Fate::Acknowledged(Ack { queue, offset, physical, sent, acked, crc, acked_ms })
            }
            // Stored, but neither on disk nor on another broker for certain.
            ResponseCode::FLUSH_DISK_TIMEOUT
            | ResponseCode::SLAVE_NOT_AVAILABLE
            | ResponseCode::FLUSH_SLAVE_TIMEOUT => Fate::Unknown,
            _ => Fate::Refused,
        };
        self.note(sequence, fate)
    }

    fn lost(&mut self, slot: usize) {
        let noted = self.in_flight[slot].map(|lost| self.note(lost.sequence, Fate::Unknown));
        if let Some(Err(error)) = noted {
            eprintln!("{error}");
        }
    }
}
