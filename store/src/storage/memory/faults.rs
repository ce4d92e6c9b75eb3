//! What goes wrong with a fake disk, and when: its operations are counted, each kind by itself too, and one of them, or
//! all from one on, may fail.

use std::io;

/// What the store asks of a disk. Those that only look change nothing and are counted for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `create_dir`.
    CreateDir,
    /// `create`.
    Create,
    /// `reserve`.
    Reserve,
    /// The first half of `wipe`: zeros in memory.
    Wipe,
    /// The first half of `write`: a name, and bytes in memory.
    Write,
    /// `Region::sync`, and the second half of `write` and `wipe`.
    Sync,
    /// `rename`.
    Rename,
    /// `remove`.
    Remove,
    /// `remove_dir`.
    RemoveDir,
    /// `sync_dir`.
    SyncDir,
    /// `sync_tree`.
    SyncTree,
    /// `list`, `file_bytes`, `space`, `modified`.
    Look,
    /// `map`.
    Map,
    /// `read`, `read_at`, `Region::read_ahead`.
    Read,
}

impl Operation {
    /// Every kind.
    pub const ALL: [Operation; 14] = {
        use Operation::*;
        [CreateDir, Create, Reserve, Wipe, Write, Sync, Rename, Remove, RemoveDir, SyncDir, SyncTree, Look, Map, Read]
    };

    /// Whether the disk may be another one afterwards.
    pub fn changes(self) -> bool {
        !matches!(self, Operation::Look | Operation::Map | Operation::Read)
    }

    pub(super) fn is_sync(self) -> bool {
        matches!(self, Operation::Sync | Operation::SyncDir | Operation::SyncTree)
    }
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What fails; `None` for whatever changes the disk.
    pub operation: Option<Operation>,
    /// How many of those succeed before.
    pub after: u64,
    /// Whether all later ones fail too.
    pub lasting: bool,
    /// The error, as the operating system numbers them: 5 is EIO, 28 ENOSPC.
    pub errno: i32,
}

/// Counts and faults of one disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Operations that change the disk.
    operations: u64,
    planned: Vec<Fault>,
    /// From this operation on there is no power.
    pub(super) off_at: Option<u64>,
    failed: u64,
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    /// How many operations have failed as planned.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn is_off(&self) -> bool {
        self.off_at.is_some_and(|at| self.operations >= at)
    }

    /// Counts an operation, and fails if it is to.
    pub(super) fn count(&mut self, operation: Operation) -> io::Result<()> {
        self.operations += u64::from(operation.changes());
        let mut failing = None;
        self.planned.retain_mut(|fault| {
            let meant = fault.operation.map_or(operation.changes(), |meant| meant == operation);
            if !meant {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            failing = Some(fault.errno);
            fault.lasting
        });
        match failing {
            Some(errno) => {
                self.failed += 1;
                Err(io::Error::from_raw_os_error(errno))
            }
            None => Ok(()),
        }
    }
}
