//! `mqbench verify`: every message carries who sent it, its sequence number and a checksum; every acknowledgement goes into
//! a journal; afterwards everything is read and compared. No message is ever sent twice, so two copies are a fault.

pub mod body;
pub mod check;
pub mod filtered;
pub mod journal;
pub mod send;

use std::ops::ControlFlow;
use std::path::Path;

use waspmq_protocol::ResponseCode;

use crate::args::{TargetArgs, VerifyCheckArgs, VerifySendArgs};
use crate::error::LoadError;
use crate::pull::{Cursor, PullPlan, Puller, record_sizes};
use crate::target;
use check::{Checker, Findings};
use journal::Journal;

/// Messages of one pull while checking.
const PULL_COUNT: u32 = 32;

/// Sends and then checks; false when something is wrong.
///
/// # Errors
/// The run could not begin, or the topic cannot be read.
pub fn run_both(args: &VerifySendArgs, json: bool) -> Result<bool, LoadError> {
    send::run(args, json)?;
    let TargetArgs { namesrv, broker, .. } = args.target.clone();
    let check = VerifyCheckArgs { namesrv, broker, journal: args.journal.clone(), strict_order: args.strict_order };
    run_check(&check, json)
}

/// Compares the topic with the journal and prints what is found; false when something is wrong.
///
/// # Errors
/// No journal, or the topic cannot be read.
pub fn run_check(args: &VerifyCheckArgs, json: bool) -> Result<bool, LoadError> {
    let journal = Journal::read(&args.journal)?;
    let queues = journal.queues.iter().map(|(_, queue)| *queue as u32 + 1).max().unwrap_or(1);
    let (namesrv, broker, topic) = (args.namesrv.clone(), args.broker.clone(), journal.topic.clone());
    let target = TargetArgs { namesrv, broker, topic, queues, no_create: true };
    let mut checker = Checker::new(journal);
    read_everything(&target, |broker, queue, record| checker.record(broker, queue, record))?;
    let findings = checker.finish(args.strict_order);
    print(&findings, &args.journal, json);
    Ok(findings.is_clean())
}

/// Reads the whole topic without a filter: broker, queue and record to `take`.
fn read_everything(target: &TargetArgs, mut take: impl FnMut(&str, i32, &[u8])) -> Result<(), LoadError> {
    let plan = PullPlan {
        topic: target.topic.clone(),
        group: "mqbench-verify".to_owned(),
        expression: "*".to_owned(),
        expression_type: "TAG".to_owned(),
        count_max: PULL_COUNT,
        follow: false,
    };
    for lane in target::share_out(&target::locate(target)?, 1) {
        let failed = |source| LoadError::Socket { address: lane.address.clone(), source };
        let cursors = lane.queues.iter().map(|queue| Cursor::new(*queue, 0)).collect();
        let puller = Puller::connect(&lane.address, plan.clone(), cursors).map_err(failed)?;
        let mut refusal = (ResponseCode::SUCCESS, String::new());
        let cursors = puller
            .run(|pulled| {
                let mut rest = pulled.records;
                for size in record_sizes(pulled.records) {
                    let (record, after) = rest.split_at(size.unwrap_or(rest.len()));
                    take(&lane.broker, pulled.queue, record);
                    rest = after;
                }
                refusal = (pulled.code, pulled.remark.to_owned());
                ControlFlow::Continue(())
            })
            .map_err(failed)?;
        if let Some(cursor) = cursors.iter().find(|cursor| cursor.given_up()) {
            let what = format!("pulling queue {} of {} on {}", cursor.queue, target.topic, lane.broker);
            return Err(LoadError::Refused { what, code: refusal.0, remark: refusal.1 });
        }
    }
    Ok(())
}

fn print(findings: &Findings, journal: &Path, json: bool) {
    if json {
        println!("{}", serde_json::to_string(findings).expect("findings are always written"));
        return;
    }
    let Findings { acknowledged, found, lost, misplaced, doubled, corrupt, unreadable, out_of_order, gaps, .. } =
        findings;
    println!("verify: {acknowledged} acknowledged in {}, {found} of them found", journal.display());
    println!(
        "  lost {lost}, misplaced {misplaced}, doubled {doubled}, corrupt {corrupt}, unreadable {unreadable}, out of order {out_of_order}, gaps {gaps}"
    );
    println!(
        "  without an acknowledgement: {} stored, {} not; refused: {} stored; of others: {}",
        findings.unknown_stored, findings.unknown_absent, findings.refused_stored, findings.foreign
    );
    for example in &findings.examples {
        println!("  {example}");
    }
}
