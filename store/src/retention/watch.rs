//! Looking at the disk: how full it is, what that means, and whether messages are refused for it. One line in the log for
//! every change, none for what stays. Used by the retention thread; read by whoever shows figures.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::rules::{DiskLevel, RetentionRules};
use crate::{
    commit_log::CommitLog,
    error::{AppendError, AtPath},
    storage::{Space, Storage},
};

/// How full the disk was when it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// The folder of the log or of the queues, whichever lies on the fuller file system.
    pub dir: PathBuf,
    /// That file system.
    pub space: Space,
    /// What it means.
    pub level: DiskLevel,
    /// Why messages are refused, if they are.
    pub refused: Option<Arc<str>>,
}

impl fmt::Display for DiskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Space { used, available } = self.space;
        let (used, all) = (gib(used), gib(used.saturating_add(available)));
        write!(f, "{} is {}% full ({used:.2} of {all:.2} GiB)", self.dir.display(), self.space.used_percent())
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Watches the file systems that the store lies on.
#[derive(Debug)]
pub(super) struct DiskWatch {
    storage: Arc<dyn Storage>,
    /// Of the log and of the queues.
    dirs: Vec<PathBuf>,
    rules: RetentionRules,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    status: DiskStatus,
    /// Refused because of how full the disk is, not for another reason.
    full: bool,
    unknown: bool,
}

impl DiskWatch {
    pub(super) fn new(storage: Arc<dyn Storage>, dirs: Vec<PathBuf>, rules: RetentionRules) -> Self {
        DiskWatch { storage, dirs, rules, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look has shown.
    pub(super) fn status(&self) -> DiskStatus {
        self.state().status.clone()
    }

    /// Looks at the disk, and lets the log take messages or not, also for what `broken` says: that messages cannot be
    /// made readable.
    pub(super) fn look(&self, log: &CommitLog, broken: Option<AppendError>) -> DiskLevel {
        let mut state = self.state();
        self.measure(&mut state);
        let used = state.status.space.used_percent();
        state.full = self.rules.refuses(used, state.full);
        let refusal = if state.full { Some(self.full(&state.status)) } else { broken };
        let reason = refusal.as_ref().map(|refusal| Arc::from(refusal.to_string()));
        match (&state.status.refused, &reason) {
            (None, Some(reason)) => tracing::error!(reason = &**reason, "messages are refused from now on"),
            (Some(_), None) => tracing::warn!(disk = %state.status, "messages are taken again"),
            _ => {}
        }
        if reason.is_some() || state.status.refused.is_some() {
            log.refuse(refusal);
        }
        state.status.refused = reason;
        state.status.level
    }

    /// Looks at the fullest file system. What cannot be found out stays as it was.
    fn measure(&self, state: &mut State) {
        let spaces = self.dirs.iter().map(|dir| {
            let space = self.storage.space(dir).at_path("asking for the free space of", dir)?;
            Ok((dir, space))
        });
        match spaces.collect::<Result<Vec<_>, crate::StoreError>>() {
            Ok(spaces) => {
                state.unknown = false;
                // The first of equals: log and queues mostly lie on the same.
                let fullest = spaces.into_iter().rev().max_by_key(|(_, space)| space.used_percent());
                let Some((dir, space)) = fullest else { return };
                let level = self.rules.level(space.used_percent());
                let before = std::mem::replace(&mut state.status.level, level);
                (state.status.dir, state.status.space) = (dir.clone(), space);
                self.tell_level(&state.status, before);
            }
            Err(error) if !state.unknown => {
                state.unknown = true;
                tracing::warn!(%error, "nobody watches how full the disk is");
            }
            Err(_) => {}
        }
    }

    fn tell_level(&self, disk: &DiskStatus, before: DiskLevel) {
        if disk.level == before {
            return;
        }
        let RetentionRules { delete_above, clean_above, clean_forcibly, .. } = self.rules;
        match disk.level {
            DiskLevel::Roomy => tracing::info!(%disk, "there is room on the disk again"),
            DiskLevel::Scarce => {
                tracing::warn!(%disk, limit = delete_above, "space is scarce: messages beyond fileReservedTime go at any hour");
            }
            DiskLevel::Cleaning | DiskLevel::Full if clean_forcibly => {
                tracing::warn!(%disk, limit = clean_above, "too little space: the oldest messages go, however young");
            }
            DiskLevel::Cleaning | DiskLevel::Full => {
                tracing::warn!(%disk, limit = clean_above, "too little space, and cleanFileForciblyEnable is off: no young message goes");
            }
        }
    }

    fn full(&self, disk: &DiskStatus) -> AppendError {
        let (above, at) = (self.rules.refuse_above, self.rules.take_again_at());
        let reason = format!("{disk}; messages are refused above {above}% and taken again at {at}%");
        AppendError::DiskFull { reason: reason.into() }
    }
}
