//! `mqbench produce`: the closed loop at full speed, or the open loop at a fixed rate.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::answers::Answer;
use crate::args::{ProduceArgs, ShapeArgs};
use crate::error::LoadError;
use crate::frames::{SendFrame, Shape};
use crate::open_loop::{self, OpenLoop};
use crate::report::{self, Signals, Summary};
use crate::tally::SharedTally;
use crate::target::{self, Place};
use crate::window::{Traffic, Window};

/// Bits of a unique key's counter that one connection counts in; those above say which connection.
const CONNECTION_SHIFT: u32 = 40;

/// Sends and prints the figures; false when a request failed.
///
/// # Errors
/// The run could not begin.
pub fn run(args: &ProduceArgs, json: bool) -> Result<bool, LoadError> {
    let places = target::locate(&args.target)?;
    let shape = shape(&args.shape, &args.target.topic, &places);
    let summary = match args.rate {
        Some(rate) => {
            let work = OpenLoop { places: &places, shape: &shape, rate, connections: args.connections, start: None };
            open_loop::run("produce", &work, &args.time)?
        }
        None => closed(args, &places, &shape),
    };
    summary.print(json);
    Ok(summary.is_clean())
}

fn closed(args: &ProduceArgs, places: &[Place], shape: &Shape) -> Summary {
    let signals = Signals::default();
    let tallies: Vec<_> = (0..args.connections).map(|_| SharedTally::default()).collect();
    let brokers = target::by_broker(places);
    std::thread::scope(|scope| {
        for (index, tally) in tallies.iter().enumerate() {
            let (address, queues) = &brokers[index % brokers.len()];
            let variations = index * args.in_flight as usize..(index + 1) * args.in_flight as usize;
            let frames = variations.map(|variation| shape.frame(variation)).collect();
            let window = Window { address, frames, tally: tally.clone(), signals: &signals };
            let mut sender = Sender::new(index, queues.clone());
            scope.spawn(move || window.run(&mut sender));
        }
        report::watch("produce", &args.time, &tallies, &signals, || false)
    })
}

/// The values that change from send to send of one connection.
#[derive(Debug)]
pub struct Sender {
    queues: Vec<i32>,
    sent: usize,
    next_key: u64,
}

impl Sender {
    /// The sender of connection `index`, which sends to these queues in turn.
    pub fn new(index: usize, queues: Vec<i32>) -> Self {
        // Connections begin with different queues.
        Self { queues, sent: index, next_key: (index as u64) << CONNECTION_SHIFT }
    }

    /// Patches `frame` for the next send.
    pub fn patch(&mut self, frame: &mut SendFrame) {
        frame.set_queue(self.queues[self.sent % self.queues.len()]);
        frame.set_born(now_millis());
        frame.set_keys(self.next_key);
        self.sent += 1;
        self.next_key += frame.messages() as u64;
    }
}

impl Traffic for Sender {
    fn prepare(&mut self, _: usize, frame: &mut SendFrame) -> bool {
        self.patch(frame);
        true
    }

    fn answered(&mut self, _: usize, _: &Answer<'_>) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, _: usize) {}
}

/// The frames' shape for a topic.
pub fn shape(args: &ShapeArgs, topic: &str, places: &[Place]) -> Shape {
    Shape {
        topic: topic.to_owned(),
        group: args.group.clone(),
        kind: args.header.into(),
        body_bytes: args.size,
        batch: args.batch as usize,
        queue_max: places.iter().map(|place| place.queue).max().unwrap_or(0),
        tags: args.tags.clone(),
        properties: args.properties.clone(),
        run: new_run(),
    }
}

/// A number no other run has.
pub fn new_run() -> u64 {
    now_nanos() ^ u64::from(std::process::id()) << 44
}

fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Milliseconds since 1970.
pub fn now_millis() -> u64 {
    now_nanos() / 1_000_000
}
