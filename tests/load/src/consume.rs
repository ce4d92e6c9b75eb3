//! `mqbench consume`: reads a topic from its start, as fast as it comes, and counts records and the entries passed over.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use waspmq_protocol::ResponseCode;

use crate::args::ConsumeArgs;
use crate::error::LoadError;
use crate::pull::{Cursor, PullPlan, Pulled, Puller, record_sizes};
use crate::report::{self, Signals};
use crate::tally::{LOST_CONNECTION, SharedTally};
use crate::target::{self, TargetQueues};

/// Reads and prints the figures; false when a pull failed.
///
/// # Errors
/// The run could not begin.
pub fn run(args: &ConsumeArgs, json: bool) -> Result<bool, LoadError> {
    let mut target = args.target.clone();
    target.no_create = true;
    let places = target::locate(&target)?;
    let plan = PullPlan {
        topic: target.topic,
        group: args.pull.group.clone(),
        expression: args.pull.expression.clone(),
        expression_type: args.pull.expression_type.clone(),
        count_max: args.pull.pull,
        follow: false,
    };
    let lanes = target::share_out(&places, args.connections);
    let tallies: Vec<_> = lanes.iter().map(|_| SharedTally::default()).collect();
    let (signals, running) = (Signals::default(), AtomicUsize::new(lanes.len()));
    let summary = std::thread::scope(|scope| {
        for (lane, tally) in lanes.iter().zip(&tallies) {
            let (plan, signals, running) = (&plan, &signals, &running);
            scope.spawn(move || {
                if let Err(error) = read(lane, plan, args.again, tally, signals) {
                    eprintln!("{}: {error}", lane.address);
                    tally.lock().failure(LOST_CONNECTION, 1);
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        report::watch("consume", &args.time, &tallies, &signals, || running.load(Ordering::Acquire) == 0)
    });
    summary.print(json);
    Ok(summary.is_clean())
}

/// Reads the queues of one connection to their end, again and again if told to.
fn read(lane: &TargetQueues, plan: &PullPlan, again: bool, tally: &SharedTally, signals: &Signals) -> io::Result<()> {
    loop {
        let cursors = lane.queues.iter().map(|queue| Cursor::new(*queue, 0)).collect();
        let mut failure = None;
        Puller::connect(&lane.address, plan.clone(), cursors)?.run(|pulled| {
            failure = count(&pulled, tally).err();
            if signals.stopped() || failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !again || signals.stopped() {
            return Ok(());
        }
    }
}

fn count(pulled: &Pulled<'_>, tally: &SharedTally) -> io::Result<()> {
    let mut messages = 0;
    for size in record_sizes(pulled.records) {
        size?;
        messages += 1;
    }
    let mut tally = tally.lock();
    tally.scanned += pulled.scanned;
    match pulled.code {
        ResponseCode::SUCCESS => tally.success(messages, pulled.records.len() as u64, pulled.waited),
        ResponseCode::PULL_NOT_FOUND | ResponseCode::PULL_RETRY_IMMEDIATELY | ResponseCode::PULL_OFFSET_MOVED => {}
        code => {
            if !tally.errors.contains_key(&code.0) {
                eprintln!("queue {}: {code}: {}", pulled.queue, pulled.remark);
            }
            tally.failure(code.0, 1);
        }
    }
    Ok(())
}
