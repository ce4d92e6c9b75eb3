//! `mqbench verify send`: producers that never send a message twice and note what became of each. They go on over lost
//! connections and restarts of the broker; what was in flight then is noted as unknown.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use waspmq_protocol::ResponseCode;

use super::body::{self, Origin};
use super::journal::{Ack, Fate, JournalWriter, physical_offset};
use crate::answers::Answer;
use crate::args::VerifySendArgs;
use crate::error::LoadError;
use crate::frames::{SendFrame, Shape};
use crate::produce::{Sender, new_run};
use crate::report::{self, Signals};
use crate::tally::SharedTally;
use crate::target::{self, Place};
use crate::window::{Traffic, Window};

/// Sends and writes the journal; false when nothing was acknowledged.
///
/// # Errors
/// The run could not begin, or the journal cannot be written.
pub fn run(args: &VerifySendArgs, json: bool) -> Result<bool, LoadError> {
    let places = target::locate(&args.target)?;
    let shape = Shape {
        topic: args.target.topic.clone(),
        group: "mqbench-verify".to_owned(),
        kind: args.header.into(),
        body_bytes: args.size as usize,
        batch: 1,
        queue_max: places.iter().map(|place| place.queue).max().unwrap_or(0),
        tags: Vec::new(),
        properties: Vec::new(),
        run: new_run(),
    };
    let queues: Vec<_> = places.iter().map(|place| (place.broker.clone(), place.queue)).collect();
    let journal = Mutex::new(JournalWriter::create(&args.journal, shape.run, &shape.topic, &queues)?);
    let shared =
        Shared { journal, left: AtomicU64::new(args.time.count.unwrap_or(u64::MAX)), places: &places, run: shape.run };
    let summary = send(args, &shape, &shared);
    shared.journal.into_inner().unwrap_or_else(PoisonError::into_inner).flush()?;
    summary.print(json);
    Ok(summary.messages() > 0)
}

fn send(args: &VerifySendArgs, shape: &Shape, shared: &Shared<'_>) -> report::Summary {
    let signals = Signals::default();
    let tallies: Vec<_> = (0..args.connections).map(|_| SharedTally::default()).collect();
    let running = AtomicUsize::new(args.connections);
    let brokers = target::by_broker(shared.places);
    // The count ends the producers themselves, so that exactly as many are sent.
    let time = crate::args::TimeArgs { count: None, ..args.time.clone() };
    std::thread::scope(|scope| {
        for (index, tally) in tallies.iter().enumerate() {
            let (address, queues) = &brokers[index % brokers.len()];
            let frames = vec![shape.frame(0); args.in_flight as usize];
            let window = Window { address, frames, tally: tally.clone(), signals: &signals };
            let mut producer = Producer {
                shared,
                address,
                number: index as u32,
                sender: Sender::new(index, queues.clone()),
                sequence: 0,
                events: 0,
                in_flight: vec![InFlight::default(); args.in_flight as usize],
            };
            let running = &running;
            scope.spawn(move || {
                window.run(&mut producer);
                running.fetch_sub(1, Ordering::Release);
            });
        }
        report::watch("verify send", &time, &tallies, &signals, || running.load(Ordering::Acquire) == 0)
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
    in_flight: Vec<InFlight>,
}

#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
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
        self.in_flight[slot] = InFlight { sequence: self.sequence, sent: self.events, crc };
        self.events += 1;
        self.sequence += 1;
        true
    }

    fn answered(&mut self, slot: usize, answer: &Answer<'_>) -> io::Result<()> {
        let InFlight { sequence, sent, crc } = self.in_flight[slot];
        let acked = self.events;
        self.events += 1;
        let fate = match ResponseCode(answer.code) {
            ResponseCode::SUCCESS => {
                let (queue, offset, physical) = self.place(answer)?;
                Fate::Acknowledged(Ack { queue, offset, physical, sent, acked, crc })
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
        if let Err(error) = self.note(self.in_flight[slot].sequence, Fate::Unknown) {
            eprintln!("{error}");
        }
    }
}
