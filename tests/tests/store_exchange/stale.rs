//! Records of an earlier life. Where a record in the log is damaged, Java's broker ends the log there at its next start
//! after a crash, and leaves the bytes behind the new end as they are: whole records of the past. Ours must not take them
//! for messages, nor what Java's consume queues still say of them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use waspmq_tests::broker::Maker::{Java, WaspMq};

use crate::load::{self, Outcome, Sent};
use crate::lookups;
use crate::turns::{Exchange, SETTINGS, Turn};

/// All of one length, so that a new record ends where an old one begins.
const MESSAGES: usize = 400;
const DAMAGED: usize = 250;
/// Fewer than were cut off.
const SENT_BY_JAVA: usize = 60;
const QUEUES: i32 = 4;

/// Ours writes, a record is damaged, Java cuts and writes some more and ends like that, ours goes on.
pub fn what_java_cut_stays_cut(name: &str, java: Turn) -> Result<()> {
    let mut exchange = Exchange::small(name);
    exchange.open(WaspMq)?;
    lookups::change_kept(&mut exchange.connection()?, &exchange.ledger, 0)?;
    let sent = (0..MESSAGES as i32).map(|at| exchange.numbers.even_message(at % QUEUES)).collect();
    send(&mut exchange, sent)?;
    exchange.compare()?;
    exchange.broker()?.stop_broker()?;
    let cut = damage(&mut exchange)?;
    exchange.ledger.cut(cut);

    exchange.open(Java)?;
    exchange.compare_queues().context("Java's broker, after the damage")?;
    // One queue only: the others' old entries stay where they are.
    let sent = (0..SENT_BY_JAVA).map(|_| exchange.numbers.even_message(0)).collect();
    send(&mut exchange, sent)?;
    // By key it finds none of these: its index holds what was cut, and takes nothing that lies before that in the log.
    exchange.compare_queues().context("Java's broker, after its sends")?;
    match java {
        Turn::Stopped(_) => exchange.broker()?.stop_broker()?,
        Turn::Killed(_) => exchange.broker()?.kill_broker()?,
    }

    exchange.open(WaspMq)?;
    exchange.compare().context("ours, after Java's")?;
    let sent = (0..MESSAGES as i32).map(|at| exchange.numbers.even_message(at % QUEUES)).collect();
    send(&mut exchange, sent)?;
    exchange.compare().context("ours, after its sends")?;
    exchange.broker()?.stop_broker()?;
    exchange.open(Java)?;
    exchange.compare().context("Java's broker, after ours")?;
    exchange.finish()
}

fn send(exchange: &mut Exchange, messages: Vec<Sent>) -> Result<()> {
    let mut outcome = Outcome::default();
    // One by one: their order in the log is the order of their numbers.
    for message in messages {
        load::send(&exchange.address()?, vec![vec![message]], &mut outcome)?;
    }
    exchange.ledger.note(outcome);
    Ok(())
}

/// Changes a byte of a body, as a lost write would, in a folder that looks as after a crash. Returns where the damaged
/// record begins.
fn damage(exchange: &mut Exchange) -> Result<i64> {
    let mut records: Vec<_> = exchange.ledger.records().collect();
    records.sort_by_key(|record| record.physical_offset);
    let at = records[DAMAGED].physical_offset;
    let store = exchange.broker()?.store();
    let file_bytes: u64 = SETTINGS[0].1.parse()?;
    let position = at as u64 % file_bytes;
    let log = store.join("commitlog").join(format!("{:020}", at as u64 - position));
    let log = File::options().read(true).write(true).open(&log).with_context(|| format!("no {}", log.display()))?;
    let mut byte = [0];
    log.read_exact_at(&mut byte, position + 100)?;
    log.write_all_at(&[!byte[0]], position + 100)?;
    fs::write(store.join("abort"), "0")?;
    Ok(at)
}
