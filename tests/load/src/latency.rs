//! `mqbench latency`: the open loop at a fixed rate, and a receiver that measures from the moment each send was due.

use std::net::Shutdown;
use std::ops::ControlFlow;
use std::time::Instant;

use waspmq_protocol::message::record::records;

use crate::args::LatencyArgs;
use crate::error::LoadError;
use crate::open_loop::{self, BODY_HEAD_BYTES, OpenLoop, due_of};
use crate::produce;
use crate::pull::{Cursor, PullPlan, Pulled, Puller};
use crate::report::{self, Signals};
use crate::tally::{LOST_CONNECTION, SharedTally, nanos};
use crate::target::{self, Place};

/// Messages of one pull.
const PULL_COUNT: u32 = 32;

/// Sends, receives, prints the figures; false when something failed.
///
/// # Errors
/// The run could not begin.
pub fn run(args: &LatencyArgs, json: bool) -> Result<bool, LoadError> {
    if args.shape.size < BODY_HEAD_BYTES {
        return Err(LoadError::Arguments(format!("bodies need {BODY_HEAD_BYTES} bytes to carry their send time")));
    }
    let places = target::locate(&args.target)?;
    let shape = produce::shape(&args.shape, &args.target.topic, &places);
    let pullers = if args.receive.no_receive { Vec::new() } else { pullers(args, &places)? };
    let mut handles = Vec::new();
    for (address, puller) in &pullers {
        handles.push(puller.handle().map_err(|source| LoadError::Socket { address: address.clone(), source })?);
    }
    let start = Instant::now();
    let (connections, rate) = (args.connections, args.rate);
    let work = OpenLoop { places: &places, shape: &shape, rate, connections, start: Some(start) };
    let signals = Signals::default();
    let tallies: Vec<_> = (0..connections + pullers.len()).map(|_| SharedTally::default()).collect();
    let (sending, receiving) = tallies.split_at(connections);
    let summary = std::thread::scope(|scope| {
        for ((address, puller), tally) in pullers.into_iter().zip(receiving) {
            let (signals, run) = (&signals, shape.run);
            scope.spawn(move || {
                let ended = puller.run(|pulled| {
                    note_receipts(&pulled, start, run, tally);
                    if signals.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                if let Err(error) = ended
                    && !signals.stopped()
                {
                    eprintln!("{address}: {error}");
                    tally.lock().failure(LOST_CONNECTION, 1);
                }
            });
        }
        let measure = || report::watch("latency", &args.time, &tallies, &signals, || false);
        let summary = open_loop::with_senders(&work, sending, &signals, measure);
        signals.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for handle in &handles {
            // Ends a pull that is being held; an error means that it has ended.
            let _ = handle.shutdown(Shutdown::Both);
        }
        summary
    })?;
    summary.print(json);
    Ok(summary.is_clean())
}

/// One puller a broker, at the present end of every queue.
fn pullers(args: &LatencyArgs, places: &[Place]) -> Result<Vec<(String, Puller)>, LoadError> {
    let plan = PullPlan {
        topic: args.target.topic.clone(),
        group: "mqbench-latency".to_owned(),
        expression: args.receive.expression.clone(),
        expression_type: args.receive.expression_type.clone(),
        count_max: PULL_COUNT,
        follow: true,
    };
    let mut pullers = Vec::new();
    for lane in target::share_out(places, 1) {
        let ends = target::ends(&plan.topic, &lane)?;
        let cursors = lane.queues.iter().zip(ends).map(|(queue, end)| Cursor::new(*queue, end)).collect();
        let failed = |source| LoadError::Socket { address: lane.address.clone(), source };
        pullers.push((lane.address.clone(), Puller::connect(&lane.address, plan.clone(), cursors).map_err(failed)?));
    }
    Ok(pullers)
}

fn note_receipts(pulled: &Pulled<'_>, start: Instant, run: u64, tally: &SharedTally) {
    let now = start.elapsed();
    let mut tally = tally.lock();
    for record in records(pulled.records) {
        match record {
            Ok(record) => {
                if let Some(due) = due_of(record.body(), run) {
                    tally.receipt.saturating_record(nanos(now.saturating_sub(due)));
                }
            }
            Err(error) => eprintln!("queue {}: {error}", pulled.queue),
        }
    }
    if !pulled.remark.is_empty() {
        tally.failure(pulled.code.0, 1);
    }
}
