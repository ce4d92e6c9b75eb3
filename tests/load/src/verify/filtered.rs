//! `mqbench verify filtered`: producers at full speed and, at the same time, a reader whose subscription lets one value of
//! a property through. Afterwards everything is read without a filter and says what the reader should have got: each wanted
//! message once and in order, no other. For changing the filter while it works.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use waspmq_protocol::ResponseCode;
use waspmq_protocol::message::properties::find;
use waspmq_protocol::message::record::RecordView;

use super::check::{Checker, Findings};
use super::journal::Journal;
use super::{print, read_everything, send};
use crate::args::{TargetArgs, VerifyFilteredArgs};
use crate::error::LoadError;
use crate::pull::{Cursor, PullPlan, Puller, record_sizes};
use crate::report::Summary;
use crate::target::{self, TargetQueues};

/// Offsets that were read, in order of reading, by broker and queue.
type Offsets = HashMap<(String, i32), Vec<i64>>;

/// What the reader got, against what it should have got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FilterFindings {
    /// Stored messages that the expression lets through.
    pub wanted: u64,
    /// Messages the reader got.
    pub received: u64,
    /// Wanted and not received.
    pub lost: u64,
    /// Received again, or after a later one of its queue.
    pub doubled: u64,
    /// Received although the expression does not let them through.
    pub unwanted: u64,
    /// Pulls that were refused.
    pub refused: u64,
}

impl FilterFindings {
    /// Compares by offset. Both lists are in the order of reading; that of `stored` is the order of the queue.
    fn compare(stored: &Offsets, received: &Offsets, refused: u64) -> Self {
        let mut findings = Self { refused, ..Self::default() };
        let nothing = Vec::new();
        for (queue, wanted) in stored {
            findings.wanted += wanted.len() as u64;
            let got = received.get(queue).unwrap_or(&nothing);
            let mut last = -1;
            let mut times: BTreeMap<i64, u64> = BTreeMap::new();
            for offset in got {
                findings.doubled += u64::from(*offset <= last);
                last = *offset.max(&last);
                *times.entry(*offset).or_default() += 1;
            }
            findings.lost += wanted.iter().filter(|offset| !times.contains_key(offset)).count() as u64;
            findings.unwanted += times.keys().filter(|offset| wanted.binary_search(offset).is_err()).count() as u64;
        }
        findings.received = received.values().map(|offsets| offsets.len() as u64).sum();
        let unknown = received.iter().filter(|(queue, _)| !stored.contains_key(*queue));
        findings.unwanted += unknown.map(|(_, offsets)| offsets.len() as u64).sum::<u64>();
        findings
    }

    /// Whether the reader got what it should.
    pub fn is_clean(&self) -> bool {
        self.wanted > 0 && self.lost + self.doubled + self.unwanted + self.refused == 0
    }
}

/// Everything a run has found, as it is printed with `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    send: &'a Summary,
    stored: &'a Findings,
    filter: &'a FilterFindings,
    /// Milliseconds since 1970, and the longest wait in microseconds for an acknowledgement that came in those ten.
    slowest_acks: Vec<(u64, u64)>,
}

/// Sends, reads, compares, prints; false when something is wrong.
///
/// # Errors
/// The run could not begin, or the topic cannot be read.
pub fn run(args: &VerifyFilteredArgs, json: bool) -> Result<bool, LoadError> {
    let places = target::locate(&args.send.target)?;
    let lanes = target::share_out(&places, 1);
    let ended = AtomicBool::new(false);
    let (sent, read) = std::thread::scope(|scope| {
        let readers: Vec<_> = lanes.iter().map(|lane| scope.spawn(|| read(lane, &plan(args), &ended))).collect();
        let input = args.until_eof.then(end_of_input);
        let finished = || input.as_ref().is_some_and(|input| input.load(Ordering::Acquire));
        let sent = send::run_to(&args.send, &places, vec![args.property.clone()], finished);
        ended.store(true, Ordering::Release);
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        (sent, read)
    });
    let (summary, slowest) = sent?;
    let (mut received, mut refused) = (Offsets::new(), 0);
    for (lane, read) in lanes.iter().zip(read) {
        let read = read.unwrap_or_else(|_| Err(io::Error::other("the reading thread panicked")));
        let (offsets, refusals) = read.map_err(|source| LoadError::Socket { address: lane.address.clone(), source })?;
        received.extend(offsets);
        refused += refusals;
    }
    let mut checker = Checker::new(Journal::read(&args.send.journal)?);
    let (mut stored, keeps) = (Offsets::new(), args.keeps.to_string());
    let target = TargetArgs { no_create: true, ..args.send.target.clone() };
    read_everything(&target, |broker, queue, bytes| {
        checker.record(broker, queue, bytes);
        if let Ok(record) = RecordView::parse(bytes, false)
            && find(record.properties(), &args.property.0) == Some(&keeps)
        {
            stored.entry((broker.to_owned(), queue)).or_default().push(record.queue_offset());
        }
    })?;
    let findings = checker.finish(args.send.strict_order);
    let filter = FilterFindings::compare(&stored, &received, refused);
    if json {
        let slowest_acks = slowest.iter().map(|(at, waited)| (*at, waited.as_micros() as u64)).collect();
        let report = Report { send: &summary, stored: &findings, filter: &filter, slowest_acks };
        println!("{}", serde_json::to_string(&report).expect("findings are always written"));
    } else {
        summary.print(false);
        print(&findings, &args.send.journal, false);
        println!("filter: {filter:?}");
    }
    Ok(findings.is_clean() && filter.is_clean())
}

