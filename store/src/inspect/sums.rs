//! Comparing the log with the sums of its records, and making them anew. Called by `check`, which changes nothing, and by
//! `rebuild`.

use std::ops::ControlFlow;
use std::sync::Arc;

use waspmq_protocol::message::record::RecordView;

use super::log_walk::{Found, LogWalk};
use crate::checkpoint::{Checkpoint, Progress};
use crate::commit_log::Fence;
use crate::config::StoreConfig;
use crate::error::{AtPath, OpenError, StoreError};
use crate::message_store;
use crate::offsets::PhysicalOffset;
use crate::sums::{Compared, Refill, Sums, sum_of};

/// What the sums were found to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SumCheck {
    /// Messages that are as their sums say.
    pub checked: u64,
    /// Messages without a sum.
    pub unchecked: u64,
    /// What is wrong with the files, a line a file.
    pub problems: Vec<String>,
}

/// The comparison under way.
pub(super) struct SumComparison {
    sums: Sums,
    found: SumCheck,
}

impl SumComparison {
    pub(super) fn new(config: &StoreConfig, walk: &LogWalk) -> Result<Self, StoreError> {
        let sums = Sums::look(Arc::clone(&config.storage), &config.root, config.commit_log_file_bytes)?;
        let is_same = |offset, sum| walk.holds(offset, |record| sum_of(record) == sum).unwrap_or(false);
        let end = sums.own_end(progress(config)?.durable.is_none(), is_same)?;
        Ok(Self { sums: sums.limited_to(end), found: SumCheck::default() })
    }

    /// What is wrong with a record that has its body's checksum, if anything.
    pub(super) fn damage(&mut self, record: &RecordView<'_>) -> Option<Fence> {
        let from = PhysicalOffset(record.physical_offset());
        match self.sums.compare(from.0 as u64, record) {
            Compared::Same => self.found.checked += 1,
            Compared::Unknown => self.found.unchecked += 1,
            Compared::Differs => {
                let reason = "header, topic or properties of the message are not what was stored".to_owned();
                return Some(Fence { from, to: from.plus(record.len()), reason });
            }
        }
        None
    }

    pub(super) fn finish(self) -> SumCheck {
        SumCheck { problems: self.sums.problems(), ..self.found }
    }
}

/// What our own notes say, without making any.
fn progress(config: &StoreConfig) -> Result<Progress, StoreError> {
    for name in ["checkpoint", "progress"] {
        let path = config.root.join(name);
        if config.storage.file_bytes(&path).at_path("looking at", &path)? != Some(Checkpoint::FILE_BYTES) {
            return Ok(Progress::default());
        }
    }
    Ok(Checkpoint::open(&*config.storage, &config.root)?.progress())
}

/// Makes the sums anew from the log of a store that was closed.
pub(super) fn refill(config: &StoreConfig) -> Result<(), OpenError> {
    let _lock = message_store::take_lock(&*config.storage, &config.root)?;
    let walk = LogWalk::open(config)?;
    let sums = Sums::open(Arc::clone(&config.storage), &config.root, config.commit_log_file_bytes)?;
    let mut refill = Refill::new(sums);
    let mut fault = None;
    walk.each(&mut |found, _| {
        if let Found::Record(record) = found
            && let Err(error) = refill.add(record)
        {
            fault = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    match fault {
        Some(error) => Err(error.into()),
        None => Ok(refill.finish()?),
    }
}
