//! A disk made of memory, for tests: it forgets what was not synced, runs out of room, fails operations on request and
//! shows whoever wants to see it every moment between two operations. Several stores may be opened on one after another;
//! [`MemoryStorage::power_cut`] gives the disk as it is found after the power came back, [`MemoryStorage::kill`] as a
//! killed process leaves it.

mod content;
mod faults;
mod hints;
mod names;
mod power;
mod storage;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

pub use self::faults::{Fault, Operation};
pub use self::hints::Hint;
use self::{
    faults::Faults,
    hints::Hints,
    names::{File, Folders},
    power::Random,
};

/// Files in memory.
#[derive(Debug)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

/// Called before every operation that changes a disk: with the disk and how many there were before.
type Watcher = dyn Fn(&MemoryStorage, u64) + Send + Sync;

/// One disk, as its storage and all its mapped files know it.
struct Shared {
    disk: Mutex<Disk>,
    watcher: Mutex<Option<Arc<Watcher>>>,
    fail_syncs: AtomicBool,
    /// Syncs of files say that they succeed, and do nothing.
    lie: AtomicBool,
    slow_syncs_ms: AtomicU64,
    hints: Hints,
    locks: Mutex<BTreeSet<PathBuf>>,
}

#[derive(Debug, Default)]
struct Disk {
    folders: Folders,
    faults: Faults,
    room: Option<u64>,
    /// What the disk says of itself: bytes in all, and of those what is not the store's.
    size: Option<(u64, u64)>,
    /// Changes when what was not synced may be lost.
    life: i64,
    /// A sync is to go astray, as this number says.
    astray: Option<Random>,
    /// What the disk was when the power failed.
    frozen: Option<Folders>,
}

/// Every disk of the process, and every power cut, has a life of its own.
fn new_life() -> i64 {
    static LIVES: AtomicI64 = AtomicI64::new(1);
    LIVES.fetch_add(1, Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStorage {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::of(Disk { life: new_life(), ..Disk::default() })
    }

    fn of(disk: Disk) -> Self {
        let shared = Shared {
            disk: Mutex::new(disk),
            watcher: Mutex::default(),
            fail_syncs: AtomicBool::default(),
            lie: AtomicBool::default(),
            slow_syncs_ms: AtomicU64::default(),
            hints: Hints::default(),
            locks: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// As after a reboot that lost nothing: whoever opens the disk next can rely on nothing but what was synced.
    pub fn reboot(&self) {
        lock(&self.shared.disk).life = new_life();
    }

    /// From now on every sync fails (or works again).
    pub fn fail_syncs(&self, fail: bool) {
        self.shared.fail_syncs.store(fail, Ordering::Relaxed);
    }

    /// From now on syncs of files do nothing and say that they did: a disk that lies, to see that tests find it out.
    pub fn lie_about_syncs(&self) {
        self.shared.lie.store(true, Ordering::Relaxed);
    }

    /// From now on every sync takes so long.
    pub fn slow_syncs(&self, pause: Duration) {
        self.shared.slow_syncs_ms.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// Room left for new files and reservations, in bytes; `None` for no limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        lock(&self.shared.disk).room = bytes;
    }

    /// From now on the disk says that it has `all` bytes, `elsewhere` of them taken by others. Files count in full. Says
    /// nothing of what can be stored: see [`MemoryStorage::set_room`].
    pub fn set_size(&self, all: u64, elsewhere: u64) {
        lock(&self.shared.disk).size = Some((all, elsewhere));
    }

    /// A fault to come; several may.
    pub fn plan(&self, fault: Fault) {
        lock(&self.shared.disk).faults.plan(fault);
    }

    /// No fault comes any more.
    pub fn clear_plans(&self) {
        lock(&self.shared.disk).faults.clear();
    }

    /// How many operations have failed because of a plan.
    pub fn failed_operations(&self) -> u64 {
        lock(&self.shared.disk).faults.failed()
    }

    /// Operations so far that may have changed the disk.
    pub fn operations(&self) -> u64 {
        lock(&self.shared.disk).faults.operations()
    }

    /// The power fails before operation `number`: it and all later ones fail, and [`MemoryStorage::power_cut`] gives what
    /// was there then, whatever is done to the memory meanwhile.
    pub fn power_fails_at(&self, number: u64) {
        lock(&self.shared.disk).faults.off_at = Some(number);
    }

    /// Calls `watcher` before every operation that changes the disk, with how many there were before. It may cut and copy
    /// the disk.
    pub fn watch(&self, watcher: impl Fn(&MemoryStorage, u64) + Send + Sync + 'static) {
        *lock(&self.shared.watcher) = Some(Arc::new(watcher));
    }

    /// The next sync of a file that finds something changed writes one sector to a wrong place in that file.
    pub fn lead_sync_astray(&self, seed: u64) {
        lock(&self.shared.disk).astray = Some(Random(seed));
    }

    /// Turns a bit of a file over, as a disk does that grows old.
    ///
    /// # Errors
    /// If there is no such file, or it ends before that bit.
    pub fn flip_bit(&self, path: &Path, bit: usize) -> io::Result<()> {
        self.shared.file(path)?.content().flip(bit)
    }

    /// The disk after a power cut at this moment: what was synced is there, of the other bytes a part of the sectors, of
    /// the other names those that came first. The same seed leaves the same.
    pub fn power_cut(&self, seed: u64) -> MemoryStorage {
        let disk = lock(&self.shared.disk);
        let folders = disk.frozen.as_ref().unwrap_or(&disk.folders).survivors(&mut Random(seed));
        Self::of(Disk { folders, life: new_life(), ..Disk::default() })
    }

    /// The disk as a process leaves it that is killed at this moment: nothing is lost while the machine runs.
    pub fn kill(&self) -> MemoryStorage {
        let disk = lock(&self.shared.disk);
        Self::of(Disk { folders: disk.folders.copied(), life: disk.life, ..Disk::default() })
    }
}

impl Shared {
    fn file(&self, path: &Path) -> io::Result<Arc<File>> {
        lock(&self.disk).folders.seen().file(path).cloned().ok_or_else(|| not_found(path))
    }

    /// Every operation begins here: whoever watches sees the disk, then it may fail.
    fn begin(self: &Arc<Self>, operation: Operation) -> io::Result<MutexGuard<'_, Disk>> {
        if operation.changes() {
            let (watcher, before) = (lock(&self.watcher).clone(), lock(&self.disk).faults.operations());
            // No lock is held: the watcher may do with the disk what it likes.
            if let Some(watcher) = watcher {
                watcher(&MemoryStorage { shared: Arc::clone(self) }, before);
            }
        }
        let mut disk = lock(&self.disk);
        if disk.faults.is_off() {
            if disk.frozen.is_none() {
                disk.frozen = Some(disk.folders.copied());
            }
            return Err(io::Error::other("there is no power"));
        }
        disk.faults.count(operation)?;
        if operation.is_sync() && self.fail_syncs.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk does not sync"));
        }
        Ok(disk)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Disk {
    fn take_room(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.room {
            Some(room) if *room < bytes => Err(io::ErrorKind::StorageFull.into()),
            Some(room) => {
                *room -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}