fn plan(args: &VerifyFilteredArgs) -> PullPlan {
    PullPlan {
        topic: args.send.target.topic.clone(),
        group: args.pull.group.clone(),
        expression: args.pull.expression.clone(),
        expression_type: args.pull.expression_type.clone(),
        count_max: args.pull.pull,
        follow: true,
    }
}

/// Reads the queues of one connection: while messages come, then what is left. Offsets, and how many pulls were refused.
fn read(lane: &TargetQueues, plan: &PullPlan, ended: &AtomicBool) -> io::Result<(Offsets, u64)> {
    let (mut offsets, mut refused) = (Offsets::new(), 0);
    let mut cursors: Vec<Cursor> = lane.queues.iter().map(|queue| Cursor::new(*queue, 0)).collect();
    for follow in [true, false] {
        let plan = PullPlan { follow, ..plan.clone() };
        let mut failure = None;
        let stand = Puller::connect(&lane.address, plan, cursors)?.run(|pulled| {
            let mut rest = pulled.records;
            for size in record_sizes(pulled.records) {
                let record = size.and_then(|size| {
                    let (record, after) = rest.split_at(size);
                    rest = after;
                    RecordView::parse(record, true).map_err(io::Error::other)
                });
                match record {
                    Ok(record) => {
                        let queue = (lane.broker.clone(), pulled.queue);
                        offsets.entry(queue).or_default().push(record.queue_offset());
                    }
                    Err(error) => failure = Some(error),
                }
            }
            if !is_usual(pulled.code) {
                eprintln!("queue {}: {}: {}", pulled.queue, pulled.code, pulled.remark);
                refused += 1;
            }
            let over = follow && ended.load(Ordering::Acquire);
            if over || failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        cursors = stand.iter().map(|cursor| Cursor::new(cursor.queue, cursor.next)).collect();
    }
    Ok((offsets, refused))
}

fn is_usual(code: ResponseCode) -> bool {
    matches!(
        code,
        ResponseCode::SUCCESS
            | ResponseCode::PULL_NOT_FOUND
            | ResponseCode::PULL_RETRY_IMMEDIATELY
            | ResponseCode::PULL_OFFSET_MOVED
    )
}

/// Becomes true when standard input ends. The thread is left behind: the process ends before it does.
fn end_of_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Release);
    });
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(list: &[i64]) -> Offsets {
        HashMap::from([(("broker-a".to_owned(), 0), list.to_vec())])
    }

    #[test]
    fn every_kind_of_fault_is_counted() {
        let stored = offsets(&[1, 3, 5]);
        let compare = |list: &[i64]| FilterFindings::compare(&stored, &offsets(list), 0);
        let clean = FilterFindings { wanted: 3, received: 3, ..FilterFindings::default() };
        assert_eq!(compare(&[1, 3, 5]), clean);
        assert!(clean.is_clean());
        assert_eq!(compare(&[1, 5]), FilterFindings { received: 2, lost: 1, ..clean.clone() });
        assert_eq!(compare(&[1, 3, 3, 5]), FilterFindings { received: 4, doubled: 1, ..clean.clone() });
        assert_eq!(compare(&[3, 1, 5]), FilterFindings { doubled: 1, ..clean.clone() }, "out of order");
        assert_eq!(compare(&[1, 2, 3, 5]), FilterFindings { received: 4, unwanted: 1, ..clean.clone() });
        let elsewhere = HashMap::from([(("broker-b".to_owned(), 0), vec![1])]);
        let nothing_came = FilterFindings { received: 1, lost: 3, unwanted: 1, ..clean.clone() };
        assert_eq!(FilterFindings::compare(&stored, &elsewhere, 0), nothing_came);
        assert!(!FilterFindings::compare(&stored, &stored, 1).is_clean(), "a refused pull");
        assert!(!FilterFindings::compare(&offsets(&[]), &offsets(&[]), 0).is_clean(), "nothing proves nothing");
    }
}
